package smtp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	intakeStart = 8 << 10          // the first piece of a message's buffer
	intakeLeap  = 64 << 10         // as far as a declared SIZE is believed before data came
	budgetWait  = 30 * time.Second // how long one message waits for memory, all its waits together
)

var errBudget = errors.New("no memory for message data")

// budget bounds the bytes of message data that all connections hold. Who asks first is served first.
type budget struct {
	total int64

	mu    sync.Mutex
	used  int64
	stuck int64 // of used, what those in the queue hold
	queue []*claim
}

// claim waits for n bytes beside the held ones.
type claim struct {
	n, held int64
	answer  chan error // nil: granted
}

func newBudget(n int64) *budget { return &budget{total: n} }

// acquire waits its turn to take n bytes more than the held ones.
func (b *budget) acquire(ctx context.Context, n, held int64, wait time.Duration) error {
	b.mu.Lock()
	if len(b.queue) == 0 && b.used+n <= b.total {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	c := &claim{n, held, make(chan error, 1)}
	b.queue = append(b.queue, c)
	b.stuck += held
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
	if i := slices.Index(b.queue, c); i >= 0 {
		b.answer(i, errBudget)
		b.serve()
	}
	return <-c.answer
}

func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.serve()
}

// inUse is the bytes taken now.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// serve grants what there is memory for. Where all of it is held by half messages that wait for each other, the last
// of them gives up, so that its memory serves the others.
func (b *budget) serve() {
	for len(b.queue) > 0 && b.used+b.queue[0].n <= b.total {
		b.used += b.queue[0].n
		b.answer(0, nil)
	}
	if b.stuck < b.used {
		return
	}
	for i := len(b.queue) - 1; i >= 0; i-- {
		if b.queue[i].held > 0 {
			b.answer(i, errBudget)
			return
		}
	}
}

func (b *budget) answer(i int, err error) {
	c := b.queue[i]
	b.queue = slices.Delete(b.queue, i, i+1)
	b.stuck -= c.held
	c.answer <- err
}

// intake is the buffer of one message; its memory is acquired from the budget before it is spent.
type intake struct {
	budget *budget
	ctx    context.Context // ends the wait for memory
	wait   time.Duration   // at most, all waits together
	waited time.Duration   // so far
	hint   int64           // declared SIZE, 0 if none
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
	began := time.Now()
	err := m.budget.acquire(m.ctx, size, int64(cap(m.buf)), min(m.wait, budgetWait)-m.waited)
	m.waited += time.Since(began)
	if err != nil {
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
