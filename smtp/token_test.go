package smtp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// logIn is a login that the peer takes.
func logIn(t *testing.T, p *PassUpstream, user, password string) *PassLogin {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, reply, err := p.LogIn(ctx, user, password)
	if err != nil || l == nil {
		t.Fatalf("%s: %s, %v", user, reply, err)
	}
	t.Cleanup(l.Release)
	return l
}

// tokensIn is how many tokens a login has, "": how many nobody has.
func tokensIn(p *PassUpstream, user string) int {
	p.tokens.mu.Lock()
	defer p.tokens.mu.Unlock()
	if user == "" {
		return p.tokens.queue.free
	}
	digest := p.digest(user, user)
	return p.tokens.held[string(digest[:])]
}

// busyLogins are logins whose clients send one message after the other, until the peer took most or done is called.
func busyLogins(t *testing.T, peer *smtptest.Upstream, p *PassUpstream, most int, users ...string) (done func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, user := range users {
		l := logIn(t, p, user, user)
		for range 12 {
			all.Go(func() {
				for ctx.Err() == nil && len(peer.Messages()) < most {
					if reply, err := l.Send(ctx, letter("b@x.test")); ctx.Err() == nil && (err != nil || !reply.Positive()) {
						t.Errorf("%s: %s, %v", user, reply, err)
					}
				}
			})
		}
	}
	return func() { cancel(); all.Wait() }
}

func byLogin(messages []smtptest.Message) map[string]int {
	n := map[string]int{}
	for _, m := range messages {
		n[m.Login]++
	}
	return n
}

// Two logins use all connections and have more to send: a third one gets its share, soon.
func TestBusyLoginsMakeRoom(t *testing.T) {
	const many = 3000
	peer := smtptest.New(t, smtptest.Script{Login: "ann:ann", Logins: []string{"bob:bob", "eve:eve"}, Before: slowDot})
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 6 }).Passing()
	defer p.Close()
	done := busyLogins(t, peer, p, many, "ann", "bob")
	peer.Await(t, 50)
	before := len(peer.Messages())
	more := busyLogins(t, peer, p, many, "eve")
	if waited := len(peer.Messages()) - before; waited > 200 {
		t.Errorf("%d messages of others were sent until the login was tried", waited)
	}
	until(t, func() bool {
		return len(peer.Messages()) >= many || tokensIn(p, "ann") == 2 && tokensIn(p, "bob") == 2 && tokensIn(p, "eve") == 2
	})
	from, connections := len(peer.Messages()), peer.Connections()
	all := peer.Await(t, min(from+300, many))
	connections = peer.Connections() - connections
	done()
	more()
	n := byLogin(all[from:])
	if n["ann"] < 60 || n["bob"] < 60 || n["eve"] < 60 || connections > 6 {
		t.Errorf("%v over %d new connections", n, connections)
	}
}

func slowDot(step string) {
	if step == "." {
		time.Sleep(2 * time.Millisecond)
	}
}

// More logins than connections: they take turns of several messages.
func TestLoginsTakeTurnsAtAConnection(t *testing.T) {
	const many = 300
	peer := smtptest.New(t, smtptest.Script{Login: "ann:ann", Logins: []string{"bob:bob", "eve:eve"}})
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 }).Passing()
	defer p.Close()
	done := busyLogins(t, peer, p, many, "ann", "bob", "eve")
	all := peer.Await(t, many)
	done()
	if n := byLogin(all[100:]); n["ann"] < 30 || n["bob"] < 30 || n["eve"] < 30 || peer.Connections() > many/loginTurn+10 {
		t.Errorf("%v over %d connections", n, peer.Connections())
	}
}

func TestTokensGoToWhoHasFewest(t *testing.T) {
	for _, tt := range []struct {
		name, held, waits, want string
		carried                 int
		unfair                  bool // that "a" keeps one
	}{
		{name: "nobody waits", held: "aaa"},
		{name: "only itself", held: "aaa", waits: "aa", want: "aa"},
		{name: "one that has none", held: "aab", waits: "c", want: "c", unfair: true},
		{name: "in rotation", held: "abc", waits: "aabbcc", want: "abcabc"},
		{name: "the fewest first", held: "aaab", waits: "abcc", want: "cbca", unfair: true},
		{name: "one less", held: "aab", waits: "b", want: "b", carried: loginTurn},
		{name: "its only one", held: "ab", waits: "c", want: "c", carried: loginTurn - 1},
		{name: "its only one, used up", held: "ab", waits: "c", want: "c", carried: loginTurn, unfair: true},
		{name: "its only one, others have more", held: "abb", waits: "c", want: "c", carried: loginTurn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tokens, waiting := newTokens(len(tt.held)), map[*waiter]string{}
			var order string
			var first *token
			for _, login := range tt.held {
				k, err := tokens.take(t.Context(), string(login), nil)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = k
				}
			}
			for _, login := range tt.waits {
				waiting[tokens.queue.add(string(login))] = string(login)
			}
			if got := tokens.unfair("a", tt.carried); got != tt.unfair || tokens.short() != (tt.waits != "") {
				t.Errorf("unfair %v, short %v", got, tokens.short())
			}
			for range tt.waits {
				tokens.next()
				for w, login := range waiting {
					if len(w.turn) > 0 {
						order += login
						delete(waiting, w)
					}
				}
			}
			if order != tt.want {
				t.Errorf("given to %q, want %q", order, tt.want)
			}
			first.leave()
			first.giveBack()
			first.giveBack()
			if n := tokens.queue.free; n != 1 || tokens.leaving != 0 {
				t.Errorf("%d are free, %d leaving", n, tokens.leaving)
			}
		})
	}
}

