package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"heed/policy"
	"heed/smtp"
)

// passWorld has the accounts of a world with auth: pass, and no upstream but the clients' logins.
func passWorld(t *testing.T) *world {
	w := newWorld(t)
	for _, a := range w.book.Load().Accounts {
		a.Pass = true
	}
	w.Upstreams, w.Budget = nil, 1 // the client waits as long as the upstream may take
	return w
}

// pass runs a transaction of a client that is logged in at the upstream.
func (w *world) pass(account, fields string, to ...string) (rcpt []smtp.Reply, data smtp.Reply) {
	e := smtp.Envelope{ID: smtp.NewID(), Account: account, From: "bounce@acme.example", Helo: "tool", Login: w}
	m := smtp.Message{Envelope: e, Data: fmt.Appendf(nil, plainMail, fields)}
	for _, a := range to {
		r := w.Recipient(context.Background(), e, a)
		rcpt = append(rcpt, r)
		if r.Positive() {
			m.To = append(m.To, smtp.Recipient{Address: a})
			e.Taken++
		}
	}
	return rcpt, w.Message(context.Background(), m)
}

func TestPassOn(t *testing.T) {
	const anna, bernd = "anna@firma.example", "bernd@firma.example"
	unknown := smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "<Bernd@firma.example> is unknown, <anna@firma.example> was not sent it"}
	later := smtp.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "greylisted\ncome back"}
	tests := []struct {
		name, account, fields string
		to                    []string
		answer                smtp.Reply // and err: the upstream's
		err                   error
		want                  string   // the reply
		sent                  []string // recipients of the one message that was sent
		outcomes              []string // the journal's
	}{
		{"taken", "crm", "", []string{anna}, accepted, nil, accepted.String(), []string{anna}, []string{"sent 250 2.0.0 Ok: queued as 1A2B"}},
		{"put off", "crm", "", []string{anna}, later, nil, later.String(), []string{anna}, []string{"deferred 451 4.7.1 greylisted; come back"}},
		{"refused", "crm", "", []string{anna}, unknown, nil, unknown.String(), []string{anna}, []string{"failed 550 5.1.1 <Bernd@firma.example> is unknown, <...> was not sent it"}},
		{"no answer", "crm", "", []string{anna}, smtp.Reply{}, errors.New("connection refused"), "451 4.4.1 no answer from the upstream", []string{anna}, []string{"deferred 451 4.4.1 no answer from the upstream"}},
		{"in doubt", "crm", "", []string{anna}, smtp.Reply{}, smtp.ErrInDoubt, "451 4.4.2 the upstream's answer was lost: the message may have been delivered", []string{anna}, []string{"in doubt 451 4.4.2 the upstream's answer was lost: the message may have been delivered"}},
		{"transactional, to two", "shop", "", []string{anna, bernd}, accepted, nil, accepted.String(), []string{anna, bernd}, []string{"sent 250 2.0.0 Ok: queued as 1A2B", "sent 250 2.0.0 Ok: queued as 1A2B"}},
		{"transactional, to two of whom one is unknown", "shop", "", []string{anna, bernd}, unknown, nil, unknown.String(), []string{anna, bernd}, []string{"failed 550 5.1.1 <...> is unknown, <...> was not sent it", "failed 550 5.1.1 <...> is unknown, <...> was not sent it"}},
		{"by header transactional, to two", "both", "Heed-Category: transactional\r\n", []string{anna, bernd}, accepted, nil, accepted.String(), []string{anna, bernd}, []string{"sent 250 2.0.0 Ok: queued as 1A2B", "sent 250 2.0.0 Ok: queued as 1A2B"}},
		{"by header marketing, to two", "both", "", []string{anna, bernd}, accepted, nil, oneEach.String(), nil, nil},
		{"by header marketing, to two spellings of one", "both", "", []string{anna, "Anna@Firma.example"}, accepted, nil, accepted.String(), []string{anna}, []string{"sent 250 2.0.0 Ok: queued as 1A2B"}},
	}
	for _, tt := range tests {
		for _, spool := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, spool %t", tt.name, spool), func(t *testing.T) {
				w := passWorld(t)
				if !spool {
					w.Spool = nil
				}
				w.consent(anna)
				w.consent(bernd)
				w.answer = func(smtp.Message) (smtp.Reply, error) { return tt.answer, tt.err }
				rcpt, reply := w.pass(tt.account, tt.fields, tt.to...)
				for _, r := range rcpt {
					if r != smtp.OK {
						t.Fatalf("RCPT: %s", r)
					}
				}
				if reply.String() != tt.want {
					t.Errorf("got %s, want %s", reply, tt.want)
				}
				var sent []string
				for _, m := range w.sent {
					for _, to := range m.To {
						sent = append(sent, to.Address)
					}
				}
				if !slices.Equal(sent, tt.sent) || len(w.sent) > 1 {
					t.Errorf("%d messages, to %q", len(w.sent), sent)
				}
				var outcomes []string
				for _, e := range w.entries {
					if e.Event == policy.EventOutcome {
						outcomes = append(outcomes, e.Fate+" "+e.Reply)
					}
				}
				if !slices.Equal(outcomes, tt.outcomes) {
					t.Errorf("journal: %q", outcomes)
				}
				if tt.sent == nil && len(w.entries) > 0 {
					t.Errorf("%d entries", len(w.entries))
				}
				if len(w.kept)+len(w.bounced)+len(w.settled) > 0 {
					t.Errorf("%d kept, %d bounced, %d settled", len(w.kept), len(w.bounced), len(w.settled))
				}
			})
		}
	}
}

