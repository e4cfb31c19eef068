package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// header is the header section of what arrived, unfolded.
func header(m smtptest.Message) string {
	h, _, _ := strings.Cut(string(m.Data), "\r\n\r\n")
	return regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(h, " ")
}

var ours = regexp.MustCompile(`(?im)^heed-`)

// TestControlHeaders: fields by which an ESP would reach others than the envelope says are refused, for marketing and
// transactional mail, however they are written.
func TestControlHeaders(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	g.consented("k@spedition.de")
	for name, field := range map[string]string{
		"X-SMTPAPI to":                  `X-SMTPAPI: {"to": ["v@victim.example"]}`,
		"lower case":                    `x-smtpapi: {"to": ["v@victim.example"]}`,
		"folded":                        "X-SMTPAPI: {\"category\": \"a\",\r\n \"to\":\r\n\t[\"v@victim.example\"]}",
		"folded before the value":       "X-SMTPAPI:\r\n {\"to\": [\"v@victim.example\"]}",
		"second of two fields":          "X-SMTPAPI: {\"category\": \"a\"}\r\nX-SMTPAPI: {\"to\": [\"v@victim.example\"]}",
		"key twice":                     `X-SMTPAPI: {"to": ["v@victim.example"], "to": []}`,
		"key by escapes":                `X-SMTPAPI: {"\u0074o": ["v@victim.example"]}`,
		"key in capitals":               `X-SMTPAPI: {"To": ["v@victim.example"]}`,
		"encoded word":                  "X-SMTPAPI: =?utf-8?q?{=22to=22:[=22v=40victim.example=22]}?=",
		"no JSON":                       `X-SMTPAPI: {"to": ["v@victim.example"]`,
		"X-MSYS-API cc":                 `X-MSYS-API: {"cc": [{"address": "v@victim.example"}]}`,
		"X-MSYS-API options.bcc":        `X-MSYS-API: {"archive": [{"email": "v@victim.example"}]}`,
		"blank before the colon":        `X-SMTPAPI : {"to": ["v@victim.example"]}`,
		"X-MC-BccAddress":               `X-MC-BccAddress: v@victim.example`,
		"text after the JSON":           `X-SMTPAPI: {} {"to": ["v@victim.example"]}`,
		"a byte order mark in the JSON": "X-SMTPAPI: \ufeff{\"to\": [\"v@victim.example\"]}",
	} {
		for _, account := range []string{"crm", "shop"} {
			t.Run(name+" "+account, func(t *testing.T) {
				id := unique("control") + "@acme.example"
				reply := g.loginWire(t, account).send("news@acme.example", "k@spedition.de", letter(id, "k@spedition.de", field+"\r\n"))
				if !strings.HasPrefix(reply, "550 5.7.1 ") || !strings.Contains(reply, "[esp.recipients]") {
					if !strings.HasPrefix(reply, "550 5.6.0 [content.unrewritable]") { // the header itself is in doubt
						t.Errorf("answered %q", reply)
					}
				}
				if len(ofMessage(up.Seen(), id)) != 0 {
					t.Error("it arrived all the same")
				}
			})
		}
	}
	t.Run("Bcc and Resent", func(t *testing.T) {
		for _, account := range []string{"crm", "shop"} {
			id := unique("bcc") + "@acme.example"
			fields := "Bcc: v@victim.example\r\nBCC:\r\n v@victim.example\r\nResent-To: v@victim.example\r\nResent-Bcc: v@victim.example\r\n"
			reply := g.loginWire(t, account).send("news@acme.example", "k@spedition.de", letter(id, "k@spedition.de", fields))
			got := ofMessage(up.Messages(), id)
			if !strings.HasPrefix(reply, "250") || len(got) != 1 || strings.Contains(string(got[0].Data), "victim") {
				t.Errorf("%s: answered %q, arrived as %+v", account, reply, got)
			}
		}
	})
}

