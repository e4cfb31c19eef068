package rewrite

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestFrom(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      []string // nil: an error
	}{
		{"bare", "From: a@Acme.Example\r\n", []string{"acme.example"}},
		{"named", "From: Acme <a@acme.example>\r\n", []string{"acme.example"}},
		{"folded, odd case, space before the colon", "fROM :\r\n Acme\r\n\t<a@acme.example>\r\n", []string{"acme.example"}},
		{"quoted name with an address in it", `From: "b@evil.example, (" <a@acme.example>` + "\r\n", []string{"acme.example"}},
		{"encoded name with a comma", "From: =?utf-8?Q?Foo,_Bar?= <a@acme.example>\r\n", []string{"acme.example"}},
		{"encoded name, broken", "From: =?utf-8?X?<b@c.example>?= <a@acme.example>\r\n", nil},
		{"comments nest", "From: (a (b@c.example) \\) ) a(x)@(y)acme.example(z)\r\n", []string{"acme.example"}},
		{"list", "From: a@acme.example, B <b@other.example>,,a@acme.example\r\n", []string{"acme.example", "other.example"}},
		{"several fields", "From: a@acme.example\r\nX: y\r\nfrom: b@other.example\r\n", []string{"acme.example", "other.example"}},
		{"group", "From: Team: a@acme.example, B <b@other.example>;\r\n", []string{"acme.example", "other.example"}},
		{"empty group", "From: Undisclosed:;\r\n", nil},
		{"group left open", "From: Team: a@acme.example\r\n", nil},
		{"route", "From: <@relay.example,@b.example:a@acme.example>\r\n", []string{"acme.example"}},
		{"raw 8-bit name", "From: M\xfcller <a@acme.example>\r\n", []string{"acme.example"}},
		{"unicode domain", "From: <a@Müller.example>\r\n", []string{"xn--mller-kva.example"}},
		{"quoted local part", `From: "a@evil.example"@acme.example` + "\r\n", []string{"acme.example"}},
		{"dotted name without quotes", "From: J. Q. Public <a@acme.example>\r\n", []string{"acme.example"}},
		{"literal", "From: a@[192.0.2.1]\r\n", []string{"[192.0.2.1]"}},
		{"trailing dot", "From: a@acme.example.\r\n", []string{"acme.example"}},
		{"address as name", "From: a@acme.example <b@evil.example>\r\n", nil},
		{"two brackets", "From: <a@acme.example> <b@evil.example>\r\n", nil},
		{"text after the bracket", "From: <a@acme.example> b@evil.example\r\n", nil},
		{"two ats", "From: a@acme.example@evil.example\r\n", nil},
		{"quote left open", "From: \"a <a@acme.example>\r\n", nil},
		{"bracket left open", "From: <a@acme.example\r\n", nil},
		{"comment left open", "From: a@acme.example (b\r\n", nil},
		{"no domain", "From: postmaster\r\n", nil},
		{"null", "From: <>\r\n", nil},
		{"nul byte", "From: a@acme.example\x00.evil.example\r\n", nil},
		{"8-bit domain that is no UTF-8", "From: a@acm\xe9.example\r\n", nil},
		{"empty", "From:\r\n", nil},
		{"too long", "From: " + strings.Repeat("a@acme.example,", maxFrom/15+1) + "\r\n", nil},
		{"none", "Sender: a@acme.example\r\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Read([]byte(tt.raw + "\r\nx\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.From()
			if (err != nil) != (tt.want == nil) || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	m, _ := Read([]byte("Subject: x\r\n\r\n"))
	if _, err := m.From(); !errors.Is(err, ErrNoFrom) {
		t.Errorf("got %v, want ErrNoFrom", err)
	}
}

func TestFields(t *testing.T) {
	m, err := Read([]byte("Received: a\r\nHeed-Topic: events\r\nheed-TOPIC : =?utf-8?B?w7xiZXI=?=\r\n =?utf-8?Q?_uns?=\r\nRECEIVED: b\r\nSubject: =?x-none?Q?a?= \xff\r\nX:\r\nContent-Language: de-AT, en\r\n\r\nReceived: c\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"heed-topic": {"events", "über uns"}, "Subject": {"=?x-none?Q?a?= \uFFFD"}, "x": {""}, "Y": nil,
	} {
		if got := m.Fields(name); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if n := m.Received(); n != 2 {
		t.Errorf("got %d Received fields, want 2", n)
	}
	if l := m.Language(); l != "de-AT, en" {
		t.Errorf("got language %q", l)
	}
	m, _ = Read([]byte(htmlMail(`<!DOCTYPE html><HTML xmlns="x" LANG='fr-CA'><body>x</body></html>`)))
	if l := m.Language(); l != "fr-CA" {
		t.Errorf("got language %q of the HTML", l)
	}
}

func TestListID(t *testing.T) {
	for _, tt := range []struct{ name, topic, sender, domain, want string }{
		{"plain", "newsletter", "acme", "Acme.Example.", `"newsletter" <newsletter.acme.acme.example>`},
		{"words", "Our \"best\"\r\nnews", "acme", "acme.example", `"Our \"best\", news" <our--best---news-`},
		{"not latin", "Νέα", "acme", "acme.example", `=?utf-8?q?=CE=9D=CE=AD=CE=B1?= <`},
		{"empty", "", "", "", `<e3b0c442.e3b0c442.localhost>`},
		{"any domain", "news", "acme", "*", `"news" <news.acme.localhost>`},
	} {
		got := ListID(tt.topic, tt.sender, tt.domain)
		if !strings.HasPrefix(got, tt.want) || !fieldText(got) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	long := ListID(strings.Repeat("ü", 5000), strings.Repeat("x", 5000), strings.Repeat("y", 5000)+".example")
	if id := long[strings.LastIndexByte(long, '<'):]; len(id) > 257 || len(long) > 900 {
		t.Errorf("%d characters, %d in the identifier", len(long), len(id))
	}
	if ListID("a b", "s", "d.example") == ListID("a-b", "s", "d.example") {
		t.Error("two topics, one List-Id")
	}
}
