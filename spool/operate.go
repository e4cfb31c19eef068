package spool

import (
	"context"
	"errors"
	"slices"
	"time"

	"heed/smtp"
)

// What an operator does with single copies, beside running gateways and through the store alone.

// The errors of Find, RetryOne and Drop.
var (
	ErrGone       = errors.New("no such copy waits")
	ErrInProgress = errors.New("it is being attempted now, or its node died less than a lease ago")
)

// retryAtOnce is how many copies one write makes due.
const retryAtOnce = 1000

// Find reads one copy with its data; lease is as in List. ErrGone: there is none. Of a copy that cannot be read the ID
// and the data are known, and Last says why.
func (s *Spool) Find(ctx context.Context, id string) (c smtp.Copy, lease time.Time, err error) {
	item, ok, err := s.Store.SpoolGet(ctx, id)
	switch {
	case err != nil:
		return smtp.Copy{}, time.Time{}, err
	case !ok:
		return smtp.Copy{}, time.Time{}, ErrGone
	}
	if c, err = decode(item); err != nil {
		c = unreadable(item, err)
	}
	return c, item.Lease, nil
}

// Retried is what became of a wish to attempt copies now.
type Retried struct {
	Due        int // will be attempted at the next look
	Doubt      int // of them, those whose upstream may have the message: it may arrive twice
	InProgress int // left alone: they are being attempted
}

// RetryOne makes a copy due now.
func (s *Spool) RetryOne(ctx context.Context, id string) (Retried, error) {
	c, lease, err := s.Find(ctx, id)
	if err != nil {
		return Retried{}, err
	}
	if lease.After(s.now()) {
		return Retried{}, ErrInProgress
	}
	return s.retry(ctx, []smtp.Copy{c})
}

// RetryAll makes everything that waits due now.
func (s *Spool) RetryAll(ctx context.Context) (Retried, error) {
	var all Retried
	var waiting []smtp.Copy
	err := s.List(ctx, func(c smtp.Copy, lease time.Time) bool {
		if lease.After(s.now()) {
			all.InProgress++
		} else {
			waiting = append(waiting, smtp.Copy{ID: c.ID, Doubt: c.Doubt})
		}
		return true
	})
	if err != nil {
		return all, err
	}
	for some := range slices.Chunk(waiting, retryAtOnce) {
		r, err := s.retry(ctx, some)
		all.Due, all.Doubt, all.InProgress = all.Due+r.Due, all.Doubt+r.Doubt, all.InProgress+r.InProgress
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (s *Spool) retry(ctx context.Context, copies []smtp.Copy) (r Retried, err error) {
	doubt := make(map[string]bool, len(copies))
	ids := make([]string, len(copies))
	for i, c := range copies {
		ids[i], doubt[c.ID] = c.ID, c.Doubt
	}
	free, err := s.Store.SpoolRetry(ctx, s.now(), ids)
	if err != nil {
		return r, err
	}
	for _, id := range free {
		if r.Due++; doubt[id] {
			r.Doubt++
		}
	}
	r.InProgress = len(copies) - r.Due // or gone since
	return r, nil
}

// dropped is what the journal and a report say.
var dropped = smtp.Outcome{Fate: smtp.Failed, Reply: smtp.Reply{Code: 554, Enhanced: [3]int{5, 0, 0}, Text: "given up by the operator of the gateway"}}

// Drop gives up one copy. It is leased first, so that nobody attempts it meanwhile, and removed only after journal has
// recorded it, and after the report to the envelope sender is durable, where bounce asks for one.
func (s *Spool) Drop(ctx context.Context, id string, bounce bool, journal func(smtp.Copy, smtp.Outcome) error) (smtp.Copy, error) {
	holder := s.Node + "/" + smtp.NewID()
	item, ok, err := s.Store.SpoolTake(ctx, holder, id, s.now(), s.now().Add(s.lease()))
	if err != nil {
		return smtp.Copy{}, err
	}
	if !ok {
		if _, _, err := s.Find(ctx, id); err != nil {
			return smtp.Copy{}, err
		}
		return smtp.Copy{}, ErrInProgress
	}
	c, err := decode(item)
	if err != nil {
		c, bounce = unreadable(item, err), false // nobody knows who sent it
	}
	if err := journal(c, dropped); err != nil {
		_, free := s.Store.SpoolUpdate(ctx, holder, id, item.Due, item.Meta)
		return c, errors.Join(err, free)
	}
	v := verdict{copy: c, o: dropped, event: Dropped, remove: true, bounce: bounce && !IsBounce(c)}
	return c, s.carryOut(ctx, holder, v)
}
