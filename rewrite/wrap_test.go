package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"testing"
)

const (
	signedMail = "From: a@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol=\"application/pgp-signature\";\r\n micalg=pgp-sha256; boundary=b\r\nSubject: x\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe  \r\n\r\n--b\r\nContent-Type: application/pgp-signature; name=s.asc\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n--b--\r\n"
	opaqueMail = "From: a@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=smime.p7m\r\nSubject: x\r\n\r\nMIIB\r\n"
	clearMail = "Subject: x\r\nFrom: a@acme.example\r\n\r\nhello\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nhi \r\n-----BEGIN PGP SIGNATURE-----\r\n"
)

// Every kind of protected message is refused with what to do about it, and wrapped where the operator wants that: its
// entity is, byte for byte, the first part for Go's own reader, and the notice the second.
func TestWrapSigned(t *testing.T) {
	typed := func(typ, body string) string {
		return "From: a@acme.example\r\nContent-Type: " + typ + "\r\n\r\n" + body
	}
	for _, tt := range []struct{ name, raw, why string }{
		{"multipart/signed", signedMail, "it is signed"},
		{"encrypted", typed("Multipart/Encrypted; boundary=b", "--b\r\n\r\nx\r\n--b--\r\n"), "it is encrypted"},
		{"S/MIME", opaqueMail, "S/MIME"},
		{"S/MIME, old type", typed("application/x-pkcs7-mime", "AAAA\r\n"), "S/MIME"},
		{"S/MIME by its name", typed("application/octet-stream; name=\"smime.P7M\"", "AAAA\r\n"), "S/MIME"},
		{"S/MIME by its encoded name", typed("application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''smime.p7m", "AAAA\r\n"), "S/MIME"},
		{"signed below a list's footer", typed("multipart/mixed; boundary=a", "--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\n\r\nfooter\r\n--a--\r\nepilogue"), "it is signed"},
		{"old OpenPGP", typed("application/pgp; x-action=sign", "x\r\n"), "OpenPGP"},
		{"inline OpenPGP", clearMail, "inline OpenPGP"},
		{"inline OpenPGP behind white space", typed("text/plain", "  -----BEGIN PGP MESSAGE-----\r\n\r\nhQ\r\n"), "inline OpenPGP"},
		{"inline OpenPGP, a part", typed("text/plain", "-----BEGIN PGP MESSAGE, PART 1/2-----\r\n\r\nhQ\r\n"), "inline OpenPGP"},
		{"inline OpenPGP in HTML", typed("text/html", "<p>-----BEGIN&nbsp;PGP\r\nSIGNED MESSAGE-----<br>Hash: SHA256<br>\r\n"), "inline OpenPGP"},
		{"inline OpenPGP in base64", typed("text/plain\r\nContent-Transfer-Encoding: base64", "LS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tDQo=\r\n"), "inline OpenPGP"},
		{"inline OpenPGP in one alternative", typed("multipart/alternative; boundary=b", "--b\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n"), "inline OpenPGP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r *Refusal
			if _, err := rewriteOnce([]byte(tt.raw), short(t, "")); !errors.As(err, &r) || !strings.Contains(r.Why, tt.why) || !strings.Contains(r.Why, "signed_mail: wrap") {
				t.Errorf("got %v, want a refusal that says %q and what to do", err, tt.why)
			}
			tr := short(t, ".de.eml")
			m, err := Read([]byte(tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			m.WrapSigned = true
			out, changes, err := m.Copy(tr)
			if err != nil {
				t.Fatal(err)
			}
			if p := changes.Parts; !slices.Contains(changes.Added, "Content-Type") || len(p) != 1 || p[0].Part != "2" || p[0].Edits[0].What != "notice" {
				t.Errorf("account %+v", changes)
			}
			wantWrapped(t, []byte(tt.raw), out, tr)
		})
	}
}

func wantWrapped(t *testing.T, raw, out []byte, tr Treatment) {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	boundary := wantParts(t, msg, body, tr)
	// The fields: those of the content inside, all others outside, in their order.
	var inside, outside []string
	for l := range strings.SplitSeq(strings.ReplaceAll(string(head), "\r\n ", "\x00"), "\r\n") {
		if l = strings.ReplaceAll(l, "\x00", "\r\n ") + "\r\n"; strings.HasPrefix(l, "Content-") {
			inside = append(inside, l)
		} else {
			outside = append(outside, l)
		}
	}
	entity := strings.Join(inside, "") + "\r\n" + string(body)
	if !bytes.Contains(out, []byte("--"+boundary+"\r\n"+entity+"\r\n--"+boundary)) {
		t.Errorf("the entity is not whole:\n%s", out)
	}
	top, _, _ := strings.Cut(string(out), "\r\n\r\n")
	at := 0
	for _, l := range outside {
		i := strings.Index((top + "\r\n")[at:], l)
		if i < 0 {
			t.Errorf("%q is not in the header, or out of order:\n%s", l, top)
			continue
		}
		at += i
	}
}

// wantParts reads the two parts with the standard library.
func wantParts(t *testing.T, msg *mail.Message, body []byte, tr Treatment) (boundary string) {
	t.Helper()
	typ, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || typ != "multipart/mixed" || !strings.HasPrefix(msg.Header.Get("MIME-Version"), "1.0") {
		t.Fatalf("header %v, %v", msg.Header, err)
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	first, err := r.NextRawPart()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(first); !bytes.Equal(got, body) {
		t.Errorf("the body became %q", got)
	}
	second, err := r.NextRawPart()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(second))
	if err != nil || strings.ReplaceAll(string(text), "\r\n", "\n") != tr.Notice.Text+"\n" {
		t.Errorf("the notice is %q, %v", text, err)
	}
	if _, err := r.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("after the notice: %v", err)
	}
	return params["boundary"]
}

