package smtp

import (
	"context"
	"time"
)

const (
	intakeStart = 8 << 10          // the first piece of a message's buffer
	intakeLeap  = 64 << 10         // as far as a declared SIZE is believed before data came
	budgetWait  = 30 * time.Second // how long one message waits for memory, all its waits together
)

// intake is the buffer of one message; its memory is acquired from the budget before it is spent.
type intake struct {
	budget  *budget
	account string
	ctx     context.Context // ends the wait for memory
	wait    time.Duration   // at most, all waits together
	waited  time.Duration   // so far
	hint    int64           // declared SIZE, 0 if none
	limit   int64
	buf     []byte
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
	c := &claim{account: m.account, n: size, held: int64(cap(m.buf))}
	err := m.budget.acquire(m.ctx, c, min(m.wait, budgetWait)-m.waited)
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
		m.budget.release(m.account, n)
	}
}
