package spool

import (
	"context"
	"time"

	"heed/smtp"
)

// Copies whose upstream is not to be tried are not claimed; that their time is over is found out by looking, every
// expireEvery and for expireAtOnce at most.
const (
	expireEvery  = time.Minute
	expireAtOnce = 1000
)

// expire gives up what waits for upstreams that are not ready and is older than GiveUp. The others' attempts see to that.
func (s *Spool) expire(ctx context.Context) {
	now := s.now()
	if s.Ready == nil || now.Before(s.expires) {
		return
	}
	s.expires = now.Add(expireEvery)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	dead := map[string]bool{}
	for queue := range s.Slots {
		if !s.Ready(queue) {
			dead[queue] = true
		}
	}
	if len(dead) == 0 {
		return
	}
	var over []string
	end := now.Add(-either(s.GiveUp, defaultGiveUp))
	err := s.Store.SpoolList(ctx, func(item Item) bool {
		c, err := decode(item)
		if err == nil && dead[item.Queue] && !c.Accepted.After(end) && !item.Lease.After(now) && s.leaseOf(c.ID) == nil && !s.isOwed(c.ID) {
			over = append(over, c.ID)
		}
		return len(over) < expireAtOnce
	})
	if err != nil {
		s.log().Warn("the spool was not looked through for what is over", "error", err)
		return
	}
	for _, id := range over {
		if err := s.giveUp(ctx, id); err != nil {
			s.log().Warn("a copy could not be given up yet", "copy", id, "error", err)
			return
		}
	}
}

// giveUp ends a copy that nobody works on.
func (s *Spool) giveUp(ctx context.Context, id string) error {
	holder, now := s.Node+"/"+smtp.NewID(), s.now()
	item, ok, err := s.Store.SpoolTake(ctx, holder, id, now, now.Add(s.lease()))
	if err != nil || !ok {
		return err
	}
	c, err := decode(item)
	if err != nil {
		return err
	}
	v := s.judge(c, smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.NoAnswer, Upstream: c.Upstream, Untried: true})
	s.report(ctx, v)
	err = s.carryOut(ctx, holder, v)
	if err != nil && !s.isOver(id) {
		v.holder = holder
		s.owe(v)
	}
	return err
}
