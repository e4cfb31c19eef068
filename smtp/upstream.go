package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Security says how a connection to an upstream is protected.
type Security string

// The securities; the last two verify the certificate against the upstream's name.
const (
	Plain    Security = "none"
	StartTLS Security = "starttls" // required, RFC 3207
	Implicit Security = "tls"      // RFC 8314
)

// UpstreamConfig describes the SMTP server that mail is handed to.
type UpstreamConfig struct {
	Name        string // as in the configuration; stands in errors
	Address     string // host:port
	Security    Security
	Username    string // "": no login
	Password    string
	Hostname    string         // the gateway's name, for EHLO
	Connections int            // at most that many at once; 0: 20
	Rate        float64        // messages per second; 0: no limit
	Timeout     time.Duration  // to connect, and for each command; 0: 60 s
	Idle        time.Duration  // an unused connection is closed after it; 0: 30 s
	RootCAs     *x509.CertPool // nil: the system's

	PerConnection  int           // a connection is closed after that many messages; 0: no limit
	ConnectTimeout time.Duration // to make a connection, TLS and login included; 0: no limit but Timeout for each step
}

// ErrWithdrawn, as the cause of a context's end, stops a transaction only while the message cannot have arrived yet:
// once its final dot was written the answer is waited for. Any other end of a context stops it at any point.
var ErrWithdrawn = errors.New("withdrawn")

// errClosed: Send after Close.
var errClosed = errors.New("closed")

// TurnedAwayError: the upstream would not serve this connection now, before any message was named: its greeting was
// 4yz, or 421 came before MAIL (RFC 5321 section 3.8). Nothing was sent; another upstream may take the message.
type TurnedAwayError struct{ Reply Reply }

func (e TurnedAwayError) Error() string { return "the upstream takes no mail now: " + e.Reply.String() }

// UnservedError: the upstream does not serve this gateway as it is set up: it refused the connection, EHLO, STARTTLS or
// the login, or demands another login at MAIL (RFC 4954 section 6). Nothing was sent; another upstream may take it.
type UnservedError struct {
	At    string // what it answered so: a command's name, or "the connection"
	Reply Reply
}

func (e UnservedError) Error() string { return e.At + " was answered " + e.Reply.String() }

// answerTimeout is how long the answer to the final dot may take (RFC 5321 section 4.5.3.2.6); farewell is how long a
// server that stopped reading in the middle of a message is listened to for its reason; freshFor is how long after its
// last use a connection is sure not to be closed by the server for being idle.
const (
	answerTimeout = 10 * time.Minute
	farewell      = 5 * time.Second
	freshFor      = 2 * time.Second
	// maxKept is how many kept connections a message tries that its server parts from, before it gets a new one. Where
	// one is simply gone the others are too.
	maxKept = 3
)

// lapse is that the server offers what it does not do.
type lapse struct{ until atomic.Int64 } // UnixNano

// lapseHeld is how long that is held against it: servers are repaired, and one that was only closing may have been
// misjudged.
const lapseHeld = time.Hour

func (u *Upstream) distrust(l *lapse) { l.until.Store(u.pool.now().Add(lapseHeld).UnixNano()) }

func (u *Upstream) distrusts(l *lapse) bool { return u.pool.now().UnixNano() < l.until.Load() }

// Upstream sends messages to one server over a bounded set of connections, which it keeps and uses again.
// It is safe for concurrent use.
type Upstream struct {
	config UpstreamConfig
	tls    *tls.Config
	pool   *pool
	rate   *rateLimit
	login  string // of a client: in its name messages wait for the rate; "": in their account's
	dial   func(context.Context) (net.Conn, error)

	noChunks lapse // BDAT is not taken as RFC 3030 says, although it is offered: DATA
	lockStep lapse // the same of PIPELINING

	answer, farewell, fresh time.Duration // above; others in tests
}

var _ Sender = (*Upstream)(nil)

// NewUpstream checks the configuration; it does not connect.
func NewUpstream(c UpstreamConfig) (*Upstream, error) {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("upstream %s: address %q is not host:port", c.Name, c.Address)
	}
	switch c.Security {
	case Plain, StartTLS, Implicit:
	default:
		return nil, fmt.Errorf("upstream %s: security %q is none of none, starttls, tls", c.Name, c.Security)
	}
	if c.Username != "" && c.Security == Plain && !loopbackName(host) {
		return nil, fmt.Errorf("upstream %s: credentials are sent over TLS only, except to loopback", c.Name)
	}
	if strings.ContainsRune(c.Username+c.Password, 0) {
		return nil, fmt.Errorf("upstream %s: credentials contain a NUL", c.Name) // RFC 4616 section 2
	}
	if c.Hostname == "" || strings.ContainsFunc(c.Hostname, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("upstream %s: %q is no host name for EHLO", c.Name, c.Hostname)
	}
	if c.Connections < 0 || c.Rate < 0 || c.Timeout < 0 || c.Idle < 0 || c.PerConnection < 0 || c.ConnectTimeout < 0 {
		return nil, fmt.Errorf("upstream %s: a negative limit", c.Name)
	}
	if c.Connections == 0 {
		c.Connections = 20
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Idle == 0 {
		c.Idle = 30 * time.Second
	}
	u := &Upstream{config: c, rate: newRateLimit(c.Rate, c.Connections)}
	u.pool = newPool(c, u.connect)
	u.answer, u.farewell, u.fresh = answerTimeout, farewell, freshFor
	u.dial = u.dialTCP
	u.tls = &tls.Config{
		ServerName: host, RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(c.Connections),
	}
	return u, nil
}

