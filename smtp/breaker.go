package smtp

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The breaker opens after that many attempts in a row that gave no usable connection, then lets one attempt through
// after firstPause, after twice as long each time it fails again, and at last every longestPause.
const (
	breakAfter   = 3
	firstPause   = time.Second
	longestPause = time.Minute
)

// breaker keeps a dead upstream from costing each message its timeout, and one that takes no more connections from
// being asked for them all the time. The pool's lock guards it.
type breaker struct {
	failures int // in a row, and no sign of life since
	cause    error
	since    time.Time     // of the first of them
	last     time.Time     // of the latest
	pause    time.Duration // zero: the latest attempt was a success
	until    time.Time     // when the pause is over
}

// open tells that the upstream counts as dead.
func (b *breaker) open() bool { return b.failures >= breakAfter }

// failed counts an attempt that ended now.
func (b *breaker) failed(now time.Time, cause error) {
	if b.failures++; b.failures == 1 {
		b.since = now
	}
	b.rest(now, cause)
}

// rest begins the next pause between attempts.
func (b *breaker) rest(now time.Time, cause error) {
	if b.pause = min(2*b.pause, longestPause); b.pause == 0 || b.failures == breakAfter {
		b.pause = firstPause
	}
	// Up to a fifth later: the nodes that saw it die together must not all come back together.
	b.last, b.until, b.cause = now, now.Add(b.pause+rand.N(b.pause/5)), cause
}

// connected: an attempt gave a usable connection. Whether a dead upstream is back the next message shows.
func (b *breaker) connected() {
	if !b.open() {
		b.pause, b.until = 0, time.Time{}
	}
}

// trial: a message has a connection to a dead upstream. While it shows whether that is back, others keep away, for a
// pause at most.
func (b *breaker) trial(now time.Time) {
	if b.open() {
		b.until = now.Add(b.pause)
	}
}

// idle: there is a connection to a dead upstream, and no message that tries it: the next one may.
func (b *breaker) idle() {
	if b.open() {
		b.until = time.Time{}
	}
}

// alive: the upstream answered. A pause that only its limit of connections asks for goes on.
func (b *breaker) alive() {
	if b.open() {
		b.pause, b.until = 0, time.Time{}
	}
	b.failures = 0
}

// error says since when and why.
func (b *breaker) error() error {
	return fmt.Errorf("%w: no connection since %s, after %d attempts: %w", ErrDead, b.since.UTC().Format(time.RFC3339), b.failures, b.cause)
}
