package spool

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/smtp"
)

var (
	deferred = smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "later"}}
	sent     = smtp.Outcome{Fate: smtp.Sent, Reply: smtp.OK}
	failed   = smtp.Outcome{Fate: smtp.Failed, Reply: smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "unknown"}}
	blocked  = smtp.Outcome{Fate: smtp.Blocked, Reply: smtp.Refused}
	inDoubt  = smtp.OutcomeOf(smtp.Reply{}, smtp.ErrInDoubt)
)

func letter(id string) smtp.Copy {
	return smtp.Copy{
		ID: id, Upstream: "esp", Note: []byte(`{"account":"crm"}`),
		Message: smtp.Message{
			Envelope: smtp.Envelope{ID: "t1", Account: "crm", From: "a@acme.test"},
			To:       []smtp.Recipient{{Address: "b@x.test"}},
		},
	}
}

var body = []byte("Subject: hi\r\n\r\nhello\r\n")

func TestJudge(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		attempts int // before
		age      time.Duration
		o        smtp.Outcome
		event    string
		remove   bool
		bounce   bool
		wait     time.Duration
	}{
		{"first", 0, 0, deferred, "deferred", false, false, time.Minute},
		{"second", 1, time.Minute, deferred, "deferred", false, false, 5 * time.Minute},
		{"fifth", 4, time.Hour, deferred, "deferred", false, false, 4 * time.Hour},
		{"last step repeats", 9, time.Hour, deferred, "deferred", false, false, 4 * time.Hour},
		{"cut to the end", 9, 46 * time.Hour, deferred, "deferred", false, false, 2 * time.Hour},
		{"its time is over", 9, 48 * time.Hour, deferred, GaveUp, true, true, 0},
		{"in doubt", 0, 0, inDoubt, "in doubt", false, false, 10 * time.Minute},
		{"in doubt, long wait", 4, 0, inDoubt, "in doubt", false, false, 4 * time.Hour},
		{"in doubt near the end", 9, 48*time.Hour - time.Second, inDoubt, "in doubt", false, false, 10 * time.Minute},
		{"sent", 0, 0, sent, "sent", true, false, 0},
		{"failed", 0, 0, failed, "failed", true, true, 0},
		{"blocked", 0, 0, blocked, "blocked", true, true, 0},
		{"not tried", 0, 0, smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault, Untried: true}, "deferred", false, false, time.Minute},
		{"not tried, after long waits", 4, time.Hour, smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault, Untried: true}, "deferred", false, false, 3 * time.Minute},
		{"not tried, for a day", 4, 24 * time.Hour, smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault, Untried: true}, "deferred", false, false, 15 * time.Minute},
		{"not tried, and its time is over", 4, 48 * time.Hour, smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault, Untried: true}, GaveUp, true, true, 0},
		{"another copy goes in its place", 0, 0, smtp.Outcome{Fate: smtp.Repeated, Reply: smtp.Refused}, "repeated", true, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := start.Add(tt.age)
			s := &Spool{Now: func() time.Time { return now }}
			c := letter("c1")
			c.Accepted, c.Attempts, c.Doubt = start, tt.attempts, true
			v := s.judge(c, tt.o)
			if v.event != tt.event || v.remove != tt.remove || v.bounce != tt.bounce || (v.copy.Attempts == tt.attempts) != tt.o.Untried || v.copy.Doubt != (tt.o.Fate == smtp.InDoubt || tt.o.Untried) {
				t.Errorf("got %+v", v)
			}
			if !tt.remove && v.due.Sub(now) != tt.wait {
				t.Errorf("due after %v, want %v", v.due.Sub(now), tt.wait)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	due := now.Add(time.Minute)
	kept := letter("c1")
	kept.Due = due

	t.Run("is durable and leased", func(t *testing.T) {
		store := &memory{}
		s := &Spool{Store: store, Enabled: true, Max: 100, Node: "n1", Now: clock}
		other := letter("c2")
		other.Due = due
		if err := s.Keep(t.Context(), body, []smtp.Copy{kept, other}); err != nil {
			t.Fatal(err)
		}
		if items, _ := store.SpoolClaim(t.Context(), "n2", due.Add(-1), due, 9, nil); len(items) != 0 {
			t.Errorf("claimed before its time: %v", items)
		}
		var listed []string
		err := s.List(t.Context(), func(c smtp.Copy, lease time.Time) bool {
			listed = append(listed, c.ID)
			if c.Message.To[0].Address != "b@x.test" || !c.Due.Equal(due) || !lease.Equal(due) || !c.Accepted.Equal(now) {
				t.Errorf("got %+v", c)
			}
			return true
		})
		if err != nil || !slices.Equal(listed, []string{"c1", "c2"}) {
			t.Errorf("listed %v, %v", listed, err)
		}
		items, _ := store.SpoolClaim(t.Context(), "n2", due, due.Add(1), 9, nil)
		if len(items) != 2 || string(items[0].Body) != string(body) || strings.Contains(string(items[0].Meta), "hello") {
			t.Errorf("got %v", items)
		}
	})
	t.Run("without times is due at once", func(t *testing.T) {
		store := &memory{}
		s := &Spool{Store: store, Enabled: true, Node: "n1", Now: clock}
		if err := s.Keep(t.Context(), body, []smtp.Copy{letter("c1")}); err != nil {
			t.Fatal(err)
		}
		item, _ := store.get("c1")
		if c, err := decode(item); err != nil || !c.Accepted.Equal(now) || !item.Due.Equal(now) {
			t.Errorf("got %+v, %v", c, err)
		}
	})
	t.Run("full", func(t *testing.T) {
		store := &memory{}
		s := &Spool{Store: store, Enabled: true, Max: int64(len(body)) - 1, Node: "n1", Now: clock}
		if err := s.Keep(t.Context(), body, []smtp.Copy{kept}); !errors.Is(err, smtp.ErrFull) || len(store.ids()) != 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("off", func(t *testing.T) {
		s := &Spool{Store: &memory{}, Node: "n1"}
		if err := s.Keep(t.Context(), body, []smtp.Copy{kept}); !errors.Is(err, smtp.ErrFull) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an error leaves nothing behind", func(t *testing.T) {
		store := &memory{failing: func(call, _, _ string) error {
			if call == "add" {
				return errStore // after it took effect
			}
			return nil
		}}
		s := &Spool{Store: store, Enabled: true, Node: "n1", Now: clock}
		err := s.Keep(t.Context(), body, []smtp.Copy{kept})
		s.Pay(t.Context())
		if !errors.Is(err, errStore) || len(store.ids()) != 0 {
			t.Errorf("got %v, %v", err, store.ids())
		}
	})
}

func TestSettle(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		change func(*smtp.Copy)
		o      smtp.Outcome
		ids    []string // what waits afterwards
	}{
		{"sent", nil, sent, nil},
		{"blocked", nil, blocked, []string{"c1b"}},
		{"blocked, null sender", func(c *smtp.Copy) { c.Message.From = "" }, blocked, nil},
		{"blocked, NOTIFY=NEVER", func(c *smtp.Copy) { c.Message.To[0].Notify = []string{"NEVER"} }, blocked, nil},
		{"deferred", nil, deferred, []string{"c1"}},
		{"in doubt", nil, inDoubt, []string{"c1"}},
		{"failed", nil, failed, []string{"c1b"}},
		{"failed, null sender", func(c *smtp.Copy) { c.Message.From = "" }, failed, nil},
		{"failed, NOTIFY=NEVER", func(c *smtp.Copy) { c.Message.To[0].Notify = []string{"NEVER"} }, failed, nil},
		{"failed, NOTIFY=DELAY", func(c *smtp.Copy) { c.Message.To[0].Notify = []string{"DELAY"} }, failed, nil},
		{"failed, NOTIFY=FAILURE", func(c *smtp.Copy) { c.Message.To[0].Notify = []string{"DELAY", "FAILURE"} }, failed, []string{"c1b"}},
		{"gave up", func(c *smtp.Copy) { c.Accepted = now.Add(-48 * time.Hour) }, deferred, []string{"c1b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := &memory{}
			var events []string
			s := &Spool{
				Store: store, Enabled: true, Node: "n1", Now: func() time.Time { return now },
				Bouncer: &Bouncer{Upstream: "esp", Hostname: "gw.test"},
				Report: func(_ context.Context, c smtp.Copy, o smtp.Outcome, event string) {
					events = append(events, fmt.Sprint(c.ID, c.Attempts, event))
				},
			}
			c := letter("c1")
			c.Accepted, c.Due = now, now.Add(time.Minute)
			if tt.change != nil {
				tt.change(&c)
			}
			if err := s.Keep(t.Context(), body, []smtp.Copy{c}); err != nil {
				t.Fatal(err)
			}
			if err := s.Settle(t.Context(), c, tt.o); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(store.ids(), tt.ids) {
				t.Errorf("waiting %v, want %v", store.ids(), tt.ids)
			}
			event := tt.o.Fate.String()
			if tt.name == "gave up" {
				event = GaveUp
			}
			if want := "c11" + event; !slices.Equal(events, []string{want}) {
				t.Errorf("reported %v, want %v", events, want)
			}
			if item, ok := store.get("c1"); ok {
				c, err := decode(item)
				if err != nil || c.Attempts != 1 || c.Last != tt.o.Reply.String() || !item.Lease.IsZero() || !item.Due.After(now) {
					t.Errorf("got %+v, %v", c, err)
				}
			}
		})
	}
	t.Run("done says nothing", func(t *testing.T) {
		store := &memory{}
		s := &Spool{Store: store, Enabled: true, Node: "n1", Report: func(context.Context, smtp.Copy, smtp.Outcome, string) { t.Error("reported") }}
		if err := s.Keep(t.Context(), body, []smtp.Copy{letter("c1")}); err != nil {
			t.Fatal(err)
		}
		if err := s.Done(t.Context(), "c1"); err != nil || len(store.ids()) != 0 {
			t.Error(err, store.ids())
		}
	})
}

// What an earlier version kept must be read by every later one: what stands here never changes.
func TestMetaOfEarlierVersions(t *testing.T) {
	const meta = `{"ID":"c1","Message":{"ID":"t1","Account":"crm","From":"a@acme.test","UTF8":false,"Body":"8BITMIME","Size":9,"Return":"HDRS","EnvID":"e","Peer":"127.0.0.1","Helo":"h","TLS":true,"Auth":true,"To":[{"Address":"b@x.test","Notify":["FAILURE"],"ORcpt":"rfc822;b@x.test"}],"Data":null},"Upstream":"esp","Note":"e30=","Accepted":"2026-03-01T12:00:00Z","Attempts":2,"Due":"2026-03-01T12:05:00Z","Last":"451 later"}`
	c, err := decode(Item{ID: "c1", Meta: []byte(meta), Body: body})
	if err != nil {
		t.Fatal(err)
	}
	if c.Attempts != 2 || string(c.Note) != "{}" || c.Message.Account != "crm" || c.Message.To[0].ORcpt != "rfc822;b@x.test" || string(c.Message.Data) != string(body) {
		t.Errorf("got %+v", c)
	}
	c.Due = time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	again, err := encode(c)
	if err != nil {
		t.Fatal(err)
	}
	c2, err := decode(Item{ID: "c1", Due: c.Due, Meta: again, Body: body})
	if err != nil || !reflect.DeepEqual(c, c2) {
		t.Errorf("got %+v, %v", c2, err)
	}
	for _, bad := range []string{"", "{", `{"ID":1}`, `{}`} {
		if _, err := decode(Item{ID: "c1", Meta: []byte(bad)}); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
