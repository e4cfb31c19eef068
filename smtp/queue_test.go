package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

func TestTurns(t *testing.T) {
	for _, tt := range []struct{ name, waits, leaves, want string }{
		{"one account", "a1 a2 a3", "", "a1 a2 a3"},
		{"two accounts", "a1 a2 a3 b1 b2", "", "a1 b1 a2 b2 a3"},
		{"three accounts", "a1 a2 a3 b1 c1", "", "a1 b1 c1 a2 a3"},
		{"the oldest leaves", "a1 a2 b1", "a1", "a2 b1"},
		{"the last of an account leaves", "a1 b1 c1 c2", "b1", "a1 c1 c2"},
		{"all leave", "a1 b1", "b1 a1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := queue{waiting: map[string][]*waiter{}}
			all, order := map[string]*waiter{}, []string(nil)
			for _, name := range strings.Fields(tt.waits) {
				all[name] = q.add(name[:1])
			}
			for _, name := range strings.Fields(tt.leaves) {
				if !q.remove(all[name]) || q.remove(all[name]) {
					t.Errorf("%s cannot leave once", name)
				}
			}
			for len(q.accounts) > 0 {
				q.release()
				for name, w := range all {
					if len(w.turn) > 0 {
						order = append(order, name)
						delete(all, name)
					}
				}
			}
			if got := strings.Join(order, " "); got != tt.want || len(q.waiting) != 0 || q.free != 0 {
				t.Errorf("got %q, want %q; %d accounts, %d turns are left", got, tt.want, len(q.waiting), q.free)
			}
			if q.release(); q.free != 1 {
				t.Error("a turn is lost")
			}
		})
	}
}

// One account's many messages hold up another's single one by one turn.
func TestAccountsTakeTurns(t *testing.T) {
	at, release := make(chan struct{}, 100), make(chan struct{})
	peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			at <- struct{}{}
			<-release
		}
	}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 })
	const many = 30
	done := make(chan error, many+1)
	submit := func(account, to string) {
		m := letter(to)
		m.Account = account
		go func() {
			_, err := u.Send(t.Context(), m)
			done <- err
		}()
	}
	for i := range many {
		submit("big", "b@x.test")
		if i == 0 {
			<-at
		}
		until(t, func() bool { return waiting(u) == i })
	}
	submit("small", "s@x.test")
	until(t, func() bool { return waiting(u) == many })
	close(release)
	for range many + 1 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for i, m := range peer.Messages() {
		if small := m.To[0].Address == "s@x.test"; small && i > 2 {
			t.Errorf("the other account's message came as number %d", i+1)
		}
	}
	if n := len(peer.Messages()); n != many+1 || peer.Connections() != 1 {
		t.Errorf("%d messages over %d connections", n, peer.Connections())
	}
}

// A turn that comes when its caller leaves is not lost.
func TestTurnsAreNotLost(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 })
	done := make(chan error, 200)
	for i := range cap(done) {
		go func() {
			ctx, cancel := context.WithCancelCause(t.Context())
			m := letter("b@x.test")
			m.Account = fmt.Sprint(i % 3)
			if i%2 == 0 {
				go cancel(ErrWithdrawn)
			}
			_, err := u.Send(ctx, m)
			cancel(nil)
			if i%2 == 0 && errors.Is(err, ErrWithdrawn) {
				err = nil
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil && !errors.Is(err, ErrInDoubt) {
			t.Error(err)
		}
	}
	send(t, u, "c@x.test")
	if u.pool.queue.free != 1 {
		t.Errorf("%d turns are free", u.pool.queue.free)
	}
}
