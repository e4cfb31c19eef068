package smtp

import (
	"slices"
	"time"
)

// What the pool keeps while nobody uses it.

// kept takes the last unused connection that is still good, nil if there is none.
func (p *pool) kept() *link {
	for len(p.unused) > 0 {
		last := len(p.unused) - 1
		l := p.unused[last]
		p.unused = p.unused[:last]
		if !l.quiet() { // closed by the server, or told to go
			l.cut()
			continue
		}
		busy := len(p.inUse) > 0
		p.inUse[l] = struct{}{}
		p.breaker.trial(p.now())
		if busy && !l.reused { // a spare one: the load is rising
			p.ahead()
		}
		return l
	}
	return nil
}

// offer gives a good connection to who waits for it, else keeps it: a new one behind those that were used, since it is
// taken only where they are not enough.
func (p *pool) offer(l *link) {
	delete(p.inUse, l)
	if p.closed {
		l.cut()
		return
	}
	if p.yields != nil && p.yields(l, len(p.wants) > 0 || len(p.queue.accounts) > 0) {
		p.quit(l)
		p.open()
		return
	}
	if len(p.wants) > 0 { // also for who needs a fresh one: it was used just now, or is new
		p.inUse[l] = struct{}{}
		p.breaker.trial(p.now())
		p.wants[0].ready <- given{link: l}
		p.wants = p.wants[1:]
		return
	}
	p.breaker.idle()
	l.rested = true
	if l.reused {
		p.unused = append(p.unused, l)
	} else {
		p.unused = slices.Insert(p.unused, 0, l)
	}
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.idle, p.reap)
	}
}

// back ends the use of a connection. Worked: the upstream answered over it.
func (p *pool) back(l *link, worked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if worked {
		p.breaker.alive()
	}
	l.used, l.reused, l.carried = p.now(), true, l.carried+1
	switch {
	// Bytes that nobody asked for would be taken for the answer to the next command.
	case l.broken || p.closed || !l.quiet():
		delete(p.inUse, l)
		l.cut()
	case p.perConnection > 0 && l.carried >= p.perConnection:
		delete(p.inUse, l)
		p.quit(l)
		p.ahead()
	default:
		p.offer(l)
	}
	p.open()
}

// unspent takes back a connection that was not used in the end: nothing is known of it that was not known before.
func (p *pool) unspent(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.broken || p.closed {
		delete(p.inUse, l)
		l.cut()
	} else {
		p.offer(l)
	}
	p.open()
}

// reap closes what was unused for too long.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaper = nil
	now, next := p.now(), time.Duration(0)
	p.unused = slices.DeleteFunc(p.unused, func(l *link) bool {
		left := p.idle - now.Sub(l.used)
		if left <= 0 {
			p.quit(l)
			return true
		}
		if next == 0 || left < next {
			next = left
		}
		return false
	})
	if next > 0 && !p.closed {
		p.reaper = time.AfterFunc(next, p.reap)
	}
}

// dismiss closes all unused connections.
func (p *pool) dismiss() {
	for _, l := range p.unused {
		p.quit(l)
	}
	p.unused = nil
}

// adopt keeps a connection that was not opened for a message; false: the pool is closed.
func (p *pool) adopt(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.breaker.alive() // it took the login
	p.breaker.connected()
	l.used, l.reused = p.now(), true
	p.offer(l)
	return true
}

// shed closes the connection that was unused longest; false: none is.
func (p *pool) shed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.oldest()
	if i < 0 {
		return false
	}
	p.quit(p.unused[i])
	p.unused = slices.Delete(p.unused, i, i+1)
	return true
}

// unusedSince is since when a connection has been unused; false: none is.
func (p *pool) unusedSince() (since time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.oldest()
	if i < 0 {
		return time.Time{}, false
	}
	return p.unused[i].used, true
}

// oldest is the index of the connection that was unused longest, -1 if there is none.
func (p *pool) oldest() int {
	oldest := -1
	for i, l := range p.unused {
		if oldest < 0 || l.used.Before(p.unused[oldest].used) {
			oldest = i
		}
	}
	return oldest
}
