package smtp

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"
)

// rateLimit spreads messages evenly over time. One at a time waits for its moment, so that one who gives up wastes none.
type rateLimit struct {
	limiter *rate.Limiter
	next    chan struct{} // holds who waits for the moment
	spare   chan struct{} // moments of messages that were not sent in the end
}

// newRateLimit allows that many messages per second, 0: any number. spare is how many unused moments are kept.
func newRateLimit(perSecond float64, spare int) *rateLimit {
	limit := rate.Limit(perSecond)
	if perSecond == 0 {
		limit = rate.Inf
	}
	return &rateLimit{rate.NewLimiter(limit, 1), make(chan struct{}, 1), make(chan struct{}, spare)}
}

// wait returns when the next message may go; ErrBusy where ctx would end before that.
func (r *rateLimit) wait(ctx context.Context) error {
	if r.limiter.Limit() == rate.Inf {
		return nil
	}
	select {
	case <-r.spare:
		return nil
	default:
	}
	select {
	case r.next <- struct{}{}:
	case <-ctx.Done():
		return busy(ctx.Err())
	}
	defer func() { <-r.next }()
	err := r.limiter.Wait(ctx)
	if err != nil && ctx.Err() == nil { // it says at once that there is not enough time
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return busy(err)
}

// unspent keeps the moment of a message that was not sent for the next one.
func (r *rateLimit) unspent() {
	select {
	case r.spare <- struct{}{}:
	default:
	}
}
