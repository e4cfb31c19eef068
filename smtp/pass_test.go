package smtp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// passDoor is a door whose clients, the account "crm", log in at the scripted peer; what they send goes there.
func passDoor(t *testing.T, peer *smtptest.Upstream, change func(*UpstreamConfig), options ...doorOption) (*door, *PassUpstream) {
	t.Helper()
	p := upstreamTo(t, peer, change).Passing()
	t.Cleanup(func() { p.Close() })
	d := openDoor(t, append([]doorOption{func(s *Server, _ *doorSetup) {
		s.Pass = func(account string) *PassUpstream {
			if account != "crm" {
				return nil
			}
			return p
		}
	}}, options...)...)
	d.handler.message = func(ctx context.Context, m Message) Reply {
		return OutcomeOf(m.Login.Send(ctx, m)).Reply
	}
	return d, p
}

func authPlain(user, password string) string {
	return "AUTH PLAIN " + encode64("\x00"+user+"\x00"+password)
}

const aMessage = `
	C MAIL FROM:<a@b.test>
	S 250 2.1.0 ok
	C RCPT TO:<c@d.test>
	S 250 2.1.5 ok
	C DATA
	S 354*
	C Subject: hi\r\n\r\nhello\r\n.
`

func TestPassedLogin(t *testing.T) {
	on := func(step string, answers ...string) map[string][]string { return map[string][]string{step: answers} }
	right, wrong := "C "+authPlain("ann", "s3cret"), "C "+authPlain("ann", "other")
	const noAnswer = "S 454 4.7.0 temporary authentication failure"
	tests := []struct {
		name   string
		script smtptest.Script // Login is ann:s3cret
		dialog string
	}{
		{"right", smtptest.Script{}, right + "\nS 235 2.7.0 welcome"},
		{"right by LOGIN", smtptest.Script{}, "C AUTH LOGIN\nS 334 VXNlcm5hbWU6\nC " + encode64("ann") + "\nS 334 UGFzc3dvcmQ6\nC " + encode64("s3cret") + "\nS 235 2.7.0 welcome"},
		{"an upstream with LOGIN only", smtptest.Script{Mechanisms: "LOGIN"}, right + "\nS 235 2.7.0 welcome"},
		{"over TLS", smtptest.Script{}, "C STARTTLS\nS 220*\nTLS\nC EHLO x\nS 250-gw.test*\n" + right + "\nS 235 2.7.0 welcome"},
		{"to an upstream over TLS", smtptest.Script{TLS: "starttls"}, right + "\nS 235 2.7.0 welcome"},
		{"wrong", smtptest.Script{}, wrong + "\nS 535 5.7.8 wrong"},
		{"wrong in several lines", smtptest.Script{Answers: on("AUTH", "535-no such key\r\n535 see esp.test/keys")}, wrong + "\nS 535-5.0.0 no such key\\n535 5.0.0 see esp.test/keys"},
		{"refused with the password in the text", smtptest.Script{Answers: on("AUTH", "535 5.7.8 s3cret is no password")}, right + "\nS 535 5.7.8 *** is no password"},
		{"wrong, then right", smtptest.Script{}, wrong + "\nS 535*\n" + right + "\nS 235*"},
		{"wrong three times", smtptest.Script{}, wrong + "\nS 535*\n" + wrong + "\nS 535*\n" + wrong + "\nS 421 4.7.0 too many failed logins\nCLOSED"},
		{"not now", smtptest.Script{Answers: on("AUTH", "454 4.7.0 ask later")}, strings.Repeat(right+"\nS 454 4.7.0 ask later\n", 5)},
		{"421 to AUTH", smtptest.Script{Answers: on("AUTH", "421 4.3.2 bye")}, right + "\nS 421 4.3.2 bye\nCLOSED"},
		{"an answer that is none to AUTH", smtptest.Script{Answers: on("AUTH", "250 ok")}, right + "\n" + noAnswer},
		{"closes at AUTH", smtptest.Script{Answers: on("AUTH", smtptest.Close)}, right + "\n" + noAnswer},
		{"greets with 421", smtptest.Script{Answers: on("connect", "421 4.7.0 too many")}, right + "\nS 421 4.7.0 too many\nCLOSED"},
		{"greets with 554", smtptest.Script{Answers: on("connect", "554 5.7.1 no mail")}, right + "\n" + noAnswer},
		{"offers no AUTH that we know", smtptest.Script{Mechanisms: "XOAUTH2"}, right + "\n" + noAnswer},
		{"no user", smtptest.Script{}, "C " + authPlain("", "s3cret") + "\nS 535 5.7.8 authentication failed"},
		{"no password", smtptest.Script{}, "C " + authPlain("ann", "") + "\nS 535 5.7.8 authentication failed"},
		{"a NUL in the user", smtptest.Script{}, "C AUTH LOGIN\nS 334*\nC " + encode64("ann\x00x") + "\nS 334*\nC " + encode64("s3cret") + "\nS 535 5.7.8 authentication failed"},
		{"twice", smtptest.Script{}, right + "\nS 235*\n" + right + "\nS 503*"},
		{"the gateway's own password is none", smtptest.Script{}, "C " + authPlain("shop", "secret") + "\nS 535 5.7.8 wrong"},
		{"no relay without it", smtptest.Script{}, "C MAIL FROM:<a@b.test>\nS 250*\nC RCPT TO:<c@d.test>\nS 530 5.7.0 authentication required"},
		{"no relay after a wrong one", smtptest.Script{}, wrong + "\nS 535*\nC MAIL FROM:<a@b.test>\nS 250*\nC RCPT TO:<c@d.test>\nS 530 5.7.0 authentication required"},
		{"a message", smtptest.Script{}, right + "\nS 235*" + aMessage + "S 250 2.0.0 ok: queued as 1"},
		{"RSET and EHLO keep it", smtptest.Script{}, right + "\nS 235*\nC RSET\nS 250*\nC EHLO x\nS 250-gw.test*" + aMessage + "S 250 2.0.0 ok: queued as 1"},
		{"deferred", smtptest.Script{Answers: on(".", "451 4.7.1 greylisted", "")}, right + "\nS 235*" + aMessage + "S 451 4.7.1 greylisted" + aMessage + "S 250 2.0.0 ok: queued as 2"},
		{"no STARTTLS behind it", smtptest.Script{}, right + "\nS 235*\nC STARTTLS\nS 503*"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.script.Login = "ann:s3cret"
			peer := smtptest.New(t, tt.script)
			var log bytes.Buffer
			security := func(c *UpstreamConfig) {
				if tt.script.TLS != "" {
					c.Security = StartTLS
				}
			}
			d, _ := passDoor(t, peer, security, func(s *Server, _ *doorSetup) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			c := d.dial(t)
			c.play("S 220*\nC EHLO x\nS 250-gw.test*\n" + tt.dialog)
			for _, m := range peer.Seen() {
				if m.Login != "ann" {
					t.Errorf("sent as %q", m.Login)
				}
			}
			c.Close()
			stop, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := d.server.Shutdown(stop); err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"s3cret", "other", encode64("\x00ann\x00s3cret"), encode64("s3cret")} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log has %q:\n%s", secret, log.String())
				}
			}
		})
	}
}

