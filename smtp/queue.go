package smtp

import (
	"context"
	"slices"
	"sync"
)

// queue hands out a bounded number of turns. Who waits is served account by account in rotation, so that the thousand
// messages of one account hold up another's by one turn. The pool's lock guards it.
type queue struct {
	free     int                  // turns that nobody has; where there are some, nobody waits
	accounts []string             // that wait, the next one first
	waiting  map[string][]*waiter // by account, oldest first; none is empty
}

// waiter waits for its turn.
type waiter struct {
	account string
	turn    chan error // nil: the turn has come; buffered
}

// add queues a caller.
func (q *queue) add(account string) *waiter {
	w := &waiter{account, make(chan error, 1)}
	if len(q.waiting[account]) == 0 {
		q.accounts = append(q.accounts, account)
	}
	q.waiting[account] = append(q.waiting[account], w)
	return w
}

// enter takes a turn, waiting for it. mu guards q: it is held when this is called, and not when it returns.
func (q *queue) enter(ctx context.Context, mu *sync.Mutex, account string) error {
	if q.free > 0 {
		q.free--
		mu.Unlock()
		return nil
	}
	w := q.add(account)
	mu.Unlock()
	return q.await(ctx, mu, w, q.release)
}

// await returns when w's turn has come. Where ctx ends before that, release passes on a turn that came all the same. mu
// guards q and is not held.
func (q *queue) await(ctx context.Context, mu *sync.Mutex, w *waiter, release func()) error {
	select {
	case err := <-w.turn:
		return err
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	if !q.remove(w) && <-w.turn == nil {
		release() // it came at the same moment
	}
	return ctx.Err()
}

// prefer makes a waiting account the next one.
func (q *queue) prefer(account string) {
	i := slices.Index(q.accounts, account)
	copy(q.accounts[1:i+1], q.accounts[:i])
	q.accounts[0] = account
}

// release ends a turn, which goes on to the next account's oldest.
func (q *queue) release() {
	if len(q.accounts) == 0 {
		q.free++
		return
	}
	account := q.accounts[0]
	q.accounts = q.accounts[1:]
	w := q.waiting[account][0]
	if q.waiting[account] = q.waiting[account][1:]; len(q.waiting[account]) > 0 {
		q.accounts = append(q.accounts, account)
	} else {
		delete(q.waiting, account)
	}
	w.turn <- nil
}

// remove takes a caller out; false: it waits no more, its answer is in its channel.
func (q *queue) remove(w *waiter) bool {
	i := slices.Index(q.waiting[w.account], w)
	if i < 0 {
		return false
	}
	if q.waiting[w.account] = slices.Delete(q.waiting[w.account], i, i+1); len(q.waiting[w.account]) == 0 {
		delete(q.waiting, w.account)
		q.accounts = slices.DeleteFunc(q.accounts, func(a string) bool { return a == w.account })
	}
	return true
}

// fail answers all who wait.
func (q *queue) fail(err error) {
	for _, account := range q.waiting {
		for _, w := range account {
			w.turn <- err
		}
	}
	clear(q.waiting)
	q.accounts = nil
}
