package rewrite

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// testKeys are one key of each kind; making an RSA key takes long.
var testKeys = sync.OnceValue(func() []DKIMKey {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return []DKIMKey{{"acme.example", "r1", r}, {"acme.example", "e1", e}}
})

var signedAt = time.Unix(1_790_000_000, 0)

func testSigner(t testing.TB, replaced ...string) *Signer {
	t.Helper()
	s, err := NewSigner(testKeys(), replaced)
	if err != nil {
		t.Fatal(err)
	}
	return s.For([]string{"acme.example"})
}

// txtOf is what stands in the DNS for a key.
func txtOf(k DKIMKey) string {
	if e, ok := k.Private.(ed25519.PrivateKey); ok {
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(e.Public().(ed25519.PublicKey))
	}
	der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
	if err != nil {
		panic(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

func lookupTXT(name string) ([]string, error) {
	for _, k := range testKeys() {
		if name == k.Selector+"._domainkey."+k.Domain {
			return []string{txtOf(k)}, nil
		}
	}
	return nil, fmt.Errorf("no such name: %s", name)
}

// verifyAll wants a good signature of each key.
func verifyAll(signed []byte, signatures int) error {
	found, err := dkim.VerifyWithOptions(bytes.NewReader(signed), &dkim.VerifyOptions{LookupTXT: lookupTXT})
	if err != nil {
		return err
	}
	for _, v := range found {
		err = errors.Join(err, v.Err)
	}
	if len(found) != signatures {
		err = errors.Join(err, fmt.Errorf("%d signatures", len(found)))
	}
	return err
}

func sign(t testing.TB, s *Signer, message []byte) []byte {
	t.Helper()
	fields, err := s.append(nil, message, signedAt)
	if err != nil {
		t.Fatal(err)
	}
	if len(fields) > s.maxSize() {
		t.Fatalf("%d octets of at most %d:\n%s", len(fields), s.maxSize(), fields)
	}
	return append(fields, message...)
}

const listMail = "Received: from x by y; z\r\nList-Unsubscribe: <https://opt.example/u/1>,\r\n <mailto:x@opt.example>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" +
	"From: Acme <news@acme.example>\r\nTo: a@b.example\r\nSubject: Hello\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\nMessage-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nHello  you \r\n\r\n"

func TestSign(t *testing.T) {
	tests := []struct{ name, message string }{
		{"list mail", listMail},
		{"empty body", "From: a@acme.example\r\n\r\n"},
		{"only empty lines", "From: a@acme.example\r\n\r\n\r\n \r\n\t\r\n"},
		{"no line end at the end", "From: a@acme.example\r\n\r\nx"},
		{"blanks at the end", "From: a@acme.example\r\n\r\nx \t \r\n \r\n"},
		{"a blank at the end of all", "From: a@acme.example\r\n\r\nx "},
		{"tabs and blanks", "From: a@acme.example\r\n\r\n\t x\t\ty \tz  \r\n \t\r\nx\r\n"},
		{"8-bit header", "From: B\xe4r <a@acme.example>\r\nSubject: Gr\xc3\xbc\xc3\x9fe  \xa0 x\r\n\r\n\xff\x00\r\n"},
		{"odd folding", "from:\r\n\t a@acme.example \t\r\nSUBJECT: \r\n \r\n x\t y \r\nTo:\r\n\r\nx\r\n"},
		{"white space before a colon", "From : a@acme.example\r\nSubject\t: x\r\n\r\nx\r\n"},
		{"fields twice", "To: a@b.example\r\nFrom: a@acme.example\r\nTo: c@d.example\r\nTo: e@f.example\r\n\r\nx\r\n"},
		{"many", strings.Repeat("References: <"+strings.Repeat("x", 60)+"@acme.example>\r\n", 8) + "From: a@acme.example\r\n\r\nx\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			signed := sign(t, testSigner(t), []byte(tt.message))
			if err := verifyAll(signed, 2); err != nil {
				t.Errorf("%v\n%s", err, signed)
			}
			for line := range strings.Lines(string(signed[:len(signed)-len(tt.message)])) {
				if len(line) > maxColumns+2 || !strings.HasSuffix(line, "\r\n") {
					t.Errorf("a line of %d: %q", len(line), line)
				}
			}
		})
	}
}

// Regression: of a field that stands more often than are signed, one name more was the next of them, and nothing verified.
func TestSignManyOfOneName(t *testing.T) {
	for n := 1; n <= maxSame+4; n++ {
		raw := "From: a@acme.example\r\n" + strings.Repeat("Cc: b@c.example\r\n", n) + "\r\nx\r\n"
		if err := verifyAll(sign(t, testSigner(t), []byte(raw)), 2); err != nil {
			t.Errorf("%d fields: %v", n, err)
		}
	}
}

func TestSignIsReproducible(t *testing.T) {
	a, b := sign(t, testSigner(t), []byte(listMail)), sign(t, testSigner(t), []byte(listMail))
	if !bytes.Equal(a, b) {
		t.Errorf("\n%s\n%s", a, b)
	}
}

// What is added to, taken from or changed in a signed message breaks every signature; what is not signed does not.
func TestSignatureHolds(t *testing.T) {
	tests := []struct {
		name string
		edit func(string) string
		ok   bool
	}{
		{"as it is", func(s string) string { return s }, true},
		{"a second From on top", func(s string) string { return "From: x@y.example\r\n" + s }, false},
		{"a second From below", func(s string) string { return strings.Replace(s, "To:", "From: x@y.example\r\nTo:", 1) }, false},
		{"a second List-Unsubscribe", func(s string) string { return "List-Unsubscribe: <https://evil.example>\r\n" + s }, false},
		{"a second List-Unsubscribe-Post", func(s string) string { return "List-Unsubscribe-Post: x\r\n" + s }, false},
		{"a second Subject", func(s string) string { return "Subject: x\r\n" + s }, false},
		{"a second To", func(s string) string { return "To: x\r\n" + s }, false},
		{"a second Date", func(s string) string { return "Date: x\r\n" + s }, false},
		{"a second Content-Type", func(s string) string { return "Content-Type: text/html\r\n" + s }, false},
		{"a Reply-To where there was none", func(s string) string { return "Reply-To: x@y.example\r\n" + s }, false},
		{"another link", func(s string) string { return strings.Replace(s, "/u/1", "/u/2", 1) }, false},
		{"no List-Unsubscribe-Post", func(s string) string {
			return strings.Replace(s, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "", 1)
		}, false},
		{"another body", func(s string) string { return strings.Replace(s, "you", "me", 1) }, false},
		{"Received on top", func(s string) string { return "Received: from y by z; x\r\nReturn-Path: <>\r\n" + s }, true},
		{"another Received", func(s string) string { return strings.Replace(s, "from x", "from q", 1) }, true},
		{"other white space", func(s string) string { return strings.Replace(s, "Hello  you ", "Hello you", 1) }, true},
	}
	signed := string(sign(t, testSigner(t), []byte(listMail)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := dkim.VerifyWithOptions(strings.NewReader(tt.edit(signed)), &dkim.VerifyOptions{LookupTXT: lookupTXT})
			if err != nil || len(found) != 2 {
				t.Fatal(found, err)
			}
			for _, v := range found {
				if (v.Err == nil) != tt.ok {
					t.Errorf("%v", v.Err)
				}
			}
		})
	}
}

// signedNames are the names in h= of the first signature.
func signedNames(t *testing.T, signed []byte) []string {
	t.Helper()
	found, err := dkim.VerifyWithOptions(bytes.NewReader(signed), &dkim.VerifyOptions{LookupTXT: lookupTXT})
	if err != nil || len(found) == 0 || found[0].Err != nil {
		t.Fatal(found, err)
	}
	return found[0].HeaderKeys
}

func TestSignedNames(t *testing.T) {
	names := signedNames(t, sign(t, testSigner(t, "message-id", "List-ID", "X-None"), []byte(listMail)))
	for name, want := range map[string]int{"From": 2, "List-Unsubscribe": 2, "List-Unsubscribe-Post": 2, "Subject": 2, "Date": 2, "To": 2, "Content-Type": 2, "Reply-To": 1, "Message-ID": 0, "List-Id": 0, "Received": 0} {
		n := 0
		for _, x := range names {
			if x == name {
				n++
			}
		}
		if n != want {
			t.Errorf("%s stands %d times, want %d: %q", name, n, want, names)
		}
	}
}

func TestSignerRefuses(t *testing.T) {
	if _, err := NewSigner(testKeys(), []string{"from"}); err == nil {
		t.Error("without From")
	}
	if _, err := NewSigner([]DKIMKey{{"a.example", "s", nil}}, nil); err == nil {
		t.Error("without a key")
	}
	if _, err := NewSigner([]DKIMKey{{"a.example", "s", brokenKey{testKeys()[0].Private}}}, nil); err == nil {
		t.Error("a key of another type")
	}
	if _, err := testSigner(t).append(nil, []byte("Subject: x\r\n\r\nx\r\n"), signedAt); err == nil {
		t.Error("a message without From was signed")
	}
}

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("broken")
}

