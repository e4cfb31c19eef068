package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"heed/policy"
)

func TestCheck(t *testing.T) {
	w := newWorld(t)
	w.consent("anna@firma.example")
	w.optOut("left@firma.example", policy.OptOut{Scope: policy.ScopeAll})
	tests := []struct {
		name string
		q    policy.Inquiry
		code string
		bad  string
	}{
		{"lawful", policy.Inquiry{Account: "crm", Recipients: []string{"anna@firma.example"}}, "", ""},
		{"opted out", policy.Inquiry{Account: "crm", Recipients: []string{"left@firma.example"}}, "optout.all", ""},
		{"opted out, transactional account", policy.Inquiry{Account: "shop", Recipients: []string{"left@firma.example"}}, "", ""},
		{"before the consent", policy.Inquiry{Account: "crm", Recipients: []string{"anna@firma.example"}, At: w.now.AddDate(-1, 0, 0)}, "consent.missing", ""},
		{"account unknown", policy.Inquiry{Account: "x", Recipients: []string{"a@b.de"}}, "", "account: "},
		{"nobody", policy.Inquiry{Account: "crm"}, "", "recipients: "},
		{"too many", policy.Inquiry{Account: "crm", Recipients: make([]string, policy.MaxInquiry+1)}, "", "recipients: 10001, at most 10000"},
		{"malformed address", policy.Inquiry{Account: "crm", Recipients: []string{"a@b.de", "nobody"}}, "", "recipients[1]: "},
		{"malformed country", policy.Inquiry{Account: "crm", Recipients: []string{"a@b.de"}, Country: "Germany"}, "", "country: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := w.Check(context.Background(), tt.q)
			var bad policy.BadInquiry
			if tt.bad != "" {
				if !errors.As(err, &bad) || !strings.HasPrefix(bad.Error(), tt.bad) {
					t.Errorf("%v, want %s", err, tt.bad)
				}
				return
			}
			if err != nil || len(got) != 1 || got[0].Code != tt.code {
				t.Errorf("%+v, %v, want %q", got, err, tt.code)
			}
		})
	}
	if len(w.entries) > 0 || len(w.sent) > 0 {
		t.Error("a check records and sends nothing")
	}
}

func TestPreviewIsWhatIsSent(t *testing.T) {
	for _, account := range []string{"crm", "shop"} {
		w := newWorld(t)
		w.consent("anna@firma.example")
		raw := fmt.Sprintf(plainMail, "Heed-Language: de\r\n")
		p, err := w.Preview(context.Background(), policy.Inquiry{Account: account, Recipients: []string{"anna@firma.example"}}, []byte(raw))
		if err != nil || p.Decision.Action != policy.Allow {
			t.Fatalf("%+v, %v", p, err)
		}
		w.submitRaw(account, raw, "anna@firma.example")
		_, previewed, _ := strings.Cut(string(p.Rewritten), "+0000\r\n") // the Received field has the transaction's ID
		_, sent, _ := strings.Cut(string(w.sent[0].Data), "+0000\r\n")
		if previewed == "" || previewed != sent {
			t.Errorf("%s: previewed\n%s\nsent\n%s", account, previewed, sent)
		}
	}
	w := newWorld(t)
	p, err := w.Preview(context.Background(), policy.Inquiry{Account: "shop", Recipients: []string{"a@b.example"}}, []byte("From: a@evil.example\r\n\r\nx\r\n"))
	if err != nil || p.Decision.Code != policy.CodeSenderDomain || p.Rewritten != nil {
		t.Errorf("%+v, %v", p, err)
	}
}
