package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"heed/policy"
	"heed/smtp"
)

// marks is a guard in memory, as storetest has it.
type marks struct {
	w        *world
	mu       sync.Mutex
	of       map[string]mark
	fail     error // of every call
	endFails int   // how many calls of GuardEnd fail
	calls    []string
}

type mark struct {
	until  time.Time
	token  string
	answer []byte
}

func (g *marks) breaks(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = err
}

func (g *marks) call(name string) error {
	g.calls = append(g.calls, name)
	if name == "end" && g.endFails > 0 {
		g.endFails--
		return errors.New("secret: down for a moment")
	}
	return g.fail
}

func (g *marks) GuardBegin(ctx context.Context, token string, take, look []string, now, until time.Time, entries []policy.Entry) (map[string][]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.call("begin"); err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	for i, key := range slices.Concat(take, look) {
		if m, ok := g.of[key]; ok && m.until.After(now) && (len(m.answer) > 0 || m.token != token) {
			found[key] = m.answer
		} else if i < len(take) {
			g.of[key] = mark{until, token, nil}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return found, g.w.Record(ctx, entries)
}

func (g *marks) GuardRenew(_ context.Context, token string, keys []string, _, until time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.call("renew"); err != nil {
		return err
	}
	for _, key := range keys {
		if m, ok := g.of[key]; ok && m.token == token && len(m.answer) == 0 {
			g.of[key] = mark{until, token, nil}
		}
	}
	return nil
}

func (g *marks) GuardEnd(ctx context.Context, token string, answers map[string][]byte, now, until time.Time, entries []policy.Entry) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.call("end"); err != nil {
		return err
	}
	for key, answer := range answers {
		m, ok := g.of[key]
		switch {
		case len(answer) == 0 && ok && m.token == token && len(m.answer) == 0:
			delete(g.of, key)
		case len(answer) > 0 && !(ok && m.until.After(now) && len(m.answer) > 0):
			g.of[key] = mark{until, token, answer}
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return g.w.Record(ctx, entries)
}

// guarded is a world with a guard and two persons who may be written to.
func guarded(t testing.TB) (*world, *marks) {
	w := newWorld(t)
	g := &marks{w: w, of: map[string]mark{}}
	w.Guard, w.Remember = g, 24*time.Hour
	for _, to := range []string{"a", "b", "c"} {
		w.consent(to + "@firma.example")
	}
	return w, g
}

// ticks lets w.now pass with a test's own time.
func (w *world) ticks() {
	began := time.Now()
	w.Relay.Now = func() time.Time { return w.now.Add(time.Since(began)) }
}

func answers(r smtp.Reply, err error) func(smtp.Message) (smtp.Reply, error) {
	return func(smtp.Message) (smtp.Reply, error) { return r, err }
}

var (
	later  = smtp.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "later"}
	nobody = smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}
)

// TestRetry: what the client hears of a message that it submits again, and how many copies left for the upstream.
func TestRetry(t *testing.T) {
	down := answers(smtp.Reply{}, errors.New("connection refused"))
	for _, tt := range []struct {
		name   string
		first  func(smtp.Message) (smtp.Reply, error)
		change func(w *world) // between the two
		same   bool           // the retry hears the first's answer
		want   string         // else this
		sent   int
	}{
		{"accepted", answers(accepted, nil), nil, true, "", 1},
		{"accepted, opted out since", answers(accepted, nil), func(w *world) {
			w.optOut("a@firma.example", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news"})
		}, true, "", 1},
		{"accepted in words that name the recipient", answers(smtp.Reply{Code: 250, Text: "ok A@Firma.example\nthank you"}, nil), nil, false, "250 ok ...; thank you", 1},
		{"accepted, long ago", answers(accepted, nil), func(w *world) { w.now = w.now.Add(24 * time.Hour) }, false, "250 2.0.0 Ok", 2},
		{"put off: queued", answers(later, nil), nil, true, "", 1},
		{"no answer: queued", down, nil, true, "", 1},
		{"in doubt: queued", answers(smtp.Reply{}, smtp.ErrInDoubt), nil, true, "", 1},
		{"refused for good", answers(nobody, nil), nil, false, "250 2.0.0 Ok", 2},
		{"put off and not kept", answers(later, nil), func(w *world) { w.keepErr = nil }, false, "250 2.0.0 Ok", 2},
		{"in doubt and not kept", answers(smtp.Reply{}, smtp.ErrInDoubt), func(w *world) { w.keepErr = nil }, false, "451 4.3.0 this message is on its way", 1},
		{"in doubt and not kept, the upstream's time has passed", answers(smtp.Reply{}, smtp.ErrInDoubt), func(w *world) { w.keepErr, w.now = nil, w.now.Add(doubt) }, false, "250 2.0.0 Ok", 2},
		{"our own fault", answers(accepted, nil), func(w *world) { w.mu.Lock(); defer w.mu.Unlock(); w.journalErr = nil }, false, "250 2.0.0 Ok", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, _ := guarded(t)
			w.answer = tt.first
			switch {
			case strings.Contains(tt.name, "not kept"):
				w.keepErr = smtp.ErrFull
			case tt.name == "our own fault":
				w.journalErr = errors.New("secret")
			}
			topic := "Heed-Topic: news\r\nHeed-Product: crm\r\n"
			_, first := w.submit("open", topic, "a@firma.example")
			if tt.change != nil {
				tt.change(w)
			}
			w.answer = answers(accepted, nil)
			if tt.name == "our own fault" {
				eventuallyFree(t, w)
			}
			_, second := w.submit("open", topic, "a@firma.example")
			if tt.same && second != first || !strings.HasPrefix(second.String(), tt.want) {
				t.Errorf("first %s, then %s", first, second)
			}
			if len(w.sent) != tt.sent {
				t.Errorf("%d copies left", len(w.sent))
			}
			if last := w.entries[len(w.entries)-1]; tt.same && (last.Event != policy.EventOutcome || last.Fate != "repeated" || last.Decision != w.entries[0].ID || w.codes()[0] != "data allow " || len(w.codes()) != 1) {
				t.Errorf("journaled %+v", last)
			}
		})
	}
}

// eventuallyFree waits until marks of a failed call are given up, beside the reply.
func eventuallyFree(t *testing.T, w *world) {
	g := w.Guard.(*marks)
	for range 1000 {
		g.mu.Lock()
		n := len(g.of)
		g.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("a mark stays")
}

// TestNoRetry: what is no retry, though it looks like one.
func TestNoRetry(t *testing.T) {
	plain := fmt.Sprintf(plainMail, "")
	for _, tt := range []struct {
		name, account, raw, to string
		again                  bool
	}{
		{"the same", "crm", plain, "a@firma.example", true},
		{"a local server's Received", "crm", "Received: from x by y; now\r\n" + plain, "A@Firma.example", true},
		{"folded", "crm", strings.Replace(plain, "Message-ID: <", "Message-ID:\r\n  <", 1), "a@firma.example", true},
		{"another body", "crm", strings.Replace(plain, "Hello", "Hallo", 1), "a@firma.example", false},
		{"another Message-ID", "crm", strings.Replace(plain, "m1@", "m2@", 1), "a@firma.example", false},
		{"another account", "look", plain, "a@firma.example", false},
		{"another recipient", "crm", plain, "b@firma.example", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, _ := guarded(t)
			w.submitRaw("crm", plain, "a@firma.example")
			_, reply := w.submitRaw(tt.account, tt.raw, tt.to)
			if want := map[bool]int{true: 1, false: 2}[tt.again]; len(w.sent) != want || reply != accepted {
				t.Errorf("%s; %d copies left, want %d", reply, len(w.sent), want)
			}
		})
	}
	for _, id := range []string{"", "Message-ID:\r\n", "Message-ID: \t\r\n"} {
		w, g := guarded(t)
		raw := strings.Replace(plain, "Message-ID: <m1@acme.example>\r\n", id, 1)
		w.submitRaw("crm", raw, "a@firma.example")
		if w.submitRaw("crm", raw, "a@firma.example"); len(w.sent) != 2 || len(g.calls) != 0 {
			t.Errorf("%q: %d copies left, the guard was called %v", id, len(w.sent), g.calls)
		}
	}
}

// TestRetryOfTransactionalMail: the guard is no rule of marketing.
func TestRetryOfTransactionalMail(t *testing.T) {
	w, _ := guarded(t)
	for range 2 {
		if _, reply := w.submit("shop", "", "a@firma.example"); reply != accepted || len(w.sent) != 1 {
			t.Errorf("%s, %d copies left", reply, len(w.sent))
		}
	}
}

func TestRetryWhileOnItsWay(t *testing.T) {
	w, g := guarded(t)
	began, let := make(chan struct{}), make(chan struct{})
	w.answer = func(smtp.Message) (smtp.Reply, error) { began <- struct{}{}; <-let; return accepted, nil }
	first := make(chan smtp.Reply)
	go func() { _, r := w.submit("crm", "", "a@firma.example"); first <- r }()
	<-began
	if _, r := w.submit("crm", "", "a@firma.example"); !strings.HasPrefix(r.String(), "451 4.3.0 this message is on its way") {
		t.Error(r)
	}
	w.answer = answers(accepted, nil)
	if _, r := w.submit("crm", "", "a@firma.example", "b@firma.example"); r.Code != 451 || len(w.sent) != 1 {
		t.Errorf("to another as well: %s, %d copies left", r, len(w.sent))
	}
	if _, r := w.submit("crm", "", "b@firma.example"); r != accepted {
		t.Errorf("the other alone: %s", r)
	}
	close(let)
	if r := <-first; r != accepted {
		t.Error(r)
	}
	if _, r := w.submit("crm", "", "a@firma.example"); r != accepted || len(w.sent) != 2 {
		t.Errorf("%s, %d copies left", r, len(w.sent))
	}
	if n := strings.Count(strings.Join(g.calls, " "), "begin"); n != 5 {
		t.Errorf("calls: %v", g.calls)
	}
}

// TestRetryOfSeveral: each recipient is answered for by itself.
func TestRetryOfSeveral(t *testing.T) {
	to := []string{"a@firma.example", "b@firma.example", "c@firma.example"}
	only := func(who string, r smtp.Reply, err error) func(smtp.Message) (smtp.Reply, error) {
		return func(m smtp.Message) (smtp.Reply, error) {
			if m.To[0].Address == who {
				return r, err
			}
			return accepted, nil
		}
	}
	optOutB := func(w *world) {
		w.optOut("b@firma.example", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news"})
	}
	for _, tt := range []struct {
		name          string
		first, second func(smtp.Message) (smtp.Reply, error)
		change        func(w *world)
		same          bool
		want          string
		sent, bounced int
	}{
		{"all sent", answers(accepted, nil), answers(nobody, nil), nil, true, "", 3, 0},
		{"all queued", answers(later, nil), answers(nobody, nil), nil, true, "", 3, 0},
		{"one queued", only("b@firma.example", later, nil), answers(nobody, nil), optOutB, true, "", 3, 0},
		{"one failed: it is tried again", only("b@firma.example", nobody, nil), answers(accepted, nil), nil, false, "250 2.0.0 Ok: queued as 1A2B", 4, 1},
		{"one failed and is blocked since: the others stand", only("b@firma.example", nobody, nil), answers(accepted, nil), optOutB, false, "250 2.0.0 ID: 2 sent, 1 blocked", 3, 2},
		{"all failed", answers(nobody, nil), answers(accepted, nil), nil, false, "250 2.0.0 Ok: queued as 1A2B", 6, 0},
		{"the spool was full", answers(accepted, nil), answers(accepted, nil), func(w *world) { w.keepErr = nil }, false, "250 2.0.0 Ok: queued as 1A2B", 3, 0},
	} {
		for _, account := range []string{"open", "firm"} {
			t.Run(tt.name+", "+account, func(t *testing.T) {
				w, _ := guarded(t)
				w.book.Load().Accounts["firm"].Topic, w.book.Load().Accounts["firm"].Product = "", ""
				if tt.name == "the spool was full" {
					w.keepErr = smtp.ErrFull
				}
				w.answer = tt.first
				topic := "Heed-Topic: news\r\nHeed-Product: crm\r\n"
				_, first := w.submit(account, topic, to...)
				if tt.change != nil {
					tt.change(w)
				}
				w.answer = tt.second
				_, second := w.submit(account, topic, to...)
				got := strings.ReplaceAll(second.String(), w.entries[len(w.entries)-1].Message, "ID")
				if tt.same && second != first || !strings.HasPrefix(got, tt.want) {
					t.Errorf("first %s, then %s", first, second)
				}
				if len(w.sent) != tt.sent || len(w.bounced) != tt.bounced {
					t.Errorf("%d copies left, %d bounced, want %d, %d", len(w.sent), len(w.bounced), tt.sent, tt.bounced)
				}
			})
		}
	}
}

// TestRejectedWholeIsForgotten: on_partial: reject sends nobody's copy, and remembers nobody.
func TestRejectedWholeIsForgotten(t *testing.T) {
	w, g := guarded(t)
	if _, r := w.submit("firm", "", "a@firma.example", "stranger@firma.example"); !r.Permanent() || len(g.of) != 0 {
		t.Fatalf("%s, %d marks", r, len(g.of))
	}
	if _, r := w.submit("firm", "", "a@firma.example"); r != accepted {
		t.Error(r)
	}
}

// TestGuardDown: without the guard nothing is sent; once it was sent, nothing fails.
func TestGuardDown(t *testing.T) {
	w, g := guarded(t)
	g.breaks(errors.New("secret"))
	if _, r := w.submit("crm", "", "a@firma.example"); r.Code != 451 || strings.Contains(r.Text, "secret") || len(w.sent) != 0 {
		t.Fatalf("%s, %d copies left", r, len(w.sent))
	}
	g.breaks(nil)
	w.answer = func(smtp.Message) (smtp.Reply, error) { g.breaks(errors.New("secret")); return accepted, nil }
	if _, r := w.submit("crm", "", "b@firma.example"); r != accepted {
		t.Error(r)
	}
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
	g.breaks(nil)
	g.mu.Lock() // the first submission's mark may be given up beside this
	g.endFails = 1
	g.mu.Unlock()
	if _, r := w.submit("crm", "", "c@firma.example"); !strings.Contains(r.Text, "queued") {
		t.Error(r)
	}
}

// TestGuardTakesTheAnswerLater: an answer that the state did not take keeps a second copy away until it does.
func TestGuardTakesTheAnswerLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := guarded(t)
		w.ticks()
		g.endFails = 20
		w.submit("crm", "", "a@firma.example")
		time.Sleep(30 * time.Second)
		if _, r := w.submit("crm", "", "a@firma.example"); r.Code != 451 {
			t.Error(r)
		}
		time.Sleep(30 * time.Second)
		if _, r := w.submit("crm", "", "a@firma.example"); r != accepted || len(w.sent) != 1 {
			t.Errorf("%s, %d copies left", r, len(w.sent))
		}
		calls := len(g.calls)
		if time.Sleep(time.Hour); len(g.calls) != calls {
			t.Errorf("nothing is held, and the guard is called: %v", g.calls[calls:])
		}
	})
}

