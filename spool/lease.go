package spool

import (
	"context"
	"slices"
	"sync"
	"time"

	"heed/smtp"
)

// lease is a copy that this node works on. Where it ended because the store was away, and the store gives the copy to
// this node again, it goes on under another holder: nobody joins an attempt that runs.
type lease struct {
	mu     sync.Mutex
	holder string
	until  time.Time
	lost   bool // another node may have the copy
}

func (l *lease) get() (holder string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder, l.until
}

func (l *lease) set(holder string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder, l.until, l.lost = holder, until, false
}

// lose: holder has it no more. False: that was known, or it is held under another name by now.
func (l *lease) lose(holder string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost || l.holder != holder {
		return false
	}
	l.lost = true
	return true
}

func (l *lease) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// hold renews holder's lease, which lasts until until, at a third of its life. When it is lost, or may be because the
// store does not answer, the context is withdrawn: an attempt stops unless the message is on its way already.
func (s *Spool) hold(ctx context.Context, holder, id string, until time.Time) (held context.Context, l *lease, release func()) {
	l = &lease{holder: holder, until: until}
	s.mu.Lock()
	if s.leases == nil {
		s.leases = map[string]*lease{}
	}
	s.leases[id] = l
	s.mu.Unlock()
	held, withdraw := context.WithCancelCause(ctx)
	// The end of ctx ends the attempt, not the lease: what is on its way is still ours.
	renewing, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.renew(renewing, l, id, withdraw)
	}()
	return held, l, func() {
		end()
		withdraw(nil)
		<-ended
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leases[id] == l {
			delete(s.leases, id)
		}
	}
}

// leaseOf is what this node holds of a copy, nil if nothing.
func (s *Spool) leaseOf(id string) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[id]
}

// holderOf is under which name this node has a copy.
func (s *Spool) holderOf(id, otherwise string) string {
	l := s.leaseOf(id)
	if l == nil {
		return otherwise
	}
	holder, _ := l.get()
	return holder
}

// renew goes on until ctx ends: a lease that has ended may still be had again.
func (s *Spool) renew(ctx context.Context, l *lease, id string, withdraw context.CancelCauseFunc) {
	every := s.lease() / 3
	_, until := l.get()
	timer := time.NewTimer(max(min(every, until.Sub(s.now())/3), 0))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		holder, until := l.get()
		next := s.now().Add(s.lease())
		limited, cancel := context.WithTimeout(ctx, min(storeTimeout, every/2))
		ids, err := s.Store.SpoolRenew(limited, holder, next, []string{id})
		cancel()
		ours, ends := err == nil && slices.Contains(ids, id), false
		switch {
		case ctx.Err() != nil:
			return
		case ours:
			l.set(holder, next)
			timer.Reset(every)
		case err == nil:
			ends = true
			timer.Reset(every)
		default:
			s.log().Warn("lease not renewed", "copy", id, "error", err)
			ends = !s.now().Add(every / 4).Before(until)
			timer.Reset(every / 4)
		}
		if ends && l.lose(holder) {
			s.log().Warn("lease lost", "copy", id)
			withdraw(smtp.ErrWithdrawn)
		}
	}
}
