package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"heed/policy"
	"heed/smtp"
)

// listed is a person whose address another entity collected; every account has an assessment that covers it.
func (w *world) listed(addresses ...string) {
	passed := policy.Test{Passed: true}
	for _, a := range w.book.Load().Accounts {
		a.Assessment = &policy.Assessment{ID: "LIA-1", Sender: "acme", Interest: "selling software", Purpose: passed, Necessity: passed, Balancing: passed}
	}
	for _, address := range addresses {
		w.facts[w.person(address)] = policy.Facts{Contact: policy.Contact{
			Country: policy.Dated[[]string]{Value: []string{"GB"}},
			Relations: map[string]policy.Relation{"acme": {
				CollectedBy: policy.Dated[string]{Value: "Fair Ltd"}, Source: policy.Dated[string]{Value: "exhibitors"},
			}},
		}}
	}
}

// informed are the facts that outcomes recorded, as a store keeps them; later messages are decided on them.
func (w *world) informed() (facts []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if e.Informed == nil {
			continue
		}
		f := w.facts[e.Person]
		f.Informed = map[string]policy.Informed{e.Sender: *e.Informed}
		w.facts[e.Person] = f
		facts = append(facts, fmt.Sprintf("%s %s: %s, %s", e.Event, e.Fate, e.Informed.CollectedBy, e.Informed.Source))
		if e.Informed.Message != e.Message || !e.Informed.At.Equal(e.At) || e.Sender != "acme" {
			w.t.Errorf("%+v of %+v", e.Informed, e)
		}
	}
	return facts
}

// carried tells of each message that was sent whether it had the Art. 14 notice.
func (w *world) carried() (carried []bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.sent {
		carried = append(carried, bytes.Contains(m.Data, []byte("About your data")))
	}
	return carried
}

const wasTold = "outcome sent: Fair Ltd, exhibitors"

// TestInformedWhenDelivered: what counts as given, however the message goes, and that the next one has the notice
// unless it was.
func TestInformedWhenDelivered(t *testing.T) {
	const anna, bernd = "anna@firma.example", "bernd@firma.example"
	inDoubt := fmt.Errorf("esp: %w", smtp.ErrInDoubt)
	tests := []struct {
		name    string
		account string
		guard   bool
		to      []string
		answer  func(smtp.Message) (smtp.Reply, error)
		want    []string // facts recorded
		next    bool     // the next message to the first carries it again
	}{
		{"delivered", "crm", false, []string{anna}, answers(accepted, nil), []string{wasTold}, false},
		{"delivered, with the guard's answer", "crm", true, []string{anna}, answers(accepted, nil), []string{wasTold}, false},
		{"to several", "crm", true, []string{anna, bernd}, answers(accepted, nil), []string{wasTold, wasTold}, false},
		{"to several, without a guard", "crm", false, []string{anna, bernd}, answers(accepted, nil), []string{wasTold, wasTold}, false},
		{"refused", "crm", true, []string{anna}, answers(nobody, nil), nil, true},
		{"one of two refused", "crm", false, []string{anna, bernd}, func(m smtp.Message) (smtp.Reply, error) {
			if m.To[0].Address == anna {
				return nobody, nil
			}
			return accepted, nil
		}, []string{wasTold}, true},
		{"deferred", "crm", true, []string{anna}, answers(later, nil), nil, true},
		{"no answer", "crm", false, []string{anna}, answers(smtp.Reply{}, errors.New("gone")), nil, true},
		{"in doubt", "crm", false, []string{anna}, answers(smtp.Reply{}, inDoubt), nil, true},
		{"in doubt, guarded", "crm", true, []string{anna}, answers(smtp.Reply{}, inDoubt), nil, true},
		{"transactional", "shop", false, []string{anna}, answers(accepted, nil), nil, true},
		{"an observed block is sent, and counts", "look", false, []string{"max@firma.de"}, answers(accepted, nil), []string{"outcome sent: , "}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, g := guarded(t)
			if !tt.guard {
				w.Guard = nil
			}
			w.listed(anna, bernd)
			w.answer = tt.answer
			w.submit(tt.account, "Heed-Language: en\r\n", tt.to...)
			if got := w.informed(); !slices.Equal(got, tt.want) {
				t.Errorf("recorded %q, want %q", got, tt.want)
			}
			if got := w.carried(); slices.Contains(got, tt.account == "shop") {
				t.Errorf("carried %v", got)
			}
			clear(g.of) // what comes is another message
			w.sent, w.answer = nil, answers(accepted, nil)
			account := tt.account
			if account == "shop" {
				account = "crm"
			}
			w.submit(account, "Heed-Language: en\r\n", tt.to[0])
			if got := w.carried(); !slices.Equal(got, []bool{tt.next}) {
				t.Errorf("the next message carried %v, want %t", got, tt.next)
			}
		})
	}
}

