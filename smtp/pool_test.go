package smtp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

func send(t *testing.T, u *Upstream, to string) {
	t.Helper()
	if reply, err := u.Send(t.Context(), letter(to)); err != nil || !reply.Positive() {
		t.Fatalf("to %s: %v, %v", to, reply, err)
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers map[string][]string
		want    []string // commands of the second transaction, after the first
	}{
		{"after success", nil, []string{"MAIL FROM:<a@acme.test> SIZE=22", "RCPT TO:<c@x.test>", "DATA"}},
		{"after a refused RCPT", map[string][]string{"RCPT": {"550 no", ""}}, []string{"RSET", "MAIL FROM:<a@acme.test> SIZE=22", "RCPT TO:<c@x.test>", "DATA"}},
		{"after a refused MAIL", map[string][]string{"MAIL": {"451 no", ""}}, []string{"RSET", "MAIL FROM:<a@acme.test> SIZE=22", "RCPT TO:<c@x.test>", "DATA"}},
		{"after a refused DATA", map[string][]string{"DATA": {"451 no", ""}}, []string{"RSET", "MAIL FROM:<a@acme.test> SIZE=22", "RCPT TO:<c@x.test>", "DATA"}},
		{"after an empty message", map[string][]string{"RCPT": {"550 no", ""}, "DATA": {"354 go"}}, []string{"RSET", "MAIL FROM:<a@acme.test> SIZE=22", "RCPT TO:<c@x.test>", "DATA"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peer := smtptest.New(t, smtptest.Script{Answers: tt.answers})
			u := upstreamTo(t, peer, nil)
			if _, err := u.Send(t.Context(), letter("b@x.test")); err != nil {
				t.Fatal(err)
			}
			before := len(peer.Commands())
			send(t, u, "c@x.test")
			if got := peer.Commands()[before:]; !slices.Equal(got, tt.want) || peer.Connections() != 1 {
				t.Errorf("got %q over %d connections, want %q", got, peer.Connections(), tt.want)
			}
			if m := peer.Messages(); len(m[len(m)-1].To) != 1 || m[len(m)-1].To[0].Address != "c@x.test" {
				t.Errorf("got %v", m)
			}
		})
	}
}

func TestStaleConnection(t *testing.T) {
	tests := []struct {
		name    string
		script  smtptest.Script
		between func(*smtptest.Upstream) // the two messages
		conns   int
		want    string // "" : the second is taken
	}{
		{"cut while unused", smtptest.Script{}, (*smtptest.Upstream).Cut, 2, ""},
		{"cut while unused, lock-step", smtptest.Script{Extensions: []string{}}, (*smtptest.Upstream).Cut, 2, ""},
		{"closes at the second MAIL", smtptest.Script{Answers: map[string][]string{"MAIL": {"", smtptest.Close, ""}}}, nil, 2, ""},
		{"421 at the second MAIL", smtptest.Script{Answers: map[string][]string{"MAIL": {"", "421 4.4.2 timeout", ""}}}, nil, 2, ""},
		{"says 421 unasked", smtptest.Script{Answers: map[string][]string{".": {"250 ok\r\n421 4.4.2 enough", ""}}}, nil, 2, ""},
		{"says 550 unasked", smtptest.Script{Answers: map[string][]string{".": {"250 ok\r\n550 5.1.1 stray", ""}}}, nil, 2, ""},
		{"RSET refused", smtptest.Script{Answers: map[string][]string{"RCPT": {"550 no", ""}, "RSET": {"500 what"}}}, nil, 2, ""},
		{"closes at every later MAIL", smtptest.Script{Answers: map[string][]string{"MAIL": {"", smtptest.Close}}}, nil, 2, "EOF"},
		{"closes at the second RCPT", smtptest.Script{Answers: map[string][]string{"RCPT": {"", smtptest.Close}}}, nil, 1, "RCPT"},
		{"closes after the second final dot", smtptest.Script{Answers: map[string][]string{".": {"", smtptest.Close, ""}}}, nil, 1, ErrInDoubt.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.New(t, tt.script)
			u := upstreamTo(t, peer, nil)
			if _, err := u.Send(t.Context(), letter("b@x.test")); err != nil {
				t.Fatal(err)
			}
			if tt.between != nil {
				tt.between(peer)
			}
			reply, err := u.Send(t.Context(), letter("c@x.test"))
			if tt.want == "" && (err != nil || !reply.Positive()) || tt.want != "" && err == nil {
				t.Errorf("got %v, %v; want %q", reply, err, tt.want)
			}
			if errors.Is(err, ErrInDoubt) != (tt.want == ErrInDoubt.Error()) {
				t.Errorf("got %v", err)
			}
			if peer.Connections() != tt.conns {
				t.Errorf("%d connections, want %d", peer.Connections(), tt.conns)
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	const connections, messages = 3, 60
	var mu sync.Mutex
	open, most := 0, 0
	peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
		mu.Lock()
		defer mu.Unlock()
		switch step {
		case "MAIL":
			open++
			most = max(most, open)
		case ".":
			open--
		}
	}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = connections })
	var all sync.WaitGroup
	for range messages {
		all.Go(func() {
			if reply, err := u.Send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
				t.Errorf("%v, %v", reply, err)
			}
		})
	}
	all.Wait()
	if most > connections || peer.Connections() > connections || len(peer.Messages()) != messages {
		t.Errorf("%d at once over %d connections, %d messages", most, peer.Connections(), len(peer.Messages()))
	}
}

