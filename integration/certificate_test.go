package integration

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// TestRenewedCertificate: a certificate renewed in place is taken over by SIGHUP, while connections stay.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newSecureGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "a@spedition.example"
	g.consented(to)
	m := g.tool(t, "crm")
	trusts := func(ca string) error {
		pem, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		c, err := tls.Dial("tcp", g.smtps, &tls.Config{RootCAs: roots, ServerName: "localhost"})
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := trusts(g.ca); err != nil {
		t.Fatal(err)
	}
	cert, key := certificate(t)
	if err := trusts(cert); err == nil {
		t.Fatal("the new certificate is served before it is there")
	}
	for from, with := range map[string]string{cert: g.ca, key: strings.Replace(g.ca, "cert.pem", "key.pem", 1)} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(with, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.cmd.Process.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(30 * time.Second); trusts(cert) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the old certificate is still served")
		}
	}
	m.sent(plainMail(to, "after"), to)
}
