package smtp

import (
	"net/netip"
	"sync"
	"time"
)

const (
	throttleTries  = 30 // failed logins from one network in one window
	throttleWindow = 10 * time.Minute
	throttleSize   = 10_000
)

// throttle counts failed logins by client network: an IPv4 address or an IPv6 /64. Loopback is left out: behind a
// local TLS proxy everyone comes from there.
type throttle struct {
	mu  sync.Mutex
	net map[netip.Prefix]tally
}

type tally struct {
	failures int
	until    time.Time
}

func newThrottle() *throttle { return &throttle{net: make(map[netip.Prefix]tally)} }

func clientNetwork(a netip.Addr) (netip.Prefix, bool) {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	return p, err == nil && a.IsValid() && !a.IsLoopback()
}

func (t *throttle) blocked(a netip.Addr, now time.Time) bool {
	p, ok := clientNetwork(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.net[p]
	return ok && n.failures >= throttleTries && now.Before(n.until)
}

func (t *throttle) failed(a netip.Addr, now time.Time) {
	p, ok := clientNetwork(a)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.net[p]
	if !now.Before(n.until) {
		n = tally{until: now.Add(throttleWindow)}
	}
	n.failures++
	t.net[p] = n
	t.bound(now)
}

// bound drops what has expired, and any others, while there are too many.
func (t *throttle) bound(now time.Time) {
	if len(t.net) <= throttleSize {
		return
	}
	for p, n := range t.net {
		if !now.Before(n.until) {
			delete(t.net, p)
		}
	}
	for p := range t.net {
		if len(t.net) <= throttleSize*9/10 {
			return
		}
		delete(t.net, p)
	}
}