// TestMarkLastsWhileOnItsWay: as long as the node lives, and not much longer.
func TestMarkLastsWhileOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := guarded(t)
		w.ticks()
		w.keepErr = smtp.ErrFull // so that nobody is answered while it is on its way
		let := make(chan struct{})
		w.answer = func(smtp.Message) (smtp.Reply, error) { <-let; return accepted, nil }
		first := make(chan smtp.Reply, 1)
		go func() {
			_, r := w.submit("crm", "", "a@firma.example")
			first <- r
		}()
		for range 8 {
			time.Sleep(time.Minute)
			if _, r := w.submit("crm", "", "a@firma.example"); r.Code != 451 {
				t.Error(r)
			}
		}
		g.mu.Lock()
		for _, m := range g.of {
			if left := m.until.Sub(w.Relay.Now()); left > guardLease {
				t.Errorf("a dead node's mark lasts %s", left)
			}
		}
		g.mu.Unlock()
		close(let)
		if r := <-first; r != accepted {
			t.Error(r)
		}
		if err := w.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, r := w.submit("crm", "", "a@firma.example"); r != accepted || len(w.sent) != 1 {
			t.Errorf("%s, %d copies left", r, len(w.sent))
		}
	})
}

// TestSlowMessageIsQueuedForItsRetry: the upstream's later answer does not change what the client was told.
func TestSlowMessageIsQueuedForItsRetry(t *testing.T) {
	for _, late := range []smtp.Reply{accepted, nobody} {
		for _, to := range [][]string{{"a@firma.example"}, {"a@firma.example", "b@firma.example"}} {
			w, _ := guarded(t)
			w.Budget = time.Millisecond
			let := make(chan struct{})
			w.answer = func(smtp.Message) (smtp.Reply, error) { <-let; return late, nil }
			_, first := w.submit("crm", "", to...)
			close(let)
			if err := w.Drain(context.Background()); err != nil {
				t.Fatal(err)
			}
			sent := len(w.sent)
			if _, r := w.submit("crm", "", to...); r != first || !strings.HasPrefix(r.Text, "queued as ") || len(w.sent) != sent {
				t.Errorf("first %s, then %s; %d copies left", first, r, len(w.sent))
			}
		}
	}
}

