package spool

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"heed/smtp"
)

// claimAtOnce bounds the copies that one claim loads, heldBytes the bodies under way to one upstream: none is claimed
// for it above that. attemptLimit ends an attempt that nothing else ends.
const (
	claimAtOnce  = 8
	heldBytes    = 32 << 20
	attemptLimit = 30 * time.Minute
)

// claimed is a copy leased to holder. Each claim leases to a holder of its own, the node's name and a number: a copy
// under way is then nobody else's, this node's next claim included.
type claimed struct {
	copy   smtp.Copy
	queue  string
	holder string
	until  time.Time
}

// Run claims and attempts what is due until ctx ends. Then attempts whose message is not on its way are withdrawn and
// left to other nodes; the rest is waited for as long as Drain says. What is open after that is in doubt, and an error.
func (s *Spool) Run(ctx context.Context) error {
	work, withdraw := context.WithCancelCause(context.WithoutCancel(ctx))
	defer withdraw(nil)
	ended := make(chan claimed)
	open := map[string]claimed{}
	var full []string // queues without room at the last look
	stop := make(chan struct{})
	defer close(stop)
	poll := time.NewTimer(0)
	defer poll.Stop()
	for ctx.Err() == nil {
		select {
		case c := <-ended:
			if delete(open, c.copy.ID); slices.Contains(full, c.queue) {
				poll.Reset(0)
			}
			continue
		case <-poll.C:
		case <-ctx.Done():
			continue
		}
		s.Pay(ctx)
		s.expire(ctx)
		var n int
		n, full = s.room(open)
		due, more := s.claim(ctx, n, full)
		for _, c := range due {
			open[c.copy.ID] = c
			go func() {
				s.attempt(work, c)
				select {
				case ended <- c:
				case <-stop:
				}
			}()
		}
		if more {
			poll.Reset(0)
		} else {
			poll.Reset(either(s.Poll, 5*time.Second))
		}
	}
	defer s.Pay(context.WithoutCancel(ctx))
	withdraw(smtp.ErrWithdrawn)
	late := time.NewTimer(either(s.Drain, 20*time.Second))
	defer late.Stop()
	for len(open) > 0 {
		select {
		case c := <-ended:
			delete(open, c.copy.ID)
		case <-late.C:
			return s.abandon(work, open)
		}
	}
	return nil
}

// room is how many copies may be claimed at once, and the queues that none may be claimed of: an upstream that hangs
// holds its own slots and memory and nobody else's, and what waits for a dead one is not tried in vain.
func (s *Spool) room(open map[string]claimed) (n int, full []string) {
	attempts, bytes := map[string]int{}, map[string]int{}
	for queue := range s.Slots {
		attempts[queue] = 0
	}
	for _, c := range open {
		attempts[c.queue]++
		bytes[c.queue] += len(c.copy.Message.Data)
	}
	n = claimAtOnce
	for queue, busy := range attempts {
		if free := s.slots(queue) - busy; free <= 0 || bytes[queue] >= heldBytes || s.Ready != nil && !s.Ready(queue) {
			full = append(full, queue)
		} else {
			n = min(n, free) // whichever it is that they are of
		}
	}
	return n, full
}

func (s *Spool) slots(queue string) int {
	if n := s.Slots[queue]; n > 0 {
		return n
	}
	return 20
}