// The upstream that nobody answers at, and the client that has no TLS.
func TestPassedLoginNotTried(t *testing.T) {
	t.Run("upstream down", func(t *testing.T) {
		peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
		peer.Close()
		d, _ := passDoor(t, peer, nil)
		d.dial(t).play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 454 4.7.0 temporary authentication failure\nC NOOP\nS 250*")
	})
	t.Run("in plain text off loopback", func(t *testing.T) {
		peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
		d, _ := passDoor(t, peer, nil, fromPeer("192.0.2.7:4711"), func(s *Server, _ *doorSetup) {
			s.Trusted = func(netip.Addr) (string, bool) { return "crm", true }
		})
		d.dial(t).play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 538 5.7.11 encryption required for AUTH")
		if n := peer.Connections(); n != 0 {
			t.Errorf("%d connections to the upstream", n)
		}
	})
	t.Run("an upstream in plain text off loopback", func(t *testing.T) {
		u, err := NewUpstream(UpstreamConfig{Name: "esp", Address: "192.0.2.7:25", Security: Plain, Hostname: "gw.test"})
		if err != nil {
			t.Fatal(err)
		}
		if l, reply, err := u.Passing().LogIn(t.Context(), "ann", "s3cret"); l != nil || reply != NoLogin || err == nil {
			t.Errorf("%v, %s, %v", l, reply, err)
		}
	})
	t.Run("another account logs in here", func(t *testing.T) {
		peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
		d, _ := passDoor(t, peer, nil, func(s *Server, _ *doorSetup) { s.Trusted = nil })
		d.dial(t).play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 535 5.7.8 authentication failed\nC " + authPlain("shop", "secret") + "\nS 235 2.7.0 authentication succeeded")
		if n := peer.Connections(); n != 0 {
			t.Errorf("%d connections to the upstream", n)
		}
	})
}

