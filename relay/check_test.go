package relay

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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
		last := len(w.entries) - 2 // before the outcome
		if e := w.entries[last]; e.Event != policy.EventDecision || e.Changes == nil || !reflect.DeepEqual(e.Changes, p.Changes) || e.Changes.Added[0] != "Received" || e.Changes.Removed[0] != "Heed-Language" {
			t.Errorf("%s: previewed %+v, journaled %+v", account, p.Changes, e.Changes)
		}
	}
	w := newWorld(t)
	p, err := w.Preview(context.Background(), policy.Inquiry{Account: "shop", Recipients: []string{"a@b.example"}}, []byte("From: a@evil.example\r\n\r\nx\r\n"))
	if err != nil || p.Decision.Code != policy.CodeSenderDomain || p.Rewritten != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

// Regression: a message that is refused as a whole was reported as a mistake of the asker's.
func TestPreviewOfARefusedMessage(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, account, to, fields string
		bad                       bool
		want                      string
	}{
		{"not understood", "both", "a@b.example", "Heed-Country: Germany\r\n", false, "550 5.7.1 Heed-Country"},
		{"loop", "crm", "a@b.example", strings.Repeat("Received: x\r\n", 51), false, "554 5.4.6"},
		{"unknown account", "x", "a@b.example", "", true, "account: "},
		{"malformed address", "crm", "nobody", "", true, "recipients[0]: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := w.Preview(context.Background(), policy.Inquiry{Account: tt.account, Recipients: []string{tt.to}}, fmt.Appendf(nil, plainMail, tt.fields))
			var bad policy.BadInquiry
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || errors.As(err, &bad) != tt.bad {
				t.Errorf("%+v, %v, want %s", p, err, tt.want)
			}
		})
	}
}

// Regression: an inquiry with a message could name another topic than the account's, and a country as it liked.
func TestPreviewTakesTheInquiryAsCheckDoes(t *testing.T) {
	w := newWorld(t)
	w.consent("anna@firma.example")
	w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news"})
	raw := fmt.Appendf(nil, plainMail, "")
	q := policy.Inquiry{Account: "crm", Recipients: []string{"anna@firma.example"}, Topic: "other"}
	if p, err := w.Preview(context.Background(), q, raw); err != nil || p.Decision.Code != policy.CodeOptOutTopic {
		t.Errorf("%+v, %v", p, err)
	}
	q = policy.Inquiry{Account: "crm", Recipients: []string{"stranger@corp.example"}, Country: "uk"}
	if p, err := w.Preview(context.Background(), q, raw); err != nil || p.Decision.Country.Code != "GB" {
		t.Errorf("%+v, %v", p, err)
	}
	q.Country = "Germany"
	var bad policy.BadInquiry
	if p, err := w.Preview(context.Background(), q, raw); !errors.As(err, &bad) {
		t.Errorf("%+v, %v", p, err)
	}
}
