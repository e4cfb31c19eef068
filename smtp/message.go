package smtp

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Envelope is what is known of a transaction before its content.
type Envelope struct {
	ID      string     // of the transaction, made at MAIL by NewID; stands in logs, replies and the journal
	Account string     // whose login or network this is; never empty when a Handler sees it
	From    string     // reverse-path, validated and re-quoted, "" for <>
	UTF8    bool       // SMTPUTF8 (RFC 6531)
	Body    string     // "7BIT" or "8BITMIME" (RFC 6152)
	Size    int64      // declared by SIZE, 0 if not (RFC 1870)
	Return  string     // DSN RET: "", "FULL" or "HDRS" (RFC 3461)
	EnvID   string     // DSN ENVID, decoded, "" if none
	Peer    netip.Addr // the client
	Helo    string     // the name it gave
	TLS     bool       // the transaction came over TLS
	Auth    bool       // the client authenticated: for its account, or at the upstream (Login)
	Taken   int        // recipients taken into the transaction so far
	Login   Sender     `json:"-"` // the client's own login at the upstream (Server.Pass), nil if none; good until the Handler returns
}

// Recipient is one forward-path with its DSN parameters (RFC 3461).
type Recipient struct {
	Address string   // validated and re-quoted: fit to stand between < and > on the wire
	Notify  []string // NEVER, or any of SUCCESS, FAILURE, DELAY; empty if not given
	ORcpt   string   // "rfc822;a@b", decoded, "" if none
}

// Message is a whole transaction. Data has CRLF line ends only, no dot-stuffing, and ends in CRLF.
type Message struct {
	Envelope
	To   []Recipient
	Data []byte

	// StartBy: a message that has no turn at the upstream by then is not begun (ErrBusy), since what it was lawful by may
	// have changed. Zero: it waits as long as its context.
	StartBy time.Time `json:"-"`
}

// Handler is what the door asks. Every call has a deadline in ctx and may block that connection only.
// A Handler never returns an internal error's text.
type Handler interface {
	// Recipient answers RCPT TO. Positive: the recipient is taken into the transaction.
	Recipient(ctx context.Context, e Envelope, to string) Reply
	// Message answers the end of DATA, for all recipients that were taken. It does not keep m.Data.
	Message(ctx context.Context, m Message) Reply
}

// Sender hands a message to an upstream. A Reply is the upstream's own final answer to this message (to MAIL, RCPT, DATA
// or the content), or one of ours where the message cannot be sent to it as it is (NoSMTPUTF8). An error means that it
// gave no answer: errors.As finds TurnedAwayError or UnservedError where it would not even be asked,
// errors.Is(err, ErrInDoubt) tells that it may have the message.
type Sender interface {
	Send(ctx context.Context, m Message) (Reply, error)
}

// ErrBusy: no turn came in time, because all connections to the upstream were in use or its rate allowed no more.
var ErrBusy = errors.New("the upstream is busy")

// ErrDead: the upstream counts as dead and is being looked for; the message was not tried.
var ErrDead = errors.New("the upstream counts as dead")

// ErrInDoubt: the connection broke after the final dot, or the end of the last chunk, and before its answer (RFC 5321
// section 4.5.3.2.6, RFC 1047).
var ErrInDoubt = errors.New("answer lost after the final dot: the message may have been delivered")

// Copy is one message to one recipient that the gateway has promised to deliver or to report.
type Copy struct {
	ID       string    // unique; "queued as ID"
	Message  Message   // as the client gave it, To holding the one recipient
	Upstream string    // name of the first of its account's upstreams: its queue; it may go to a later one
	Note     []byte    // what the relay needs to decide again; opaque to everyone else
	Accepted time.Time // when the client got its 250
	Attempts int       // made so far
	Due      time.Time // of the next attempt
	Last     string    // the last answer or error, for people
	Doubt    bool      `json:",omitempty"` // the last attempt's answer was lost: the upstream may have it
}

// Fate is how an attempt to deliver one copy ended.
type Fate int

// The fates. Deferred and InDoubt leave the copy with the gateway; the others are final. States hold their numbers.
const (
	Sent     Fate = iota // the upstream took it: Reply is its own
	Failed               // refused for good: Reply is the upstream's or ours
	Blocked              // the decision forbids it: Reply says which rule
	Deferred             // no final answer: Reply is its 4yz, or says that there was none
	InDoubt              // the answer was lost after the final dot
	Repeated             // another copy of the same message goes in its place: nobody is to hear of this one
)

// String is the word of the journal.
func (f Fate) String() string {
	return [...]string{"sent", "failed", "blocked", "deferred", "in doubt", "repeated"}[f]
}

// Final tells whether nothing more is to be done for the copy but to report it.
func (f Fate) Final() bool { return f != Deferred && f != InDoubt }

// Outcome is the result of one attempt for one copy.
type Outcome struct {
	Fate     Fate
	Reply    Reply
	Upstream string // name of the upstream that it came from, "" where none was asked
	Untried  bool   // it was not tried, for a fault of ours or since the upstream is busy or dead: no attempt is counted
}

// Failure is one recipient that a message was not delivered to.
type Failure struct {
	Recipient Recipient
	Fate      Fate // Failed, or Blocked: a rule stopped it
	Reply     Reply
	At        time.Time // of the last attempt; zero: unknown
}

// ErrFull: the spool is full or off; nothing was kept, and the client keeps the message (SpoolFull).
var ErrFull = errors.New("the spool is full or off")
