package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// TestGolden compares copies byte for byte: NAME.eml in, NAME.want out; NAME.got is written where they differ. The
// notice is English, in .de.eml German; .tx.eml is transactional, .wrap.eml signed and wrapped. HEED_GOLDEN=write makes the wanted files anew.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 15 {
		t.Fatalf("golden files: %d, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := rewriteFile(file, raw, short(t, file))
			if err != nil {
				t.Fatal(err)
			}
			base := strings.TrimSuffix(file, ".eml")
			if os.Getenv("HEED_GOLDEN") == "write" {
				write(t, base+".want", got)
			}
			want, err := os.ReadFile(base + ".want")
			if err != nil {
				t.Fatal(err)
			}
			os.Remove(base + ".got")
			if !bytes.Equal(got, want) {
				write(t, base+".got", got)
				t.Errorf("the copy is not the wanted one: diff %s.want %s.got", base, base)
			}
		})
	}
}

// rewriteFile wraps where the file's name asks for it.
func rewriteFile(file string, raw []byte, t Treatment) ([]byte, error) {
	m, err := Read(raw)
	if err != nil {
		return nil, err
	}
	m.WrapSigned = strings.HasSuffix(file, ".wrap.eml")
	out, _, err := m.Copy(t)
	return out, err
}

// short is a treatment with a notice of two lines, so that golden files can be read.
func short(t testing.TB, file string) Treatment {
	tr := sample(t, "en", "Acme Ltd")
	tr.Notice = Notice{
		"This is advertising from Acme Ltd.\nUnsubscribe: https://opt.acme.example/u/T",
		"<div style=\"font-size:13px\">This is advertising from Acme Ltd.\n<a href=\"https://opt.acme.example/u/T\">Unsubscribe</a></div>",
	}
	if strings.HasSuffix(file, ".de.eml") {
		tr.Notice = Notice{
			"Dies ist Werbung der Müller GmbH.\nAbmelden: https://opt.acme.example/u/T",
			"<div style=\"font-size:13px\">Dies ist Werbung der Müller GmbH.\n<a href=\"https://opt.acme.example/u/T\">Abmelden</a></div>",
		}
	}
	tr.Marketing = !strings.HasSuffix(file, ".tx.eml")
	return tr
}

const plain = "From: news@acme.example\r\nSubject: x\r\n"

func htmlMail(body string) string { return plain + "Content-Type: text/html\r\n\r\n" + body + "\r\n" }

