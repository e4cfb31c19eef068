package rewrite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzCopy feeds any message: a copy, or a Refusal; never a panic, a read-back that fails, or a copy that lost bytes.
func FuzzCopy(f *testing.F) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, false)
		f.Add(raw, true)
	}
	for _, body := range []string{"{{heed.notice}} x", "a {{heed.unsubscribe_url}}--b0\r\n.{{ heed.notice }}", "<a href=\"%7B%7Bheed.unsubscribe_url%7D%7D\">x</a><p>{{heed.notice}}</p>", "=7B{heed.uns=\r\nubscribe_url}}=\r\n--b\r\n"} {
		for _, fields := range []string{"Content-Type: text/html\r\n", "Content-Transfer-Encoding: quoted-printable\r\n", "List-Unsubscribe: <https://t.example/u>\r\n"} {
			f.Add([]byte(plain+fields+"\r\n"+body+" https://t.example/u\r\n"), true)
		}
	}
	english, german := short(f, ""), short(f, ".de.eml")
	f.Fuzz(func(t *testing.T, raw []byte, umlauts bool) {
		raw = onTheWire(raw)
		if bareCR(raw) || len(raw) > 1<<16 {
			return // refused at the door
		}
		tr := english
		if umlauts {
			tr = german
		}
		kept := bytes.Clone(raw)
		m, err := Read(raw)
		if err != nil {
			return
		}
		m.WrapSigned = umlauts
		out, _, err := m.Copy(tr)
		if !bytes.Equal(raw, kept) {
			t.Fatal("the message itself changed")
		}
		var r *Refusal
		if err != nil {
			if !errors.As(err, &r) {
				t.Fatal(err)
			}
			return
		}
		if len(out) > 4*len(raw)+8192 || bareCR(out) || !bytes.HasSuffix(out, []byte("\r\n")) {
			t.Fatalf("%d octets became %d", len(raw), len(out))
		}
		next := tr // is read back less thoroughly
		next.Unsubscribe = "https://opt.acme.example/u/another-and-longer-Token_123-"
		again, changes, err := m.rewrite(next, 0)
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("second copy: %v", err)
		}
		if err == nil {
			if err := m.verify(again, next, changes); err != nil {
				t.Fatalf("second copy: %v", err)
			}
		}
		if _, err := rewriteOnce(out, tr); err != nil && !errors.As(err, &r) {
			t.Fatalf("second pass: %v", err)
		}
		tr.Marketing = false
		if _, err := rewriteOnce(raw, tr); err != nil {
			t.Fatalf("transactional: %v", err)
		}
	})
}

// FuzzFacts feeds any header to what reads it.
func FuzzFacts(f *testing.F) {
	for _, s := range []string{"From: A <a@acme.example>, b@c.example", "From: G: a@b.example;", "X-SMTPAPI: {\"to\":[]}", "Subject: =?utf-8?Q?a?=", "From: \"a\\\"b\"@c.example (x)"} {
		f.Add([]byte(s + "\r\n\r\nx\r\n"))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Read(onTheWire(raw))
		if err != nil {
			return
		}
		m.From()
		m.Findings()
		m.Fields("Subject")
		m.Language()
	})
}

// FuzzFindPlace feeds any HTML.
func FuzzFindPlace(f *testing.F) {
	for _, s := range []string{"<body>x</body>", "<!-- x", "<div hidden><b>x</body>", "<select><svg><p>x", "<style>x", "<b style='display:none'></div>x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := findPlace(doc)
		if err == nil && (p.at < 0 || p.at > len(doc)) {
			t.Fatal(p)
		}
	})
}

func FuzzListID(f *testing.F) {
	f.Add("newsletter", "acme", "acme.example")
	f.Add("ü=?", "\r\n", "*")
	f.Fuzz(func(t *testing.T, topic, sender, domain string) {
		if v := ListID(topic, sender, domain); !fieldText(v) || len(v) > 998*2 {
			t.Fatalf("%q", v)
		}
	})
}