// TestForgedFrom: every address of From: must be the sender's; what cannot be read is nobody's.
func TestForgedFrom(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	g.consented("k@spedition.de")
	for name, from := range map[string]string{
		"another domain":              "From: news@evil.example",
		"ours as display name":        `From: "news@acme.example" <news@evil.example>`,
		"ours in a comment":           `From: news@evil.example (news@acme.example)`,
		"two addresses":               `From: news@acme.example, news@evil.example`,
		"two fields":                  "From: news@acme.example\r\nFrom: news@evil.example",
		"two fields, ours last":       "From: news@evil.example\r\nFrom: news@acme.example",
		"ours as a label":             `From: news@acme.example.evil.example`,
		"ours at the end of a label":  `From: news@evilacme.example`,
		"a group":                     `From: acme.example: news@evil.example;`,
		"an empty group":              `From: undisclosed:;`,
		"an address in an address":    `From: <news@evil.example>@acme.example`,
		"quoted at":                   `From: "news@evil.example"`,
		"encoded address":             `From: =?utf-8?q?news=40acme.example?= <news@evil.example>`,
		"encoded whole":               `From: =?utf-8?q?=3Cnews=40acme.example=3E?=`,
		"a NUL word":                  `From: =?utf-8?q?=00?= <news@evil.example>`,
		"empty":                       `From:`,
		"none":                        `X-From: news@acme.example`,
		"route":                       `From: <@acme.example:news@evil.example>`,
		"blank before the colon":      "From : news@evil.example\r\nFrom: news@acme.example",
		"Sender is ours":              "From: news@evil.example\r\nSender: news@acme.example",
		"homograph":                   `From: news@acmе.example`, // Cyrillic
		"folded between the brackets": "From: <news@acme.example\r\n @evil.example>",
	} {
		for _, account := range []string{"crm", "shop"} {
			t.Run(name+" "+account, func(t *testing.T) {
				seen := len(up.Seen())
				reply := g.loginWire(t, account).send("news@acme.example", "k@spedition.de", from+"\r\nSubject: forged\r\n\r\nx")
				if !strings.HasPrefix(reply, "550 5.7.1 ") && !strings.HasPrefix(reply, "550 5.6.0 [content.unrewritable]") {
					t.Errorf("answered %q", reply)
				}
				if len(up.Seen()) != seen {
					t.Errorf("it arrived: %q", up.Seen()[seen].Data)
				}
			})
		}
	}
}

