package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/smtp"
)

// waiting is a spool with copies at rest: c1 deferred, c2 in doubt, c3 being attempted, c4 unreadable, c5 a bounce.
func waiting(t *testing.T) (*Spool, *memory, time.Time) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := &memory{}
	s := &Spool{
		Store: store, Enabled: true, Node: "n1", Now: func() time.Time { return now },
		Bouncer: &Bouncer{Upstream: "esp", Hostname: "gw.test"},
	}
	for id, o := range map[string]smtp.Outcome{"c1": deferred, "c2": inDoubt, "c3": {}, "c5": deferred} {
		c := letter(id)
		c.Due = now.Add(time.Minute)
		if id == "c5" {
			c.Note, c.Message.From = []byte(noteBounce), ""
		}
		if err := s.Keep(t.Context(), body, []smtp.Copy{c}); err != nil {
			t.Fatal(err)
		}
		if id != "c3" {
			if err := s.Settle(t.Context(), c, o); err != nil {
				t.Fatal(err)
			}
		}
	}
	store.items["c4"] = &held{Item: Item{ID: "c4", Queue: "esp", Due: now.Add(time.Hour), Meta: []byte("{"), Body: body}}
	return s, store, now
}

func TestFind(t *testing.T) {
	s, _, now := waiting(t)
	for _, tt := range []struct {
		id   string
		last string
		busy bool
		err  error
	}{
		{"c1", "451 4.7.1 later", false, nil},
		{"c2", "451 4.4.2 the upstream's answer was lost: the message may have been delivered", false, nil},
		{"c3", "", true, nil},
		{"c4", "unreadable: unexpected end of JSON input", false, nil},
		{"gone", "", false, ErrGone},
	} {
		c, lease, err := s.Find(t.Context(), tt.id)
		if !errors.Is(err, tt.err) || c.Last != tt.last || lease.After(now) != tt.busy {
			t.Errorf("%s: %+v, %v, %v", tt.id, c, lease, err)
		}
		if err == nil && (c.ID != tt.id || string(c.Message.Data) != string(body) || c.Doubt != (tt.id == "c2")) {
			t.Errorf("%s: %+v", tt.id, c)
		}
	}
}

func TestRetry(t *testing.T) {
	for _, tt := range []struct {
		id   string
		want Retried
		err  error
		due  []string // now
	}{
		{"c1", Retried{Due: 1}, nil, []string{"c1"}},
		{"c2", Retried{Due: 1, Doubt: 1}, nil, []string{"c2"}},
		{"c3", Retried{}, ErrInProgress, nil},
		{"c4", Retried{Due: 1}, nil, []string{"c4"}},
		{"gone", Retried{}, ErrGone, nil},
		{"", Retried{Due: 4, Doubt: 1, InProgress: 1}, nil, []string{"c1", "c2", "c4", "c5"}},
	} {
		s, store, now := waiting(t)
		var got Retried
		var err error
		if tt.id == "" {
			got, err = s.RetryAll(t.Context())
		} else {
			got, err = s.RetryOne(t.Context(), tt.id)
		}
		var due []string
		for _, id := range store.ids() {
			if item, _ := store.get(id); !item.Due.After(now) {
				due = append(due, id)
			}
		}
		if got != tt.want || !errors.Is(err, tt.err) || !slices.Equal(due, tt.due) {
			t.Errorf("%q: %+v, %v, due %v", tt.id, got, err, due)
		}
	}
}

