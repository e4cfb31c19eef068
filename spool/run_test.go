package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"heed/smtp"
)

// Time in these tests is synctest's: it passes when everything waits.

// running starts s and returns what stops it and waits for its end.
func running(t *testing.T, s *Spool) (stop func() error) {
	t.Helper()
	s.Enabled = true
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- s.Run(ctx) }()
	return func() error {
		cancel()
		return <-end
	}
}

func keep(t *testing.T, s *Spool, ids ...string) {
	t.Helper()
	s.Enabled = true
	for _, id := range ids {
		c := letter(id)
		c.Due = time.Now()
		if err := s.Keep(t.Context(), body, []smtp.Copy{c}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunKeepsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		start := time.Now()
		var tries []time.Duration
		var bounces []smtp.Message
		s := &Spool{
			Store: store, Node: "n1", GiveUp: 6 * time.Hour,
			Attempt: func(_ context.Context, c smtp.Copy) smtp.Outcome {
				tries = append(tries, time.Since(start).Round(10*time.Second))
				if string(c.Message.Data) != string(body) || c.Attempts != len(tries)-1 {
					t.Errorf("got %+v", c)
				}
				return deferred
			},
			Bouncer: &Bouncer{Upstream: "esp", Hostname: "gw.test", Sender: sender(func(m smtp.Message) (smtp.Reply, error) {
				bounces = append(bounces, m)
				return smtp.OK, nil
			})},
		}
		keep(t, s, "c1")
		stop := running(t, s)
		time.Sleep(7 * time.Hour)
		if err := stop(); err != nil {
			t.Error(err)
		}
		want := []time.Duration{0, time.Minute, 6 * time.Minute, 21 * time.Minute, 81 * time.Minute, 321 * time.Minute, 360 * time.Minute}
		if len(tries) != len(want) {
			t.Fatalf("tried after %v, want %v", tries, want)
		}
		for i := range want {
			if tries[i] < want[i] || tries[i] > want[i]+time.Minute { // a look every 5 s adds up
				t.Errorf("try %d after %v, want %v", i, tries[i], want[i])
			}
		}
		if len(bounces) != 1 || bounces[0].From != "" || bounces[0].To[0].Address != "a@acme.test" || len(store.ids()) != 0 {
			t.Errorf("bounces %v, waiting %v", bounces, store.ids())
		}
	})
}

func TestRunWaitsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		s := &Spool{Store: &memory{}, Node: "n1", Attempt: func(context.Context, smtp.Copy) smtp.Outcome {
			tries = append(tries, time.Now())
			if len(tries) == 1 {
				return inDoubt
			}
			return sent
		}}
		keep(t, s, "c1")
		stop := running(t, s)
		time.Sleep(time.Hour)
		stop()
		if len(tries) != 2 || tries[1].Sub(tries[0]) < 10*time.Minute {
			t.Errorf("tried at %v", tries)
		}
	})
}

func TestRunIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		open, most := 0, 0
		store := &memory{}
		s := &Spool{Store: store, Node: "n1", Slots: map[string]int{"esp": 5}, Attempt: func(context.Context, smtp.Copy) smtp.Outcome {
			mu.Lock()
			open++
			most = max(most, open)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			open--
			mu.Unlock()
			return sent
		}}
		for i := range 50 {
			keep(t, s, fmt.Sprint("c", i))
		}
		start := time.Now()
		stop := running(t, s)
		for len(store.ids()) > 0 {
			time.Sleep(time.Second)
		}
		stop()
		if took := time.Since(start); most != 5 || took > 12*time.Second {
			t.Errorf("%d at once, %v", most, took)
		}
	})
}

func TestTwoNodesShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		var mu sync.Mutex
		by := map[string][]string{}
		node := func(name string) *Spool {
			return &Spool{Store: store, Node: name, Slots: map[string]int{"esp": 4}, Attempt: func(_ context.Context, c smtp.Copy) smtp.Outcome {
				mu.Lock()
				by[c.ID] = append(by[c.ID], name)
				mu.Unlock()
				time.Sleep(time.Duration(len(c.ID)) * 10 * time.Minute) // many leases long
				return sent
			}}
		}
		a, b := node("a"), node("b")
		for i := range 40 {
			keep(t, a, fmt.Sprint("c", i))
		}
		stopA, stopB := running(t, a), running(t, b)
		time.Sleep(24 * time.Hour)
		if err := errors.Join(stopA(), stopB()); err != nil {
			t.Error(err)
		}
		nodes := map[string]int{}
		for id, names := range by {
			if len(names) != 1 {
				t.Errorf("%s was tried by %v", id, names)
			}
			nodes[names[0]]++
		}
		if len(by) != 40 || len(nodes) != 2 || len(store.ids()) != 0 {
			t.Errorf("%d copies by %v, waiting %v", len(by), nodes, store.ids())
		}
	})
}

func TestCrashedNodeIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		tried := make(chan time.Time, 9)
		s := &Spool{Store: store, Node: "b", Attempt: func(context.Context, smtp.Copy) smtp.Outcome {
			tried <- time.Now()
			return sent
		}}
		keep(t, s, "c1")
		now := time.Now()
		lease := now.Add(2 * time.Minute)
		if items, err := store.SpoolClaim(t.Context(), "a/1", now, lease, 1, nil); err != nil || len(items) != 1 {
			t.Fatal(items, err)
		}
		stop := running(t, s)
		if at := <-tried; at.Before(lease) || at.After(lease.Add(10*time.Second)) {
			t.Errorf("tried at %v, the lease ended at %v", at, lease)
		}
		stop()
	})
}

// An attempt whose lease went to another node is withdrawn, and its outcome is the other's to settle.
func TestLostLease(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    smtp.Outcome
		lose func(m *memory)
		ids  []string
	}{
		{"to another node", deferred, func(m *memory) { m.items["c1"].node = "b/1" }, []string{"c1"}},
		{"to another node, failed", failed, func(m *memory) { m.items["c1"].node = "b/1" }, []string{"c1"}},
		{"to another node, but sent", sent, func(m *memory) { m.items["c1"].node = "b/1" }, nil},
		{"the store does not answer", deferred, func(m *memory) {
			m.failing = func(call, _, _ string) error {
				if call == "renew" {
					return errStore
				}
				return nil
			}
		}, []string{"c1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memory{}
				var cause error
				var after time.Duration
				settled := 0
				s := &Spool{
					Store: store, Node: "a", Bouncer: &Bouncer{Hostname: "gw.test"},
					Report: func(context.Context, smtp.Copy, smtp.Outcome, string) { settled++ },
				}
				started := make(chan struct{})
				s.Attempt = func(ctx context.Context, c smtp.Copy) smtp.Outcome {
					start := time.Now()
					close(started)
					<-ctx.Done()
					cause, after = context.Cause(ctx), time.Since(start)
					s.Attempt = nil // once is all
					return tt.o
				}
				keep(t, s, "c1")
				stop := running(t, s)
				<-started
				store.mu.Lock()
				tt.lose(store)
				store.mu.Unlock()
				time.Sleep(2*time.Minute - time.Second)
				synctest.Wait()
				if cause == nil {
					t.Error("it runs on when its lease ends")
				}
				stop()
				if !errors.Is(cause, smtp.ErrWithdrawn) || after >= 2*time.Minute {
					t.Errorf("the attempt ended by %v after %v", cause, after)
				}
				if want := len(tt.ids) == 0; (settled == 1) != want || !slices.Equal(store.ids(), tt.ids) {
					t.Errorf("settled %d times, waiting %v", settled, store.ids())
				}
			})
		})
	}
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := &Spool{Store: store, Node: "a", Enabled: true}
		c := letter("c1")
		c.Due = time.Now().Add(time.Minute)
		if err := s.Keep(t.Context(), body, []smtp.Copy{c}); err != nil {
			t.Fatal(err)
		}
		s.Attempt = func(context.Context, smtp.Copy) smtp.Outcome { t.Error("attempted while it is held"); return sent }
		stop := running(t, s)
		held, release := s.Hold(t.Context(), c)
		time.Sleep(time.Hour)
		if held.Err() != nil {
			t.Error(context.Cause(held))
		}
		if err := s.Settle(t.Context(), c, deferred); err != nil {
			t.Error(err)
		}
		release()
		if item, ok := store.get("c1"); !ok || !item.Due.Equal(time.Now().Add(time.Minute)) || !item.Lease.IsZero() {
			t.Errorf("got %v, %v", item, ok)
		}
		stop()
	})
}

func TestDrain(t *testing.T) {
	t.Run("an attempt that can be withdrawn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{}
			started := make(chan struct{})
			s := &Spool{Store: store, Node: "a", Attempt: func(ctx context.Context, _ smtp.Copy) smtp.Outcome {
				close(started)
				<-ctx.Done()
				return smtp.OutcomeOf(smtp.Reply{}, context.Cause(ctx))
			}}
			keep(t, s, "c1")
			stop := running(t, s)
			<-started
			start := time.Now()
			if err := stop(); err != nil || time.Since(start) != 0 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			item, _ := store.get("c1")
			if c, err := decode(item); err != nil || c.Attempts != 0 || item.Due.After(time.Now()) || !item.Lease.IsZero() {
				t.Errorf("not free for others: %+v, %v", item, err)
			}
		})
	})
	t.Run("an answer that is worth waiting for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{}
			started := make(chan struct{})
			s := &Spool{Store: store, Node: "a", Attempt: func(context.Context, smtp.Copy) smtp.Outcome {
				close(started)
				time.Sleep(10 * time.Second)
				return sent
			}}
			keep(t, s, "c1")
			stop := running(t, s)
			<-started
			if err := stop(); err != nil || len(store.ids()) != 0 {
				t.Errorf("%v, waiting %v", err, store.ids())
			}
		})
	})
	t.Run("an answer that does not come", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{}
			started, never := make(chan struct{}), make(chan struct{})
			s := &Spool{Store: store, Node: "a", Attempt: func(context.Context, smtp.Copy) smtp.Outcome {
				close(started)
				<-never
				return inDoubt
			}}
			keep(t, s, "c1")
			stop := running(t, s)
			<-started
			start := time.Now()
			if err := stop(); err == nil || time.Since(start) != 20*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if item, ok := store.get("c1"); !ok || item.Due.Before(time.Now().Add(doubt)) {
				t.Errorf("others would try it at %v", item.Due)
			}
			close(never)
			synctest.Wait()
		})
	})
}

