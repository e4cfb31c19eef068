package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// program is the path of a program that a test drives; the test is skipped where there is none and CI does not insist.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	missing(t, name)
	return ""
}

// node is the path of Node.js, where a package of package.json is installed too.
func node(t *testing.T, module string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join("node_modules", module)); err != nil {
		missing(t, module)
	}
	return program(t, "node")
}

func missing(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: run make install", name)
	}
	t.Skipf("%s is not installed: run make install", name)
}

// newSecureGateway is a gateway with a certificate of its own, STARTTLS and an implicit TLS listener.
func newSecureGateway(t *testing.T, settings ...setting) *gateway {
	t.Helper()
	cert, key := certificate(t)
	smtps := freePort(t)
	g := newGateway(t, append(settings, setting{"SMTPS", `"` + smtps + `"`}, setting{"MORE", fmt.Sprintf("tls: {cert: %q, key: %q}", cert, key)})...)
	g.smtps, g.ca = smtps, cert
	return g
}

// certificate writes a self-signed certificate for localhost as PEM files; it is its own authority.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// tool is a mail tool's connection, logged in: what a test says and hears line by line.
type tool struct {
	t    *testing.T
	conn *textproto.Conn
}

// tool connects and logs in as an account.
func (g *gateway) tool(t *testing.T, account string) *tool {
	t.Helper()
	c, err := net.DialTimeout("tcp", g.smtp, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	m := &tool{t: t, conn: textproto.NewConn(c)}
	t.Cleanup(func() { m.conn.Close() })
	m.hear("220")
	m.say("250", "EHLO tool.example")
	m.say("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+account+"\x00secret")))
	return m
}

// say sends a command and wants a reply that begins so; it returns the reply, lines joined.
func (m *tool) say(want, format string, args ...any) string {
	m.t.Helper()
	if err := m.conn.PrintfLine(format, args...); err != nil {
		m.t.Fatal(err)
	}
	return m.hear(want)
}

func (m *tool) hear(want string) string {
	m.t.Helper()
	code, text, err := m.conn.ReadResponse(0)
	if refused := (*textproto.Error)(nil); err != nil && !errors.As(err, &refused) {
		m.t.Fatal(err)
	}
	reply := fmt.Sprintf("%d %s", code, text)
	if !strings.HasPrefix(reply, want) {
		m.t.Fatalf("reply %q, want %s", reply, want)
	}
	return reply
}

// send plays a transaction to its end: the replies to RCPT, and the one to the final dot ("" if nobody was accepted).
func (m *tool) send(raw string, to ...string) (rcpt []string, dot string) {
	m.t.Helper()
	m.say("250", "MAIL FROM:<news@acme.example>")
	accepted := 0
	for _, a := range to {
		reply := m.say("", "RCPT TO:<%s>", a)
		if strings.HasPrefix(reply, "250") {
			accepted++
		}
		rcpt = append(rcpt, reply)
	}
	if accepted == 0 {
		m.say("250", "RSET")
		return rcpt, ""
	}
	m.say("354", "DATA")
	w := m.conn.DotWriter()
	if _, err := w.Write([]byte(raw)); err != nil {
		m.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	return rcpt, m.hear("")
}

// sent wants one mail to be taken by the upstream.
func (m *tool) sent(raw, to string) {
	m.t.Helper()
	if rcpt, dot := m.send(raw, to); !strings.HasPrefix(dot, "250 2.0.0 ok: queued as") {
		m.t.Fatalf("to %s: %q, then %q, want the upstream's 250", to, rcpt, dot)
	}
}

// blocked wants one mail to be refused at RCPT with a reason code.
func (m *tool) blocked(raw, to, code string) {
	m.t.Helper()
	rcpt, dot := m.send(raw, to)
	if want := "550 5.7.1 <" + to + "> blocked [" + code + "] "; !strings.HasPrefix(rcpt[0], want) {
		m.t.Fatalf("to %s: %q, then %q, want %s", to, rcpt, dot, want)
	}
}

// plainMail is a small message of the sender's.
func plainMail(to, subject string, fields ...string) string {
	head := append([]string{
		"From: Acme <news@acme.example>", "To: <" + to + ">", "Subject: " + subject, "Date: Mon, 05 Jan 2026 10:00:00 +0000",
		"Message-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@acme.example>", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
	}, fields...)
	return strings.Join(head, "\r\n") + "\r\n\r\nHello,\r\n\r\nsee what is new: https://acme.example/news\r\n"
}

// part is a header and a body, as they stand.
type part struct {
	fields []string // folded lines and line ends included
	body   []byte
}

func split(raw []byte) part {
	head, body, found := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !found {
		return part{body: raw}
	}
	var p part
	for line := range strings.SplitAfterSeq(string(head)+"\r\n", "\r\n") {
		switch {
		case line == "":
		case (line[0] == ' ' || line[0] == '\t') && len(p.fields) > 0:
			p.fields[len(p.fields)-1] += line
		default:
			p.fields = append(p.fields, line)
		}
	}
	p.body = body
	return p
}

// take removes the fields of a name and returns their values, unfolded.
func (p *part) take(name string) (values []string) {
	p.fields = slices.DeleteFunc(p.fields, func(f string) bool {
		n, v, _ := strings.Cut(f, ":")
		if !strings.EqualFold(n, name) {
			return false
		}
		values = append(values, strings.TrimSpace(strings.ReplaceAll(v, "\r\n", "")))
		return true
	})
	return values
}

func (p part) value(name string) string {
	p.fields = slices.Clone(p.fields)
	return strings.Join(p.take(name), ", ")
}

var boundaryParam = regexp.MustCompile(`(?i)boundary="?([^";]+)"?`)

// parts are what stands between the boundaries; ok is false for a body that is not a multipart.
func (p part) parts() (found []part, ok bool) {
	m := boundaryParam.FindStringSubmatch(p.value("Content-Type"))
	if m == nil {
		return nil, false
	}
	pieces := bytes.Split(append([]byte("\r\n"), p.body...), []byte("\r\n--"+m[1]))
	for _, piece := range pieces[1 : len(pieces)-1] {
		found = append(found, split(bytes.TrimPrefix(piece, []byte("\r\n"))))
	}
	return found, true
}

// text decodes a part's transfer encoding.
func (p part) text(t *testing.T) string {
	t.Helper()
	switch strings.ToLower(p.value("Content-Transfer-Encoding")) {
	case "base64":
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(p.body)), ""))
		if err != nil {
			t.Errorf("base64: %v", err)
		}
		return string(b)
	case "quoted-printable":
		return unquote(t, p.body)
	}
	return string(p.body)
}

