package smtp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PassUpstream is an upstream that clients log in at with their own credentials (auth: pass). A message goes over
// connections that its client's login opened, and over no others. All logins together keep to the upstream's number of
// connections, and to the rate of the Upstream it was made from. It is safe for concurrent use.
type PassUpstream struct {
	up     *Upstream
	key    [32]byte // of this process: under it logins are told apart
	tokens *tokens  // one for each open connection

	mu     sync.Mutex
	logins map[[32]byte]*PassLogin
	closed bool
}

// PassLogin is a login that the upstream took, shared by the clients that gave the same one. It sends over connections
// of its own.
type PassLogin struct {
	at      *PassUpstream
	digest  [32]byte
	up      *Upstream
	clients int         // under at.mu: who have it; the last one's Release forgets the credentials
	refused atomic.Bool // the upstream does not take it any more
}

var _ Sender = (*PassLogin)(nil)

// Passing is the same server for clients that log in there themselves; u's own credentials are not used for them.
func (u *Upstream) Passing() *PassUpstream {
	p := &PassUpstream{up: u, tokens: newTokens(u.config.Connections), logins: map[[32]byte]*PassLogin{}}
	rand.Read(p.key[:])
	return p
}

// LogIn tries a login at the upstream; the Reply is the upstream's own answer to AUTH. The login is nil unless that is
// positive, else the caller releases it in the end. An error says why the upstream was not heard: the Reply is 454 then.
func (p *PassUpstream) LogIn(ctx context.Context, user, password string) (*PassLogin, Reply, error) {
	// An empty user would be no login at all; neither mechanism can carry a NUL (RFC 4616 section 2).
	if user == "" || password == "" || strings.ContainsRune(user+password, 0) {
		return nil, BadCredentials, nil
	}
	l, err := p.join(user, password)
	if err != nil {
		return nil, NoLogin, err
	}
	reply, err := l.up.logInAnew(ctx)
	if err == nil {
		return l, reply, nil
	}
	answer, answered := loginAnswer(err)
	if answered && answer.Permanent() {
		l.end()
	}
	l.Release()
	switch {
	case answered:
		return nil, answer, nil
	case ctx.Err() != nil:
		return nil, NoLogin, fmt.Errorf("upstream %s: %w (%w)", p.up.config.Name, err, context.Cause(ctx))
	}
	return nil, NoLogin, fmt.Errorf("upstream %s: %w", p.up.config.Name, err)
}

// loginAnswer is what the upstream answered, where it would serve no connection now or refused the login, now or for good.
func loginAnswer(err error) (Reply, bool) {
	var away TurnedAwayError
	if errors.As(err, &away) {
		return away.Reply, true
	}
	var r UnservedError
	ok := errors.As(err, &r) && (r.At == "AUTH" || r.At == "MAIL") && (r.Reply.Temporary() || r.Reply.Permanent())
	return r.Reply, ok
}

// join gives a client its share of a login.
func (p *PassUpstream) join(user, password string) (*PassLogin, error) {
	digest := p.digest(user, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	l := p.logins[digest]
	if l == nil {
		c := p.up.config
		// Without ConnectTimeout: there is no next upstream, and the wait for a token is no fault of this one.
		c.Username, c.Password, c.Rate, c.ConnectTimeout = user, password, 0, 0
		up, err := NewUpstream(c)
		if err != nil {
			return nil, err
		}
		l = &PassLogin{at: p, digest: digest, up: up}
		up.login = string(digest[:])
		up.tls, up.rate, up.answer, up.farewell = p.up.tls, p.up.rate, p.up.answer, p.up.farewell
		up.dial = func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, up.login) }
		up.pool.eager = false // its connections are bounded together with the other logins'
		up.pool.yields = l.yields
		p.logins[digest] = l
	}
	l.clients++
	return l, nil
}

func (p *PassUpstream) digest(user, password string) (sum [32]byte) {
	m := hmac.New(sha256.New, p.key[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(user))))
	m.Write([]byte(user + password))
	return [32]byte(m.Sum(nil))
}

