package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"heed/policy"
	"heed/smtp"
)

// scripted is an upstream that gives one answer and counts who asked.
type scripted struct {
	reply smtp.Reply
	err   error
	asked *[]string
	name  string
}

func (s scripted) Send(context.Context, smtp.Message) (smtp.Reply, error) {
	*s.asked = append(*s.asked, s.name)
	return s.reply, s.err
}

// An account's upstreams are asked in order; only one that cannot have the message is passed over.
type readyOrNot bool

func (r readyOrNot) Ready() bool { return bool(r) }

func (readyOrNot) Send(context.Context, smtp.Message) (smtp.Reply, error) { return accepted, nil }

// TestAttemptAtDeadUpstreams: nothing is decided and nothing recorded for what cannot be tried.
func TestAttemptAtDeadUpstreams(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.answer = answers(later, nil)
	w.submit("crm", "", "a@firma.example")
	recorded := len(w.entries)
	w.Upstreams = map[string]smtp.Sender{"esp": readyOrNot(false)}
	for _, c := range w.kept {
		if o := w.Attempt(t.Context(), c); o.Fate != smtp.Deferred || !o.Untried || len(w.entries) != recorded {
			t.Errorf("%+v, %d entries more", o, len(w.entries)-recorded)
		}
	}
	if len(w.kept) != 1 {
		t.Errorf("%d kept", len(w.kept))
	}
}

// TestReady: the mail of an account goes where one of its upstreams is there.
func TestReady(t *testing.T) {
	w := newWorld(t)
	w.Upstreams = map[string]smtp.Sender{"up": readyOrNot(true), "down": readyOrNot(false), "first": readyOrNot(false), "asks nobody": scripted{}}
	w.book.Load().Accounts["crm"].Upstreams = []string{"first", "down", "up"}
	for name, want := range map[string]bool{"up": true, "down": false, "first": true, "asks nobody": true} {
		if got := w.Ready(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestSeveralUpstreams(t *testing.T) {
	none := errors.New("connection refused")
	doubt := fmt.Errorf("%w: EOF", smtp.ErrInDoubt)
	reply := func(code, class int) smtp.Reply {
		return smtp.Reply{Code: code, Enhanced: [3]int{class, 1, 1}, Text: "so"}
	}
	for _, tt := range []struct {
		name          string
		first, second scripted
		asked         []string
		want          string // the client's reply
		fate, from    string // the journal's outcome
	}{
		{"the first takes it", scripted{reply: accepted}, scripted{reply: accepted}, []string{"one"}, "250 2.0.0 Ok: queued as 1A2B", "sent", "one"},
		{"the first gives no answer", scripted{err: none}, scripted{reply: accepted}, []string{"one", "two"}, "250 2.0.0 Ok: queued as 1A2B", "sent", "two"},
		{"the second refuses it", scripted{err: none}, scripted{reply: reply(550, 5)}, []string{"one", "two"}, "550 5.1.1 so", "failed", "two"},
		{"the first is busy", scripted{err: smtp.ErrBusy}, scripted{reply: accepted}, []string{"one"}, "250 2.0.0 queued as ID (one: 451 4.4.5 no turn at the upstream in time)", "deferred", "one"},
		{"neither gives an answer", scripted{err: none}, scripted{err: none}, []string{"one", "two"}, "250 2.0.0 queued as ID (two: 451 4.4.1 no answer from the upstream)", "deferred", "two"},
		{"the first refuses the message", scripted{reply: reply(550, 5)}, scripted{reply: accepted}, []string{"one"}, "550 5.1.1 so", "failed", "one"},
		{"the first puts the message off", scripted{reply: reply(451, 4)}, scripted{reply: accepted}, []string{"one"}, "250 2.0.0 queued as ID (one: 451 4.1.1 so)", "deferred", "one"},
		{"the first may have it", scripted{err: doubt}, scripted{reply: accepted}, []string{"one"}, "250 2.0.0 queued as ID (one: 451 4.4.2 the upstream's answer was lost: the message may have been delivered)", "in doubt", "one"},
		{"the second may have it", scripted{err: none}, scripted{err: doubt}, []string{"one", "two"}, "250 2.0.0 queued as ID (two: 451 4.4.2 the upstream's answer was lost: the message may have been delivered)", "in doubt", "two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.consent("a@firma.example")
			var asked []string
			for name, s := range map[string]scripted{"one": tt.first, "two": tt.second} {
				s.name, s.asked = name, &asked
				w.Upstreams[name] = s
			}
			w.book.Load().Accounts["crm"].Upstreams = []string{"one", "two"}
			_, got := w.submit("crm", "", "a@firma.example")
			want := tt.want
			for id := range w.kept {
				want = strings.Replace(want, "queued as ID", "queued as "+id, 1)
			}
			if got.String() != want {
				t.Errorf("reply\n got %s\nwant %s", got, want)
			}
			if !slices.Equal(asked, tt.asked) {
				t.Errorf("asked %v, want %v", asked, tt.asked)
			}
			last := w.entries[len(w.entries)-1]
			if last.Event != policy.EventOutcome || last.Fate != tt.fate || last.Upstream != tt.from {
				t.Errorf("journal: %s %q by %q, want %q by %q", last.Event, last.Fate, last.Upstream, tt.fate, tt.from)
			}
		})
	}
}