func TestRefusals(t *testing.T) {
	deep := plain
	for i := range maxDepth + 2 {
		deep += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	var attrs strings.Builder
	for i := range maxTokens + 1 {
		fmt.Fprintf(&attrs, " a%d", i)
	}
	many := plain + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", maxParts+1) + "--b--\r\n"
	for _, tt := range []struct{ name, raw, why string }{
		{"signed", plain + "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", "signed"},
		{"signed below a list's footer", plain + "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a\r\n\r\nfooter\r\n--a--\r\n", "signed"},
		{"encrypted", plain + "Content-Type: Multipart/ENCRYPTED; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", "encrypted"},
		{"s/mime", plain + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nAAAA\r\n", "S/MIME"},
		{"inline pgp", plain + "\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nx\r\n", "OpenPGP"},
		{"inline pgp in base64", plain + "Content-Transfer-Encoding: base64\r\n\r\nLS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tDQo=\r\n", "OpenPGP"},
		{"image only", plain + "Content-Type: image/gif\r\n\r\nx\r\n", "no text or HTML body"},
		{"attachment only", plain + "Content-Disposition: attachment\r\n\r\nx\r\n", "no text or HTML body"},
		{"multipart without boundary", plain + "Content-Type: multipart/mixed\r\n\r\nx\r\n", "its boundary stands nowhere"},
		{"boundary that ends in a blank", plain + "Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n--b \r\n\r\nx\r\n--b --\r\n", "ends in a blank"},
		{"text file behind an image", plain + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b\r\nContent-Type: text/plain; name=notes.txt\r\n\r\nnotes\r\n--b--\r\n", "no text or HTML body"},
		{"Bcc with a vertical tab", plain + "Bcc\v: a@b.example\r\n\r\nx\r\n", "the field Bcc is malformed"},
		{"Bcc with a no-break space", plain + "Bcc\xa0: a@b.example\r\n\r\nx\r\n", "the field Bcc is malformed"},
		{"two transfer encodings", plain + "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n", "two Content-Transfer-Encoding"},
		{"two charsets", plain + "Content-Type: text/plain; charset=us-ascii; charset=utf-16\r\n\r\nx\r\n", "two charsets"},
		{"charset in pieces", plain + "Content-Type: text/plain; charset*0=utf; charset*1=-16\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n", "in pieces"},
		{"utf-16 under another label", plain + "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n//48AHAAPgA=\r\n", "byte order mark"},
		{"inner boundary is the outer one", plain + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n--b--\r\n", "boundary of the one around it"},
		{"start that is not the first text", plain + "Content-Type: multipart/related; boundary=b; start=\"<p>\"\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-ID: <p>\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n", "readers disagree"},
		{"alternative that some readers show", plain + "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/enriched\r\n\r\n<bold>x\r\n--b--\r\n", "text/enriched"},
		{"alternative that is a picture", plain + "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n", "image/png"},
		{"amp alternative", plain + "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/x-amp-html\r\n\r\n<html amp4email>\r\n--b--\r\n", "put {{heed.notice}} into it"},
		{"mailgun container", plain + "Content-Type: multipart/mailgun-variables; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nx\r\n--b--\r\n", "mailgun"},
		{"two boundaries", plain + "Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", "two boundaries"},
		{"folded boundary", plain + "Content-Type: multipart/mixed; boundary=\"a\r\n b\"\r\n\r\n--a b\r\n\r\nx\r\n--a b--\r\n", "folded in its middle"},
		{"two content types", plain + "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx\r\n", "two Content-Type"},
		{"unknown transfer encoding", plain + "Content-Transfer-Encoding: x-uuencode\r\n\r\nx\r\n", "\"x-uuencode\" of a body is unknown"},
		{"broken base64", plain + "Content-Transfer-Encoding: base64\r\n\r\nAAAAA\r\n", "does not decode cleanly"},
		{"text after base64", plain + "Content-Transfer-Encoding: base64\r\n\r\nAA==\r\n-- \r\nlist footer\r\n", "does not decode cleanly"},
		{"base64 behind junk", plain + "Content-Transfer-Encoding: base64\r\nX-Odd header\r\n\r\nAAAA\r\n", "no header field stands before"},
		{"a message for people only inside", plain + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nx\r\n--b\r\nContent-Type: application/pdf\r\n\r\nx\r\n--b--\r\n", "add a text/plain"},
		{"html that is hidden", htmlMail(`<body style="display:none">x</body>`), "is visible"},
		{"frames", htmlMail(`<html><frameset><frame src=x></frameset></html>`), "is visible"},
		{"placeholder that is none", plain + "\r\nLeave: {{heed.unsubscribe}}\r\n", "is no placeholder"},
		{"placeholder that is none, escaped", htmlMail("<a href=\"%7B%7Bheed.link%7D%7D\">x</a>"), "is no placeholder"},
		{"another page of heed.invalid", htmlMail("<a href=\"https://heed.invalid/prefs\">x</a>"), "heed.invalid/prefs"},
		{"placeholder with a longer path", plain + "\r\nhttps://heed.invalid/unsubscribed\r\n", "is no placeholder"},
		{"three braces", htmlMail("<a href=\"{{{heed.unsubscribe_url}}}\">x</a>"), "more than two braces"},
		{"placeholder without a scheme", htmlMail("<a href=\"heed.invalid/unsubscribe\">x</a>"), "is no placeholder"},
		{"placeholder on another host", plain + "\r\nhttps://www.heed.invalid/unsubscribe\r\n", "is no placeholder"},
		{"placeholder with a tag in it", htmlMail("{{<span>heed.notice</span>}}"), "is no placeholder"},
		{"placeholder with an underscore", plain + "\r\n{{heed_unsubscribe_url}}\r\n", "is no placeholder"},
		{"placeholder in odd case", plain + "\r\n{{hEEd.link}}\r\n", "is no placeholder"},
		{"delimiter that a notice would finish", plain + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b{{heed.notice}}\r\n--b--\r\n", "read otherwise"},
		{"too many placeholders", plain + "\r\n" + strings.Repeat("{{heed.unsubscribe_url}}\r\n", maxSpots+1), "placeholders"},
		{"fields up to the bound", strings.Repeat("X: y\r\n", maxFields-2) + "From: a@acme.example\r\n\r\nx\r\n", "fields"},
		{"notice in an attribute", htmlMail("<a href=\"{{heed.notice}}\">x</a>"), "in an attribute of <a>"},
		{"placeholder in UTF-7", plain + "Content-Type: text/plain; charset=utf-7\r\n\r\n+AHsAew-heed.notice+AH0AfQ-\r\n", "UTF-7"},
		{"placeholder in a calendar", plain + "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/calendar\r\n\r\nURL:{{heed.unsubscribe_url}}\r\n--b--\r\n", "text/calendar"},
		{"from after junk", "Subject: x\r\njunk\r\nFrom: evil@other.example\r\n\r\nx\r\n", "not a header field"},
		{"control field after junk", plain + "junk\r\nx-smtpapi: {}\r\n\r\nx\r\n", "not a header field"},
		{"space before the colon", plain + "Content-Type : text/html\r\n\r\nx\r\n", "space"},
		{"nested too deep", deep, "deep"},
		{"too many parts", many, "MIME parts"},
		{"too many bodies", plain + "Content-Type: multipart/alternative; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", maxBodies+1) + "--b--\r\n", "text bodies"},
		{"too many tags", htmlMail(strings.Repeat("<p>", maxTokens+1)), "tags"},
		{"too many attributes", htmlMail("<p" + attrs.String() + ">"), "tags"},
		{"too many fields", strings.Repeat("X: y\r\n", maxFields+1) + "\r\nx\r\n", "fields"},
		{"header too large", "X: " + strings.Repeat("y", maxHeader) + "\r\n\r\nx\r\n", "larger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := rewriteOnce([]byte(tt.raw), short(t, ""))
			var r *Refusal
			if !errors.As(err, &r) || !strings.Contains(r.Why, tt.why) || out != nil {
				t.Errorf("got %v, want a refusal that says %q", err, tt.why)
			}
		})
	}
}

// The notice stands in what readers show, and a file that is sent inline stays as it is.
func TestWhereTheNoticeGoes(t *testing.T) {
	const text, file, page = "Content-Type: text/plain\r\n\r\nhello", "Content-Type: text/plain; name=notes.txt\r\nContent-Disposition: inline; filename=notes.txt\r\n\r\nnotes", "Content-ID: <p>\r\nContent-Type: text/html\r\n\r\n<p>page"
	for _, tt := range []struct {
		name, typ string
		parts     []string
		want      []bool // the notice is in that part
	}{
		{"file first", "mixed", []string{file, text}, []bool{false, true}},
		{"file last", "mixed", []string{text, file}, []bool{true, false}},
		{"the only text has a name", "mixed", []string{file}, []bool{true}},
		{"a name in an alternative", "alternative", []string{file, page}, []bool{true, true}},
		{"start behind an image", `related; start="<p>"`, []string{"Content-Type: image/png\r\n\r\nx", page}, []bool{false, true}},
		{"start that is the first", `related; start="<p>"`, []string{page, text}, []bool{true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := plain + "Content-Type: multipart/" + tt.typ + "; boundary=b\r\n\r\n--b\r\n" + strings.Join(tt.parts, "\r\n--b\r\n") + "\r\n--b--\r\n"
			out, err := rewriteOnce([]byte(raw), short(t, ""))
			if err != nil {
				t.Fatal(err)
			}
			for i, part := range strings.Split(string(out), "\r\n--b")[1 : len(tt.parts)+1] {
				if got := strings.Contains(part, "advertising from Acme"); got != tt.want[i] {
					t.Errorf("part %d: notice %v, want %v: %q", i, got, tt.want[i], part)
				}
			}
		})
	}
}

// What is refused as marketing passes as transactional mail, unless nobody can tell where its header ends.
func TestTransactionalIsLeftAlone(t *testing.T) {
	raw := plain + "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n{{heed.notice}}\r\n--b--\r\n"
	got, err := rewriteOnce([]byte(raw), Treatment{Received: "from a by b; now"})
	if want := "Received: from a by b; now\r\n" + raw; err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTreatmentIsChecked(t *testing.T) {
	m, err := Read([]byte(plain + "\r\nx\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Treatment){
		"line break in Received": func(t *Treatment) { t.Received = "a\r\nBcc: x" },
		"8-bit List-Id":          func(t *Treatment) { t.ListID = "ü" },
		"no link":                func(t *Treatment) { t.Unsubscribe = "" },
		"link with brackets":     func(t *Treatment) { t.Unsubscribe = "https://x/>,<https://y" },
		"mailto that is none":    func(t *Treatment) { t.Mailto = "https://x" },
		"no notice":              func(t *Treatment) { t.Notice.HTML = " " },
	} {
		tr := short(t, "")
		spoil(&tr)
		var r *Refusal
		if out, _, err := m.Copy(tr); err == nil || errors.As(err, &r) || out != nil {
			t.Errorf("%s: got %v, want an error that is no Refusal", name, err)
		}
	}
}

// One recipient's link must never stand in another's copy (peers had exactly that).
func TestCopiesDoNotMix(t *testing.T) {
	raw, err := os.ReadFile("testdata/mixed-alternative.de.eml")
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(raw)
	m, err := Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			link := fmt.Sprintf("https://opt.acme.example/u/R%03dR", i)
			tr := short(t, "")
			tr.Unsubscribe = link
			tr.Notice = Notice{"Out: " + link, `<div><a href="` + link + `">out</a></div>`}
			out, _, err := m.Copy(tr)
			links := regexp.MustCompile(`R\d{3}R`).FindAllString(string(out), -1)
			if err != nil || len(links) != 3 {
				t.Errorf("copy %d: %d links, %v", i, len(links), err)
			}
			for _, l := range links {
				if l != link[len(link)-5:] {
					t.Errorf("copy %d holds %s", i, l)
				}
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(raw, kept) {
		t.Error("the message itself changed")
	}
}

// A message that passes two gateways keeps one set of fields and stays readable.
func TestSecondPass(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.eml")
	for _, file := range files {
		if strings.Contains(file, "amp-") {
			continue // the first pass takes the placeholder that an AMP part needs
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tr := short(t, file)
		once, err := rewriteFile(file, raw, tr)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := rewriteFile(file, once, tr)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		head, _, _ := bytes.Cut(twice, []byte("\r\n\r\n"))
		if n := bytes.Count(head, []byte("\r\nList-Unsubscribe:")); tr.Marketing && n != 1 {
			t.Errorf("%s: %d List-Unsubscribe fields", file, n)
		}
	}
}

// A fault in the splicing must never reach a recipient: verify is given damaged copies.
func TestReadBackFindsDamage(t *testing.T) {
	raw, err := os.ReadFile("testdata/mixed-alternative.de.eml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	tr := short(t, ".de.eml")
	good, _, err := m.Copy(tr)
	if err != nil {
		t.Fatal(err)
	}
	var changes []*change
	for _, b := range m.bodies {
		c, err := b.insert(m, &tr)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c)
	}
	if err := m.verify(good, tr, changes); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"an attachment changed", "keep me\r\n--b0", "keep mE\r\n--b0"},
		{"an attachment lost", "--b0 \r\nContent-Type: text/plain; name=notes.txt\r\nContent-Disposition: attachment\r\n\r\nkeep me\r\n", ""},
		{"a boundary changed", "--b1--", "--b1 --"},
		{"the epilogue lost", "An epilogue.\r\n", ""},
		{"a part header changed", "name=notes.txt", "name=notes.exe"},
		{"a field lost", "Subject: Hello\r\n", ""},
		{"a field added", "Subject: Hello\r\n", "Subject: Hello\r\nBcc: x@y.example\r\n"},
		{"the link field twice", "List-Unsubscribe-Post", "List-Unsubscribe: <https://x.example>\r\nList-Unsubscribe-Post"},
		{"the text changed", "Grüße\r\n", "Grusse\r\n"},
		{"the notice lost", "Dies ist Werbung", "Dies ist Nichts"},
	} {
		bad := strings.Replace(string(good), tt.old, tt.new, 1)
		var r *Refusal
		if err := m.verify([]byte(bad), tr, changes); bad == string(good) || err == nil || errors.As(err, &r) {
			t.Errorf("%s: got %v, want an error that is no Refusal", tt.name, err)
		}
	}
}
