package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"heed/policy"
	"heed/smtp"
	"heed/smtp/smtptest"
)

// stuck is an upstream that answers nobody until it is withdrawn or let go.
type stuck struct {
	began chan struct{}
	cause chan error
	let   chan struct{}
}

func newStuck() *stuck {
	return &stuck{began: make(chan struct{}, 100), cause: make(chan error, 100), let: make(chan struct{})}
}

func (s *stuck) Send(ctx context.Context, _ smtp.Message) (smtp.Reply, error) {
	s.began <- struct{}{}
	select {
	case <-ctx.Done():
		s.cause <- context.Cause(ctx)
		return smtp.Reply{}, ctx.Err()
	case <-s.let:
		return accepted, nil
	}
}

// A client that is told to come again brings the message a second time: ours must not go out as well if it can be
// stopped.
func TestUnkeptIsWithdrawn(t *testing.T) {
	w := newWorld(t)
	w.Budget = time.Millisecond
	w.consent("a@firma.example")
	up := newStuck()
	w.Upstreams["esp"] = up
	w.keepErr = smtp.ErrFull
	if _, reply := w.submit("crm", "", "a@firma.example"); !reply.Temporary() {
		t.Fatal(reply)
	}
	if cause := <-up.cause; !errors.Is(cause, smtp.ErrWithdrawn) {
		t.Errorf("ended by %v", cause)
	}
	close(up.let)
}

// lateUpstream is one whose message is on its way when it is withdrawn.
type lateUpstream struct {
	withdrawn chan struct{}
	answer    chan smtp.Outcome
}

func (l lateUpstream) Send(ctx context.Context, _ smtp.Message) (smtp.Reply, error) {
	<-ctx.Done()
	close(l.withdrawn)
	o := <-l.answer
	if o.Fate == smtp.InDoubt {
		return smtp.Reply{}, smtp.ErrInDoubt
	}
	return o.Reply, nil
}

// Where there is no room and the message cannot be stopped any more, the client hears the upstream, however late: told
// to come again it would send a second copy.
func TestUnkeptAndOnItsWay(t *testing.T) {
	later := smtp.Reply{Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "later"}
	gone := smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "gone"}
	for _, tt := range []struct {
		name    string
		keepErr error
		o       smtp.Outcome
		want    string
	}{
		{"taken after all", smtp.ErrFull, smtp.Outcome{Fate: smtp.Sent, Reply: accepted}, accepted.String()},
		{"taken after all, and the state is away", errors.New("away"), smtp.Outcome{Fate: smtp.Sent, Reply: accepted}, accepted.String()},
		{"refused after all", smtp.ErrFull, smtp.Outcome{Fate: smtp.Failed, Reply: gone}, gone.String()},
		{"put off: the upstream's words", smtp.ErrFull, smtp.Outcome{Fate: smtp.Deferred, Reply: later}, later.String()},
		{"in doubt", smtp.ErrFull, smtp.Outcome{Fate: smtp.InDoubt}, smtp.SpoolFull.String()},
		{"the door does not wait any more", smtp.ErrFull, smtp.Outcome{}, smtp.SpoolFull.String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.Budget, w.keepErr = time.Millisecond, tt.keepErr
			up := lateUpstream{make(chan struct{}), make(chan smtp.Outcome)}
			w.Upstreams["esp"] = up
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			go func() {
				<-up.withdrawn
				if tt.o == (smtp.Outcome{}) {
					hangUp()
					return
				}
				up.answer <- tt.o
			}()
			reply := w.Message(ctx, smtp.Message{
				Envelope: smtp.Envelope{ID: smtp.NewID(), Account: "shop", From: "bounce@acme.example"},
				To:       []smtp.Recipient{{Address: "a@firma.example"}}, Data: []byte(fmt.Sprintf(plainMail, "")),
			})
			if reply.String() != tt.want {
				t.Errorf("got  %s\nwant %s", reply, tt.want)
			}
			if tt.o == (smtp.Outcome{}) {
				up.answer <- smtp.Outcome{Reply: accepted}
			}
		})
	}
}