// One login, one connection: it was tried on the one that the messages go over, and ends with its client.
func TestPassedLoginIsTheFirstConnection(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
	d, p := passDoor(t, peer, nil)
	c := d.dial(t)
	c.play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 235*" + aMessage + "S 250 2.0.0 ok: queued as 1" + aMessage + "S 250 2.0.0 ok: queued as 2")
	if n := peer.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	c.play("C QUIT\nS 221*\nCLOSED")
	peer.AwaitCommands(t, "QUIT", 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.logins) != 0 {
		t.Errorf("%d logins are remembered", len(p.logins))
	}
}

// A tool that logs in for every message does not collect connections.
func TestPassedLoginAgain(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
	d, p := passDoor(t, peer, nil)
	first := d.dial(t)
	first.play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 235*")
	for range 5 {
		d.dial(t).play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 235*" + aMessage + "S 250*")
	}
	if n := peer.Connections(); n != 6 {
		t.Errorf("%d connections, want one for each login that was tried", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.logins {
		if n := len(l.up.pool.unused); n != 1 || len(p.logins) != 1 {
			t.Errorf("%d connections are kept of %d logins", n, len(p.logins))
		}
	}
}

// The password was changed while a client was logged in, and the connection is gone: whoever has the login must log in
// again, and hears the upstream's own answer then.
func TestPassedLoginGone(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret", Answers: map[string][]string{"AUTH": {"", "", "535 5.7.8 changed"}}})
	d, _ := passDoor(t, peer, nil)
	one, two := d.dial(t), d.dial(t)
	for _, c := range []*rawClient{one, two} {
		c.play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 235*")
	}
	peer.Cut()
	one.play(aMessage + "S 421 4.7.0 the login does not hold any more: connect and log in again\nCLOSED")
	asked := peer.Connections()
	two.play(aMessage + "S 421 4.7.0*\nCLOSED")
	if n := peer.Connections(); n != asked {
		t.Error("the upstream was asked again with a login that it had refused")
	}
	d.dial(t).play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 535 5.7.8 changed")
}

func TestPassedLoginPutOff(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret", Answers: map[string][]string{"AUTH": {"", "454 4.7.0 too many logins", ""}}})
	d, _ := passDoor(t, peer, nil)
	c := d.dial(t)
	c.play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 235*")
	peer.Cut()
	c.play(aMessage + "S 454 4.7.0 too many logins" + aMessage + "S 250 2.0.0 ok: queued as 1")
}

// A reload that moved the account to another upstream: the login was good at the old one only.
func TestPassedLoginMoved(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
	d, p := passDoor(t, peer, nil)
	var now sync.Map
	now.Store("at", p)
	d.server.Pass = func(string) *PassUpstream { at, _ := now.Load("at"); return at.(*PassUpstream) }
	c := d.dial(t)
	c.play("S 220*\nC EHLO x\nS 250-*\nC " + authPlain("ann", "s3cret") + "\nS 235*" + aMessage + "S 250*")
	now.Store("at", p.up.Passing())
	c.play("C MAIL FROM:<a@b.test>\nS 421 4.7.0 the login does not hold any more: connect and log in again\nCLOSED")
}

// Several logins at once, more than there are connections: each message goes as the login of its client, and no
// connection ever carries two.
func TestPassedLoginsAreNeverMixed(t *testing.T) {
	const clients, each = 8, 25
	script := smtptest.Script{Login: "none:none"}
	for i := range clients / 2 {
		script.Logins = append(script.Logins, fmt.Sprintf("user%d:password%d", i, i))
	}
	peer := smtptest.New(t, script)
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 3 }).Passing()
	defer p.Close()
	var working sync.WaitGroup
	for i := range clients {
		working.Go(func() {
			user := fmt.Sprintf("user%d", i/2)
			l, reply, err := p.LogIn(t.Context(), user, fmt.Sprintf("password%d", i/2))
			if err != nil || l == nil {
				t.Errorf("%s: %s, %v", user, reply, err)
				return
			}
			defer l.Release()
			for n := range each {
				m := letter("b@x.test")
				m.Data = fmt.Appendf(nil, "Subject: %s %d %d\r\n\r\nhello\r\n", user, i, n)
				if reply, err := l.Send(t.Context(), m); err != nil || !reply.Positive() {
					t.Errorf("%s: %s, %v", user, reply, err)
				}
			}
		})
	}
	working.Wait()
	byConn, subjects := map[int]string{}, map[string]bool{}
	for _, m := range peer.Messages() {
		subject := strings.TrimPrefix(strings.SplitN(string(m.Data), "\r\n", 2)[0], "Subject: ")
		subjects[subject] = true
		if user, _, _ := strings.Cut(subject, " "); m.Login != user || byConn[m.Conn] != "" && byConn[m.Conn] != user {
			t.Errorf("connection %d of %q carried a message of %s as %s", m.Conn, byConn[m.Conn], user, m.Login)
		}
		byConn[m.Conn] = m.Login
	}
	if len(subjects) != clients*each {
		t.Errorf("%d messages arrived, want %d", len(subjects), clients*each)
	}
	until(t, func() bool { return tokensIn(p, "") == 3 }) // of released logins: connections are closed in the background
}

