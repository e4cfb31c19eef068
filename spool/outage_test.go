package spool

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"heed/smtp"
)

// outage is a store that a test can cut off.
type outage struct {
	memory
	down atomic.Bool
}

func newOutage() *outage {
	o := &outage{}
	o.failing = func(string, string, string) error {
		if o.down.Load() {
			return errStore
		}
		return nil
	}
	return o
}

// keptBy keeps c1, which is then the relay's for two minutes and a half.
func (o *outage) keptBy(t *testing.T, s *Spool) smtp.Copy {
	t.Helper()
	c := letter("c1")
	c.Due = time.Now().Add(150 * time.Second)
	s.Store, s.Node, s.Enabled = o, "n1", true
	if err := s.Keep(t.Context(), body, []smtp.Copy{c}); err != nil {
		t.Fatal(err)
	}
	return c
}

// What is decided while the store is away holds when it is back.
func TestOutage(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settle   func(ctx context.Context, s *Spool, c smtp.Copy) error // while the store is away
		attempts int32                                                  // within an hour
		first    time.Duration                                          // when, at the earliest
		bounces  int32
	}{
		{"all was said of it", func(ctx context.Context, s *Spool, c smtp.Copy) error { return s.Done(ctx, c.ID) }, 0, 0, 0},
		{"sent", func(ctx context.Context, s *Spool, c smtp.Copy) error { return s.Settle(ctx, c, sent) }, 0, 0, 0},
		{"failed", func(ctx context.Context, s *Spool, c smtp.Copy) error { return s.Settle(ctx, c, failed) }, 0, 0, 1},
		{"in doubt", func(ctx context.Context, s *Spool, c smtp.Copy) error { return s.Settle(ctx, c, inDoubt) }, 1, doubt, 0},
		{"deferred", func(ctx context.Context, s *Spool, c smtp.Copy) error { return s.Settle(ctx, c, deferred) }, 1, 30 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var attempts atomic.Int32
				bounces := &counting{}
				store, begun, first := newOutage(), time.Now(), time.Duration(0)
				s := &Spool{Bouncer: &Bouncer{Upstream: "esp", Sender: bounces, Hostname: "gw.test"}}
				s.Attempt = func(context.Context, smtp.Copy) smtp.Outcome {
					if attempts.Add(1) == 1 {
						first = time.Since(begun)
					}
					return sent
				}
				c := store.keptBy(t, s)
				store.down.Store(true)
				if err := tt.settle(t.Context(), s, c); err == nil {
					t.Error("no error while the store is away")
				}
				stop := running(t, s)
				time.Sleep(30 * time.Second)
				store.down.Store(false)
				time.Sleep(time.Hour)
				stop()
				if attempts.Load() != tt.attempts || first < tt.first || bounces.n.Load() != tt.bounces {
					t.Errorf("%d attempts, the first after %v, %d bounces", attempts.Load(), first, bounces.n.Load())
				}
				if len(store.ids()) != 0 || len(s.owed) != 0 {
					t.Errorf("waiting %v, owed %v", store.ids(), s.owed)
				}
			})
		})
	}
}

// counting is an upstream that takes everything.
type counting struct{ n atomic.Int32 }

func (c *counting) Send(context.Context, smtp.Message) (smtp.Reply, error) {
	c.n.Add(1)
	return smtp.OK, nil
}

// The sender of a copy that failed hears of it once, also where the store is away just then.
func TestOutageBeforeABounce(t *testing.T) {
	for _, away := range []time.Duration{500 * time.Millisecond, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, bounces := newOutage(), &counting{}
				s := &Spool{Bouncer: &Bouncer{Upstream: "esp", Sender: bounces, Hostname: "gw.test"}}
				s.Attempt = func(context.Context, smtp.Copy) smtp.Outcome {
					store.down.Store(true)
					time.AfterFunc(away, func() { store.down.Store(false) })
					return failed
				}
				store.keptBy(t, s)
				stop := running(t, s)
				time.Sleep(time.Hour)
				stop()
				if bounces.n.Load() != 1 || len(store.ids()) != 0 {
					t.Errorf("%d bounces, waiting %v", bounces.n.Load(), store.ids())
				}
			})
		})
	}
}

