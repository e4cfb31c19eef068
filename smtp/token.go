package smtp

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
)

// loginTurn is how many messages a login's only connection carries before it goes to a login that waits and has none:
// where there are more logins than connections, not each message shall cost a new one.
const loginTurn = 10

// tokens are the connections that all logins at an upstream may have together. One that comes back goes to the login
// that has the fewest of those that wait, in rotation among equals.
type tokens struct {
	mu      sync.Mutex
	queue   queue          // its accounts are logins
	held    map[string]int // by login, without those that are leaving
	leaving int            // connections that are being closed to make room
}

// token is the right to a connection.
type token struct {
	of      *tokens
	login   string
	leaving bool
	back    sync.Once
}

func newTokens(n int) *tokens {
	return &tokens{queue: queue{free: n, waiting: map[string][]*waiter{}}, held: map[string]int{}}
}

// take waits for a token; none is free when queued is called.
func (t *tokens) take(ctx context.Context, login string, queued func()) (*token, error) {
	t.mu.Lock()
	if t.queue.free > 0 {
		t.queue.free--
		t.held[login]++
		t.mu.Unlock()
		return &token{of: t, login: login}, nil
	}
	w := t.queue.add(login)
	t.mu.Unlock()
	queued()
	if err := t.queue.await(ctx, &t.mu, w, func() { t.lose(login); t.next() }); err != nil {
		return nil, err
	}
	return &token{of: t, login: login}, nil
}

// next hands a token on.
func (t *tokens) next() {
	if waiting := t.queue.accounts; len(waiting) > 0 {
		login := slices.MinFunc(waiting, func(a, b string) int { return cmp.Compare(t.held[a], t.held[b]) })
		t.held[login]++
		t.queue.prefer(login)
	}
	t.queue.release()
}

func (t *tokens) lose(login string) {
	if t.held[login]--; t.held[login] == 0 {
		delete(t.held, login)
	}
}

// short tells that more connections are waited for than are being closed.
func (t *tokens) short() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := 0
	for _, w := range t.queue.waiting {
		waiting += len(w)
	}
	return waiting > t.leaving
}

// unfair tells that a login is to give up a connection that it could use, for another that waits: one that has at
// least two less, or has none while nobody has more than this one, whose connection had its turn.
func (t *tokens) unfair(login string, carried int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine, most, without := t.held[login], 0, 0
	fewest := mine
	for _, n := range t.held {
		most = max(most, n)
	}
	for _, other := range t.queue.accounts {
		if other == login {
			continue
		}
		if fewest = min(fewest, t.held[other]); t.held[other] == 0 {
			without++
		}
	}
	return fewest+t.leaving+1 < mine || carried >= loginTurn && mine == most && without > t.leaving
}

// leave counts the token's connection as being closed.
func (k *token) leave() {
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	if !k.leaving {
		k.leaving = true
		k.of.leaving++
		k.of.lose(k.login)
	}
}

// giveBack may be called more than once.
func (k *token) giveBack() {
	k.back.Do(func() {
		k.of.mu.Lock()
		defer k.of.mu.Unlock()
		if k.leaving {
			k.of.leaving--
		} else {
			k.of.lose(k.login)
		}
		k.of.next()
	})
}

// tokenConn gives its token back when it is closed.
type tokenConn struct {
	net.Conn
	token *token
}

func (c *tokenConn) Close() error {
	defer c.token.giveBack()
	return c.Conn.Close()
}

// SyscallConn lets what came over the connection be looked at.
func (c *tokenConn) SyscallConn() (syscall.RawConn, error) {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, syscall.EINVAL
	}
	return inner.SyscallConn()
}
