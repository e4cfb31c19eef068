package smtp

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	intakeStart = 8 << 10          // the first piece of a message's buffer
	intakeLeap  = 64 << 10         // as far as a declared SIZE is believed before data came
	budgetWait  = 30 * time.Second // how long a connection waits for memory
)

var errBudget = errors.New("no memory for message data")

// budget bounds the bytes of message data that all connections hold.
type budget struct {
	sem  *semaphore.Weighted
	used atomic.Int64
}

func newBudget(n int64) *budget { return &budget{sem: semaphore.NewWeighted(n)} }

// acquire waits its turn. Connections that hold half a message and wait for each other all end by their deadlines.
func (b *budget) acquire(ctx context.Context, n int64, wait time.Duration) error {
	if !b.sem.TryAcquire(n) {
		ctx, cancel := context.WithTimeout(ctx, min(wait, budgetWait))
		defer cancel()
		if b.sem.Acquire(ctx, n) != nil {
			return errBudget
		}
	}
	b.used.Add(n)
	return nil
}

func (b *budget) release(n int64) {
	b.used.Add(-n)
	b.sem.Release(n)
}

// intake is the buffer of one message; its memory is acquired from the budget before it is spent.
type intake struct {
	budget *budget
	ctx    context.Context // ends the wait for memory
	wait   time.Duration
	hint   int64 // declared SIZE, 0 if none
	limit  int64
	buf    []byte
}

func (m *intake) write(p []byte) error {
	if need := int64(len(m.buf) + len(p)); need > int64(cap(m.buf)) {
		if err := m.grow(need); err != nil {
			return err
		}
	}
	m.buf = append(m.buf, p...)
	return nil
}

// grow doubles, or jumps to the declared size once a quarter of it has come.
func (m *intake) grow(need int64) error {
	size := max(need, 2*int64(cap(m.buf)), min(max(m.hint, intakeStart), intakeLeap))
	if m.hint >= need && m.hint <= 4*need {
		size = m.hint
	}
	size = max(need, min(size, m.limit))
	if err := m.budget.acquire(m.ctx, size, m.wait); err != nil {
		return err
	}
	buf := make([]byte, len(m.buf), size)
	copy(buf, m.buf)
	m.release()
	m.buf = buf
	return nil
}

func (m *intake) release() {
	if n := int64(cap(m.buf)); n > 0 {
		m.buf = nil
		m.budget.release(n)
	}
}