// TestHeedHeaderTricks: no spelling of a Heed-* field lets mail out that the rules hold, none is ignored where it is
// not understood, and none reaches the upstream.
func TestHeedHeaderTricks(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	g.consented("k@spedition.de")
	stranger := "max.weber@unbekannt.de" // marketing to it is blocked
	cases := []struct{ name, account, to, fields, want string }{
		{"a marketing account does not become transactional", "crm", "", "Heed-Category: transactional\r\n", "250"},
		{"marketing stays marketing to strangers", "both", stranger, "Heed-Category: marketing\r\n", "550 5.7.1"},
		{"missing is marketing", "both", stranger, "", "550 5.7.1"},
		{"empty", "both", stranger, "Heed-Category:\r\n", "550 5.7.1"},
		{"in another word", "both", stranger, "Heed-Category: transactional; really\r\n", "550"},
		{"twice", "both", stranger, "Heed-Category: marketing\r\nHeed-Category: transactional\r\n", "550"},
		{"twice the same", "both", stranger, "Heed-Category: transactional\r\nheed-category: transactional\r\n", "550"},
		{"folded", "both", stranger, "Heed-Category:\r\n transactional\r\n", "250"},
		{"encoded", "both", stranger, "Heed-Category: =?utf-8?q?transactional?=\r\n", "250"},
		{"in the body", "both", stranger, "\r\nHeed-Category: transactional\r\n", "550 5.7.1"},
		{"topic with an encoded line break", "open", "", "Heed-Topic: =?utf-8?q?news=0D=0ABcc:_v=40victim.example?=\r\nHeed-Product: crm\r\n", "550"},
		{"topic with an encoded NUL", "open", "", "Heed-Topic: =?utf-8?q?news=00?=\r\nHeed-Product: crm\r\n", "550"},
		{"topic of 10,000 letters", "open", "", "Heed-Topic: " + strings.Repeat("x", 10_000) + "\r\nHeed-Product: crm\r\n", "550"},
		{"topic with brackets", "open", "", "Heed-Topic: a>\"<b\r\nHeed-Product: crm\r\n", "250"},
		{"country that is none", "open", "", "Heed-Topic: news\r\nHeed-Product: crm\r\nHeed-Country: Germany\r\n", "550"},
		{"a harder country", "open", "", "Heed-Topic: news\r\nHeed-Product: crm\r\nHeed-Country: GB\r\n", "250"},
		{"a field that does not exist", "crm", "", "Heed-Something: x\r\nHEED-OTHER: y\r\n", "250"},
		{"language that is none", "crm", "", "Heed-Language: ../../etc/passwd\r\n", "250"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			to := c.to
			if to == "" {
				to = "k@spedition.de"
			}
			id := unique("heed") + "@acme.example"
			w := g.loginWire(t, c.account)
			w.ask("MAIL FROM:<news@acme.example>", "250")
			w.write("RCPT TO:<" + to + ">\r\n")
			reply, err := w.answer()
			if err == nil && strings.HasPrefix(reply, "250") {
				w.ask("DATA", "354")
				w.write(letter(id, to, c.fields) + "\r\n.\r\n")
				reply, err = w.answer()
			}
			if err != nil || !strings.HasPrefix(reply, c.want) {
				t.Errorf("answered %q (%v), want %s", reply, err, c.want)
			}
			got := ofMessage(up.Seen(), id)
			if strings.HasPrefix(c.want, "250") != (len(got) == 1) {
				t.Fatalf("arrived %d times", len(got))
			}
			for _, m := range got {
				h := header(m)
				if ours.MatchString(h) {
					t.Errorf("a Heed field leaves: %s", h)
				}
				if c.account == "crm" && !strings.Contains(h, "List-Unsubscribe: <http") {
					t.Errorf("marketing mail without its link: %s", h)
				}
				if strings.Contains(h, "victim.example") || strings.Count(h, "List-Id:") > 1 {
					t.Errorf("injected: %s", h)
				}
			}
		})
	}
}

// TestNoticeInjection: what a contact list says of itself goes into notices as text, never as header or markup.
func TestNoticeInjection(t *testing.T) {
	t.Parallel()
	g, up := hostile(t)
	evil := "\"Evil\r\nBcc: v@victim.example\r\n\r\n<script>alert(1)</script>\""
	file := filepath.Join(t.TempDir(), "contacts.csv")
	rows := "email,country,collected_by,collected_at,source,consent,consent_at,language\n" +
		fmt.Sprintf("k@spedition.de,DE,acme,2025-01-01,%s,double,2025-01-01,de\n", evil) +
		"l@spedition.de,DE,acme,2025-01-01,<script>alert(1)</script>,double,2025-01-01,en\n"
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := g.run("contacts", "import", file)
	t.Logf("import: exit %d, %s", code, out)
	for _, to := range []string{"k@spedition.de", "l@spedition.de"} {
		id := unique("notice") + "@acme.example"
		w := g.dialWire(t)
		w.ask("EHLO <b>evil</b>\"", "250")
		w.ask("AUTH PLAIN "+plain("crm", "secret"), "235")
		w.ask("MAIL FROM:<news@acme.example>", "250")
		w.write("RCPT TO:<" + to + ">\r\n")
		if reply, _ := w.answer(); !strings.HasPrefix(reply, "250") {
			continue // its row was rejected
		}
		w.ask("DATA", "354")
		w.ask(letter(id, to, "Content-Type: text/html\r\n")+"\r\n.", "250")
		for _, m := range ofMessage(up.Messages(), id) {
			if h := header(m); strings.Contains(h, "victim") || strings.Contains(h, "<b>") || strings.Contains(strings.ToLower(string(m.Data)), "<script") {
				t.Errorf("injected: %s", m.Data)
			}
		}
	}
}
