package smtp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pool bounds the connections to one upstream, keeps the unused ones and opens new ones. A message needs a turn first;
// there are as many turns as there may be connections, so whoever has one gets a connection without pushing another out.
// Connections are opened in the background: whoever needs one takes the first that is ready, opened or given back.
type pool struct {
	limit, perConnection int
	eager                bool // opens connections before they are needed
	idle                 time.Duration
	connect              func(context.Context) (*link, error)
	now                  func() time.Time
	yields               func(l *link, wanted bool) bool // l is to go, for others' sake; nil: never
	life                 context.Context                 // of what is being opened
	end                  context.CancelFunc

	mu      sync.Mutex
	queue   queue
	breaker breaker
	wants   []*want // who has a turn and waits for a connection, oldest first
	opening int
	leaving int     // connections that say goodbye: the upstream counts them still
	careful bool    // an attempt failed, and there were not enough connections since: one attempt at a time
	unused  []*link // taken from its end
	inUse   map[*link]struct{}
	reaper  *time.Timer
	again   *time.Timer // opens when the pause after a failure is over
	closed  bool
}

// want is someone who waits for a connection.
type want struct {
	ready chan given // buffered
}

type given struct {
	link *link
	err  error
}

func newPool(c UpstreamConfig, connect func(context.Context) (*link, error)) *pool {
	p := &pool{
		limit: c.Connections, perConnection: c.PerConnection, eager: true, idle: c.Idle, connect: connect, now: time.Now,
		queue: queue{free: c.Connections, waiting: map[string][]*waiter{}}, inUse: map[*link]struct{}{},
	}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

// enter takes a turn, waiting for it.
func (p *pool) enter(ctx context.Context, account string) error {
	p.mu.Lock()
	if err := cmp.Or(ctx.Err(), p.refusal()); err != nil {
		p.mu.Unlock()
		return err
	}
	return p.queue.enter(ctx, &p.mu, account)
}

func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.release()
}

// refusal is why no message may go now, nil if one may. While the breaker is open and its pause is over, that is the
// first who comes: the attempt to open a connection for it shows whether the upstream is back.
func (p *pool) refusal() error {
	switch trying := p.opening > 0 || len(p.wants) > 0 || len(p.queue.accounts) > 0; {
	case p.closed:
		return errClosed
	case p.breaker.open() && (trying || p.now().Before(p.breaker.until)):
		return p.breaker.error()
	}
	return nil
}

// take is a connection for whoever has a turn: the unused one that was used last, else the first that is ready. Fresh:
// none of those that are unused.
func (p *pool) take(ctx context.Context, fresh bool) (*link, error) {
	if err := ctx.Err(); err != nil {
		return nil, busy(err)
	}
	p.mu.Lock()
	if fresh {
		p.dismiss() // what died took its like with it
	}
	if l := p.kept(); l != nil {
		p.mu.Unlock()
		return l, nil
	}
	if err := p.refusal(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	c := &want{make(chan given, 1)}
	p.wants = append(p.wants, c)
	p.open()
	p.ahead()
	p.mu.Unlock()
	select {
	case got := <-c.ready:
		return got.link, got.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.wants, c); i >= 0 {
		p.wants = slices.Delete(p.wants, i, i+1)
	} else if got := <-c.ready; got.link != nil {
		p.offer(got.link)
	}
	return nil, fmt.Errorf("waiting for a connection: %w", ctx.Err())
}

// open starts as many attempts as are wanted, within the limit and what the breaker allows.
func (p *pool) open() {
	for !p.closed && p.opening < len(p.wants) {
		working := len(p.inUse) > 0 // then they are served by those, if need be
		wait := p.breaker.until.Sub(p.now())
		switch {
		case p.breaker.pause > 0 && working && wait > 0:
			if p.again == nil {
				p.again = time.AfterFunc(wait, p.reopen)
			}
			return
		case p.careful && p.opening > 0:
			return
		case p.size() >= p.limit && (len(p.unused) == 0 || p.leaving >= len(p.wants)-p.opening):
			return
		case p.size() >= p.limit:
			p.quit(p.unused[0])
			p.unused = p.unused[1:]
			return
		}
		p.start()
	}
}

func (p *pool) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = nil
	p.open()
}

// ahead opens a connection that nobody needs yet, so that the next message need not wait for TCP, TLS, EHLO and AUTH.
// It is called when others are busy and the last spare one is gone: under rising load, not under a steady one.
func (p *pool) ahead() {
	if p.eager && len(p.inUse) > 0 && len(p.unused) == 0 && p.opening <= len(p.wants) && p.size() < p.limit && !p.careful && !p.closed {
		p.start()
	}
}

func (p *pool) size() int { return len(p.unused) + len(p.inUse) + p.opening + p.leaving }

// quit ends a connection, whose place is taken when it has gone.
func (p *pool) quit(l *link) {
	if c, ok := l.socket.(*tokenConn); ok {
		c.token.leave()
	}
	p.leaving++
	go func() {
		l.quit()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leaving--
		p.open()
	}()
}

func (p *pool) start() {
	p.opening++
	started := p.now()
	go func() {
		l, err := p.connect(p.life)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opening--
		switch {
		case p.closed && err == nil:
			l.cut()
		case p.closed:
		case err != nil:
			p.failed(started, err)
		default:
			p.breaker.connected()
			l.used = p.now()
			p.offer(l)
			p.careful = p.careful && len(p.wants) > 0
			p.open()
		}
	}()
}

// failed: an attempt gave no connection. Where the upstream turned it away while others are in use, that is an ESP's limit
// and not its death: the next attempt may wait, and who waits goes on waiting for one of those. Else attempts that were
// under way together count as one.
func (p *pool) failed(started time.Time, err error) {
	if errors.Is(err, ErrBusy) { // it was no attempt: there was no room for it
		if len(p.wants) > p.opening {
			p.wants[0].ready <- given{err: err}
			p.wants = p.wants[1:]
		}
		p.open()
		return
	}
	var away TurnedAwayError
	limited, working := errors.As(err, &away), len(p.inUse) > 0
	p.careful = true
	switch {
	case limited && working: // it takes so many and no more: the next attempt may wait
		p.breaker.rest(p.now(), err)
	case started.After(p.breaker.last) || !limited && !working:
		p.breaker.failed(p.now(), err)
	}
	switch {
	case p.breaker.open():
		p.fail(p.breaker.error())
		p.dismiss()
	case working || limited && p.opening > 0:
	case len(p.wants) > p.opening:
		p.wants[0].ready <- given{err: err}
		p.wants = p.wants[1:]
	}
	p.open()
}

// silent: a new connection was used, and nothing was answered over it.
func (p *pool) silent(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.breaker.failed(p.now(), err); p.breaker.open() {
		p.fail(p.breaker.error())
		p.dismiss()
	}
}

// fail answers all who wait for a connection or for a turn.
func (p *pool) fail(err error) {
	for _, c := range p.wants {
		c.ready <- given{err: err}
	}
	p.wants = nil
	p.queue.fail(err)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.end()
	for _, t := range []*time.Timer{p.reaper, p.again} {
		if t != nil {
			t.Stop()
		}
	}
	p.fail(errClosed)
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