// claim leases up to n due copies, none of the full queues. The second result tells that there may be more.
func (s *Spool) claim(ctx context.Context, n int, full []string) ([]claimed, bool) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	holder := s.Node + "/" + smtp.NewID()
	now := s.now()
	until := now.Add(s.lease())
	items, err := s.Store.SpoolClaim(ctx, holder, now, until, n, full)
	if err != nil {
		if !errors.Is(err, context.Canceled) && !s.blind { // once, not at every poll
			s.log().Error("the spool cannot be read", "error", err)
			s.blind = true
		}
		return nil, false
	}
	if s.blind {
		s.log().Info("the spool can be read again")
		s.blind = false
	}
	var due []claimed
	for _, item := range items {
		c, err := decode(item)
		l := s.leaseOf(item.ID)
		switch {
		case s.isOwed(item.ID):
			s.pay(ctx, item.ID, holder)
		case l != nil:
			l.set(holder, until)
		case err == nil && s.unsettled(c):
			if _, err := s.Store.SpoolUpdate(ctx, holder, item.ID, now.Add(time.Second), item.Meta); err != nil {
				s.log().Warn("a bounce is sent only when its lease ends", "copy", item.ID, "error", err)
			}
		case err != nil: // by another version, or damaged: for people to see, and out of the way
			_, err2 := s.Store.SpoolUpdate(ctx, holder, item.ID, now.Add(time.Hour), item.Meta)
			s.log().Error("a copy in the spool is unreadable", "copy", item.ID, "error", errors.Join(err, err2))
		default:
			due = append(due, claimed{c, item.Queue, holder, until})
		}
	}
	return due, len(items) > 0 // fewer than n is no sign: a store returns no more bodies than memory bears
}

// attempt tries one copy and makes the outcome durable, holding the lease all the while.
func (s *Spool) attempt(ctx context.Context, c claimed) {
	held, lease, release := s.hold(ctx, c.holder, c.copy.ID, c.until)
	defer release()
	limited, cancel := context.WithTimeout(held, attemptLimit)
	defer cancel()
	o := s.try(limited, c.copy)
	stored := context.WithoutCancel(ctx)
	switch {
	case ctx.Err() != nil && o.Fate == smtp.Deferred: // withdrawn by us: not an attempt; any node may take it now
		s.giveBack(stored, c)
		return
	case ctx.Err() == nil && lease.isLost() && o.Fate != smtp.Sent: // another node has it, and will settle it
		return
	}
	v := s.judge(c.copy, o)
	s.report(stored, v)
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := s.carryOutIn(stored, s.holderOf(c.copy.ID, c.holder), v)
		if err == nil {
			return
		}
		s.log().Error("an outcome could not be stored", "copy", c.copy.ID, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if err := s.carryOutIn(stored, s.holderOf(c.copy.ID, c.holder), v); err != nil {
				s.log().Error("an outcome is lost: the copy will be tried again", "copy", c.copy.ID, "event", v.event, "error", err)
			}
			return
		}
	}
}

func (s *Spool) carryOutIn(ctx context.Context, holder string, v verdict) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.carryOut(ctx, holder, v)
}

// try makes the attempt. One message that makes the code panic must not stop all others.
func (s *Spool) try(ctx context.Context, c smtp.Copy) (o smtp.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			s.log().Error("panic", "copy", c.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			o = smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault}
		}
	}()
	if IsBounce(c) {
		return s.Bouncer.send(ctx, c)
	}
	return s.Attempt(ctx, c)
}

func (s *Spool) giveBack(ctx context.Context, c claimed) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	meta, err := encode(c.copy)
	if err == nil {
		_, err = s.Store.SpoolUpdate(ctx, s.holderOf(c.copy.ID, c.holder), c.copy.ID, s.now(), meta)
	}
	if err != nil {
		s.log().Warn("a copy is free again only when its lease ends", "copy", c.copy.ID, "error", err)
	}
}

// abandon leaves attempts that did not end in time: their messages are on their way, so nobody tries them too soon.
func (s *Spool) abandon(ctx context.Context, open map[string]claimed) error {
	ctx = context.WithoutCancel(ctx)
	for _, c := range open {
		v := s.judge(c.copy, smtp.Outcome{Fate: smtp.InDoubt, Reply: smtp.AnswerLost})
		s.report(ctx, v)
		if err := s.carryOutIn(ctx, s.holderOf(c.copy.ID, c.holder), v); err != nil {
			s.log().Error("an open attempt is free for others when its lease ends", "copy", c.copy.ID, "error", err)
		}
	}
	return fmt.Errorf("spool: %d attempts were still open", len(open))
}
