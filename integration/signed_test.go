package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestSignedMail: signed_mail: wrap sends what OpenSSL and GnuPG made, and they find nothing changed in what arrives.
// Without it the tool hears what to do.
func TestSignedMail(t *testing.T) {
	t.Parallel()
	openssl := program(t, "openssl")
	gpg := program(t, "gpg")
	dir := t.TempDir()
	run := func(in, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Stdin, cmd.Env = dir, strings.NewReader(in), append(os.Environ(), "GNUPGHOME="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
		}
		return string(out)
	}
	file := func(name, content string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	crlf := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
	}
	run("", openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=Acme", "-addext", "keyUsage=digitalSignature,keyEncipherment", "-addext", "extendedKeyUsage=emailProtection")
	run("", gpg, "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "news@acme.example", "ed25519", "sign", "never")
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+dir)
		_ = cmd.Run()
	})
	content := crlf("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße, \nfrom Acme  \n-- \nAcme\n")

	up := smtptest.New(t, smtptest.Script{})
	wraps := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"MORE", "policy: {signed_mail: wrap}"}).start()
	refuses := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "lager@spedition.example"
	wraps.consented(to)
	refuses.consented(to)

	smime := func(args ...string) string {
		return crlf(run(content, openssl, append([]string{"cms"}, args...)...))
	}
	detached := crlf(run(content, gpg, "--batch", "--armor", "--detach-sign"))
	n := 0
	for _, tt := range []struct {
		name, mime string
		verify     func(t *testing.T, entity string)
	}{
		{"S/MIME, detached", smime("-sign", "-signer", "cert.pem", "-inkey", "key.pem"), func(t *testing.T, entity string) {
			if got := run(entity, openssl, "cms", "-verify", "-CAfile", "cert.pem", "-purpose", "any"); got != content {
				t.Errorf("OpenSSL reads %q", got)
			}
		}},
		{"S/MIME, opaque", smime("-sign", "-binary", "-nodetach", "-signer", "cert.pem", "-inkey", "key.pem"), func(t *testing.T, entity string) {
			if got := run(entity, openssl, "cms", "-verify", "-CAfile", "cert.pem", "-purpose", "any"); got != content {
				t.Errorf("OpenSSL reads %q", got)
			}
		}},
		{"S/MIME, encrypted", smime("-encrypt", "-binary", "-aes256", "cert.pem"), func(t *testing.T, entity string) {
			if got := run(entity, openssl, "cms", "-decrypt", "-inkey", "key.pem", "-recip", "cert.pem"); got != content {
				t.Errorf("OpenSSL reads %q", got)
			}
		}},
		{"PGP/MIME", "MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha512;\r\n protocol=\"application/pgp-signature\"; boundary=\"s\"\r\n\r\n--s\r\n" + content +
			"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n" + detached + "--s--\r\n", func(t *testing.T, entity string) {
			whole := split([]byte(entity))
			signed, found := strings.CutPrefix(string(whole.body), "--s\r\n")
			signed, rest, ok := strings.Cut(signed, "\r\n--s\r\n")
			if _, signature, _ := strings.Cut(rest, "\r\n\r\n"); found && ok {
				run(signed, gpg, "--batch", "--verify", file("s.asc", signature), "-")
			} else {
				t.Errorf("no signed part in %q", entity)
			}
		}},
		{"OpenPGP inline", "\r\n" + crlf(run("Hello,\nfrom Acme\n", gpg, "--batch", "--clearsign")), func(t *testing.T, entity string) {
			run(entity, gpg, "--batch", "--verify", "-")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := "From: Acme <news@acme.example>\r\nTo: " + to + "\r\nMessage-ID: <" + strings.ReplaceAll(strings.ToLower(tt.name), " ", "-") + "@acme.example>\r\nSubject: Signed\r\n" + tt.mime
			_, dot := refuses.tool(t, "crm").send(raw, to)
			if !strings.HasPrefix(dot, "550 5.6.0 ") || !strings.Contains(dot, "signed_mail: wrap") {
				t.Errorf("%q does not say what to do", dot)
			}
			wraps.tool(t, "crm").sent(raw, to)
			n++
			tt.verify(t, wantWrapped(t, raw, up.Await(t, n)[n-1].Data, to))
		})
	}
	if seen := len(up.Seen()); seen != n {
		t.Errorf("%d messages arrived, %d were sent", seen, n)
	}
}

// wantWrapped is the entity that was wrapped, as it arrived: the message's body with the fields that describe it.
func wantWrapped(t *testing.T, raw string, data []byte, to string) string {
	t.Helper()
	want, got := split([]byte(raw)), split(data)
	parts, ok := got.parts()
	if !ok || len(parts) < 2 || !strings.HasPrefix(got.value("Content-Type"), "multipart/mixed;") || got.value("MIME-Version") != "1.0" {
		t.Fatalf("%d parts, header %q", len(parts), got.fields)
	}
	link := oneLink.FindStringSubmatch(got.value("List-Unsubscribe"))
	if link == nil || got.value("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" || got.value("Subject") != "Signed" || got.value("To") != to {
		t.Fatalf("header %q", got.fields)
	}
	second := parts[len(parts)-1]
	notice := strings.Join(strings.Fields(second.text(t)), " ")
	if !strings.HasPrefix(second.value("Content-Type"), "text/plain") || !strings.Contains(notice, germanNotice) || !strings.Contains(notice, link[1]) {
		t.Errorf("notice %q", notice)
	}
	delimiter := "--" + boundaryParam.FindStringSubmatch(got.value("Content-Type"))[1]
	_, rest, _ := strings.Cut("\r\n"+string(got.body), "\r\n"+delimiter+"\r\n")
	entity, _, _ := strings.Cut(rest, "\r\n"+delimiter+"\r\n")
	head, body, _ := strings.Cut("\r\n"+entity, "\r\n\r\n")
	if body != string(want.body) {
		t.Errorf("the body became %q", body)
	}
	for _, f := range want.fields {
		if strings.HasPrefix(f, "Content-") != strings.Contains(head+"\r\n", "\r\n"+f) {
			t.Errorf("the field %q stands on the wrong side", f)
		}
	}
	return entity
}