// TestCopyOfADeadNode: kept, and its client never told. Either the copy goes or the client's second try, never both.
func TestCopyOfADeadNode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		retry  func(smtp.Message) (smtp.Reply, error) // of the client before the copy is taken over; nil: after
		sent   int
		copyIs smtp.Fate
	}{
		{"the client comes first", answers(accepted, nil), 1, smtp.Repeated},
		{"the client comes first and is queued", answers(later, nil), 1, smtp.Repeated},
		{"the client comes first and is refused", answers(nobody, nil), 2, smtp.Sent},
		{"the client comes after", nil, 1, smtp.Sent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, g := guarded(t)
			w.answer = answers(later, nil)
			w.submit("crm", "", "a@firma.example")
			var c smtp.Copy
			for _, c = range w.kept {
			}
			clear(g.of) // as a crash before the mark's answer leaves it, once its lease has ended
			w.sent = nil
			if tt.retry != nil {
				w.answer = tt.retry
				w.submit("crm", "", "a@firma.example")
			}
			w.answer = answers(accepted, nil)
			if o := w.Attempt(context.Background(), c); o.Fate != tt.copyIs {
				t.Errorf("the copy: %+v", o)
			}
			if _, r := w.submit("crm", "", "a@firma.example"); !r.Positive() || len(w.sent) != tt.sent {
				t.Errorf("%s; %d copies left, want %d", r, len(w.sent), tt.sent)
			}
		})
	}
}