func TestDrop(t *testing.T) {
	for _, tt := range []struct {
		name   string
		id     string
		bounce bool
		change func(s *Spool, m *memory)
		err    error
		log    string   // what was journaled
		ids    []string // what waits afterwards
	}{
		{"a copy", "c1", false, nil, nil, "c1 554 5.0.0 given up by the operator of the gateway", []string{"c2", "c3", "c4", "c5"}},
		{"in doubt", "c2", false, nil, nil, "c2 554 5.0.0 given up by the operator of the gateway", []string{"c1", "c3", "c4", "c5"}},
		{"with a report", "c1", true, nil, nil, "c1 554 5.0.0 given up by the operator of the gateway", []string{"c1b", "c2", "c3", "c4", "c5"}},
		{"a bounce: nothing is said about it", "c5", true, nil, nil, "c5 554 5.0.0 given up by the operator of the gateway", []string{"c1", "c2", "c3", "c4"}},
		{"unreadable", "c4", true, nil, nil, "c4 554 5.0.0 given up by the operator of the gateway", []string{"c1", "c2", "c3", "c5"}},
		{"being attempted", "c3", false, nil, ErrInProgress, "", []string{"c1", "c2", "c3", "c4", "c5"}},
		{"gone", "gone", false, nil, ErrGone, "", []string{"c1", "c2", "c3", "c4", "c5"}},
		{"it cannot be removed", "c1", false, func(_ *Spool, m *memory) {
			m.failing = func(call, _, _ string) error {
				if call == "done" {
					return errStore
				}
				return nil
			}
		}, errStore, "c1 554 5.0.0 given up by the operator of the gateway", []string{"c1", "c2", "c3", "c4", "c5"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, store, _ := waiting(t)
			if tt.change != nil {
				tt.change(s, store)
			}
			journaled := ""
			_, err := s.Drop(t.Context(), tt.id, tt.bounce, func(c smtp.Copy, o smtp.Outcome) error {
				if item, _ := store.get(c.ID); !item.Lease.After(s.now()) {
					t.Error("others may attempt it meanwhile")
				}
				journaled += fmt.Sprint(c.ID, " ", o.Reply)
				return nil
			})
			if !errors.Is(err, tt.err) || journaled != tt.log || !slices.Equal(store.ids(), tt.ids) {
				t.Errorf("%v, journaled %q, waiting %v", err, journaled, store.ids())
			}
		})
	}
	t.Run("what cannot be journaled stays, and free", func(t *testing.T) {
		s, store, now := waiting(t)
		before, _ := store.get("c1")
		_, err := s.Drop(t.Context(), "c1", false, func(smtp.Copy, smtp.Outcome) error { return errStore })
		item, _ := store.get("c1")
		if !errors.Is(err, errStore) || item.Lease.After(now) || !item.Due.Equal(before.Due) || string(item.Meta) != string(before.Meta) {
			t.Errorf("%v, %+v", err, item)
		}
	})
}

// Who wrote it learns that a rule stopped it, and does not look for a fault at the recipient.
func TestReportOfStopped(t *testing.T) {
	stopped := smtp.Failure{Recipient: smtp.Recipient{Address: "out@x.test"}, Fate: smtp.Blocked, Reply: smtp.Refused.With("<out@x.test> blocked [optout.sender] opted out (decision d1)"), At: time.Now()}
	refused := smtp.Failure{Recipient: smtp.Recipient{Address: "gone@x.test"}, Fate: smtp.Failed, Reply: failed.Reply, At: time.Now()}
	const notAFailure, aFailure = "This is no delivery failure", "could not be delivered"
	for _, tt := range []struct {
		name    string
		failed  []smtp.Failure
		subject string
		text    []string // in this order
		without string
	}{
		{"stopped", []smtp.Failure{stopped}, "Your message was stopped by a rule", []string{notAFailure, "<out@x.test>", "[optout.sender] opted out"}, aFailure},
		{"failed", []smtp.Failure{refused}, "Your message was not delivered", []string{aFailure, "<gone@x.test>", "550 5.1.1 unknown"}, notAFailure},
		{"both", []smtp.Failure{stopped, refused}, "Your message was not delivered", []string{aFailure, "<gone@x.test>", notAFailure, "<out@x.test>"}, "\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, err := report{host: "gw.test", m: smtp.Message{Envelope: smtp.Envelope{From: "a@acme.test"}, Data: body}, failed: tt.failed}.compose()
			if err != nil {
				t.Fatal(err)
			}
			h, parts := bounceParts(t, data)
			if h.Get("Subject") != tt.subject {
				t.Errorf("Subject: %s", h.Get("Subject"))
			}
			at := 0
			for _, want := range tt.text {
				i := strings.Index(parts[0][at:], want)
				if i < 0 {
					t.Fatalf("%q is missing, or not in its place:\n%s", want, parts[0])
				}
				at += i
			}
			if strings.Contains(parts[0], tt.without) {
				t.Errorf("it says %q:\n%s", tt.without, parts[0])
			}
			for i, g := range statusFields(t, parts[1])[1:] {
				f := tt.failed[i]
				if g.Get("Action") != "failed" || g.Get("Status") != statusOf(f.Reply) || (g.Get("Last-Attempt-Date") == "") != (f.Fate == smtp.Blocked) {
					t.Errorf("status of %s: %v", f.Recipient.Address, g)
				}
			}
		})
	}
}