// TestInformedBySpool: a kept copy is decided on again, so that it carries the notice until one was delivered.
func TestInformedBySpool(t *testing.T) {
	const anna = "anna@firma.example"
	w, _ := guarded(t)
	w.listed(anna)
	w.answer = answers(later, nil)
	w.submit("crm", "", anna)
	w.submit("crm", "X-Second: yes\r\n", anna)
	var copies []smtp.Copy
	for _, c := range w.kept {
		copies = append(copies, c)
	}
	w.sent = nil
	for i, answer := range []struct {
		reply smtp.Reply
		want  bool
	}{{later, true}, {accepted, true}, {accepted, false}} {
		w.answer = answers(answer.reply, nil)
		c := copies[0]
		c.Attempts = 1
		w.Attempt(context.Background(), c)
		if got := w.carried(); got[i] != answer.want {
			t.Errorf("attempt %d carried %t, want %t", i, got[i], answer.want)
		}
		if got := len(w.informed()); got != min(i, 1) {
			t.Errorf("after attempt %d: %d facts recorded", i, got)
		}
	}
}

// TestInformedByLogin: over a login of the client's own it is the same.
func TestInformedByLogin(t *testing.T) {
	const anna = "anna@firma.example"
	w := passWorld(t)
	w.listed(anna)
	for i, answer := range []struct {
		reply smtp.Reply
		facts int
	}{{later, 0}, {nobody, 0}, {accepted, 1}, {accepted, 1}} {
		w.answer = answers(answer.reply, nil)
		w.pass("crm", "", anna)
		if got := w.informed(); len(got) != answer.facts {
			t.Errorf("after message %d: %q", i, got)
		}
	}
	if got := w.carried(); !slices.Equal(got, []bool{true, true, true, false}) {
		t.Errorf("carried %v", got)
	}
}

// TestInformedOnce: what is repeated from the guard tells nobody anything, nor does a question.
func TestInformedOnce(t *testing.T) {
	const anna = "anna@firma.example"
	w, _ := guarded(t)
	w.listed(anna)
	for range 2 {
		if _, reply := w.submit("crm", "", anna); !reply.Positive() {
			t.Fatal(reply)
		}
		d, err := w.Check(context.Background(), policy.Inquiry{Account: "crm", Recipients: []string{anna}})
		if err != nil || !slices.Contains(d[0].Notices, policy.NoticeArt14) {
			t.Fatalf("%v, %v", d, err)
		}
	}
	if got := w.informed(); len(w.sent) != 1 || len(got) != 1 {
		t.Errorf("%d sent, recorded %q", len(w.sent), got)
	}
	d, err := w.Check(context.Background(), policy.Inquiry{Account: "crm", Recipients: []string{anna}})
	if err != nil || slices.Contains(d[0].Notices, policy.NoticeArt14) {
		t.Errorf("%v, %v", d, err)
	}
	if got := w.informed(); len(got) != 1 {
		t.Errorf("a question recorded %q", got)
	}
}

// TestNotInformedWithoutTheState: what cannot be recorded is said again.
func TestNotInformedWithoutTheState(t *testing.T) {
	const anna = "anna@firma.example"
	for _, guard := range []bool{false, true} {
		t.Run(fmt.Sprintf("guard %t", guard), func(t *testing.T) {
			w, g := guarded(t)
			if !guard {
				w.Guard = nil
			}
			w.listed(anna)
			w.answer = func(smtp.Message) (smtp.Reply, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.journalErr = errors.New("down")
				return accepted, nil
			}
			if _, reply := w.submit("crm", "", anna); reply != accepted {
				t.Fatal(reply)
			}
			w.mu.Lock()
			w.journalErr, w.answer = nil, answers(accepted, nil)
			w.mu.Unlock()
			g.mu.Lock()
			clear(g.of)
			g.mu.Unlock()
			for range 2 {
				w.submit("crm", "", anna)
				w.informed()
				g.mu.Lock()
				clear(g.of)
				g.mu.Unlock()
			}
			if got := w.carried(); !slices.Equal(got, []bool{true, true, false}) {
				t.Errorf("carried %v", got)
			}
		})
	}
}
