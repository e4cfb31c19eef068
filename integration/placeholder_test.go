package integration

import (
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestPlaceholders: a template says where link and notice go, each recipient gets a link of its own, and the journal says
// what was put where.
func TestPlaceholders(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	to := []string{"anna@spedition.example", "ben@spedition.example"}
	g.consented(to...)
	raw := strings.ReplaceAll(`From: news@acme.example
To: all@spedition.example
Subject: placeholders
Message-ID: <placeholders@acme.example>
MIME-Version: 1.0
List-Unsubscribe: <https://tool.example/u/1>
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain

First {{heed.notice}} then https://tool.example/u/1 and {{heed.unsubscribe_url}}
--b
Content-Type: text/html
Content-Transfer-Encoding: quoted-printable

<html><body><p>before</p>{{heed.notice}}<p>after</p><a href=3D"https://heed.inv=
alid/unsubscribe">leave</a></body></html>
--b--
`, "\n", "\r\n")
	if rcpt, dot := g.tool(t, "crm").send(raw, to...); !strings.HasPrefix(dot, "250") {
		t.Fatal(rcpt, dot)
	}
	links := map[string]bool{}
	for _, m := range up.Await(t, 2) {
		p := split(m.Data)
		text := strings.NewReplacer("=\r\n", "", "=3D", "=", "=20", " ").Replace(string(m.Data)) // of quoted-printable
		list := strings.Join(p.fields, "")
		_, link, _ := strings.Cut(list, "List-Unsubscribe: <")
		link, _, _ = strings.Cut(link, ">")
		if links[link] || !strings.HasPrefix(link, "http") {
			t.Errorf("link %q", link)
		}
		links[link] = true
		for _, left := range []string{"heed.", "tool.example/u"} {
			if strings.Contains(string(m.Data), left) || strings.Contains(text, left) {
				t.Errorf("%q stays in\n%s", left, m.Data)
			}
		}
		if n := strings.Count(text, "Dies ist Werbung"); n != 2 {
			t.Errorf("the notice stands %d times in\n%s", n, text)
		}
		if !strings.Contains(text, "then "+link+" and "+link+"\r\n") {
			t.Errorf("no links in the text of\n%s", text)
		}
		before, notice, after := strings.Index(text, "<p>before</p>"), strings.LastIndex(text, "Dies ist Werbung"), strings.Index(text, "<p>after</p>")
		if before < 0 || notice < before || after < notice {
			t.Errorf("the notice is not in its place in\n%s", text)
		}
	}
	wantAll(t, g.must("journal", "--message-id", "placeholders@acme.example"), "header fields removed: List-Unsubscribe", "part 1 (text/plain): notice at octet 6", "part 2 (text/html): tracking at octet")
	bad, _ := letterFile(t, strings.Replace(raw, "{{heed.unsubscribe_url}}", "{{heed.link}}", 1))
	if out, code := g.run("check", "--account", "crm", "--to", to[0], bad); code != 1 || !strings.Contains(out, "[content.unrewritable]") || !strings.Contains(out, "is no placeholder") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
