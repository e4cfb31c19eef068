package integration

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"heed/smtp/smtptest"
)

// dkimKeys are key files and what stands in the DNS for them, by name.
type dkimKeys struct {
	dir string
	txt map[string]string
}

// makeKeys writes an RSA key for r1 and an Ed25519 key for e1 of acme.example, and e2 for later.
func makeKeys(t *testing.T) *dkimKeys {
	t.Helper()
	k := &dkimKeys{t.TempDir(), map[string]string{}}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k.write(t, "r1", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r))
	public, err := x509.MarshalPKIXPublicKey(&r.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	k.txt["r1._domainkey.acme.example"] = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	for _, selector := range []string{"e1", "e2"} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		k.write(t, selector, "PRIVATE KEY", der)
		k.txt[selector+"._domainkey.acme.example"] = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	}
	return k
}

func (k *dkimKeys) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(k.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (k *dkimKeys) file(selector string) string { return filepath.Join(k.dir, selector+".pem") }

func (k *dkimKeys) config(selectors ...string) string {
	var items []string
	for _, s := range selectors {
		items = append(items, fmt.Sprintf("{domain: acme.example, selector: %s, key: \"file:%s\"}", s, k.file(s)))
	}
	return strings.Join(items, ", ")
}

// verify returns the signatures of a message.
func (k *dkimKeys) verify(t *testing.T, message []byte) []*dkim.Verification {
	t.Helper()
	found, err := dkim.VerifyWithOptions(bytes.NewReader(message), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if txt := k.txt[name]; txt != "" {
			return []string{txt}, nil
		}
		return nil, fmt.Errorf("no such name: %s", name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantSigned wants good signatures only, and as many.
func (k *dkimKeys) wantSigned(t *testing.T, message []byte, signatures int) {
	t.Helper()
	found := k.verify(t, message)
	if len(found) != signatures {
		t.Errorf("%d signatures, want %d", len(found), signatures)
	}
	for _, v := range found {
		if v.Err != nil {
			t.Errorf("%v\n%s", v.Err, message)
		}
	}
}

// dkimpyAgrees has Debian's dkimpy, which shares no code with ours, verify every signature.
func (k *dkimKeys) dkimpyAgrees(t *testing.T, message []byte, signatures int) {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import dkim, nacl").Run(); err != nil {
		t.Skipf("python3-dkim and python3-nacl are not installed: %v", err)
	}
	args := []string{"-c", `
import sys, dkim
txt = dict(a.encode().split(b'=', 1) for a in sys.argv[2:])
d = dkim.DKIM(sys.stdin.buffer.read())
print([d.verify(idx=i, dnsfunc=lambda name, timeout=5: txt.get(name.rstrip(b'.'))) for i in range(int(sys.argv[1]))])`, fmt.Sprint(signatures)}
	for name, txt := range k.txt {
		args = append(args, name+"="+txt)
	}
	cmd := exec.Command(python, args...)
	cmd.Stdin = bytes.NewReader(message)
	out, err := cmd.CombinedOutput()
	if want := "[True" + strings.Repeat(", True", signatures-1) + "]\n"; err != nil || string(out) != want {
		t.Errorf("dkimpy: %v %s", err, out)
	}
}

// TestDKIM: what arrives at the ESP is signed by both keys, as it is, and nothing can be added to what was signed.
func TestDKIM(t *testing.T) {
	t.Parallel()
	k := makeKeys(t)
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"DKIM", k.config("r1", "e1")}, setting{"REWRITES", "Message-ID"}).start()
	const to = "lager@spedition.example"
	g.consented(to)
	raw := "DKIM-Signature: v=1; a=rsa-sha256; d=tool.example; s=x; h=from; bh=; b=\r\n" + mixed(t, to, "dkim", 100_000)
	g.tool(t, "crm").sent(raw, to)
	got := up.Await(t, 1)[0].Data
	k.wantSigned(t, got, 2)
	if !bytes.HasPrefix(got, []byte("DKIM-Signature: ")) || bytes.Contains(got, []byte("d=tool.example")) {
		t.Errorf("got\n%.2000s", got)
	}
	for line := range bytes.Lines(got[:bytes.Index(got, []byte("Received: "))]) {
		if len(line) > 80 {
			t.Errorf("a line of %d octets: %s", len(line)-2, line)
		}
	}
	names := k.verify(t, got)[0].HeaderKeys
	for name, want := range map[string]int{"From": 2, "List-Unsubscribe": 2, "List-Unsubscribe-Post": 2, "List-Id": 2, "Subject": 2, "Message-ID": 0, "Received": 0} {
		if n := len(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s != name })); n != want {
			t.Errorf("h= has %s %d times, want %d", name, n, want)
		}
	}
	for _, added := range []string{"From: x@y.example\r\n", "List-Unsubscribe: <https://y.example>\r\n", "List-Unsubscribe-Post: x\r\n", "Subject: x\r\n", "Content-Type: text/html\r\n"} {
		for _, v := range k.verify(t, append([]byte(added), got...)) {
			if v.Err == nil {
				t.Errorf("%q on top does not break the signature of %s", added, v.Domain)
			}
		}
	}
	moved := bytes.Replace(got, []byte("Message-ID: "), []byte("Message-ID: <esp>"), 1)
	k.wantSigned(t, append([]byte("Received: by esp.example\r\n"), moved...), 2)
	t.Run("dkimpy", func(t *testing.T) { k.dkimpyAgrees(t, got, 2) })
	t.Run("transactional", func(t *testing.T) {
		g.tool(t, "shop").sent(eightBit(to, "dkim.invoice"), to)
		k.wantSigned(t, up.Await(t, 2)[1].Data, 0)
	})
	t.Run("preview", func(t *testing.T) {
		out := filepath.Join(g.dir, "out.eml")
		file := filepath.Join(g.dir, "in.eml")
		if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		g.must("check", "--account", "crm", "--to", to, "--rewritten", out, file)
		preview, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		k.wantSigned(t, preview, 2)
	})
	t.Run("rotation", func(t *testing.T) {
		text, err := os.ReadFile(g.config)
		if err != nil {
			t.Fatal(err)
		}
		next := strings.Replace(string(text), k.config("r1", "e1"), k.config("e2"), 1)
		if err := os.WriteFile(g.config, []byte(next), 0o600); err != nil {
			t.Fatal(err)
		}
		g.cmd.Process.Signal(syscall.SIGHUP)
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(g.log.String(), "reloaded accounts"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not reloaded")
			}
		}
		g.tool(t, "crm").sent(eightBit(to, "dkim.rotated"), to)
		after := up.Await(t, 3)[2].Data
		k.wantSigned(t, after, 1)
		if !bytes.Contains(after, []byte(" s=e2;")) {
			t.Errorf("got\n%.500s", after)
		}
	})
}

// TestDKIMInSevenBit: an ESP without 8BITMIME gets what was signed after it was encoded.
func TestDKIMInSevenBit(t *testing.T) {
	t.Parallel()
	k := makeKeys(t)
	up := smtptest.New(t, smtptest.Script{Extensions: []string{"PIPELINING", "ENHANCEDSTATUSCODES"}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"DKIM", k.config("r1", "e1")}).start()
	const to = "lager@spedition.example"
	g.consented(to)
	for i, raw := range []string{eightBit(to, "seven"), mixed(t, to, "seven.mixed", 50_000)} {
		g.tool(t, "crm").sent(raw, to)
		got := up.Await(t, i+1)[i].Data
		if bytes.ContainsFunc(got, func(r rune) bool { return r >= 0x80 }) {
			t.Errorf("8-bit in\n%s", got)
		}
		k.wantSigned(t, got, 2)
		k.dkimpyAgrees(t, got, 2)
	}
}