// A copy that cannot be signed is no copy.
func TestCopyThatCannotBeSigned(t *testing.T) {
	s := testSigner(t)
	s.keys = []signingKey{{DKIMKey: DKIMKey{"acme.example", "s", brokenKey{}}, algorithm: "rsa-sha256"}}
	m, err := Read([]byte(listMail))
	if err != nil {
		t.Fatal(err)
	}
	treatment := sample(t, "en", "Acme Ltd")
	treatment.Sign, treatment.Now = s, signedAt
	out, _, err := m.Copy(treatment)
	var no *Refusal
	if err == nil || errors.As(err, &no) || out != nil {
		t.Errorf("%v, %d octets", err, len(out))
	}
}

func TestKeysFor(t *testing.T) {
	private := testKeys()[1].Private
	s, err := NewSigner([]DKIMKey{{"acme.example", "a", private}, {"news.acme.example", "n", private}, {"other.example", "o", private}, {"mail.other.example", "m", private}, {"x.third.example", "x", private}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from []string
		want string
	}{
		{[]string{"acme.example"}, "a"},
		{[]string{"Acme.Example"}, "a"},
		{[]string{"news.acme.example"}, "a n"},
		{[]string{"x.news.acme.example"}, "a n"},
		{[]string{"notacme.example"}, ""},
		{[]string{"third.example"}, "x"},
		{[]string{"x.third.example"}, "x"},
		{[]string{"y.third.example"}, ""},
		{[]string{"acme.example", "other.example"}, "a o"},
		{[]string{"stranger.example", "mail.other.example"}, "o m"},
		{[]string{"example"}, "a n o m x"}, // no registry lets anybody mail from there
		{nil, ""},
	} {
		var got []string
		if f := s.For(tt.from); f != nil {
			for _, k := range f.keys {
				got = append(got, k.Selector)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", tt.from, got, tt.want)
		}
	}
	var none *Signer
	if none.For([]string{"acme.example"}) != nil || none.maxSize() != 0 {
		t.Error("nil has keys")
	}
}

// theirs is go-msgauth's hash of a body.
func theirs(t *testing.T, body []byte) string {
	t.Helper()
	var out bytes.Buffer
	err := dkim.Sign(&out, io.MultiReader(strings.NewReader("From: a@acme.example\r\n\r\n"), bytes.NewReader(body)), &dkim.SignOptions{
		Domain: "acme.example", Selector: "e1", Signer: testKeys()[1].Private, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(out.String(), "bh=")
	hash, _, _ := strings.Cut(rest, ";")
	return hash
}

func ours(body []byte) string {
	h := sha256.New()
	relaxedBody(h, body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func TestRelaxedBody(t *testing.T) {
	pieces := []string{" ", "  ", "\t", "\r\n", "\r\n", "x", "yz", ".", "\r\n\r\n", " \t ", "word", strings.Repeat("long", 200), "\xff", "\x00"}
	random := mathrand.New(mathrand.NewPCG(1, 2))
	rounds := 20_000
	if testing.Short() {
		rounds = 1000
	}
	for range rounds {
		var b []byte
		for range random.IntN(40) {
			b = append(b, pieces[random.IntN(len(pieces))]...)
		}
		if got, want := ours(b), theirs(t, b); got != want {
			t.Fatalf("%q: %s, want %s", b, got, want)
		}
	}
}

// TestRandomHeaders: the same fields as another implementation reads them.
func TestRandomHeaders(t *testing.T) {
	names := []string{"From", "from", "FROM ", "To", "Subject", "subject\t", "List-Unsubscribe", "X-Other", "Froms", "Content-Type", "Date", "Cc"}
	pieces := []string{" ", "\t", "\r\n ", "\r\n\t", "x", "a@b", "\xe4", ";", ":", "  ", "word"}
	random := mathrand.New(mathrand.NewPCG(3, 4))
	e, err := NewSigner(testKeys()[1:], nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		b := []byte("From: a@acme.example\r\n")
		for range random.IntN(12) {
			b = append(append(b, names[random.IntN(len(names))]...), ": z"...)
			for range random.IntN(8) {
				b = append(b, pieces[random.IntN(len(pieces))]...)
			}
			b = append(b, "z\r\n"...)
		}
		b = append(b, "\r\nbody\r\n"...)
		if err := verifyAll(sign(t, e, b), 1); err != nil && bytes.Count(bytes.ToLower(b), []byte("\nfrom"))+1 <= maxSame {
			t.Fatalf("%v\n%q", err, b)
		}
	}
}

// python is Debian's, which finds Debian's dkimpy.
func dkimpy(t *testing.T) string {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import dkim, nacl").Run(); err != nil {
		t.Skipf("python3-dkim and python3-nacl are not installed: %v", err)
	}
	return python
}

// verifyFiles has dkimpy verify every signature of every file below a folder, and prints the name of each file with one that fails.
const verifyFiles = `
import sys, os, dkim
txt = dict(a.encode().split(b'=', 1) for a in sys.argv[2:])
n = 0
for folder, _, files in os.walk(sys.argv[1]):
    for f in files:
        d = dkim.DKIM(open(os.path.join(folder, f), 'rb').read())
        for i in range(2):
            n += 1
            try: ok = d.verify(idx=i, dnsfunc=lambda name, timeout=5: txt.get(name.rstrip(b'.')))
            except Exception as e: ok = False; print(repr(e), end=' ')
            if not ok: print('signature', i, 'of', f)
print(n, 'signatures')
`

// TestVerifiedByOthers: a verifier that shares nothing with us reads the same.
func TestVerifiedByOthers(t *testing.T) {
	python := dkimpy(t)
	dir := t.TempDir()
	for i, m := range []string{listMail, "From: B\xe4r <a@acme.example>\r\nSubject: Gr\xc3\xbc\xc3\x9fe  \xa0 x\r\n\r\n\xff\x00\r\n", "from:\r\n\t a@acme.example \t\r\nSUBJECT: x\t y \r\nTo:\r\n\r\n\t x\t\ty \tz  \r\n\r\n \r\n", "From: a@acme.example\r\n\r\n"} {
		write(t, filepath.Join(dir, fmt.Sprint(i)), sign(t, testSigner(t), []byte(m)))
	}
	checkWithDkimpy(t, python, dir, 8)
}

func checkWithDkimpy(t *testing.T, python, dir string, signatures int) {
	t.Helper()
	args := []string{"-c", verifyFiles, dir}
	for _, k := range testKeys() {
		args = append(args, k.Selector+"._domainkey."+k.Domain+"="+txtOf(k))
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	if want := fmt.Sprintf("%d signatures\n", signatures); err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestCorpusSigned signs every copy and has it verified: all by go-msgauth, a sample by dkimpy.
func TestCorpusSigned(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the corpus takes minutes")
	}
	root := filepath.Join(corpusDir(), "eml")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no corpus beside the repository: %v", err)
	}
	treatment := sample(t, "en", "Acme Ltd")
	e, err := NewSigner(testKeys(), nil)
	if err != nil {
		t.Fatal(err)
	}
	treatment.Sign, treatment.Now = e, signedAt
	dir, done, sampled, broken := t.TempDir(), 0, 0, 0
	var failed []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if raw = onTheWire(raw); bareCR(raw) {
			return nil // refused at the door
		}
		m, out, err := copyOf(raw, treatment)
		if err != nil {
			var no *Refusal
			if !errors.As(err, &no) && !strings.Contains(err.Error(), "without From") {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		}
		if m.head.broken || hasLink(m) { // where such a header ends, verifiers do not agree either; the checker knows no links of the tool's own
			broken++
			return nil
		}
		done++
		if err := verifyAll(out, 2); err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", path, err))
		} else if done%20 == 0 {
			sampled++
			write(t, filepath.Join(dir, "new", fmt.Sprint(done)), out)
			write(t, filepath.Join(dir, "orig", fmt.Sprint(done)), raw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d signed, %d for dkimpy; %d with a broken header not verified", done, sampled, broken)
	if len(failed) > 0 {
		t.Errorf("%d fail:\n%s", len(failed), strings.Join(failed[:min(len(failed), 40)], "\n"))
	}
	python := dkimpy(t)
	checkWithDkimpy(t, python, filepath.Join(dir, "new"), 2*sampled)
	args := []string{
		filepath.Join(corpusDir(), "check_rewrite.py"), "--eol", "exact", "--no-warn", "--unsub-url", `^https://opt\.acme\.example/u/`,
		"--notice", `This is advertising from Acme Ltd, 1 High Street.*?takes effect at once\.`, "--add", "received,list-id,dkim-signature", "--remove", removedFields(),
	}
	for _, k := range testKeys() {
		args = append(args, "--dkim-txt", k.Selector+"._domainkey."+k.Domain+"="+txtOf(k))
	}
	if report, err := exec.Command(python, append(args, filepath.Join(dir, "orig"), filepath.Join(dir, "new"))...).CombinedOutput(); err != nil {
		t.Errorf("the checker found mistakes: %v\n%s", err, report)
	}
}

func BenchmarkSign(b *testing.B) {
	keys := testKeys()
	for _, size := range []int{4 << 10, 40 << 10, 1 << 20} {
		line := "It is time for the spring sale, and this is what we have for you today:\r\n"
		message := []byte(listMail + strings.Repeat(line, size/len(line)))
		for _, k := range keys {
			s, err := NewSigner([]DKIMKey{k}, nil)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, s.maxSize())
			b.Run(fmt.Sprintf("ours/%dKB/%s", size>>10, s.keys[0].algorithm), func(b *testing.B) {
				b.SetBytes(int64(len(message)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.append(dst, message, signedAt); err != nil {
						b.Fatal(err)
					}
				}
			})
			options := &dkim.SignOptions{
				Domain: k.Domain, Selector: k.Selector, Signer: k.Private, BodyCanonicalization: dkim.CanonicalizationRelaxed,
				HeaderCanonicalization: dkim.CanonicalizationRelaxed, HeaderKeys: slices.Repeat([]string{"From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post"}, 2),
			}
			b.Run(fmt.Sprintf("go-msgauth/%dKB/%s", size>>10, s.keys[0].algorithm), func(b *testing.B) {
				b.SetBytes(int64(len(message)))
				b.ReportAllocs()
				for b.Loop() {
					signer, err := dkim.NewSigner(options)
					if err != nil {
						b.Fatal(err)
					}
					if _, err = signer.Write(message); err != nil {
						b.Fatal(err)
					}
					if err = signer.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