// What outlasts its client is in memory beside what the door counts: beyond a bound it waits in the spool instead.
func TestLateMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	w.Budget = time.Millisecond
	up := newStuck()
	w.Upstreams["esp"] = up
	body := "\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 100)
	w.lateMax = int64(5 * len(body)) // two messages, each with its copy
	for _, to := range []string{"a", "b", "c", "d", "e"} {
		w.consent(to + "@firma.example")
		if _, reply := w.submit("crm", body, to+"@firma.example"); !reply.Positive() {
			t.Fatal(reply)
		}
	}
	if cause := <-up.cause; !errors.Is(cause, smtp.ErrWithdrawn) {
		t.Errorf("ended by %v", cause)
	}
	close(up.let)
	if err := w.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, o := range w.settled {
		if o.Fate == smtp.Sent {
			sent++
		}
	}
	if len(w.kept) != 5 || len(w.settled) != 5 || sent == 0 || sent == 5 {
		t.Errorf("%d kept, %d settled, %d sent", len(w.kept), len(w.settled), sent)
	}
	w.Upstreams["esp"], w.Budget = w, time.Minute
	if _, reply := w.submit("crm", body, "a@firma.example"); reply != accepted { // the room is there again
		t.Error(reply)
	}
}

func TestLateMemoryOfSeveralIsBounded(t *testing.T) {
	w := newWorld(t)
	w.Budget, w.lateMax = time.Millisecond, 1
	w.consent("a@firma.example")
	w.consent("b@firma.example")
	up := newStuck()
	w.Upstreams["esp"] = up
	if _, reply := w.submit("crm", "", "a@firma.example", "b@firma.example"); !strings.HasPrefix(reply.Text, "queued as ") {
		t.Fatal(reply)
	}
	if err := w.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, o := range w.settled {
		if o.Fate != smtp.Deferred {
			t.Errorf("%+v", o)
		}
	}
	if len(w.settled) != 2 || w.lateHeld.Load() != 0 {
		t.Errorf("%d settled, %d bytes held", len(w.settled), w.lateHeld.Load())
	}
}