// What all recipients of a message have in common is changed as for other accounts.
func TestPassOnRewrites(t *testing.T) {
	w := passWorld(t)
	w.consent("anna@firma.example")
	w.pass("crm", "Bcc: x@y.example\r\n", "anna@firma.example")
	w.pass("shop", "Bcc: x@y.example\r\nHeed-Country: DE\r\n", "a@b.example", "c@d.example")
	for i, want := range [][]string{{"List-Unsubscribe: <https://opt.example/u/", "Received: ", "Acme Ltd"}, {"Received: ", "\r\nHello\r\n"}} {
		got := strings.ReplaceAll(string(w.sent[i].Data), "\r\n ", " ")
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("message %d lacks %q:\n%s", i, part, got)
			}
		}
		if strings.Contains(got, "Bcc") || strings.Contains(got, "Heed-") {
			t.Errorf("message %d:\n%s", i, got)
		}
	}
}

func TestPassOnRefuses(t *testing.T) {
	w := passWorld(t)
	w.consent("anna@firma.example")
	rcpt, _ := w.pass("crm", "", "anna@firma.example", "bernd@firma.example")
	if rcpt[0] != smtp.OK || rcpt[1] != oneEach {
		t.Errorf("RCPT: %s, %s", rcpt[0], rcpt[1])
	}
	rcpt, _ = w.pass("crm", "", "max.weber@spediteur.de")
	if rcpt[0].Code != 550 || !strings.Contains(rcpt[0].Text, "[consent.missing]") {
		t.Errorf("a stranger: %s", rcpt[0])
	}
	if _, reply := w.pass("shop", "X-SMTPAPI: {\"to\": [\"x@y.example\"]}\r\n", "a@b.example", "c@d.example"); reply.Code != 550 || !strings.Contains(reply.Text, "[esp.recipients]") {
		t.Errorf("recipients inside: %s", reply)
	}
	if got := w.Recipient(t.Context(), smtp.Envelope{ID: "1", Account: "crm"}, "anna@firma.example"); got != smtp.NoAccount {
		t.Errorf("without a login: %s", got)
	}
	m := smtp.Message{Envelope: smtp.Envelope{ID: "1", Account: "crm"}, To: []smtp.Recipient{{Address: "anna@firma.example"}}, Data: fmt.Appendf(nil, plainMail, "")}
	if got := w.Message(t.Context(), m); !got.Temporary() {
		t.Errorf("without a login at DATA: %s", got)
	}
	if len(w.sent) != 1 {
		t.Errorf("%d messages were sent", len(w.sent))
	}
}

// A copy that was kept before its account got auth: pass has no login: it goes as it was accepted.
func TestKeptBeforePass(t *testing.T) {
	w := newWorld(t)
	w.consent("anna@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("down") }
	w.submit("crm", "", "anna@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return accepted, nil }
	w.book.Load().Accounts["crm"].Pass = true
	for _, c := range w.kept {
		if o := w.Attempt(t.Context(), c); o.Fate != smtp.Sent {
			t.Errorf("%+v", o)
		}
	}
	if len(w.kept) != 1 || len(w.sent) != 2 {
		t.Errorf("%d kept, %d sent", len(w.kept), len(w.sent))
	}
}

func TestPassOnSurvivesAPanic(t *testing.T) {
	w := passWorld(t)
	w.answer = func(smtp.Message) (smtp.Reply, error) { panic("boom") }
	_, reply := w.pass("shop", "", "a@b.example")
	if last := w.entries[len(w.entries)-1]; !reply.Temporary() || last.Fate != smtp.InDoubt.String() {
		t.Errorf("%s; journal: %+v", reply, last)
	}
}

// An upstream without 8BITMIME gets passed mail in 7-bit form too, and the journal names it.
func TestPassOnInSevenBit(t *testing.T) {
	w := passWorld(t)
	w.answer = func(m smtp.Message) (smtp.Reply, error) {
		if bytes.ContainsFunc(m.Data, func(r rune) bool { return r > '~' }) {
			return smtp.No8BitMIME, nil
		}
		return accepted, nil
	}
	if _, reply := w.pass("shop", "Content-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n", "a@b.example"); reply != accepted {
		t.Fatalf("answered %s", reply)
	}
	if last := w.sent[len(w.sent)-1]; !bytes.Contains(last.Data, []byte("Gr=C3=BC=C3=9Fe")) {
		t.Errorf("sent\n%s", last.Data)
	}
	if last := w.entries[len(w.entries)-1]; last.Fate != "sent" || last.Upstream != "esp" {
		t.Errorf("journal: %q by %q", last.Fate, last.Upstream)
	}
}
