package rewrite

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/policy"
)

// findingsOf reads a header of these fields.
func findingsOf(t testing.TB, fields string) []Finding {
	t.Helper()
	m, err := Read([]byte(fields + "\r\nFrom: a@acme.example\r\n\r\nx\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m.Findings()
}

const (
	recipients = policy.CodeESPRecipients
	bypass     = policy.CodeESPBypass
)

func TestFindings(t *testing.T) {
	for _, tt := range []struct{ name, fields, code, want string }{ // code "": let through
		{"smtpapi without recipients", `X-SMTPAPI: {"category":["a"],"unique_args":{"to":"x","filters":{"bcc":1}},"filters":{"opentrack":{"settings":{"enable":1}},"clicktrack":{"settings":{"enable":0}}}}`, "", ""},
		{"smtpapi to", `X-SMTPAPI: {"to":["a@b.example"]}`, recipients, `X-SMTPAPI "to" would send to everybody it names (SendGrid): send one`},
		{"smtpapi to, nobody", `X-SMTPAPI: {"to":[]}`, recipients, `"to"`},
		{"smtpapi to, null", `X-SMTPAPI: {"to":null}`, recipients, `"to"`},
		{"odd case and folded", "x-SmtpApi:\r\n {\"category\":\"a\",\r\n\t\"To\" :\r\n []}", recipients, `"to"`},
		{"key escaped", `X-SMTPAPI: {"\u0074o":["a@b.example"]}`, recipients, `"to"`},
		{"key twice", `X-SMTPAPI: {"to":["a@b.example"],"x":1,"to2":1}`, recipients, `"to"`},
		{"key with a long s", `X-SMTPAPI: {"ſend_at":1}`, bypass, `"send_at"`},
		{"key with a Kelvin sign", "X-SMTPAPI: {\"filters\":{\"d\u212aim\":{}}}", bypass, `"filters.dkim"`},
		{"key with a soft hyphen and a zero-width space", "X-SMTPAPI: {\"t\u00ad\u200bo\":[]}", recipients, `"to"`},
		{"key with a broken byte", "X-SMTPAPI: {\"t\xffo\":[]}", recipients, `"to"`},
		{"key with a broken surrogate", `X-SMTPAPI: {"t\ud800o":[]}`, recipients, `"to"`},
		{"key with a NUL", `X-SMTPAPI: {"to\u0000":[]}`, recipients, "not readable"},
		{"bcc filter", `X-SMTPAPI: {"filters":{"bcc":{"settings":{"email":"a@b.example"}}}}`, recipients, `"filters.bcc"`},
		{"bcc filter in an array", `X-SMTPAPI: {"filters":[[{"x":1},{"bcc":{"settings":{"enable":1}}}]]}`, recipients, `"filters.bcc"`},
		{"bcc filter, off", `X-SMTPAPI: {"filters":{"bcc":{"settings":{"enable":0,"email":"a@b.example"}}}}`, "", ""},
		{"encoded B", "X-SMTPAPI: =?utf-8?B?eyJ0byI6WyJhQGIuZXhhbXBsZSJdfQ==?=", recipients, `"to"`},
		{"encoded Q, two words", "X-SMTPAPI: =?utf-8?Q?{=22t?=\r\n =?iso-8859-1?q?o=22:[]}?=", recipients, `"to"`},
		{"encoded utf-16", "X-SMTPAPI: =?utf-16be?B?" + base64.StdEncoding.EncodeToString([]byte("\x00{\x00\"\x00t\x00o\x00\"\x00:\x001\x00}")) + "?=", recipients, `"to"`},
		{"encoded, harmless", "X-SMTPAPI: =?utf-8?B?eyJjYXRlZ29yeSI6ImEifQ==?=", "", ""},
		{"encoded, charset unknown", `X-SMTPAPI: {"=?utf-7?Q?+AHQ-o?=":[]}`, recipients, "encoded word"},
		{"encoded, broken", `X-SMTPAPI: {"=?utf-8?B?dG8!?=":[]}`, recipients, "encoded word"},
		{"encoded twice", `X-SMTPAPI: {"=?utf-8?Q?=3D?utf-8?Q?to=3F=3D?=":[]}`, recipients, "encoded word"},
		{"encoded key", `X-SMTPAPI: {"=?utf-8?Q?to?=":["a@b.example"]}`, recipients, `"to"`},
		{"encoded word that breaks out", `X-SMTPAPI: {"category":"=?utf-8?Q?a=22,=22to=22:[],=22b=22:=22?="}`, recipients, `"to"`},
		{"encoded word that breaks the JSON", `X-SMTPAPI: {"category":"=?utf-8?Q?a=22,=22to=22:[?="}`, recipients, ""},
		{"encoded category", `X-SMTPAPI: {"category":"=?utf-8?Q?Fr=C3=BChling?="}`, "", ""},
		{"no word, only its signs", `X-SMTPAPI: {"unique_args":{"u":"https://x.example/?a=?&b=?="}}`, "", ""},
		{"key folded in its middle", "X-SMTPAPI: {\"t\r\n o\":[\"a@b.example\"]}", recipients, `"to"`},
		{"not json", `X-SMTPAPI: {'to':['a@b.example']}`, recipients, "not readable"},
		{"a comment", `X-SMTPAPI: {/*"*/"to":1/*"*/:1}`, recipients, "not readable"},
		{"cut", `X-SMTPAPI: {"category":"a"`, recipients, "not readable"},
		{"two objects", `X-SMTPAPI: {} {"to":["a@b.example"]}`, recipients, "not readable"},
		{"trailing comma", `X-SMTPAPI: {"category":"a",}`, recipients, "not readable"},
		{"array", `X-SMTPAPI: [{"to":["a@b.example"]}]`, recipients, "not readable"},
		{"byte order mark", "X-SMTPAPI: \ufeff{}", recipients, "not readable"},
		{"base64", "X-SMTPAPI: eyJ0byI6WyJhQGIuZXhhbXBsZSJdfQ==", recipients, "not readable"},
		{"empty", `X-SMTPAPI:`, recipients, "not readable"},
		{"nested too deep", `X-SMTPAPI: {"filters":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, recipients, "not readable"},
		{"second field", "X-SMTPAPI: {}\r\nX-SMTPAPI: {\"to\":[]}", recipients, `"to"`},
		{"space before the colon", `X-SMTPAPI : {"to":[]}`, recipients, `"to"`},
		{"spam report to a URL", `X-SMTPAPI: {"filters":{"spamcheck":{"settings":{"enable":1,"url":"https://x.example"}}}}`, recipients, "post the message to a URL"},
		{"spam check", `X-SMTPAPI: {"filters":{"spamcheck":{"settings":{"enable":1,"maxscore":5,"url":""}}}}`, "", ""},

		{"suppression bypassed", `X-SMTPAPI: {"filters":{"bypass_list_management":{"settings":{"enable":1}}}}`, bypass, "unsubscribed"},
		{"suppression bypassed, as text", `X-SMTPAPI: {"filters":{"bypass_spam_management":{"settings":{"enable":"1"}}}}`, bypass, "unsubscribed"},
		{"bypass off", `X-SMTPAPI: {"filters":{"bypass_bounce_management":{"settings":{"enable":0}},"bypass_list_management":{"settings":{"enable":"0"}},"bypass_unsubscribe_management":{"settings":{"enable":false}}}}`, "", ""},
		{"bypass off, then on", `X-SMTPAPI: {"filters":{"bypass_list_management":{"settings":{"enable":0,"Enable":1}}}}`, bypass, "unsubscribed"},
		{"bypass off, settings twice", `X-SMTPAPI: {"filters":{"bypass_list_management":{"settings":{"enable":0},"settings":{"enable":1}}}}`, bypass, "unsubscribed"},
		{"bypass off, settings twice, then an array", `X-SMTPAPI: {"filters":{"bypass_list_management":{"settings":{"enable":0},"settings":[{"enable":1}]}}}`, bypass, "unsubscribed"},
		{"bypass off, given twice", `X-SMTPAPI: {"filters":{"bypass_list_management":{"settings":{"enable":0}}},"filters":{"bypass_list_management":{"settings":{"enable":1}}}}`, bypass, "unsubscribed"},
		{"bypass without a switch", `X-SMTPAPI: {"filters":{"bypass_list_management":{}}}`, bypass, "unsubscribed"},
		{"later", `X-SMTPAPI: {"send_at":1790000000}`, bypass, "opt-outs made meanwhile"},
		{"later, each", `X-SMTPAPI: {"send_each_at":[1790000000]}`, bypass, `"send_each_at"`},
		{"at once", `X-SMTPAPI: {"send_at":0,"send_each_at":[],"sub":{},"section":null,"asm_group_id":0}`, "", ""},
		{"substitution", `X-SMTPAPI: {"sub":{"This is advertising":[""]}}`, bypass, `"sub" would replace text`},
		{"section", `X-SMTPAPI: {"section":{"a":"b"}}`, bypass, `"section"`},
		{"template", `X-SMTPAPI: {"filters":{"templates":{"settings":{"enable":1,"template_id":"x"}}}}`, bypass, `"filters.templates"`},
		{"footer", `X-SMTPAPI: {"filters":{"footer":{"settings":{"enable":1,"text/plain":"x"}}}}`, bypass, `"filters.footer"`},
		{"ESP's opt-out", `X-SMTPAPI: {"filters":{"subscriptiontrack":{"settings":{"enable":1}}}}`, bypass, "in the place of the gateway's"},
		{"ESP's opt-out, off", `X-SMTPAPI: {"filters":{"subscriptiontrack":{"settings":{"enable":0}}}}`, "", ""},
		{"ESP's opt-out group", `X-SMTPAPI: {"asm_group_id":5}`, bypass, `"asm_group_id"`},
		{"signer", `X-SMTPAPI: {"filters":{"dkim":{"settings":{"domain":"x.example"}}}}`, bypass, "who signs"},

		{"msys archive", `X-MSYS-API: {"options":{"transactional":false},"archive":[{"email":"a@b.example"}]}`, recipients, `"archive"`},
		{"msys bcc", `X-Msys-Api: {"bcc":[]}`, recipients, `"bcc"`},
		{"msys harmless", `X-MSYS-API: {"campaign_id":"bcc","metadata":{"cc":"x"},"tags":["to"],"options":{"open_tracking":false,"transactional":false,"skip_suppression":false,"sandbox":false,"inline_css":null}}`, "", ""},
		{"msys transactional", `X-MSYS-API: {"options":{"transactional":true}}`, bypass, "declare marketing mail transactional"},
		{"msys transactional as text", `X-MSYS-API: {"options":{"transactional":"false"}}`, bypass, "transactional"},
		{"msys suppression", `X-MSYS-API: {"OPTIONS":{"Skip_Suppression":1}}`, bypass, "unsubscribed"},
		{"msys css", `X-MSYS-API: {"options":{"inline_css":true}}`, bypass, "rewrite the HTML"},
		{"msys key", `X-MSYS-API: {"options":{"dkim_key":"x"}}`, bypass, "who signs"},

		{"mandrill bcc", "X-MC-BccAddress: a@b.example", recipients, "would send a copy to another address (Mandrill)"},
		{"mandrill bcc, spaced", "X-MC-BCCADDRESS \t: a@b.example", recipients, "another address"},
		{"mandrill later", "X-MC-SendAt: 2026-12-01 10:00:00", bypass, "submit the message when it is due"},
		{"mandrill template", "X-MC-Template: t|main", bypass, "another body"},
		{"mandrill merge", `X-MC-MergeVars: {"a":"b"}`, bypass, "replace text"},
		{"mandrill merge of nothing", `X-MC-MergeVars: {}`, "", ""},
		{"mandrill bodies", "X-MC-Autotext: on", bypass, "text body"},
		{"mandrill bodies, off", "X-MC-Autotext: Off\r\nX-MC-AutoHtml: false\r\nX-MC-InlineCSS: no", "", ""},
		{"mandrill bodies, off as a word", "X-MC-Autotext: =?utf-8?q?off?=", bypass, "text body"},
		{"mandrill bodies, off and on", "X-MC-AutoHtml: no\r\nX-MC-AutoHtml: yes", bypass, "HTML body"},
		{"mandrill harmless", "X-MC-Tags: a\r\nX-MC-Track: opens\r\nX-MC-Metadata: {\"to\":1}\r\nX-MC-PreserveRecipients: true\r\nX-MC-Important: true\r\nX-MC-Subaccount: s", "", ""},
		{"mailgun archive", "X-Mailgun-Archive-To: https://x.example", recipients, "post the delivered message to a URL"},
		{"mailgun template", "X-Mailgun-Template-Name: t", bypass, "another body"},
		{"mailgun unsigned", "X-Mailgun-Dkim: no", bypass, "unsigned"},
		{"mailgun signed", "X-Mailgun-Dkim: Yes", "", ""},
		{"mailgun test mode", "X-Mailgun-Drop-Message: yes", bypass, "not deliver"},
		{"mailgun no test mode", "X-Mailgun-Drop-Message: no", "", ""},
		{"mailgun harmless", "X-Mailgun-Tag: a\r\nX-Mailgun-Variables: {\"to\":\"x\"}\r\nX-Mailgun-Track: no\r\nX-Mailgun-Require-TLS: yes\r\nX-Mailgun-Suppress-Headers: all", "", ""},
		{"postmark tag", "X-PM-Tag: a\r\nX-PM-Metadata-to: x\r\nX-PM-TrackOpens: true", "", ""},
		{"postmark broadcast", "X-PM-Message-Stream: broadcasts-2", "", ""},
		{"postmark outbound", "X-PM-Message-Stream: outbound", bypass, "SMTP token"},
		{"ses set", "X-SES-CONFIGURATION-SET: x", bypass, "default configuration set"},
		{"ses tags", "X-SES-MESSAGE-TAGS: a=b", "", ""},
		{"mailjet carbon copy", "X-MJ-TemplateErrorReporting: a@b.example", recipients, "another address"},
		{"mailjet harmless", "X-MJ-CustomID: a\r\nX-Mailjet-Campaign: c\r\nX-MJ-TemplateLanguage: False", "", ""},
		{"cuttlefish", "X-Cuttlefish-Ignore-Deny-List: true", bypass, "bounced"},
		{"any ignore", "x-ignore-unsubscribed: 1", bypass, "X-Ignore-"},
		{"declared", "IsTransactional: True", bypass, "transactional"},
		{"declared not to be", "IsTransactional: false", "", ""},
		{"of no ESP", "X-Smtpapi2: {\"to\":[]}\r\nX-Mailer: x\r\nImportance: high\r\nX: y\r\nX-" + strings.Repeat("y", 100) + ": z", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := findingsOf(t, tt.fields)
			if tt.code == "" {
				if len(got) > 0 {
					t.Errorf("got %v", got)
				}
				return
			}
			if len(got) == 0 || got[0].Code != tt.code || !strings.Contains(strings.ToLower(got[0].Text), strings.ToLower(tt.want)) {
				t.Errorf("got %v, want %s, %q", got, tt.code, tt.want)
			}
		})
	}
}

// TestFindingsAll: every finding of every field is listed once, those that bind all mail first.
func TestFindingsAll(t *testing.T) {
	got := findingsOf(t, "X-MC-SendAt: x\r\nX-SMTPAPI: {\"sub\":{\"a\":[\"b\"]},\"To\":[],\"to\":[],\"filters\":{\"footer\":1}}\r\nX-MC-BccAddress: a@b.example")
	var says []string
	for _, f := range got {
		says = append(says, f.Code+" "+strings.SplitN(f.Text, " would", 2)[0])
	}
	want := []string{`esp.recipients X-SMTPAPI "to"`, "esp.recipients X-MC-BccAddress", "esp.bypass X-MC-SendAt", `esp.bypass X-SMTPAPI "sub"`, `esp.bypass X-SMTPAPI "filters.footer"`}
	if !slices.Equal(says, want) {
		t.Errorf("got %q, want %q", says, want)
	}
	many := ""
	for i := range 1000 {
		many += fmt.Sprintf("X-SMTPAPI: {\"send_at\":%d}\r\nX-Ignore-%d: y\r\n", i+1, i)
	}
	if f := findingsOf(t, many+"X-MC-BccAddress: a@b.example"); len(f) != 1+maxFindings || f[0].Code != recipients || f[2].Field != "X-Ignore-0" {
		t.Errorf("%d of many: %v", len(f), f)
	}
	if f := findingsOf(t, "X-Ignore-"+strings.Repeat("x", 900)+": y"); len(f) != 1 || len(f[0].Field) > 64 || len(f[0].Text) > 300 {
		t.Errorf("a long name: %v", f)
	}
}

// TestControlTable: each row is whole, reachable and takes its own kind of value.
func TestControlTable(t *testing.T) {
	for name, f := range controls.names {
		if strings.HasSuffix(name, "*") != slices.Contains(controls.prefixes, strings.TrimSuffix(name, "*")) || len(name) >= 64 {
			t.Errorf("%s is not looked up", name)
		}
		if got := controls.find(strings.ToUpper(strings.TrimSuffix(name, "*"))); got != f {
			t.Errorf("%s is not found in capitals", name)
		}
		if !isControl(strings.TrimSuffix(name, "*")) {
			t.Errorf("%s may stand where the header's end is in doubt", name)
		}
		for _, c := range f.rows {
			if c.esp == "" || c.src == "" || !strings.HasPrefix(c.does, "would ") || c.instead == "" || c.code != recipients && c.code != bypass {
				t.Errorf("%s: %+v", name, c)
			}
			if (len(c.paths) > 0) != (len(f.at) > 0) {
				t.Errorf("%s is JSON in one row and text in another", name)
			}
			for _, p := range c.paths {
				if f.inside[p] || p != strings.ToLower(p) {
					t.Errorf("%s: %s leads to another path, or is not in lower case", name, p)
				}
			}
			for _, h := range c.harmless {
				if len(c.paths) > 0 && !slices.Contains([]string{"empty", "disabled", "0", "false"}, h) {
					t.Errorf("%s: %q is no harmless value in JSON", name, h)
				}
			}
		}
	}
}

// TestControlPage: docs/esp.md and the data file name the same fields and paths.
func TestControlPage(t *testing.T) {
	b, err := os.ReadFile("../docs/esp.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	refused, _, found := strings.Cut(page, "\n## Let through")
	if !found {
		t.Fatal("the page has no section of what is let through")
	}
	for _, f := range controls.names {
		for _, c := range f.rows {
			if !strings.Contains(refused, "\n## "+c.esp+"\n") {
				t.Errorf("the page has no section on %s", c.esp)
			}
			for _, w := range append([]string{c.field}, c.paths...) {
				if !strings.Contains(refused, "`"+w+"`") {
					t.Errorf("the page does not name `%s`", w)
				}
			}
		}
	}
	for line := range strings.Lines(refused) { // table rows: | `field` `path` … | code | …
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(strings.TrimSpace(cells[2]), "esp.") {
			continue
		}
		for i, w := range strings.Split(cells[1], "`") {
			if i%2 == 1 && !named(w, strings.TrimSpace(cells[2])) {
				t.Errorf("`%s` (%s) is not in esp.tsv", w, cells[2])
			}
		}
	}
}

// named tells whether the table has a field or path of that code.
func named(what, code string) bool {
	for _, f := range controls.names {
		for _, c := range f.rows {
			if (c.field == what || slices.Contains(c.paths, what)) && (c.code == code || c.field == what) {
				return true
			}
		}
	}
	return false
}

// TestFindingsOfMuch: a header full of JSON takes time linear in its size.
func TestFindingsOfMuch(t *testing.T) {
	var b strings.Builder
	b.WriteString("X-SMTPAPI: {\"unique_args\":{")
	for i := 0; b.Len() < 900_000; i++ {
		fmt.Fprintf(&b, "\"k%d\":[{\"to\":%d}],\r\n ", i, i)
	}
	b.WriteString("\"z\":1},\"to\":1}")
	start := time.Now()
	got := findingsOf(t, b.String())
	if len(got) != 1 || got[0].Code != recipients {
		t.Errorf("got %v", got)
	}
	t.Logf("%d octets in %v", b.Len(), time.Since(start))
}

// BenchmarkFindings is what each message pays: a header of 30 fields without ESP controls, and one with a usual one.
func BenchmarkFindings(b *testing.B) {
	plain := "From: a@acme.example\r\n"
	for i := range 29 {
		plain += fmt.Sprintf("X-Field-%d: value\r\n", i)
	}
	for name, raw := range map[string]string{"none": plain, "smtpapi": plain + `X-SMTPAPI: {"category":["a"],"unique_args":{"id":"1"}}` + "\r\n"} {
		m, err := Read([]byte(raw + "\r\nx\r\n"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(m.Findings()) > 0 {
					b.Fatal("found")
				}
			}
		})
	}
}
