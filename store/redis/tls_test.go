package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heed/store"
	"heed/store/storetest"
)

// certificate writes a self-signed one for 127.0.0.1 and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// startTLS starts a server that also listens with the certificate, and is its address there.
func startTLS(t *testing.T, cert, key string, args ...string) (string, *storetest.Redis) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	return addr, storetest.StartRedis(t, append(args, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")...)
}

// freePort is one that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestTLSIsVerified(t *testing.T) {
	if path, err := exec.LookPath("redis-server"); err == nil {
		if out, _ := exec.Command("ldd", path).Output(); !strings.Contains(string(out), "libssl") {
			t.Skip("this redis-server is built without TLS")
		}
	}
	cert, key := certificate(t)
	otherCert, otherKey := certificate(t)
	t.Setenv("SSL_CERT_FILE", cert) // nothing else in this package asks for the system's roots
	trusted, _ := startTLS(t, cert, key)
	other, _ := startTLS(t, otherCert, otherKey)
	node, server := startTLS(t, cert, key, "--cluster-enabled", "yes", "--cluster-port", freePort(t), "--tls-cluster", "yes", "--tls-ca-cert-file", cert)
	if err := plain(t, server).ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	if err := object(t, open(t, "rediss+cluster://"+node, store.Options{}), "p"); err != nil {
		t.Error(err)
	}
	if err := object(t, open(t, "rediss://"+trusted+"/0", store.Options{}), "p"); err != nil {
		t.Error(err)
	}
	for name, url := range map[string]string{"an unknown certificate": "rediss://" + other + "/0", "no TLS": "redis://" + trusted + "/0"} {
		if s, err := store.Open(t.Context(), url, store.Options{Timeout: 2 * time.Second}); err == nil {
			s.Close()
			t.Errorf("opened with %s", name)
		}
	}
}