func TestWrapRefusals(t *testing.T) {
	deep, ends := plain, ""
	for i := range maxDepth {
		deep += fmt.Sprintf("Content-Type: multipart/signed; boundary=b%03d\r\n\r\n--b%03d\r\n", i, i)
		ends = fmt.Sprintf("\r\n--b%03d--", i) + ends
	}
	deep += "\r\nx" + ends + "\r\n"
	for _, tt := range []struct{ name, raw, why string }{
		{"not closed", strings.TrimSuffix(signedMail, "--b--\r\n"), "does not end"},
		{"not closed inside", plain + "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--a--\r\n", "does not end"},
		{"without boundary", plain + "Content-Type: multipart/signed\r\n\r\nx\r\n", "does not end"},
		{"header that does not end", plain + "Content-Type: application/pkcs7-mime\r\n", "no empty line"},
		{"two content types", plain + "Content-Type: multipart/signed; boundary=b\r\nContent-Type: text/plain\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", "two Content-Type"},
		{"placeholder", strings.Replace(clearMail, "hello", "{{heed.unsubscribe_url}}", 1), "a placeholder in it"},
		{"too deep with one more", deep, "deep"},
		{"nothing signed", plain + "Content-Type: image/gif\r\n\r\nx\r\n", "no text or HTML body"},
	} {
		out, err := rewriteFile(".wrap.eml", []byte(tt.raw), short(t, ""))
		var r *Refusal
		if !errors.As(err, &r) || !strings.Contains(r.Why, tt.why) || out != nil {
			t.Errorf("%s: got %v, want a refusal that says %q", tt.name, err, tt.why)
		}
	}
}

// What is not signed is not wrapped, and a signed attachment is none of our business.
func TestWrapOnlyWhatIsSigned(t *testing.T) {
	for _, raw := range []string{
		plain + "\r\nhello\r\n",
		plain + "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nhello\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\nContent-Type: application/octet-stream; name=contract.p7m\r\n\r\nAAAA\r\n--a--\r\n",
	} {
		want, err := rewriteOnce([]byte(raw), short(t, ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rewriteFile(".wrap.eml", []byte(raw), short(t, "")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// The boundary is the same for all recipients and unlike any line of the message.
func TestWrapBoundary(t *testing.T) {
	wrapperOf := func(raw string) *wrapper {
		m, err := Read([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		m.WrapSigned = true
		if err := m.Rewritable(); err != nil {
			t.Fatal(err)
		}
		return m.wrap
	}
	first := wrapperOf(signedMail)
	if again := wrapperOf(signedMail); again.boundary != first.boundary {
		t.Error("the boundary changes from parse to parse")
	}
	other := wrapperOf(strings.Replace(signedMail, "Subject: x", "Subject: "+first.boundary, 1))
	if other.boundary == first.boundary || !slices.Equal(other.entity, first.entity) {
		t.Errorf("boundary %s", other.boundary)
	}
}

// A fault in the wrapping must never reach a recipient.
func TestWrapReadBackFindsDamage(t *testing.T) {
	m, err := Read([]byte(signedMail))
	if err != nil {
		t.Fatal(err)
	}
	m.WrapSigned = true
	tr := short(t, ".de.eml")
	good, _, err := m.Copy(tr)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"a signed blank lost", "Gr\xfc\xdfe  \r\n", "Gr\xfc\xdfe \r\n"},
		{"a signed header changed", "charset=iso-8859-1", "charset=utf-8"},
		{"the protocol lost", " micalg=pgp-sha256;", ""},
		{"the notice changed", "Dies ist", "Das ist"},
		{"a field lost", "Subject: x\r\n", ""},
		{"a field added", "Subject: x\r\n", "Subject: x\r\nBcc: x@y.example\r\n"},
		{"a preamble", "\r\n\r\n--heed-", "\r\n\r\nx\r\n--heed-"},
		{"an epilogue", "--\r\n", "--\r\nx\r\n"},
		{"the signed type outside too", "Subject: x\r\n", "Subject: x\r\nContent-Language: de\r\n"},
		{"not closed", "--\r\n", "\r\n"},
	} {
		i := strings.LastIndex(string(good), tt.old)
		bad := string(good[:i]) + tt.new + string(good[i+len(tt.old):])
		if err := m.verify([]byte(bad), tr, nil); err == nil {
			t.Errorf("%s: not found", tt.name)
		}
	}
}
