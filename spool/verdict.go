package spool

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
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
	holder string    // who has the copy, where that is not this node's name
}

// judge decides what becomes of a copy. It changes nothing. What was not tried is no attempt.
func (s *Spool) judge(c smtp.Copy, o smtp.Outcome) verdict {
	if c.Accepted.IsZero() { // as Keep has it
		c.Accepted = s.now()
	}
	c.Last = o.Reply.String()
	if !o.Untried {
		c.Attempts++
		c.Doubt = o.Fate == smtp.InDoubt
	}
	v := verdict{copy: c, o: o, event: o.Fate.String()}
	if o.Fate.Final() {
		v.remove, v.bounce = true, o.Fate == smtp.Failed || o.Fate == smtp.Blocked
		return v
	}
	due, again := s.next(c, o, s.now())
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

// untried is the longest wait of a copy that was not tried.
const untried = 15 * time.Minute

// next is when a copy is due after c.Attempts attempts; false where its time is over. The last attempt is made when
// it is.
func (s *Spool) next(c smtp.Copy, o smtp.Outcome, now time.Time) (time.Time, bool) {
	end := c.Accepted.Add(either(s.GiveUp, defaultGiveUp))
	if !now.Before(end) {
		return now, false
	}
	retry := s.Retry
	if len(retry) == 0 {
		retry = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour}
	}
	step := max(min(c.Attempts, len(retry)), 1)
	due := now.Add(retry[step-1])
	if o.Untried { // the longer that lasts the less it matters when it ends
		due = now.Add(max(retry[0], min(now.Sub(c.Accepted)/20, untried)))
	}
	if due.After(end) {
		due = end
	}
	if o.Fate == smtp.InDoubt && due.Before(now.Add(doubt)) {
		due = now.Add(doubt)
	}
	return due, true
}

// report comes before carryOut, once: a crash between them repeats the attempt rather than hiding it.
func (s *Spool) report(ctx context.Context, v verdict) {
	level := slog.LevelInfo
	if v.o.Untried {
		level = slog.LevelDebug
	}
	s.log().Log(ctx, level, "attempt", "copy", v.copy.ID, "upstream", cmp.Or(v.o.Upstream, v.copy.Upstream), "event", v.event, "code", v.o.Reply.Code, "attempts", v.copy.Attempts)
	if s.Report != nil {
		s.Report(ctx, v.copy, v.o, v.event)
	}
}

// carryOut makes a verdict durable; after an error it may be called again. A bounce is kept before the copy goes.
func (s *Spool) carryOut(ctx context.Context, holder string, v verdict) error {
	if v.bounce && !s.isOver(v.copy.ID) {
		if err := s.bounceCopy(ctx, v); err != nil {
			return err
		}
	}
	if v.remove {
		s.owe(removal(v.copy.ID)) // if the store fails now, it must not be attempted when it is back
		if err := s.Store.SpoolDone(ctx, v.copy.ID); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.paid(v.copy.ID)
		return nil
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

// removal is what follows where all was said of a copy: it was sent, or its client keeps it.
func removal(id string) verdict { return verdict{copy: smtp.Copy{ID: id}, remove: true} }

// owe remembers a verdict that the store does not take now. What is owed of a message without its content is enough: a
// report has the header.
func (s *Spool) owe(v verdict) {
	v.copy.Message.Data = bytes.Clone(header(v.copy.Message.Data))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed == nil {
		s.owed = map[string]verdict{}
	}
	s.owed[v.copy.ID] = v
}

func (s *Spool) isOwed(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, owed := s.owed[id]
	return owed
}

// isOver tells that nothing is owed of a copy but its removal: a bounce was kept, and perhaps sent since.
func (s *Spool) isOver(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, owed := s.owed[id]
	return owed && v.remove && !v.bounce
}

func (s *Spool) paid(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.owed, id)
}

// pay carries out what is owed of a copy, if the store takes it now. holder has the copy; "": who had it before.
func (s *Spool) pay(ctx context.Context, id, holder string) {
	s.mu.Lock()
	v, owed := s.owed[id]
	if owed && holder != "" {
		v.holder = holder
		s.owed[id] = v
	}
	s.mu.Unlock()
	if !owed {
		return
	}
	if err := s.carryOut(ctx, cmp.Or(v.holder, s.holderOf(id, s.Node)), v); err != nil {
		s.log().Warn("an outcome could not be stored yet", "copy", id, "error", err)
		return
	}
	s.paid(id)
}

// Pay carries out what is owed, as far as the store answers. Run does so all the time; after its end it is for what was
// settled since.
func (s *Spool) Pay(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.owed))
	s.mu.Unlock()
	for _, id := range ids {
		s.pay(ctx, id, "")
	}
}