// TestCopySentByADeadNode: the upstream's answer was stored, and its node died before the copy was removed.
func TestCopySentByADeadNode(t *testing.T) {
	w, _ := guarded(t)
	w.submit("crm", "", "a@firma.example", "b@firma.example")
	if len(w.sent) != 2 || len(w.kept) != 2 {
		t.Fatalf("%d sent, %d kept", len(w.sent), len(w.kept))
	}
	for _, c := range w.kept {
		if o := w.Attempt(context.Background(), c); o.Fate != smtp.Repeated {
			t.Errorf("the copy: %+v", o)
		}
	}
	if len(w.sent) != 2 {
		t.Errorf("%d copies left", len(w.sent))
	}
}

// TestCopyOfADeadNodeWithoutTheGuard: what could not be made sure of is made sure of the next time.
func TestCopyOfADeadNodeWithoutTheGuard(t *testing.T) {
	w, g := guarded(t)
	w.answer = answers(later, nil)
	w.submit("crm", "", "a@firma.example")
	var c smtp.Copy
	for _, c = range w.kept {
	}
	clear(g.of)
	w.answer = answers(accepted, nil)
	w.submit("crm", "", "a@firma.example") // the client's second try, which is delivered
	g.breaks(errors.New("failover"))
	if o := w.Attempt(context.Background(), c); o.Fate != smtp.Deferred || !o.Untried {
		t.Errorf("without the guard: %+v", o)
	}
	g.breaks(nil)
	if o := w.Attempt(context.Background(), c); o.Fate != smtp.Repeated || len(w.sent) != 2 {
		t.Errorf("with the guard: %+v; %d copies left, want the two tries of the client", o, len(w.sent))
	}
}

