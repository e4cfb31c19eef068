package smtp

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

var errDown = errors.New("connection refused")

// clock is a time that only the test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// gate counts the attempts to connect and lets each through or not.
type gate struct {
	attempts atomic.Int64
	down     atomic.Bool
	hold     atomic.Pointer[chan struct{}] // if set, an attempt ends when it is closed
}

// gated is an upstream whose connections and time the test governs.
func gated(t *testing.T, change func(*UpstreamConfig)) (*Upstream, *smtptest.Upstream, *gate, *clock) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, change)
	g, c := &gate{}, &clock{}
	u.pool.now = c.now
	u.pool.connect = func(ctx context.Context) (*link, error) {
		g.attempts.Add(1)
		if hold := g.hold.Load(); hold != nil {
			<-*hold
		}
		if g.down.Load() {
			return nil, errDown
		}
		return u.connect(ctx)
	}
	return u, peer, g, c
}

func TestBreaker(t *testing.T) {
	u, _, g, c := gated(t, nil)
	fails := func(attempts int64, text string) {
		t.Helper()
		before := g.attempts.Load()
		reply, err := u.Send(t.Context(), letter("b@x.test"))
		if !errors.Is(err, errDown) || errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), text) {
			t.Fatalf("got %v, %v; want %q", reply, err, text)
		}
		if n := g.attempts.Load() - before; n != attempts {
			t.Fatalf("%d attempts to connect, want %d", n, attempts)
		}
	}
	g.down.Store(true)
	fails(1, "")
	fails(1, "")
	fails(1, "no connection since 2027-01-15T08:00:00Z, after 3 attempts: connection refused")
	fails(0, "no connection since")
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		pause := time.Duration(seconds) * time.Second
		c.advance(pause - 1)
		fails(0, "no connection since 2027-01-15T08:00:00Z")
		c.advance(pause / 5)
		fails(1, "no connection since 2027-01-15T08:00:00Z")
	}
	c.advance(2 * time.Minute)
	g.down.Store(false)
	send(t, u, "b@x.test")
	send(t, u, "b@x.test")
	g.down.Store(true)
	u.pool.mu.Lock()
	u.pool.dismiss()
	u.pool.mu.Unlock()
	fails(1, "connection refused") // it is closed again: what failed before counts no more
	fails(1, "connection refused")
}

// While one message finds out whether the upstream is back, the others fail at once.
func TestBreakerLetsOneThrough(t *testing.T) {
	u, _, g, c := gated(t, nil)
	g.down.Store(true)
	for range breakAfter {
		_, _ = u.Send(t.Context(), letter("b@x.test"))
	}
	c.advance(time.Minute)
	hold := make(chan struct{})
	g.hold.Store(&hold)
	g.down.Store(false)
	before := g.attempts.Load()
	first := make(chan error)
	go func() {
		_, err := u.Send(t.Context(), letter("b@x.test"))
		first <- err
	}()
	until(t, func() bool { return g.attempts.Load() == before+1 })
	for range 10 {
		if _, err := u.Send(t.Context(), letter("c@x.test")); err == nil || !strings.Contains(err.Error(), "no connection since") {
			t.Errorf("got %v", err)
		}
	}
	close(hold)
	if err := <-first; err != nil || g.attempts.Load() != before+1 {
		t.Errorf("got %v after %d attempts", err, g.attempts.Load()-before)
	}
	send(t, u, "d@x.test")
}

// A dead upstream answers also those who wait for a turn.
func TestBreakerAnswersWhoWaits(t *testing.T) {
	u, _, g, _ := gated(t, func(c *UpstreamConfig) { c.Connections = 1 })
	hold := make(chan struct{})
	g.hold.Store(&hold)
	g.down.Store(true)
	const messages = 50
	errs := make(chan error, messages)
	for range messages {
		go func() {
			_, err := u.Send(t.Context(), letter("b@x.test"))
			errs <- err
		}()
	}
	until(t, func() bool { return waiting(u) == messages-1 && g.attempts.Load() == 1 })
	close(hold)
	for range messages {
		if err := <-errs; !errors.Is(err, errDown) {
			t.Errorf("got %v", err)
		}
	}
	if n := g.attempts.Load(); n != breakAfter {
		t.Errorf("%d attempts", n)
	}
}

// An upstream that takes only so many connections is not dead: messages wait for those it took.
func TestUpstreamLimitsConnections(t *testing.T) {
	const takes, messages = 2, 100
	peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"connect": {"", "", "421 4.7.0 too many connections"}}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 10 })
	var all sync.WaitGroup
	for range messages {
		all.Go(func() {
			if reply, err := u.Send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
				t.Errorf("%v, %v", reply, err)
			}
		})
	}
	all.Wait()
	if n := peer.Connections(); n > 10+takes+1 {
		t.Errorf("%d connections were asked for", n)
	}
}

// A caller who goes away does not end the attempt: the next one has its connection.
// An upstream that takes no more connections than those that are in use is not dead, however slow they are.
func TestSlowUpstreamLimitsConnections(t *testing.T) {
	u, _, _, c := gated(t, nil)
	p := u.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse[&link{}] = struct{}{}
	for range 10 {
		begun := c.now()
		c.advance(time.Minute)
		p.failed(begun, TurnedAwayError{Reply{Code: 421, Text: "too many connections"}})
		if p.breaker.open() || !p.breaker.until.After(c.now()) {
			t.Fatalf("open: %t, the next attempt at %v, now %v", p.breaker.open(), p.breaker.until, c.now())
		}
	}
	clear(p.inUse)
}

func TestAttemptOutlivesItsCaller(t *testing.T) {
	u, peer, g, _ := gated(t, func(c *UpstreamConfig) { c.Connections = 1 })
	hold := make(chan struct{})
	g.hold.Store(&hold)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := u.Send(ctx, letter("b@x.test"))
		gone <- err
	}()
	until(t, func() bool { return g.attempts.Load() == 1 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) || errors.Is(err, ErrInDoubt) {
		t.Errorf("got %v", err)
	}
	close(hold)
	send(t, u, "c@x.test")
	if g.attempts.Load() != 1 || peer.Connections() != 1 {
		t.Errorf("%d attempts, %d connections", g.attempts.Load(), peer.Connections())
	}
}

// until waits for what other goroutines do; the test's own deadline ends it.
func until(t *testing.T, met func() bool) {
	t.Helper()
	for !met() {
		if t.Context().Err() != nil {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}

// waiting is how many messages wait for a turn.
func waiting(u *Upstream) int {
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	n := 0
	for _, w := range u.pool.queue.waiting {
		n += len(w)
	}
	return n
}
