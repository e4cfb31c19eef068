package smtp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

var errBudget = errors.New("no memory for message data")

// budget bounds the bytes of message data that all connections hold, and shares them between accounts, of which one
// whose upstream is slow would hold them all: an account may hold four times what it leaves free, but always what
// one message needs. So there is room for the next account, however many are slow. Of those that wait, the account
// that holds least is served first.
type budget struct {
	total int64
	least int64 // what one message may need

	mu    sync.Mutex
	used  int64
	held  map[string]int64 // of used, by account
	stuck int64            // of used, what those in the queue hold
	queue []*claim
}

// claim waits for n bytes beside those that its message holds.
type claim struct {
	account string
	n, held int64
	answer  chan error // nil: granted
}

func newBudget(total, least int64) *budget {
	return &budget{total: total, least: least, held: map[string]int64{}}
}

// acquire waits its turn.
func (b *budget) acquire(ctx context.Context, c *claim, wait time.Duration) error {
	b.mu.Lock()
	if len(b.queue) == 0 && b.fair(c) && b.used+c.n <= b.total {
		b.take(c)
		b.mu.Unlock()
		return nil
	}
	c.answer = make(chan error, 1)
	b.queue = append(b.queue, c)
	b.stuck += c.held
	b.serve()
	b.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case err := <-c.answer:
		return err
	case <-timer.C:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.queue, c) {
		b.end(c, errBudget)
		b.serve()
	}
	return <-c.answer
}

func (b *budget) release(account string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.held[account] -= n; b.held[account] == 0 {
		delete(b.held, account)
	}
	b.serve()
}

// inUse is the bytes taken now.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *budget) fair(c *claim) bool {
	return b.held[c.account]+c.n <= max(b.least, 4*(b.total-b.used-c.n))
}

func (b *budget) take(c *claim) {
	b.used += c.n
	b.held[c.account] += c.n
}

// serve grants what is fair and what there is memory for. The first that there is no memory for is waited for: small
// messages of others must not keep it from ever coming in. Where all memory is held by half messages that wait, one
// of the account that holds most gives up, the last of them, so that its memory serves the others.
func (b *budget) serve() {
	for {
		c := b.first()
		if c == nil || b.used+c.n > b.total {
			break
		}
		b.take(c)
		b.end(c, nil)
	}
	if b.stuck < b.used {
		return
	}
	var last *claim
	for _, c := range b.queue {
		if c.held > 0 && (last == nil || b.held[c.account] >= b.held[last.account]) {
			last = c
		}
	}
	if last != nil {
		b.end(last, errBudget)
	}
}

// first is the claim whose turn it is.
func (b *budget) first() (first *claim) {
	for _, c := range b.queue {
		if b.fair(c) && (first == nil || b.held[c.account] < b.held[first.account]) {
			first = c
		}
	}
	return first
}

func (b *budget) end(c *claim, err error) {
	b.queue = slices.DeleteFunc(b.queue, func(q *claim) bool { return q == c })
	b.stuck -= c.held
	c.answer <- err
}