// Close ends the connections of all logins, as Upstream.Close does.
func (p *PassUpstream) Close() error {
	p.mu.Lock()
	p.closed = true
	all := p.logins
	p.logins = nil
	p.mu.Unlock()
	var leaving sync.WaitGroup
	for _, l := range all {
		leaving.Go(func() { _ = l.up.Close() })
	}
	leaving.Wait()
	return nil
}

// Upstream is where this login holds.
func (l *PassLogin) Upstream() *PassUpstream { return l.at }

// Send hands over m as Sender says, over a connection of this login. Where the upstream does not take the login any
// more the Reply is a 421: the client must connect and log in again.
func (l *PassLogin) Send(ctx context.Context, m Message) (Reply, error) {
	if l.refused.Load() {
		return LoginGone, nil
	}
	reply, err := l.up.Send(ctx, m)
	if err == nil {
		return reply, nil
	}
	answer, answered := loginAnswer(err)
	switch {
	case answered && answer.Permanent():
		l.end()
		return LoginGone, nil
	case answered:
		return answer, nil
	}
	return Reply{}, err
}

// Release gives back what LogIn gave; once for each. The last client's ends the connections.
func (l *PassLogin) Release() {
	p := l.at
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.clients--; l.clients > 0 {
		return
	}
	if p.logins[l.digest] == l {
		delete(p.logins, l.digest)
	}
	go l.up.Close() // it says QUIT, which may take a moment
}

// end makes every client log in again: the upstream refused the credentials.
func (l *PassLogin) end() {
	p := l.at
	p.mu.Lock()
	defer p.mu.Unlock()
	l.refused.Store(true)
	if p.logins[l.digest] == l {
		delete(p.logins, l.digest)
	}
	for l.up.pool.shed() {
	}
}

// dial opens a connection once there is a token for it, which it holds until it is closed. It waits for that as long
// as another's message may take.
func (p *PassUpstream) dial(ctx context.Context, login string) (net.Conn, error) {
	patience, stop := context.WithTimeout(ctx, p.up.answer)
	defer stop()
	token, err := p.tokens.take(patience, login, p.makeRoom)
	if err != nil {
		return nil, fmt.Errorf("waiting for a free connection: %w", busy(err))
	}
	c, err := p.up.dialTCP(ctx)
	if err != nil {
		token.giveBack()
		return nil, err
	}
	return &tokenConn{c, token}, nil
}

// yields tells that a connection of this login is to go: another login waits for one, or the upstream refused this one.
// What becomes unused while somebody waits is not kept: makeRoom does not see it.
func (l *PassLogin) yields(link *link, wanted bool) bool {
	if wanted {
		return link.carried > 0 && l.at.tokens.unfair(l.up.login, link.carried)
	}
	return l.refused.Load() || l.at.tokens.short()
}

// makeRoom closes the connection that was unused longest, whoever's it is, where another login waits for one.
func (p *PassUpstream) makeRoom() {
	if !p.tokens.short() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var oldest *PassLogin
	var since time.Time
	for _, l := range p.logins {
		if t, ok := l.up.pool.unusedSince(); ok && (oldest == nil || t.Before(since)) {
			oldest, since = l, t
		}
	}
	if oldest != nil {
		oldest.up.pool.shed()
	}
}

// logInAnew opens a connection, in place of an unused one, and keeps it for the next message. The Reply is the
// upstream's answer to AUTH.
func (u *Upstream) logInAnew(ctx context.Context) (Reply, error) {
	if err := u.pool.enter(ctx, ""); err != nil {
		return Reply{}, fmt.Errorf("waiting for a free connection: %w", err)
	}
	defer u.pool.leave()
	u.pool.shed()
	l, err := u.connect(ctx)
	if err != nil {
		return Reply{}, err
	}
	reply := l.welcome
	if !u.pool.adopt(l) {
		l.quit()
		return Reply{}, errClosed
	}
	return reply, nil
}
