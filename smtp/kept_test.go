package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// A server that refuses RSET is not asked again and again: its first refusal is the answer.
func TestRefusedReset(t *testing.T) {
	for name, kept := range map[string]bool{"on a new connection": false, "on a kept one": true} {
		t.Run(name, func(t *testing.T) {
			mail := []string{"501 5.5.4 syntax"}
			if kept {
				mail = []string{"", "501 5.5.4 syntax"}
			}
			peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"MAIL": mail, "RSET": {"501 5.5.4 syntax"}}})
			u := upstreamTo(t, peer, nil)
			if kept {
				send(t, u, "b@x.test")
			}
			reply, err := u.Send(t.Context(), letter("b@x.test"))
			if err != nil || reply.Code != 501 || peer.Connections() > 2 {
				t.Errorf("%s, %v; %d connections", reply, err, peer.Connections())
			}
		})
	}
}

// Parameters are left out where they were what the server refused, and only there.
func TestParametersComeBack(t *testing.T) {
	const no = "504 5.5.2 need fully-qualified address"
	peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"RCPT": {no, no, ""}}})
	u := upstreamTo(t, peer, nil)
	m := letter("b@x")
	m.To[0].Notify = []string{"NEVER"}
	if reply, err := u.Send(t.Context(), m); err != nil || reply.Code != 504 {
		t.Fatal(reply, err)
	}
	m.To[0].Address = "b@x.test"
	if reply, err := u.Send(t.Context(), m); err != nil || !reply.Positive() {
		t.Fatal(reply, err)
	}
	if got := peer.Messages()[0]; len(got.To[0].Params) == 0 || len(got.Params) == 0 {
		t.Errorf("MAIL has %q, RCPT %q", got.Params, got.To[0].Params)
	}
}

// The second try, without parameters, is stopped as the first one is.
func TestWithdrawnBetweenTries(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var mails atomic.Int32
	peer := smtptest.New(t, smtptest.Script{
		Extensions: smtptest.Chunking(), Answers: map[string][]string{"MAIL": {"555 5.5.4 SIZE?", ""}},
		Before: func(step string) {
			if step == "MAIL" && mails.Add(1) == 1 {
				cancel(ErrWithdrawn)
			}
		},
	})
	reply, err := upstreamTo(t, peer, nil).Send(ctx, letter("b@x.test"))
	if err == nil || errors.Is(err, ErrInDoubt) || len(peer.Seen()) > 1 || len(peer.Messages()) != 0 {
		t.Errorf("%s, %v; %d messages", reply, err, len(peer.Messages()))
	}
}

// A spare connection that its server has given up is replaced, as one that carried messages is.
func TestStaleSpare(t *testing.T) {
	for _, answer := range []string{"421 4.4.2 idle for too long", smtptest.Close} {
		peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"MAIL": {answer, ""}}})
		u := upstreamTo(t, peer, nil)
		u.pool.mu.Lock()
		u.pool.start()
		u.pool.mu.Unlock()
		until(t, func() bool { return keeps(u) })
		send(t, u, "b@x.test")
	}
}

// One that is told to go does not take its like with it, where the server takes no more connections.
func TestOneOfSeveralIsParted(t *testing.T) {
	hold, at := make(chan struct{}), make(chan struct{})
	peer := smtptest.New(t, smtptest.Script{
		Answers: map[string][]string{"connect": {"", "", "421 4.7.0 too many connections"}, "MAIL": {"", "", "421 4.4.2 enough", ""}},
		Before: func(step string) {
			if step == "." {
				at <- struct{}{}
				<-hold
			}
		},
	})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 5 })
	u.pool.eager = false
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { send(t, u, "b@x.test") })
		<-at
	}
	close(hold)
	all.Wait()
	go func() { <-at }()
	send(t, u, "c@x.test")
}

// What we refuse ourselves is no use of a connection: it does not make an old one look fresh.
func TestUnspentConnection(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Extensions: append(smtptest.Chunking(), "SIZE 1000")})
	u := upstreamTo(t, peer, nil)
	var now atomic.Int64
	u.pool.now = func() time.Time { return time.Unix(1_800_000_000, now.Load()) }
	send(t, u, "b@x.test")
	now.Add(int64(time.Minute))
	big := letter("c@x.test")
	big.Data = append([]byte("Subject: x\r\n\r\n"), bytes.Repeat([]byte("0123456789\r\n"), 200)...)
	if reply, err := u.Send(t.Context(), big); err != nil || reply.Code != 552 {
		t.Fatal(reply, err)
	}
	before := len(peer.Commands())
	send(t, u, "d@x.test")
	if said := peer.Commands()[before:]; !slices.Contains(said, "DATA") {
		t.Errorf("one burst over a connection that was unused for a minute: %q", said)
	}
}