// An attempt that was withdrawn has an outcome too, and it is journaled.
// TestNoTurnInTime: a message that waits for its turn at the upstream is not sent on the decision of a moment long
// past: its recipient may have opted out since.
func TestNoTurnInTime(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{"a@firma.example", "b@firma.example"} {
		w.consent(to)
	}
	w.Budget = 300 * time.Millisecond
	esp := smtptest.New(t, smtptest.Script{})
	up, err := smtp.NewUpstream(smtp.UpstreamConfig{Name: "esp", Address: esp.Addr(), Hostname: "gw.test", Security: smtp.Plain, Rate: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	w.Upstreams = map[string]smtp.Sender{"esp": up}
	w.submit("crm", "", "a@firma.example")
	_, r := w.submit("crm", "", "b@firma.example") // the next may go in a hundred seconds
	if !strings.HasPrefix(r.Text, "queued as ") || !strings.Contains(r.Text, "451 4.4.5 no turn at the upstream in time") {
		t.Error(r)
	}
	if err := w.Drain(t.Context()); err != nil || len(esp.Messages()) != 1 {
		t.Errorf("%v, %d messages arrived", err, len(esp.Messages()))
	}
	for _, c := range w.kept {
		if o := w.settled[c.ID]; o.Fate != smtp.Deferred || !o.Untried {
			t.Errorf("settled as %+v", o)
		}
		if o := w.Attempt(t.Context(), c); o.Fate != smtp.Deferred || !o.Untried || len(esp.Messages()) != 1 {
			t.Errorf("the next attempt: %+v", o)
		}
	}
}

func TestOutcomeOfWithdrawnAttempt(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
	w.submit("crm", "", "a@firma.example")
	var c smtp.Copy
	for _, c = range w.kept {
	}
	ctx, withdraw := context.WithCancelCause(context.Background())
	w.answer = func(smtp.Message) (smtp.Reply, error) { withdraw(smtp.ErrWithdrawn); return accepted, nil }
	w.Journal = needsContext{w}
	if o := w.Attempt(ctx, c); o.Fate != smtp.Sent {
		t.Fatalf("%+v", o)
	}
	if last := w.entries[len(w.entries)-1]; last.Event != "outcome" || last.Fate != "sent" {
		t.Errorf("the journal ends with %s %s", last.Event, last.Fate)
	}
}

// needsContext is a journal as the stores are: an ended context writes nothing.
type needsContext struct{ Journal }

func (j needsContext) Record(ctx context.Context, e []policy.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return j.Journal.Record(ctx, e)
}

// What a message says of itself is kept once for each recipient: its length is bounded.
func TestSayingsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.consent("b@firma.example")
	long := strings.Repeat("x\r\n ", 10_000) + "x"
	for _, field := range []string{"Heed-Product", "Heed-Language", "Heed-Topic", "Heed-Country"} {
		if _, reply := w.submit("crm", field+": "+long+"\r\n", "a@firma.example"); reply.Code != 550 || len(reply.Text) > 200 {
			t.Errorf("%s: %.300s", field, reply)
		}
	}
	raw := "From: a@" + strings.Repeat("x.", 10_000) + "acme.example\r\nMessage-ID: <" + long + "@acme.example>\r\n\r\nHello\r\n"
	if _, reply := w.submitRaw("crm", raw, "a@firma.example", "b@firma.example"); reply.Code != 550 {
		t.Error(reply)
	}
	for _, e := range w.entries {
		if text, err := json.Marshal(e); err != nil || len(text) > 8<<10 {
			t.Errorf("a journal entry has %d bytes, %v", len(text), err)
		}
	}
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
	w.submitRaw("shop", strings.Replace(raw, strings.Repeat("x.", 10_000), "", 1), "a@firma.example")
	for _, c := range w.kept {
		if len(c.Note) > 2<<10 {
			t.Errorf("a note has %d bytes", len(c.Note))
		}
	}
	if len(w.kept) != 1 {
		t.Errorf("%d kept", len(w.kept))
	}
}

// What is sent runs on goroutines of its own, where a panic would end the process and every other transaction.
func TestPanicWhileSendingCostsOneMessage(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.consent("b@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { panic("a@firma.example") }
	for _, to := range [][]string{{"a@firma.example"}, {"a@firma.example", "b@firma.example"}} {
		clear(w.settled)
		if _, reply := w.submit("crm", "", to...); !reply.Positive() || len(w.settled) != len(to) {
			t.Errorf("%s, %d settled", reply, len(w.settled))
		}
		for _, o := range w.settled { // nobody knows how far it came
			if o.Fate != smtp.InDoubt {
				t.Errorf("%+v", o)
			}
		}
	}
}

// Copies of a big message for many take long: a shutdown need not wait for those that are still to be made.
func TestMakingCopiesEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.consent("b@firma.example")
	ctx, cancel := context.WithCancel(context.Background())
	w.Links = cancelling{w, cancel}
	m := smtp.Message{
		Envelope: smtp.Envelope{ID: smtp.NewID(), Account: "crm", From: "bounce@acme.example"},
		To:       []smtp.Recipient{{Address: "a@firma.example"}, {Address: "b@firma.example"}}, Data: []byte(fmt.Sprintf(plainMail, "")),
	}
	if reply := w.Message(ctx, m); reply.Code != 451 || len(w.kept) != 0 || len(w.sent) != 0 || len(w.entries) != 0 {
		t.Errorf("%s; %d kept, %d sent, %d journaled", reply, len(w.kept), len(w.sent), len(w.entries))
	}
}

// cancelling ends the call's context while its first copy is made.
type cancelling struct {
	Links
	cancel func()
}

func (c cancelling) Link(person, sender, topic string, scope policy.Scope, message string) (string, error) {
	c.cancel()
	return c.Links.Link(person, sender, topic, scope, message)
}
