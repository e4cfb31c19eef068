package spool

import (
	"context"
	"slices"
	"time"

	"heed/smtp"
)

// hold renews holder's lease, which lasts until until, at a third of its life. When it is lost, or may be because the
// store does not answer, the context is withdrawn: an attempt stops unless the message is on its way already.
func (s *Spool) hold(ctx context.Context, holder, id string, until time.Time) (context.Context, func()) {
	held, withdraw := context.WithCancelCause(ctx)
	// The end of ctx ends the attempt, not the lease: what is on its way is still ours.
	renewing, release := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if !s.renew(renewing, holder, id, until) {
			s.log().Warn("lease lost", "copy", id)
			withdraw(smtp.ErrWithdrawn)
		}
	}()
	return held, func() {
		release()
		withdraw(nil)
		<-ended
	}
}

// renew returns true when ctx ends, false when the lease is lost.
func (s *Spool) renew(ctx context.Context, holder, id string, until time.Time) bool {
	every := s.lease() / 3
	timer := time.NewTimer(max(min(every, until.Sub(s.now())/3), 0))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case <-timer.C:
		}
		next := s.now().Add(s.lease())
		limited, cancel := context.WithTimeout(ctx, min(storeTimeout, every/2))
		ids, err := s.Store.SpoolRenew(limited, holder, next, []string{id})
		cancel()
		switch {
		case ctx.Err() != nil:
			return true
		case err == nil && slices.Contains(ids, id):
			until = next
			timer.Reset(every)
		case err == nil || !s.now().Add(every/4).Before(until):
			return false
		default:
			s.log().Warn("lease not renewed", "copy", id, "error", err)
			timer.Reset(every / 4)
		}
	}
}
