// Package spool keeps messages that were accepted and not yet delivered, tries them again on a schedule, and reports
// to their senders what failed for good. Any node takes over another's copies, by lease.
package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"heed/smtp"
)

// Item is one copy in the store.
type Item = struct {
	ID    string
	Queue string // name of the upstream that it was kept for; "" of copies kept before there were queues
	Due   time.Time
	Lease time.Time // zero: not leased
	Meta  []byte    // the smtp.Copy without its data, as JSON
	Body  []byte
}

// Store is where the copies wait. Every write is idempotent, and durable when its error is nil.
type Store interface {
	// SpoolAdd makes the body and every copy durable, or nothing: copies maps IDs to metas. They stand in queue, are due at
	// due and until then leased to node. False: all bodies together would exceed max bytes.
	SpoolAdd(ctx context.Context, node, queue string, due time.Time, body []byte, copies map[string][]byte, max int64) (bool, error)
	// SpoolClaim leases to node up to n copies that are due at now and not leased to another, but for the queues in skip.
	SpoolClaim(ctx context.Context, node string, now, until time.Time, n int, skip []string) ([]Item, error)
	// SpoolRenew extends node's leases; it returns the copies that are still node's.
	SpoolRenew(ctx context.Context, node string, until time.Time, ids []string) ([]string, error)
	// SpoolUpdate writes meta and due and gives up the lease. False: it was not node's, or the copy is gone.
	SpoolUpdate(ctx context.Context, node, id string, due time.Time, meta []byte) (bool, error)
	// SpoolTake is SpoolClaim for one copy, due or not. False: it is leased to another, or gone.
	SpoolTake(ctx context.Context, node, id string, now, until time.Time) (Item, bool, error)
	// SpoolRetry makes those of the copies due at now that are not leased; it returns them.
	SpoolRetry(ctx context.Context, now time.Time, ids []string) ([]string, error)
	// SpoolDone removes a copy.
	SpoolDone(ctx context.Context, id string) error
	// SpoolList reads what waits, by due time, without bodies.
	SpoolList(ctx context.Context, yield func(Item) bool) error
	// SpoolGet reads one copy with its body. False: there is none.
	SpoolGet(ctx context.Context, id string) (Item, bool, error)
	// SpoolSize is the bytes of all bodies and the number of copies.
	SpoolSize(ctx context.Context) (bytes int64, copies int, err error)
}

// The events that are not words of smtp.Fate: a copy was not delivered in time, or the operator gave it up.
const (
	GaveUp  = "gave up"
	Dropped = "dropped"
)

// doubt is how long a copy whose answer was lost is left alone: the upstream may still be working on it, for as long
// as we would have waited (RFC 5321 section 4.5.3.2.6, RFC 1047).
const doubt = 10 * time.Minute

// storeTimeout bounds every access to the store that is not a caller's.
const storeTimeout = 10 * time.Second

// Spool is the retry loop over the store. Its fields are set before its first use. Zero values of those marked with a
// default mean that default.
type Spool struct {
	Store   Store
	Attempt func(ctx context.Context, c smtp.Copy) smtp.Outcome // decides again, rewrites and sends
	// Report is told the outcome of every attempt, before the copy is removed. Nil: nobody is.
	Report  func(ctx context.Context, c smtp.Copy, o smtp.Outcome, event string)
	Ready   func(queue string) bool // false: its upstream is not to be tried now, what waits for it stays. Nil: all are
	Bouncer *Bouncer                // nil: no bounces
	Enabled bool                    // false: Keep refuses; what waits is still sent
	Max     int64                   // bytes of all bodies; 0: no limit
	Node    string                  // unique among running gateways

	Retry  []time.Duration // waits between attempts, the last one again and again; default 1m, 5m, 15m, 1h, 4h
	GiveUp time.Duration   // after acceptance; default 48h
	// Lease, default 2m, is renewed at a third. A dead node's copies are attempted when it ends, and not as those in doubt:
	// the connection died with the node, so the upstream has the message or not, and no answer is left to wait for.
	Lease time.Duration
	Poll  time.Duration  // between looks for due copies; default 5s
	Drain time.Duration  // how long Run waits for open attempts at its end; default 20s
	Slots map[string]int // attempts at once by upstream, so that none takes another's; for those that are not named 20
	Now   func() time.Time
	Log   *slog.Logger

	blind   bool      // Run could not read the store the last time
	expires time.Time // when Run next looks for what is over

	mu     sync.Mutex
	owed   map[string]verdict // what the store did not take yet, by copy: none of them is attempted
	leases map[string]*lease  // of the copies that this node works on
}

