package integration

import (
	"slices"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestControlFirewall: header fields by which an ESP would do what was not decided, and what is answered to each, as
// marketing and as transactional mail. What passes arrives byte for byte.
func TestControlFirewall(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to, recipients, bypass = "klaus@spedition.example", "esp.recipients", "esp.bypass"
	g.consented(to)
	taken := 0
	for _, tt := range []struct{ name, marketing, transactional, fields string }{ // codes; "": sent
		{"SendGrid to", recipients, recipients, `X-SMTPAPI: {"to": ["v@victim.example"]}`},
		{"SendGrid to itself", recipients, recipients, `X-SMTPAPI: {"to": ["klaus@spedition.example"]}`},
		{"SendGrid bcc", recipients, recipients, `X-SMTPAPI: {"filters": {"bcc": {"settings": {"enable": 1, "email": "v@victim.example"}}}}`},
		{"SparkPost archive", recipients, recipients, `X-MSYS-API: {"archive": [{"email": "v@victim.example"}]}`},
		{"Mandrill bcc", recipients, recipients, "x-mc-bccaddress : v@victim.example"},
		{"Mailgun archive", recipients, recipients, "X-Mailgun-Archive-To: https://victim.example/"},
		{"Mailjet carbon copy", recipients, recipients, "X-MJ-TemplateErrorReporting: v@victim.example"},
		{"folded in a key", recipients, recipients, "X-SMTPAPI: {\"t\r\n\to\": []}"},
		{"encoded", recipients, recipients, "X-SMTPAPI: =?utf-8?B?eyJ0byI6?=\r\n =?koi8-r?Q?[=22v=40victim.example=22]}?="},
		{"escaped, nested in an array, given twice", recipients, recipients, `X-SMTPAPI: {"filters": 1, "FILTERS": [{"\u0042cc": {"settings": {"enable": 1}}}]}`},
		{"not JSON", recipients, recipients, `X-MSYS-API: {campaign_id: "a"}`},

		{"SendGrid bypass", bypass, "", `X-SMTPAPI: {"filters": {"bypass_unsubscribe_management": {"settings": {"enable": 1}}}}`},
		{"SendGrid later", bypass, "", `X-SMTPAPI: {"send_at": 1790000000}`},
		{"SendGrid substitution", bypass, "", `X-SMTPAPI: {"sub": {"This is advertising": ["Hello"]}}`},
		{"SendGrid opt-out", bypass, "", `X-SMTPAPI: {"asm_group_id": 4}`},
		{"SparkPost bypass, declared transactional", bypass, "", `X-MSYS-API: {"options": {"transactional": true, "skip_suppression": true}}`},
		{"SES set", bypass, "", "X-SES-Configuration-Set: loose"},
		{"SES opt-out", bypass, "", "X-SES-LIST-MANAGEMENT-OPTIONS: list; topic=news"},
		{"Mandrill template", bypass, "", "X-MC-Template: t"},
		{"Mailgun later", bypass, "", "X-Mailgun-Deliver-By: Fri, 14 Oct 2026 23:10:10 -0000"},
		{"Mailgun unsigned", bypass, "", "X-Mailgun-Dkim: no"},
		{"Mailgun test mode", bypass, "", "X-Mailgun-Drop-Message: yes"},
		{"Postmark transactional stream", bypass, "", "X-PM-Message-Stream: outbound"},
		{"Cuttlefish bypass", bypass, "", "X-Cuttlefish-Ignore-Deny-List: true"},
		{"Wooxy bypass", bypass, "", "X-Ignore-Unsubscribed: yes"},
		{"declared transactional", bypass, "", "IsTransactional: True"},
		{"second of two", bypass, "", "X-MC-AutoText: no\r\nX-MC-AutoText: yes"},
		{"both kinds", recipients, recipients, "X-MC-SendAt: 2026-12-01\r\nX-MC-BccAddress: v@victim.example"},

		{"SendGrid harmless", "", "", "X-SMTPAPI: {\"category\": [\"a\"],\r\n \"unique_args\": {\"to\": \"x\"}, \"filters\": {\"subscriptiontrack\": {\"settings\": {\"enable\": 0}}, \"opentrack\": {\"settings\": {\"enable\": 1}}}}"},
		{"SparkPost harmless", "", "", `X-MSYS-API: {"campaign_id": "c", "metadata": {"bcc": "x"}, "options": {"open_tracking": false, "transactional": false}}`},
		{"others harmless", "", "", "X-MC-Tags: a\r\nX-MC-AutoText: off\r\nX-Mailgun-Tag: a\r\nX-Mailgun-Dkim: yes\r\nX-PM-Tag: a\r\nX-PM-Message-Stream: broadcast\r\nX-SES-MESSAGE-TAGS: a=b"},
	} {
		for account, code := range map[string]string{"crm": tt.marketing, "look": tt.marketing, "shop": tt.transactional} {
			t.Run(tt.name+" "+account, func(t *testing.T) {
				_, dot := g.tool(t, account).send(plainMail(to, tt.name+" "+account, tt.fields), to)
				if code != "" {
					if !strings.HasPrefix(dot, "550 5.7.1 <"+to+"> blocked ["+code+"] ") || strings.Contains(dot, "victim") {
						t.Errorf("answered %q, want %s", dot, code)
					}
					if n := len(up.Seen()); n != taken {
						t.Errorf("the upstream saw %d messages, want %d", n, taken)
					}
					return
				}
				if !strings.HasPrefix(dot, "250") {
					t.Fatalf("answered %q", dot)
				}
				taken++
				if got := string(up.Await(t, taken)[taken-1].Data); !strings.Contains(got, tt.fields+"\r\n") {
					t.Errorf("the fields changed:\n%s", got)
				}
			})
		}
	}
	wantAll(t, g.must("journal", "--recipient", to, "--action", "block"), "code=esp.recipients", "code=esp.bypass")
}

// TestControlFindings: check lists every finding, in words and as JSON; what does not bind transactional mail is none there.
func TestControlFindings(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	const to = "klaus@spedition.example"
	g.consented(to)
	file, _ := letterFile(t, plainMail(to, "findings", `X-SMTPAPI: {"send_at": 1, "to": []}`, "X-Mailgun-Drop-Message: yes"))
	for account, want := range map[string][]string{
		"crm": {"X-SMTPAPI esp.recipients", "X-SMTPAPI esp.bypass", "X-Mailgun-Drop-Message esp.bypass"}, "shop": {"X-SMTPAPI esp.recipients"},
	} {
		shown, code := g.run("check", "--json", "--account", account, "--to", to, file)
		var got []string
		for _, f := range decode[struct {
			Findings []struct{ Field, Code, Text string }
		}](t, shown).Findings {
			got = append(got, f.Field+" "+f.Code)
			if !strings.HasPrefix(f.Text, f.Field) || !strings.Contains(f.Text, " would ") {
				t.Errorf("text %q", f.Text)
			}
		}
		if code != 1 || !slices.Equal(got, want) {
			t.Errorf("%s: exit %d, findings %q, want %q", account, code, got, want)
		}
		text, _ := g.run("check", "--account", account, "--to", to, file)
		if n := strings.Count(text, "control field "); n != len(want) {
			t.Errorf("%s: %d findings in words:\n%s", account, n, text)
		}
	}
}

// TestHiddenRecipientsDoNotLeave: Bcc and Resent-* in spellings that some reader takes are removed, or the message is
// refused.
func TestHiddenRecipientsDoNotLeave(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "klaus@spedition.example"
	g.consented(to)
	for name, field := range map[string]string{
		"capitals": "BCC: v@victim.example", "blank": "bcc : v@victim.example", "tab": "Bcc\t: v@victim.example", "no blank behind": "Bcc:v@victim.example",
		"folded": "Bcc:\r\n v@victim.example,\r\n\tw@victim.example", "encoded": "Bcc: =?utf-8?q?v=40victim.example?= <v@victim.example>",
		"twice": "Bcc: v@victim.example\r\nbCC: w@victim.example", "resent": "RESENT-Bcc: v@victim.example\r\nresent-to :\r\n v@victim.example\r\nResent-X: v@victim.example",
		"vertical tab": "Bcc\v: v@victim.example", "behind junk": "junk\r\nBcc: v@victim.example", "NUL": "Bcc\x00: v@victim.example", "byte order mark": "\ufeffBcc: v@victim.example",
		"resent, 8-bit name": "Resent-T\xf6: v@victim.example", "space in the name": "Resent Bcc: v@victim.example\r\nBcc: v@victim.example",
	} {
		for _, account := range []string{"crm", "shop"} {
			t.Run(name+" "+account, func(t *testing.T) {
				seen := len(up.Seen())
				_, dot := g.tool(t, account).send(plainMail(to, name+" "+account, field), to)
				if strings.HasPrefix(dot, "5") && len(up.Seen()) == seen {
					return
				}
				if got := string(up.Await(t, seen+1)[seen].Data); !strings.HasPrefix(dot, "250") || strings.Contains(got, "victim") {
					t.Errorf("answered %q, arrived as\n%s", dot, got)
				}
			})
		}
	}
}