const (
	germanNotice = "Dies ist Werbung von Acme Ltd, 1 High Street, London EC1A 1AA, United Kingdom"
	linkPattern  = `^<(http://127\.0\.0\.1:\d+/u/[A-Za-z0-9_-]{40,})>$`
)

var oneLink = regexp.MustCompile(linkPattern)

// wantCopy compares what the upstream got with what the tool sent: one recipient, the fields the gateway sets, the
// notice with the recipient's link in every text, and nothing else different to the byte. It returns the link.
func wantCopy(t *testing.T, original []byte, got smtptest.Message, to string) string {
	t.Helper()
	if len(got.To) != 1 || got.To[0].Address != to {
		t.Errorf("envelope recipients %+v, want %s alone", got.To, to)
	}
	want, have := split(original), split(got.Data)
	link := wantOwnFields(t, &want, &have)
	want.take("Bcc")
	wantBody(t, want, have, link)
	if _, multi := want.parts(); !multi { // a text's encoding may have to change with the notice; wantBody has decoded it
		for _, p := range []*part{&want, &have} {
			p.take("Content-Type")
			p.take("Content-Transfer-Encoding")
		}
	}
	if !slices.Equal(have.fields, want.fields) {
		t.Errorf("header\n%q\nwant\n%q", have.fields, want.fields)
	}
	return link
}

// wantOwnFields checks and removes the fields that the gateway sets.
func wantOwnFields(t *testing.T, want, have *part) (link string) {
	t.Helper()
	received := have.take("Received")
	if n := len(want.take("Received")); len(received) != n+1 || !strings.Contains(received[0], "by gw.acme.example with ") {
		t.Errorf("Received: %q, want one more than %d", received, n)
	}
	if v := have.take("List-Unsubscribe-Post"); !slices.Equal(v, []string{"List-Unsubscribe=One-Click"}) {
		t.Errorf("List-Unsubscribe-Post: %q", v)
	}
	if v := have.take("List-Id"); len(v) != 1 || !strings.Contains(v[0], "newsletter") {
		t.Errorf("List-Id: %q", v)
	}
	v := have.take("List-Unsubscribe")
	if len(v) == 1 {
		if m := oneLink.FindStringSubmatch(v[0]); m != nil {
			return m[1]
		}
	}
	t.Errorf("List-Unsubscribe: %q, want one link", v)
	return "no link"
}

// wantBody: texts have the notice at their end, all else is the same bytes.
func wantBody(t *testing.T, want, have part, link string) {
	t.Helper()
	wanted, multi := want.parts()
	if !multi {
		wantText(t, want, have, link)
		return
	}
	got, _ := have.parts()
	if len(got) != len(wanted) {
		t.Errorf("%d parts, want %d", len(got), len(wanted))
		return
	}
	for i, w := range wanted {
		kind := strings.ToLower(w.value("Content-Type"))
		attached := strings.HasPrefix(strings.ToLower(w.value("Content-Disposition")), "attachment")
		switch {
		case strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "text/") && !attached:
			wantBody(t, w, got[i], link)
		case !slices.Equal(got[i].fields, w.fields) || !bytes.Equal(got[i].body, w.body):
			t.Errorf("part %d (%s): %d bytes, not the %d that were sent", i, kind, len(got[i].body), len(w.body))
		}
	}
}

func wantText(t *testing.T, want, have part, link string) {
	t.Helper()
	before, after := strings.TrimRight(want.text(t), "\r\n"), have.text(t)
	if strings.HasPrefix(strings.ToLower(want.value("Content-Type")), "text/html") {
		before, _, _ = strings.Cut(before, "</body>")
	}
	rest, same := strings.CutPrefix(strings.ReplaceAll(after, "\r\n", "\n"), strings.ReplaceAll(before, "\r\n", "\n"))
	if !same {
		t.Errorf("text does not begin as it was sent:\n%.600q\nwant\n%.600q", after, before)
	}
	if flat := strings.Join(strings.Fields(rest), " "); !strings.Contains(flat, germanNotice) || !strings.Contains(flat, link) {
		t.Errorf("no notice with the link %s at the end: %q", link, rest)
	}
}