// The store is away for longer than a lease while an attempt waits for its answer: this node knows of it, and makes
// no second one.
func TestOutageDuringAnAttempt(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    smtp.Outcome
		due  time.Duration // after its end; 0: gone
	}{
		{"sent", sent, 0},
		{"in doubt", inDoubt, doubt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open, most atomic.Int32
				store := newOutage()
				s := &Spool{}
				s.Attempt = func(context.Context, smtp.Copy) smtp.Outcome { // beyond the final dot nothing stops it
					most.Store(max(most.Load(), open.Add(1)))
					defer open.Add(-1)
					time.Sleep(8 * time.Minute)
					return tt.o
				}
				store.keptBy(t, s)
				stop := running(t, s)
				time.Sleep(3 * time.Minute)
				store.down.Store(true)
				time.Sleep(3 * time.Minute)
				store.down.Store(false)
				time.Sleep(5 * time.Minute) // it ended half a minute ago
				item, waits := store.get("c1")
				if most.Load() != 1 || waits != (tt.due > 0) || waits && item.Due.Before(time.Now().Add(tt.due-time.Minute)) {
					t.Errorf("%d at once; waits: %t, %+v", most.Load(), waits, item)
				}
				stop()
			})
		})
	}
}

// What is settled when everything stops is stored before the end.
func TestLastPayment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newOutage()
		store.heedful = true
		s := &Spool{Poll: time.Hour, Attempt: func(context.Context, smtp.Copy) smtp.Outcome { return sent }}
		c := store.keptBy(t, s)
		stop := running(t, s)
		time.Sleep(time.Second)
		store.down.Store(true)
		if err := s.Settle(t.Context(), c, sent); err == nil {
			t.Error("no error while the store is away")
		}
		store.down.Store(false)
		stop()
		if len(store.ids()) != 0 || len(s.owed) != 0 {
			t.Errorf("waiting %v, owed %v", store.ids(), s.owed)
		}
	})
}

// A verdict is carried out by whoever has the copy meanwhile: here this node's next claim, twice in vain.
func TestOwedByAnotherHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, begun, first := newOutage(), time.Now(), time.Duration(0)
		s := &Spool{}
		s.Attempt = func(context.Context, smtp.Copy) smtp.Outcome {
			if first == 0 {
				first = time.Since(begun)
			}
			return sent
		}
		c := store.keptBy(t, s)
		store.down.Store(true)
		if err := s.Settle(t.Context(), c, inDoubt); err == nil {
			t.Error("no error while the store is away")
		}
		stop := running(t, s)
		time.Sleep(151 * time.Second) // until its lease is over
		updates := 0
		store.mu.Lock()
		store.failing = func(call, _, _ string) error {
			if call == "update" {
				if updates++; updates <= 2 {
					return errStore
				}
			}
			return nil
		}
		store.mu.Unlock()
		time.Sleep(time.Hour)
		stop()
		if first < doubt {
			t.Errorf("in doubt, and tried again after %v", first)
		}
	})
}

// Whoever holds a copy a second time takes nothing from the attempt that runs.
func TestHeldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, s := newOutage(), &Spool{}
		begun, let := make(chan struct{}), make(chan struct{})
		s.Attempt = func(context.Context, smtp.Copy) smtp.Outcome { close(begun); <-let; return deferred }
		c := store.keptBy(t, s)
		stop := running(t, s)
		<-begun
		_, release := s.Hold(t.Context(), c)
		release()
		if s.leaseOf(c.ID) != nil {
			t.Error("the second one's is not given up")
		}
		close(let)
		synctest.Wait()
		if item, waits := store.get(c.ID); !waits || !item.Lease.IsZero() {
			t.Errorf("not settled: %t, %+v", waits, item)
		}
		stop()
	})
}