// Keep makes the copies of one transaction durable, with their common body and upstream. They are leased to this node until their
// Due, the latest if they differ, and are tried then unless they were settled before. smtp.ErrFull: nothing was kept.
func (s *Spool) Keep(ctx context.Context, body []byte, copies []smtp.Copy) error {
	if !s.Enabled {
		return smtp.ErrFull
	}
	limit := s.Max
	if limit == 0 {
		limit = math.MaxInt64
	}
	err := s.add(ctx, body, copies, limit)
	if err != nil && !errors.Is(err, smtp.ErrFull) {
		// They may be there all the same. The client is told to come again, so they must not be sent as well.
		for _, c := range copies {
			s.owe(removal(c.ID))
		}
	}
	return err
}

func (s *Spool) add(ctx context.Context, body []byte, copies []smtp.Copy, limit int64) error {
	metas := make(map[string][]byte, len(copies))
	var due time.Time
	for _, c := range copies {
		if c.Accepted.IsZero() {
			c.Accepted = s.now()
		}
		if c.Due.IsZero() {
			c.Due = s.now()
		}
		meta, err := encode(c)
		if err != nil {
			return err
		}
		metas[c.ID] = meta
		if c.Due.After(due) {
			due = c.Due
		}
	}
	ok, err := s.Store.SpoolAdd(ctx, s.Node, copies[0].Upstream, due, body, metas, limit)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if !ok {
		return smtp.ErrFull
	}
	return nil
}

// Settle records the outcome of an attempt that the caller made with a copy it kept: removed when final, with a bounce
// if it failed; else due again by the schedule, or given up with a bounce. It counts the attempt. After an error it is
// done when the store is back.
func (s *Spool) Settle(ctx context.Context, c smtp.Copy, o smtp.Outcome) error {
	v := s.judge(c, o)
	s.report(ctx, v)
	err := s.carryOut(ctx, s.holderOf(c.ID, s.Node), v)
	if err != nil && !s.isOver(c.ID) {
		s.owe(v)
	}
	return err
}

// Done removes a kept copy of which everything was said: neither reported nor bounced. After an error it is done when
// the store is back.
func (s *Spool) Done(ctx context.Context, id string) error {
	return s.carryOut(ctx, s.Node, removal(id))
}

// Hold keeps the lease of a kept copy, which lasts until its Due, alive until release is called. The context it
// returns ends with the cause smtp.ErrWithdrawn if the lease is lost, and at release.
func (s *Spool) Hold(ctx context.Context, c smtp.Copy) (held context.Context, release func()) {
	held, _, release = s.hold(ctx, s.Node, c.ID, c.Due)
	return held, release
}

// List reads what waits, by due time, without the messages' data, until yield returns false. lease is when the lease
// of the node that works on it ends, zero if none does.
func (s *Spool) List(ctx context.Context, yield func(c smtp.Copy, lease time.Time) bool) error {
	return s.Store.SpoolList(ctx, func(item Item) bool {
		c, err := decode(item)
		if err != nil {
			c = unreadable(item, err)
		}
		return yield(c, item.Lease)
	})
}

// unreadable stands for a copy by another version, or a damaged one.
func unreadable(item Item, err error) smtp.Copy {
	return smtp.Copy{ID: item.ID, Upstream: item.Queue, Due: item.Due, Last: "unreadable: " + err.Error(), Message: smtp.Message{Data: item.Body}}
}

func encode(c smtp.Copy) ([]byte, error) {
	c.Message.Data = nil
	return json.Marshal(c)
}

func decode(item Item) (smtp.Copy, error) {
	var c smtp.Copy
	if err := json.Unmarshal(item.Meta, &c); err != nil {
		return smtp.Copy{}, err
	}
	if len(c.Message.To) != 1 {
		return smtp.Copy{}, fmt.Errorf("%d recipients", len(c.Message.To))
	}
	c.ID, c.Due, c.Message.Data = item.ID, item.Due, item.Body
	return c, nil
}

func (s *Spool) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Spool) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Spool) lease() time.Duration { return either(s.Lease, 2*time.Minute) }

func either(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}