// A connection that is being closed for one who waits is not closed twice.
func TestOneLeavesForOne(t *testing.T) {
	tokens := newTokens(4)
	var held []*token
	for range 4 {
		k, _ := tokens.take(t.Context(), "a", nil)
		held = append(held, k)
	}
	tokens.queue.add("b")
	tokens.queue.add("b")
	for i, want := range []bool{true, true, false} {
		if got := tokens.unfair("a", 1); got != want {
			t.Errorf("unfair after %d left: %v", i, got)
		}
		held[i].leave()
	}
	if tokens.short() {
		t.Error("short although two leave for two")
	}
}

// Whoever gets no connection in time was not tried; the upstream is not at fault, and serves the next message.
func TestNoTokenInTime(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 20)
	peer := smtptest.New(t, smtptest.Script{Login: "ann:ann", Logins: []string{"bob:bob"}, Before: func(step string) {
		if step == "." {
			held <- struct{}{}
			<-hold
		}
	}})
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 }).Passing()
	defer p.Close()
	ann, bob := logIn(t, p, "ann", "ann"), logIn(t, p, "bob", "bob")
	sent := make(chan error, 1)
	go func() { _, err := ann.Send(t.Context(), letter("b@x.test")); sent <- err }()
	<-held
	p.up.answer = time.Millisecond
	for range 2 * breakAfter {
		if _, err := bob.Send(t.Context(), letter("b@x.test")); !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
	}
	p.up.answer = answerTimeout
	close(hold)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if reply, err := bob.Send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
		t.Errorf("%s, %v", reply, err)
	}
}

// The wait for another's connection is no part of making one.
func TestConnectDoesNotBoundLogins(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:ann"})
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.ConnectTimeout = time.Nanosecond }).Passing()
	defer p.Close()
	if reply, err := logIn(t, p, "ann", "ann").Send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
		t.Errorf("%s, %v", reply, err)
	}
}

// What a login has no use for any more goes to the one that waits, whatever became of its user.
func TestUnusedConnectionMakesRoom(t *testing.T) {
	for _, tt := range []struct {
		name   string
		at     string // where the connection is held up
		late   bool   // the other comes after that
		until  func(ann *PassLogin, cancel context.CancelFunc)
		before func(peer *smtptest.Upstream)
	}{
		{"of a login that was refused", ".", false, func(ann *PassLogin, _ context.CancelFunc) { ann.end() }, func(*smtptest.Upstream) {}},
		{"of a login that was refused before", ".", true, func(ann *PassLogin, _ context.CancelFunc) { ann.end() }, func(*smtptest.Upstream) {}},
		{"opened for a message that has gone", "AUTH", false, func(_ *PassLogin, cancel context.CancelFunc) { cancel() }, (*smtptest.Upstream).Cut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hold, held := make(chan struct{}), make(chan struct{}, 20)
			var armed sync.Map
			peer := smtptest.New(t, smtptest.Script{Login: "ann:ann", Logins: []string{"bob:bob"}, Before: func(step string) {
				if _, on := armed.Load(step); on {
					held <- struct{}{}
					<-hold
				}
			}})
			p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections, c.Idle = 1, time.Hour }).Passing()
			defer p.Close()
			ann := logIn(t, p, "ann", "ann")
			tt.before(peer)
			armed.Store(tt.at, true)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sent := make(chan struct{})
			go func() { _, _ = ann.Send(ctx, letter("b@x.test")); close(sent) }()
			<-held
			tt.until(ann, cancel)
			if tt.at == "AUTH" {
				<-sent
			}
			if tt.late {
				close(hold)
				<-sent
			}
			in := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				bob, reply, err := p.LogIn(ctx, "bob", "bob")
				if bob == nil {
					err = errors.Join(err, fmt.Errorf("answered %s", reply))
				}
				in <- err
			}()
			if !tt.late {
				until(t, p.tokens.short)
				armed.Clear()
				close(hold)
				<-sent
			}
			if err := <-in; err != nil {
				t.Error(err)
			}
		})
	}
}
