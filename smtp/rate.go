package smtp

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/time/rate"
)

// rateLimit spreads messages evenly over time. One at a time waits for its moment, so that one who gives up wastes none;
// the others wait for that, account by account in rotation.
type rateLimit struct {
	limiter *rate.Limiter
	mu      sync.Mutex
	queue   queue         // of one turn: to be next
	spare   chan struct{} // moments of messages that were not sent in the end
}

// newRateLimit allows that many messages per second, 0: any number. spare is how many unused moments are kept.
func newRateLimit(perSecond float64, spare int) *rateLimit {
	limit := rate.Limit(perSecond)
	if perSecond == 0 {
		limit = rate.Inf
	}
	return &rateLimit{
		limiter: rate.NewLimiter(limit, 1), queue: queue{free: 1, waiting: map[string][]*waiter{}}, spare: make(chan struct{}, spare),
	}
}

// wait returns when account's next message may go; ErrBusy where ctx would end before that.
func (r *rateLimit) wait(ctx context.Context, account string) error {
	if r.limiter.Limit() == rate.Inf {
		return nil
	}
	select {
	case <-r.spare:
		return nil
	default:
	}
	r.mu.Lock()
	if err := r.queue.enter(ctx, &r.mu, account); err != nil {
		return busy(err)
	}
	defer r.leave()
	err := r.limiter.Wait(ctx)
	if err != nil && ctx.Err() == nil { // it says at once that there is not enough time
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return busy(err)
}

func (r *rateLimit) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue.release()
}

// unspent keeps the moment of a message that was not sent for the next one.
func (r *rateLimit) unspent() {
	select {
	case r.spare <- struct{}{}:
	default:
	}
}