// A connection that says goodbye counts until it has gone, for the upstream counts it too.
func TestLeavingConnectionsCount(t *testing.T) {
	for _, limit := range []int{1, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			var mu sync.Mutex
			open, most := 0, 0
			peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
				if step == "QUIT" {
					time.Sleep(20 * time.Millisecond)
				}
				mu.Lock()
				defer mu.Unlock()
				switch step {
				case "connect":
					open++
					most = max(most, open)
				case "QUIT":
					open--
				}
			}})
			u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections, c.PerConnection = limit, 1 })
			var all sync.WaitGroup
			for range 2 * limit {
				all.Go(func() {
					for range 5 {
						send(t, u, "b@x.test")
					}
				})
			}
			all.Wait()
			mu.Lock()
			defer mu.Unlock()
			if most > limit {
				t.Errorf("%d connections at once, want %d", most, limit)
			}
		})
	}
}

// countDead opens the breaker, as attempts in vain do.
func (u *Upstream) countDead() {
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	for range 10 {
		u.pool.breaker.failed(u.pool.now(), errDown)
	}
}

// A login that the upstream takes shows that it is back.
func TestLoginAfterAnOutage(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
	p := upstreamTo(t, peer, nil).Passing()
	t.Cleanup(func() { p.Close() })
	stays, _, err := p.LogIn(t.Context(), "ann", "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Release()
	c := &clock{}
	stays.up.pool.mu.Lock()
	stays.up.pool.now = c.now
	stays.up.pool.dismiss()
	stays.up.pool.mu.Unlock()
	stays.up.countDead()
	c.advance(2 * time.Minute)
	l, reply, err := p.LogIn(t.Context(), "ann", "s3cret")
	if err != nil || !reply.Positive() {
		t.Fatal(reply, err)
	}
	defer l.Release()
	if reply, err := l.Send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
		t.Errorf("%s, %v", reply, err)
	}
}

// A connection to a dead upstream that came too late for its message is there for the next one.
func TestTrialThatCameTooLate(t *testing.T) {
	u, _, g, c := gated(t, nil)
	u.countDead()
	hold := make(chan struct{})
	g.hold.Store(&hold)
	c.advance(2 * time.Minute)
	m := letter("b@x.test")
	m.StartBy = time.Now().Add(20 * time.Millisecond)
	if reply, err := u.Send(t.Context(), m); err == nil {
		t.Fatal(reply)
	}
	close(hold)
	until(t, func() bool { return keeps(u) })
	send(t, u, "b@x.test")
}

// What was not begun by StartBy is not begun later, over another kept connection.
func TestPartedAfterStartBy(t *testing.T) {
	var mails atomic.Int32
	m := letter("b@x.test")
	m.StartBy = time.Now().Add(200 * time.Millisecond)
	peer := smtptest.New(t, smtptest.Script{
		Answers: map[string][]string{"MAIL": {"421 4.4.2 enough", ""}},
		Before: func(step string) {
			if step == "MAIL" && mails.Add(1) == 1 {
				time.Sleep(time.Until(m.StartBy) + 10*time.Millisecond)
			}
		},
	})
	u := upstreamTo(t, peer, nil)
	for range 2 {
		l, err := u.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		u.pool.adopt(l)
	}
	if reply, err := u.Send(t.Context(), m); !errors.Is(err, ErrBusy) || mails.Load() > 1 {
		t.Errorf("%s, %v; MAIL was said %d times", reply, err, mails.Load())
	}
}

// A server that takes connections and answers nothing over them counts as dead, until it answers a message.
func TestHalfDeadUpstream(t *testing.T) {
	silent := smtptest.Silence
	peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"MAIL": {silent, silent, silent, silent, ""}}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Timeout, c.Connections = 50*time.Millisecond, 1 })
	var now atomic.Int64
	u.pool.now = func() time.Time { return time.Unix(1_800_000_000, now.Load()) }
	fails := func(n int) {
		for range n {
			if _, err := u.Send(t.Context(), letter("b@x.test")); err == nil || errors.Is(err, ErrInDoubt) {
				t.Fatal(err)
			}
		}
	}
	fails(10)
	if n := peer.Connections(); n != 3 {
		t.Errorf("%d connections for ten messages, want 3: then it counts as dead", n)
	}
	now.Add(int64(2 * time.Second))
	fails(5)
	if n := peer.Connections(); n != 4 {
		t.Errorf("%d connections after a pause, want one more", n)
	}
	now.Add(int64(time.Minute))
	send(t, u, "b@x.test")
	send(t, u, "b@x.test")
}
