package spool

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"heed/smtp"
)

// keepFor keeps copies for an upstream.
func keepFor(t *testing.T, s *Spool, upstream string, n, size int) {
	t.Helper()
	s.Enabled = true
	for i := range n {
		c := letter(fmt.Sprintf("%s%03d", upstream, i))
		c.Upstream, c.Due = upstream, time.Now()
		if err := s.Keep(t.Context(), bytes.Repeat([]byte("x"), size), []smtp.Copy{c}); err != nil {
			t.Fatal(err)
		}
	}
}

// An upstream that hangs keeps its own slots and memory; what waits for others goes, however much waits for it.
func TestUpstreamsDoNotWaitForEachOther(t *testing.T) {
	for _, tt := range []struct {
		name   string
		slots  map[string]int
		copies int // for the one that hangs
		size   int
		open   int // attempts that hang
	}{
		{"by slots", map[string]int{"hung": 5, "esp": 3}, 60, 10, 5},
		{"by memory", map[string]int{"hung": 100, "esp": 3}, 12, 8 << 20, 6}, // three were claimed when three were below the bound
		{"an upstream that is not configured any more", map[string]int{"esp": 1}, 60, 10, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memory{}
				var mu sync.Mutex
				hung, most, now := 0, 0, 0
				s := &Spool{Store: store, Node: "n1", Slots: tt.slots, Attempt: func(ctx context.Context, c smtp.Copy) smtp.Outcome {
					mu.Lock()
					if c.Upstream == "hung" {
						hung++
						mu.Unlock()
						<-ctx.Done()
						return deferred
					}
					now++
					most = max(most, now)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					now--
					mu.Unlock()
					return sent
				}}
				keepFor(t, s, "hung", tt.copies, tt.size)
				time.Sleep(time.Second) // they are due first
				keepFor(t, s, "esp", 30, 10)
				start := time.Now()
				stop := running(t, s)
				for slices.ContainsFunc(store.ids(), func(id string) bool { return id[0] == 'e' }) {
					time.Sleep(100 * time.Millisecond)
				}
				took := time.Since(start)
				if least := time.Duration(30/tt.slots["esp"]) * time.Second; took < least || took > least+2*time.Second || most != tt.slots["esp"] {
					t.Errorf("the others took %v, %d at once", took, most)
				}
				mu.Lock()
				if hung > tt.open || hung < 4 {
					t.Errorf("%d hang, want at most %d", hung, tt.open)
				}
				mu.Unlock()
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What waits for an upstream that counts as dead is not tried in vain, and goes when it is back.
func TestDeadUpstreamIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ready atomic.Bool
		tried := map[string]int{}
		var mu sync.Mutex
		store := &memory{}
		s := &Spool{Store: store, Node: "a", Enabled: true, Slots: map[string]int{"esp": 2, "other": 2}}
		s.Ready = func(queue string) bool { return queue != "esp" || ready.Load() }
		s.Attempt = func(_ context.Context, c smtp.Copy) smtp.Outcome {
			mu.Lock()
			defer mu.Unlock()
			tried[c.Upstream]++
			return sent
		}
		for i, queue := range []string{"esp", "esp", "esp", "other"} {
			c := letter(fmt.Sprint("c", i))
			c.Upstream = queue
			if err := s.Keep(t.Context(), body, []smtp.Copy{c}); err != nil {
				t.Fatal(err)
			}
		}
		stop := running(t, s)
		defer stop()
		time.Sleep(time.Hour)
		mu.Lock()
		if tried["esp"] != 0 || tried["other"] != 1 {
			t.Errorf("tried: %v", tried)
		}
		mu.Unlock()
		ready.Store(true)
		time.Sleep(time.Minute)
		if len(store.ids()) != 0 {
			t.Errorf("waiting %v", store.ids())
		}
	})
}

// What waits for a dead upstream is given up in time, whoever else asks for that upstream.
func TestDeadUpstreamIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, bounces := &memory{}, &counting{}
		s := &Spool{
			Store: store, Node: "a", Enabled: true, GiveUp: 2 * time.Hour, Slots: map[string]int{"esp": 20, "other": 20},
			Ready:   func(queue string) bool { return queue != "esp" },
			Attempt: func(context.Context, smtp.Copy) smtp.Outcome { t.Error("tried"); return sent },
			Bouncer: &Bouncer{Upstream: "other", Sender: bounces, Hostname: "gw.test"},
		}
		for i := range 300 {
			if err := s.Keep(t.Context(), body, []smtp.Copy{letter(fmt.Sprintf("c%03d", i))}); err != nil {
				t.Fatal(err)
			}
		}
		stop := running(t, s)
		defer stop()
		time.Sleep(2*time.Hour - time.Minute)
		if n := bounces.n.Load(); n != 0 || len(store.ids()) != 300 {
			t.Errorf("%d bounces before their time, %d wait", n, len(store.ids()))
		}
		time.Sleep(10 * time.Minute)
		if n := bounces.n.Load(); n != 300 || len(store.ids()) != 0 {
			t.Errorf("%d bounces, %d wait", n, len(store.ids()))
		}
	})
}