// TestKeptCopyKeepsItsAnswer: later attempts ask and change nothing.
func TestKeptCopyKeepsItsAnswer(t *testing.T) {
	w, g := guarded(t)
	w.answer = answers(later, nil)
	_, first := w.submit("crm", "", "a@firma.example")
	var c smtp.Copy
	for _, c = range w.kept {
	}
	for _, w.answer = range []func(smtp.Message) (smtp.Reply, error){answers(later, nil), answers(nobody, nil)} {
		w.Attempt(context.Background(), c)
		c.Attempts++
	}
	if _, r := w.submit("crm", "", "a@firma.example"); r != first || len(w.sent) != 3 {
		t.Errorf("first %s, then %s; %d copies left", first, r, len(w.sent))
	}
	g.breaks(errors.New("secret"))
	c.Attempts = 0
	if o := w.Attempt(context.Background(), c); o.Fate != smtp.Deferred || len(w.sent) != 3 {
		t.Errorf("without the guard: %+v", o)
	}
}

// TestCheckLeavesTheGuardAlone: a preview is no submission.
func TestCheckLeavesTheGuardAlone(t *testing.T) {
	w, g := guarded(t)
	if _, err := w.Preview(t.Context(), policy.Inquiry{Account: "crm", Recipients: []string{"a@firma.example"}}, fmt.Appendf(nil, plainMail, "")); err != nil || len(g.calls) != 0 {
		t.Errorf("%v, the guard was called: %v", err, g.calls)
	}
}
