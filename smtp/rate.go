package smtp

import (
	"context"
	"sync"
	"time"
)

// rateLimit spreads messages evenly over time.
type rateLimit struct {
	rate float64 // per second; 0: no limit
	mu   sync.Mutex
	next time.Time
}

// wait returns when the next message may go. Where ctx would end before that, it returns at once and takes no turn.
func (p *rateLimit) wait(ctx context.Context) error {
	if p.rate == 0 {
		return nil
	}
	deadline, _ := ctx.Deadline()
	now := time.Now()
	turn, ok := p.turn(now, deadline)
	if !ok {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(turn.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// turn reserves the next free moment; false, reserving nothing, where that is after deadline (zero: none).
func (p *rateLimit) turn(now, deadline time.Time) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn := now
	if p.next.After(now) {
		turn = p.next
	}
	if !deadline.IsZero() && turn.After(deadline) {
		return time.Time{}, false
	}
	p.next = turn.Add(time.Duration(float64(time.Second) / p.rate))
	return turn, true
}