// A login that waits for a connection gets that of one that does not use it, and gives up in time where all are used.
func TestPassedLoginsShareConnections(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	script := smtptest.Script{Login: "ann:a", Logins: []string{"bob:b"}, Before: func(step string) {
		if step == "." {
			held <- struct{}{}
			<-hold
		}
	}}
	peer := smtptest.New(t, script)
	p := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Connections = 1 }).Passing()
	defer p.Close()
	ann, _, err := p.LogIn(t.Context(), "ann", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Release()
	bob, reply, err := p.LogIn(t.Context(), "bob", "b") // while ann's is unused
	if err != nil || bob == nil {
		t.Fatalf("%s, %v", reply, err)
	}
	defer bob.Release()
	sent := make(chan error, 1)
	go func() { _, err := ann.Send(t.Context(), letter("b@x.test")); sent <- err }()
	<-held
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := bob.Send(short, letter("b@x.test")); err == nil || !strings.Contains(err.Error(), "waiting for a connection") {
		t.Errorf("bob: %v", err)
	}
	waits := make(chan error, 1)
	go func() { _, err := bob.Send(t.Context(), letter("b@x.test")); waits <- err }()
	close(hold)
	for _, result := range []chan error{sent, waits} {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	for i, want := range []string{"ann", "bob"} {
		if got := peer.Messages()[i].Login; got != want {
			t.Errorf("message %d was sent as %s, want %s", i+1, got, want)
		}
	}
}

// What is stored of a message has nothing of its client's login.
func TestPassedLoginIsNotStored(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Login: "ann:s3cret"})
	p := upstreamTo(t, peer, nil).Passing()
	defer p.Close()
	l, _, err := p.LogIn(t.Context(), "ann", "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	m := letter("b@x.test")
	m.Login = l
	b, err := json.Marshal(Copy{Message: m})
	if err != nil || strings.Contains(string(b), "s3cret") || strings.Contains(string(b), "Login") {
		t.Errorf("%s, %v", b, err)
	}
}