func TestWaitingForAConnection(t *testing.T) {
	at, release := make(chan struct{}, 1), make(chan struct{})
	peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			at <- struct{}{}
			<-release
		}
	}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 })
	first := make(chan error)
	go func() {
		_, err := u.Send(t.Context(), letter("b@x.test"))
		first <- err
	}()
	<-at
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := u.Send(ctx, letter("c@x.test")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrInDoubt) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	send(t, u, "d@x.test")
}

func TestEndedContextCutsNothing(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, nil)
	send(t, u, "b@x.test")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := u.Send(ended, letter("c@x.test")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	send(t, u, "d@x.test")
	if peer.Connections() != 1 {
		t.Errorf("%d connections", peer.Connections())
	}
}

func TestUnusedConnectionIsClosed(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Idle = time.Millisecond })
	send(t, u, "b@x.test")
	peer.AwaitCommands(t, "QUIT", 1)
}

func TestClose(t *testing.T) {
	at := make(chan struct{}, 1)
	peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {"", smtptest.Silence}}, Before: func(step string) {
		if step == "." {
			at <- struct{}{}
		}
	}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Idle = time.Hour })
	send(t, u, "b@x.test")
	<-at
	cut := make(chan error)
	go func() {
		_, err := u.Send(t.Context(), letter("c@x.test"))
		cut <- err
	}()
	<-at
	u.Close()
	if err := <-cut; !errors.Is(err, ErrInDoubt) {
		t.Errorf("in use: %v", err)
	}
	if _, err := u.Send(t.Context(), letter("d@x.test")); err == nil || errors.Is(err, ErrInDoubt) {
		t.Errorf("afterwards: %v", err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseSaysGoodbye(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, nil)
	send(t, u, "b@x.test")
	u.Close()
	peer.AwaitCommands(t, "QUIT", 1)
}

func TestRate(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Rate = 0.001 })
	send(t, u, "b@x.test")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := u.Send(ctx, letter("c@x.test")); !errors.Is(err, ErrBusy) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

// A moment that nobody used in the end is there for the next message.
func TestUnusedRate(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Extensions: []string{"PIPELINING"}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Rate = 0.001 })
	eight := letter("b@x.test")
	eight.Data = []byte("Subject: hi\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n")
	if reply, err := u.Send(t.Context(), eight); err != nil || reply != No8BitMIME {
		t.Fatal(reply, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	send(t, u, "b@x.test")
	for range 5 {
		all.Go(func() {
			if _, err := u.Send(ctx, letter("b@x.test")); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // most of them wait by then; it holds if none does
	cancel()
	all.Wait()
	if tokens := u.rate.limiter.Tokens(); tokens < 0 {
		t.Errorf("%v moments are left after five who gave up", tokens)
	}
}

// awaitGone returns when what the peer has closed is seen on this side, if it has closed anything.
func awaitGone(t *testing.T, u *Upstream) {
	t.Helper()
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	for _, l := range u.pool.unused {
		l.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = l.in.Peek(1)
	}
}

// Under rising load the next message finds a connection that is ready; under a steady load nothing is opened.
func TestConnectionIsOpenedAhead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit int
		at    []int // connections while 1, 2, 3 … messages are open
	}{
		{"rising load", 10, []int{1, 3, 4, 5}},
		{"never above the limit", 3, []int{1, 3, 3}},
		{"one connection", 1, []int{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			release := make(chan struct{})
			peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
				if step == "." {
					<-release
				}
			}})
			u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = tt.limit })
			done := make(chan error, len(tt.at))
			for i, want := range tt.at {
				go func() {
					_, err := u.Send(t.Context(), letter("b@x.test"))
					done <- err
				}()
				until(t, func() bool {
					u.pool.mu.Lock()
					defer u.pool.mu.Unlock()
					return len(u.pool.inUse) == i+1 && u.pool.opening == 0
				})
				peer.AwaitCommands(t, "DATA", i+1)
				if got := peer.Connections(); got != want {
					t.Errorf("%d messages: %d connections, want %d", i+1, got, want)
				}
			}
			close(release)
			for range tt.at {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			before := peer.Connections()
			for range 5 {
				send(t, u, "c@x.test")
			}
			if got := peer.Connections(); got != before {
				t.Errorf("steady load: %d connections, then %d", before, got)
			}
		})
	}
}

func TestConnectionIsClosedAfterItsMessages(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.PerConnection = 3 })
	for range 7 {
		send(t, u, "b@x.test")
	}
	peer.AwaitCommands(t, "QUIT", 2)
	for i, m := range peer.Messages() {
		if m.Conn != i/3+1 {
			t.Errorf("message %d came over connection %d", i+1, m.Conn)
		}
	}
}