// A message that was sent is not sent again because the store failed just then.
func TestStoreFailsAfterSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(10 * time.Minute)
		store := &memory{failing: func(call, _, _ string) error {
			if call != "claim" && time.Now().Before(back) && call != "add" {
				return errStore
			}
			return nil
		}}
		tries, reports := 0, 0
		s := &Spool{
			Store: store, Node: "a",
			Attempt: func(context.Context, smtp.Copy) smtp.Outcome { tries++; return sent },
			Report:  func(context.Context, smtp.Copy, smtp.Outcome, string) { reports++ },
		}
		keep(t, s, "c1")
		stop := running(t, s)
		time.Sleep(time.Hour)
		stop()
		if tries != 1 || reports != 1 || len(store.ids()) != 0 || len(s.owed) != 0 {
			t.Errorf("%d tries, %d reports, waiting %v, remembered %v", tries, reports, store.ids(), s.owed)
		}
	})
}

// What the store could not remove, because it failed just then, is removed as soon as it answers: before the lease
// ends, after which another node would send it a second time.
func TestOverIsRemovedWhenTheStoreIsBack(t *testing.T) {
	for name, kept := range map[string]bool{"sent by the one who kept it": true, "kept, but the store did not say so": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				back := time.Now().Add(30 * time.Second)
				store := &memory{failing: func(call, _, _ string) error {
					if kept && call == "add" || time.Now().After(back) {
						return nil
					}
					return errStore
				}}
				s := &Spool{Store: store, Node: "a", Enabled: true, Attempt: func(context.Context, smtp.Copy) smtp.Outcome {
					t.Error("attempted")
					return sent
				}}
				c := letter("c1")
				c.Due = time.Now().Add(10 * time.Minute)
				err := s.Keep(t.Context(), body, []smtp.Copy{c})
				if kept {
					err = errors.Join(err, s.Settle(t.Context(), c, sent))
				}
				if !errors.Is(err, errStore) || len(store.ids()) != 1 {
					t.Fatalf("%v, waiting %v", err, store.ids())
				}
				stop := running(t, s)
				defer stop()
				time.Sleep(time.Minute)
				if len(store.ids()) != 0 || len(s.owed) != 0 {
					t.Errorf("waiting %v, remembered %v", store.ids(), s.owed)
				}
			})
		})
	}
}

func TestPanicIsNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		tries := map[string]int{}
		var mu sync.Mutex
		s := &Spool{Store: store, Node: "a", Attempt: func(_ context.Context, c smtp.Copy) smtp.Outcome {
			mu.Lock()
			defer mu.Unlock()
			if tries[c.ID]++; c.ID == "bad" && tries[c.ID] == 1 {
				panic("bad message")
			}
			return sent
		}}
		keep(t, s, "bad", "good")
		stop := running(t, s)
		time.Sleep(2 * time.Minute)
		stop()
		if tries["good"] != 1 || tries["bad"] != 2 || len(store.ids()) != 0 {
			t.Errorf("%v, waiting %v", tries, store.ids())
		}
	})
}

func TestUnreadableCopyStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := &Spool{Store: store, Node: "a", Attempt: func(context.Context, smtp.Copy) smtp.Outcome { return sent }}
		if _, err := store.SpoolAdd(t.Context(), "x", "esp", time.Now(), body, map[string][]byte{"c0": []byte("{")}, 1000); err != nil {
			t.Fatal(err)
		}
		keep(t, s, "c1")
		stop := running(t, s)
		time.Sleep(time.Hour)
		stop()
		if !slices.Equal(store.ids(), []string{"c0"}) {
			t.Errorf("waiting %v", store.ids())
		}
		s.List(t.Context(), func(c smtp.Copy, _ time.Time) bool {
			if c.ID != "c0" || c.Last == "" {
				t.Errorf("got %+v", c)
			}
			return true
		})
	})
}
