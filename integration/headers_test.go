package integration

import (
	"slices"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestHeedFields: what a mail tool may say in Heed-* fields; none of them leaves the gateway.
func TestHeedFields(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "klaus@spedition.example"
	g.consented(to)
	taken := 0
	for _, tt := range []struct {
		name, account, to string
		fields            []string
		want              string // of the reply to the final dot
		has, lacks        []string
	}{
		{"missing category is marketing", "both", to, nil, "250", []string{"List-Unsubscribe:", "Dies ist Werbung"}, nil},
		{"marketing", "both", to, []string{"Heed-Category: Marketing"}, "250", []string{"List-Unsubscribe:"}, nil},
		{"transactional", "both", "stranger@b.de", []string{"Heed-Category: transactional"}, "250", nil, []string{"List-Unsubscribe", "List-Id", "Werbung"}},
		{"another category", "both", to, []string{"Heed-Category: newsletter"}, "550 5.7.1 Heed-Category is", nil, nil},
		{"two categories", "both", to, []string{"Heed-Category: marketing", "heed-category: transactional"}, "550 5.7.1 Heed-Category stands 2 times", nil, nil},
		{"an account may not choose", "crm", to, []string{"Heed-Category: transactional"}, "250", []string{"List-Unsubscribe:"}, nil},
		{"topic", "open", to, []string{"Heed-Topic: events"}, "250", []string{`List-Id: "events" <events.acme.`}, nil},
		{"topic of the account goes first", "crm", to, []string{"Heed-Topic: events"}, "250", []string{`List-Id: "newsletter" <newsletter.acme.`}, nil},
		{"topic too long for a link", "open", to, []string{"Heed-Topic: " + strings.Repeat("x", 40)}, "550 5.7.1 Heed-Topic is too long", nil, nil},
		{"language", "crm", to, []string{"Heed-Language: en"}, "250", []string{"This is advertising from Acme Ltd"}, []string{"Werbung"}},
		{"country", "open", "someone@corp.example", []string{"Heed-Country: GB"}, "250", []string{"List-Unsubscribe:"}, nil},
		{"country that needs consent", "open", "someone@corp.example", []string{"Heed-Country: DE"}, "550 5.7.1 <someone@corp.example> blocked [consent.missing]", nil, nil},
		{"country that is none", "crm", to, []string{"Heed-Country: Germany"}, "550 5.7.1 Heed-Country:", nil, nil},
		{"fields of the tool's own", "crm", to, []string{"List-Unsubscribe: <https://tool.example/u>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click", "List-Id: <tool.example>"}, "250", []string{"List-Unsubscribe: <http://127.0.0.1:"}, []string{"tool.example/u", "<tool.example>"}},
		{"Bcc and Resent", "crm", to, []string{"Bcc: hidden@b.de", "Resent-To: again@b.de", "Resent-Bcc: more@b.de"}, "250", nil, []string{"hidden@b.de", "again@b.de", "more@b.de"}},
		{"Bcc of transactional mail", "shop", "stranger@b.de", []string{"Bcc: hidden@b.de", "Heed-Topic: x"}, "250", nil, []string{"hidden@b.de", "List-Unsubscribe"}},
		{"recipients in an ESP's field", "shop", "stranger@b.de", []string{`X-SMTPAPI: {"to": ["other@b.de"]}`}, "550 5.7.1 <stranger@b.de> blocked [esp.recipients]", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := g.tool(t, tt.account)
			rcpt, dot := m.send(plainMail(tt.to, tt.name, tt.fields...), tt.to)
			if !strings.HasPrefix(dot, tt.want) {
				t.Fatalf("%q, then %q, want %s", rcpt, dot, tt.want)
			}
			if !strings.HasPrefix(tt.want, "250") {
				if n := len(up.Seen()); n != taken {
					t.Fatalf("the upstream saw %d messages, want %d", n, taken)
				}
				return
			}
			taken++
			got := up.Await(t, taken)[taken-1]
			p := split(got.Data)
			if slices.ContainsFunc(p.fields, func(f string) bool { return strings.HasPrefix(strings.ToLower(f), "heed-") }) {
				t.Errorf("Heed-* left the gateway: %q", p.fields)
			}
			all := strings.Join(p.fields, "") + p.text(t)
			for _, s := range tt.has {
				if !strings.Contains(all, s) {
					t.Errorf("%q is missing in\n%s", s, all)
				}
			}
			for _, s := range tt.lacks {
				if strings.Contains(all, s) {
					t.Errorf("%q stands in\n%s", s, all)
				}
			}
		})
	}
}

// TestDeliveryStatusParameters: what a tool asks of delivery reports reaches the upstream (RFC 3461), for each copy.
func TestDeliveryStatusParameters(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	to := []string{"a@spedition.example", "b@spedition.example"}
	g.consented(to...)
	m := g.tool(t, "crm")
	m.say("250", "MAIL FROM:<bounces+4711@acme.example> RET=HDRS ENVID=campaign-7 BODY=8BITMIME")
	for _, a := range to {
		m.say("250", "RCPT TO:<%s> NOTIFY=FAILURE,DELAY ORCPT=rfc822;%s", a, a)
	}
	m.say("354", "DATA")
	w := m.conn.DotWriter()
	w.Write([]byte(eightBit(to[0], "dsn")))
	w.Close()
	m.hear("250")
	for _, got := range up.Await(t, 2) {
		if p := strings.Join(got.Params, " "); got.From != "bounces+4711@acme.example" || !strings.Contains(p, "RET=HDRS") || !strings.Contains(p, "ENVID=campaign-7") || !strings.Contains(p, "BODY=8BITMIME") {
			t.Errorf("MAIL FROM:<%s> %s", got.From, p)
		}
		if p := strings.Join(got.To[0].Params, " "); !strings.Contains(p, "NOTIFY=") || !strings.Contains(p, "FAILURE") || !strings.Contains(p, "DELAY") || !strings.Contains(p, "ORCPT=rfc822;"+got.To[0].Address) {
			t.Errorf("RCPT TO:<%s> %s", got.To[0].Address, p)
		}
	}
}