// Send hands over m as Sender says. All recipients are taken or none: where one is refused, its Reply is returned and
// nothing was sent to the others. Before MAIL there is no Reply: TurnedAwayError where the server said "later",
// UnservedError where it said "never", any other error where TLS is at fault or no server is there.
// A kept connection that turns out to be dead is replaced before anything was sent, in the end by a new one.
func (u *Upstream) Send(ctx context.Context, m Message) (Reply, error) {
	if refusal, unfit := unfit(m); unfit {
		return refusal, nil
	}
	reply, err := u.send(ctx, m)
	switch {
	case err != nil && ctx.Err() != nil:
		return Reply{}, fmt.Errorf("upstream %s: %w (%w)", u.config.Name, err, context.Cause(ctx))
	case err != nil:
		return Reply{}, fmt.Errorf("upstream %s: %w", u.config.Name, err)
	}
	return reply, nil
}

func (u *Upstream) send(ctx context.Context, m Message) (Reply, error) {
	waiting, cancel := m.waiting(ctx)
	defer cancel()
	if err := u.pool.enter(waiting, m.Account); err != nil {
		return Reply{}, fmt.Errorf("waiting for a free connection: %w", busy(err))
	}
	defer u.pool.leave()
	if err := u.rate.wait(waiting, cmp.Or(u.login, m.Account)); err != nil {
		return Reply{}, fmt.Errorf("waiting for the rate limit: %w", err)
	}
	fresh := false
	for tries := 1; ; tries++ {
		l, err := u.pool.take(waiting, fresh)
		if err != nil {
			u.rate.unspent()
			return Reply{}, err
		}
		t := transaction{link: l, m: m, kept: l.reused || l.rested, ended: func() bool { return ctx.Err() != nil }}
		reply, err := u.run(ctx, &t)
		// BDAT is not tried again, and a connection made for this message is not stale.
		if !t.stale && !t.unchunked || ctx.Err() != nil {
			return reply, err
		}
		fresh = fresh || t.stale && !t.parted || tries == maxKept
	}
}

// waiting is the context of what comes before MAIL.
func (m Message) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.StartBy.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, m.StartBy)
}

// Late tells that StartBy has passed.
func (m Message) Late() bool { return !m.StartBy.IsZero() && !time.Now().Before(m.StartBy) }

// busy makes ErrBusy of a deadline.
func busy(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// run carries out a transaction, then keeps the connection or closes it.
func (u *Upstream) run(ctx context.Context, t *transaction) (Reply, error) {
	stop := context.AfterFunc(ctx, func() {
		if !t.beyond.Load() || !errors.Is(context.Cause(ctx), ErrWithdrawn) {
			t.link.cut()
		}
	})
	reply, err := t.run()
	if !stop() || err != nil {
		t.link.broken = true
	}
	switch {
	case !t.begun:
		u.rate.unspent()
		u.pool.unspent(t.link)
		return reply, err
	case err != nil && !t.spoken && !t.stale && ctx.Err() == nil:
		u.pool.silent(err)
	}
	u.pool.back(t.link, err == nil)
	return reply, err
}

// Check connects, secures, logs in and leaves, on a connection of its own.
func (u *Upstream) Check(ctx context.Context) error {
	l, err := u.connect(ctx)
	if err != nil {
		return fmt.Errorf("upstream %s: %w", u.config.Name, err)
	}
	l.quit()
	return nil
}

// Close says goodbye on unused connections and cuts those in use: whoever wants their answers waits for Send first.
func (u *Upstream) Close() error {
	u.pool.close()
	return nil
}

// Ready tells that a message would be tried now: the upstream does not count as dead, or it is time to look for it.
func (u *Upstream) Ready() bool {
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	return u.pool.refusal() == nil
}

// OutcomeOf is the fate of a message after Send: the one place where answers and errors become fates.
func OutcomeOf(r Reply, err error) Outcome {
	o := outcomeOf(r, err)
	o.Untried = errors.Is(err, ErrBusy) || errors.Is(err, ErrDead)
	return o
}

func outcomeOf(r Reply, err error) Outcome {
	var away TurnedAwayError
	var unserved UnservedError
	switch {
	case errors.Is(err, ErrInDoubt):
		return Outcome{Fate: InDoubt, Reply: AnswerLost}
	case errors.As(err, &away):
		return Outcome{Fate: Deferred, Reply: away.Reply}
	case errors.Is(err, ErrBusy):
		return Outcome{Fate: Deferred, Reply: NoTurn}
	case errors.As(err, &unserved): // X.3.5: system incorrectly configured
		return Outcome{Fate: Deferred, Reply: Reply{451, [3]int{4, 3, 5}, "the upstream does not serve this gateway: " + unserved.Error()}}
	case err != nil:
		return Outcome{Fate: Deferred, Reply: NoAnswer}
	case r.Positive():
		return Outcome{Fate: Sent, Reply: r}
	case r.Permanent():
		return Outcome{Fate: Failed, Reply: r}
	}
	return Outcome{Fate: Deferred, Reply: r}
}

func loopbackName(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
