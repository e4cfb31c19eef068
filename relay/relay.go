// Package relay is the life of one message: who may send it, to whom, in what shape, and who owes it afterwards.
package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

// Contacts reads what is known of persons, all in one round trip; strangers are missing from the result.
type Contacts interface {
	Facts(ctx context.Context, persons []string) (map[string]policy.Facts, error)
}

// Journal records durably, all entries or none.
type Journal interface {
	Record(ctx context.Context, entries []policy.Entry) error
}

// Links makes the opt-out link of one recipient of one message.
type Links interface {
	Link(person, sender, topic string, scope policy.Scope, message string) (string, error)
}

// Spool keeps copies that have no final answer yet.
type Spool interface {
	// Keep makes the copies of one message durable, or none; they are this node's until their Due. smtp.ErrFull: no room.
	Keep(ctx context.Context, body []byte, copies []smtp.Copy) error
	// Hold keeps a kept copy this node's until release; the context it returns ends if it is lost to another.
	Hold(ctx context.Context, c smtp.Copy) (held context.Context, release func())
	// Settle takes the outcome of an attempt for a kept copy: it is removed, with a bounce where it failed for good, or
	// will be tried again.
	Settle(ctx context.Context, c smtp.Copy, o smtp.Outcome) error
	// Done removes a kept copy of which everything was said.
	Done(ctx context.Context, id string) error
	// Bounce tells the envelope sender, by a mail of its own, which recipients m was not delivered to.
	Bounce(ctx context.Context, m smtp.Message, failed []smtp.Failure) error
}

// Meter counts.
type Meter interface {
	Decided(account, action, code string)
	Delivered(upstream, fate string, seconds float64)
}

// Relay decides, rewrites and hands on. Its fields are set once, before it serves.
type Relay struct {
	Hostname  string
	Key       policy.AddressKey
	Contacts  Contacts
	Journal   Journal
	Links     Links
	Spool     Spool // nil: off
	Guard     Guard // nil: off
	Upstreams map[string]smtp.Sender
	Meter     Meter
	Budget    time.Duration // how long a client waits for the upstream
	Remember  time.Duration // how long Guard keeps what clients were told
	Now       func() time.Time
	Log       *slog.Logger

	book   atomic.Pointer[Book]
	recent recent
	late   sync.WaitGroup // transactions that outlast their client's patience

	lateHeld atomic.Int64 // bytes of their messages
	lateMax  int64        // lateBytes; less in tests
}

var _ smtp.Handler = (*Relay)(nil)

// Book is what a reload replaces as a whole.
type Book struct {
	Rules    *policy.Rules
	Accounts map[string]*Account
	Notices  *rewrite.Notices
	Language string // auto, or a fixed BCP 47 tag
	OneClick string // auto, topic, sender or all: the scope sealed into a link

	WrapSigned bool // signed_mail: wrap
}

// Account is a policy.Account and where its mail goes.
type Account struct {
	policy.Account
	Upstreams     []string // in order: the next is tried where one gives no answer
	RejectPartial bool     // on_partial: reject
	Pass          bool     // auth: pass
	Signer        *rewrite.Signer
	TextSwitch    string // rewrite.TextSwitch of an upstream
}

// Load puts a book into force; messages under way finish with the one they began with.
func (r *Relay) Load(b *Book) { r.book.Store(b) }

// Message takes a whole transaction to its end: read, decide, rewrite, journal, hand through or keep. The client
// stays responsible until the reply is positive.
func (r *Relay) Message(ctx context.Context, m smtp.Message) smtp.Reply {
	t, reply := r.open(m)
	if t == nil {
		return reply
	}
	if no := r.unpassable(t); no != nil {
		return *no
	}
	if err := r.decide(ctx, t); err != nil {
		return r.fault(t, "facts", err)
	}
	t.m.StartBy = time.Now().Add(r.Budget)
	if err := r.rewriteAll(ctx, t); err != nil {
		return r.fault(t, "rewrite", err)
	}
	if reply, ok := r.begin(ctx, t); !ok {
		return reply
	}
	lawful, answered := t.lawful(), t.countTold()
	blocked := len(t.jobs) - len(lawful) - answered
	whole := t.account.Pass || t.account.RejectPartial && answered == 0 // one block refuses all of it
	switch {
	case answered > 0 && answered == len(t.jobs):
		return t.repetition()
	case answered+len(lawful) == 0, whole && blocked > 0:
		t.ward.free(ctx, lawful)
		return t.firstRefusal()
	case t.account.Pass:
		return r.deliverByLogin(ctx, t, lawful)
	case len(t.jobs) == 1:
		return r.handThrough(ctx, t, lawful[0])
	}
	return r.deliverAll(ctx, t, lawful)
}

// Drain waits for the upstream transactions that outlasted their clients, until ctx ends: what is open then is durable
// and its outcome in doubt.
func (r *Relay) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() { r.late.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("upstream transactions are still open; the spool has their messages")
	}
}

// fault is our own failure: temporary, the detail in the log alone.
func (r *Relay) fault(t *transaction, what string, err error) smtp.Reply {
	r.Log.Error("message not taken", "message", t.m.ID, "account", t.m.Account, "failed", what, "error", err)
	return smtp.OurFault.With("temporary failure in the gateway (%s)", t.m.ID)
}
