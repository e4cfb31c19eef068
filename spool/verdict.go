package spool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"heed/smtp"
)

// verdict is what follows from the outcome of an attempt.
type verdict struct {
	copy   smtp.Copy // with the attempt counted
	o      smtp.Outcome
	event  string
	remove bool
	bounce bool
	due    time.Time // if it is not removed
}

// judge decides what becomes of a copy. It changes nothing.
func (s *Spool) judge(c smtp.Copy, o smtp.Outcome) verdict {
	if c.Accepted.IsZero() { // as Keep has it
		c.Accepted = s.now()
	}
	c.Attempts++
	c.Last, c.Doubt = o.Reply.String(), o.Fate == smtp.InDoubt
	v := verdict{copy: c, o: o, event: o.Fate.String()}
	if o.Fate.Final() {
		v.remove, v.bounce = true, o.Fate == smtp.Failed || o.Fate == smtp.Blocked
		return v
	}
	due, again := s.next(c, o.Fate, s.now())
	if again {
		v.due, v.copy.Due = due, due
		return v
	}
	text := fmt.Sprintf("not delivered within %v, last: %s", either(s.GiveUp, defaultGiveUp), o.Reply)
	v.o = smtp.Outcome{Fate: smtp.Failed, Reply: smtp.Reply{Code: 554, Enhanced: [3]int{5, 4, 7}, Text: text}} // RFC 3463 section 3.5
	v.event, v.remove, v.bounce = GaveUp, true, true
	return v
}

const defaultGiveUp = 48 * time.Hour

// next is when a copy is due after c.Attempts attempts; false where its time is over. The last attempt is made when
// it is.
func (s *Spool) next(c smtp.Copy, f smtp.Fate, now time.Time) (time.Time, bool) {
	end := c.Accepted.Add(either(s.GiveUp, defaultGiveUp))
	if !now.Before(end) {
		return now, false
	}
	retry := s.Retry
	if len(retry) == 0 {
		retry = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour}
	}
	due := now.Add(retry[max(min(c.Attempts, len(retry)), 1)-1])
	if due.After(end) {
		due = end
	}
	if f == smtp.InDoubt && due.Before(now.Add(doubt)) {
		due = now.Add(doubt)
	}
	return due, true
}

// report comes before carryOut, once: a crash between them repeats the attempt rather than hiding it.
func (s *Spool) report(ctx context.Context, v verdict) {
	s.log().Info("attempt", "copy", v.copy.ID, "upstream", v.copy.Upstream, "event", v.event, "code", v.o.Reply.Code, "attempts", v.copy.Attempts)
	if s.Report != nil {
		s.Report(ctx, v.copy, v.o, v.event)
	}
}

// carryOut makes a verdict durable; after an error it may be called again. A bounce is kept before the copy goes.
func (s *Spool) carryOut(ctx context.Context, holder string, v verdict) error {
	if v.bounce {
		if err := s.bounceCopy(ctx, v); err != nil {
			return err
		}
	}
	if v.remove {
		if v.o.Fate == smtp.Sent {
			s.markOver(v.copy.ID)
		}
		return s.remove(ctx, v.copy.ID)
	}
	meta, err := encode(v.copy)
	if err != nil {
		return err
	}
	ours, err := s.Store.SpoolUpdate(ctx, holder, v.copy.ID, v.due, meta)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if !ours {
		s.log().Warn("the lease was lost: another node has the copy", "copy", v.copy.ID)
	}
	return nil
}

func (s *Spool) remove(ctx context.Context, id string) error {
	if err := s.Store.SpoolDone(ctx, id); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.over, id)
	return nil
}

// markOver remembers until a copy is removed that it was sent, or that its client keeps it: if the store fails now, it
// must not be sent when it is back.
func (s *Spool) markOver(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.over = map[string]bool{}
	}
	s.over[id] = true
}

// sweep removes what is over, as far as the store answers.
func (s *Spool) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.over))
	s.mu.Unlock()
	for _, id := range ids {
		if s.remove(ctx, id) != nil {
			return // later, when the store is back
		}
	}
}

func (s *Spool) isOver(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over[id]
}
