package smtp

import (
	"context"
	"sync"
	"time"
)

// pool bounds the connections to one upstream and keeps the unused ones. A slot is held for each connection in use;
// a new one is made only where none is unused, so that both together never exceed the slots.
type pool struct {
	slots chan struct{}
	idle  time.Duration

	mu     sync.Mutex
	unused []*link // oldest first
	inUse  map[*link]struct{}
	timer  *time.Timer
	closed chan struct{}
}

func newPool(connections int, idle time.Duration) *pool {
	return &pool{slots: make(chan struct{}, connections), idle: idle, inUse: map[*link]struct{}{}, closed: make(chan struct{})}
}

// enter takes a slot, waiting for it.
func (p *pool) enter(ctx context.Context) error {
	if p.isClosed() {
		return errClosed
	}
	if err := ctx.Err(); err != nil { // else select might take a slot, and a good connection be cut for nothing
		return err
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) leave() { <-p.slots }

// kept is the unused connection that was used last, nil if there is none.
func (p *pool) kept() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.unused) - 1
	if last < 0 {
		return nil
	}
	l := p.unused[last]
	p.unused = p.unused[:last]
	p.inUse[l] = struct{}{}
	return l
}

// add takes a new connection into the pool, as one in use. False: the pool is closed.
func (p *pool) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed() {
		return false
	}
	p.inUse[l] = struct{}{}
	return true
}

// back ends the use of a connection.
func (p *pool) back(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, l)
	// Bytes that nobody asked for would be taken for the answer to the next command.
	if l.broken || l.in.Buffered() > 0 || p.isClosed() {
		l.cut()
		return
	}
	l.used, l.reused = time.Now(), true
	p.unused = append(p.unused, l)
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idle, p.reap)
	}
}

// reap closes what was unused for too long.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.unused) > 0 && now.Sub(p.unused[0].used) >= p.idle {
		go p.unused[0].quit()
		p.unused = p.unused[1:]
	}
	p.timer = nil
	if len(p.unused) > 0 {
		p.timer = time.AfterFunc(p.idle-now.Sub(p.unused[0].used), p.reap)
	}
}

func (p *pool) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed() {
		return
	}
	close(p.closed)
	if p.timer != nil {
		p.timer.Stop()
	}
	for l := range p.inUse {
		l.cut()
	}
	var leaving sync.WaitGroup
	for _, l := range p.unused {
		leaving.Go(l.quit)
	}
	p.unused = nil
	leaving.Wait()
}

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
