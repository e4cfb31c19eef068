package smtp

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// upstreamTo is an Upstream that talks to the scripted peer; change may alter its configuration.
func upstreamTo(t *testing.T, peer *smtptest.Upstream, change func(*UpstreamConfig)) *Upstream {
	t.Helper()
	c := UpstreamConfig{
		Name: "esp", Address: peer.Addr(), Security: Plain, Hostname: "gw.test",
		Timeout: 10 * time.Second, RootCAs: peer.Roots(),
	}
	if change != nil {
		change(&c)
	}
	u, err := NewUpstream(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// keeps tells that u has a connection for the next message.
func keeps(u *Upstream) bool {
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	return len(u.pool.unused) > 0
}

func letter(to ...string) Message {
	m := Message{Envelope: Envelope{ID: "1", From: "a@acme.test"}, Data: []byte("Subject: hi\r\n\r\nhello\r\n")}
	for _, a := range to {
		m.To = append(m.To, Recipient{Address: a})
	}
	return m
}

// result is how a message ends at an upstream.
type result string

const (
	answered result = "a reply"
	fault    result = "an error"
	away     result = "turned away"
	doubt    result = "in doubt"
)

// check holds what Send gave against the reply, or a part of the error, that is wanted.
func (want result) check(t *testing.T, reply Reply, err error, wantReply, wantErr string) {
	t.Helper()
	var turned TurnedAwayError
	switch want {
	case answered:
		if err != nil || reply.String() != wantReply {
			t.Errorf("got %q, %v; want %q", reply, err, wantReply)
		}
	case fault:
		if err == nil || errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), wantErr) {
			t.Errorf("got %q, %v; want a plain error with %q", reply, err, wantErr)
		}
	case away:
		if !errors.As(err, &turned) || errors.Is(err, ErrInDoubt) || turned.Reply.String() != wantReply ||
			OutcomeOf(reply, err) != (Outcome{Fate: Deferred, Reply: turned.Reply}) {
			t.Errorf("got %q, %v; want to be turned away by %q", reply, err, wantReply)
		}
	case doubt:
		if !errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), wantErr) {
			t.Errorf("got %q, %v; want ErrInDoubt with %q", reply, err, wantErr)
		}
	}
}

func TestUpstreamMisbehaviour(t *testing.T) {
	large := letter("b@x.test")
	large.Data = append([]byte("Subject: large\r\n\r\n"), bytes.Repeat([]byte("0123456789012345678901234567890123456789\r\n"), 400_000)...)
	noticed := letter("b@x.test")
	noticed.To[0].Notify = []string{"NEVER"}
	eight := letter("b@x.test")
	eight.Data = []byte("Subject: hi\r\n\r\nh\xc3\xa9llo\r\n")
	utf8 := letter("j\u00f6rg@x.test")
	lockStep := []string{"8BITMIME"}
	on := func(step string, answers ...string) map[string][]string { return map[string][]string{step: answers} }
	tests := []struct {
		name   string
		script smtptest.Script
		m      Message // zero: a letter
		want   result
		reply  string // its String
		err    string // part of the error
		seen   int    // messages that reached their final dot
		kept   bool   // the connection is fit for the next message
	}{
		{name: "takes it", want: answered, reply: "250 2.0.0 ok: queued as 1", seen: 1, kept: true},
		{name: "takes it in lock-step", script: smtptest.Script{Extensions: lockStep}, want: answered, reply: "250 2.0.0 ok: queued as 1", seen: 1, kept: true},
		{name: "closes at connect", script: smtptest.Script{Answers: on("connect", smtptest.Close)}, want: fault, err: "greeting"},
		{name: "greets with 421", script: smtptest.Script{Answers: on("connect", "421 4.7.0 too many")}, want: away, reply: "421 4.7.0 too many"},
		{name: "greets with 450", script: smtptest.Script{Answers: on("connect", "450 later")}, want: away, reply: "450 later"},
		{name: "greets with 554", script: smtptest.Script{Answers: on("connect", "554 no mail here")}, want: fault, err: "554 no mail here"},
		{name: "greets with garbage", script: smtptest.Script{Answers: on("connect", "HTTP/1.1 400 Bad Request")}, want: fault, err: "not SMTP"},
		{name: "greets in several lines", script: smtptest.Script{Answers: on("connect", "220-one\r\n220-two\r\n220 three")}, want: answered, reply: "250 2.0.0 ok: queued as 1", seen: 1, kept: true},
		{name: "closes at EHLO", script: smtptest.Script{Answers: on("EHLO", smtptest.Close)}, want: fault, err: "EHLO"},
		{name: "421 at EHLO", script: smtptest.Script{Answers: on("EHLO", "421 4.3.2 shutting down")}, want: away, reply: "421 4.3.2 shutting down"},
		{name: "knows HELO only", script: smtptest.Script{Answers: on("EHLO", "502 what?")}, want: answered, reply: "250 2.0.0 ok: queued as 1", seen: 1, kept: true},
		{name: "refuses EHLO and HELO", script: smtptest.Script{Answers: map[string][]string{"EHLO": {"550 who?"}, "HELO": {"550 who?"}}}, want: fault, err: "HELO was answered 550 who?"},
		{name: "450 at EHLO", script: smtptest.Script{Answers: on("EHLO", "450 no")}, want: fault, err: "EHLO was answered 450"},
		{name: "closes at MAIL", script: smtptest.Script{Answers: on("MAIL", smtptest.Close)}, want: fault, err: "MAIL"},
		{name: "refuses MAIL", script: smtptest.Script{Answers: on("MAIL", "550 5.1.8 no such sender")}, want: answered, reply: "550 5.1.8 no such sender", kept: true},
		{name: "421 at MAIL", script: smtptest.Script{Answers: on("MAIL", "421 4.4.2 bye")}, want: answered, reply: "421 4.4.2 bye"},
		{name: "354 at MAIL", script: smtptest.Script{Answers: on("MAIL", "354 what")}, want: fault, err: "MAIL was answered 354"},
		{name: "refuses RCPT", script: smtptest.Script{Answers: on("RCPT", "550 5.1.1 unknown")}, want: answered, reply: "550 5.1.1 unknown", kept: true},
		{name: "refuses RCPT in lock-step", script: smtptest.Script{Extensions: lockStep, Answers: on("RCPT", "550 5.1.1 unknown")}, want: answered, reply: "550 5.1.1 unknown", kept: true},
		{name: "refuses RCPT, goes on to 354", script: smtptest.Script{Answers: map[string][]string{"RCPT": {"452 4.2.2 full"}, "DATA": {"354 go"}}}, want: answered, reply: "452 4.2.2 full", seen: 1, kept: true},
		{name: "refuses RCPT, closes", script: smtptest.Script{Answers: on("RCPT", "550 5.1.1 unknown"+smtptest.Close)}, want: answered, reply: "550 5.1.1 unknown"},
		{name: "refuses MAIL, takes RCPT and DATA", script: smtptest.Script{Answers: map[string][]string{"MAIL": {"550 no"}, "RCPT": {"250 ok"}, "DATA": {"354 go"}}}, want: answered, reply: "550 no"},
		{name: "refuses in several lines", script: smtptest.Script{Answers: on("RCPT", "550-5.7.1 no\r\n550-5.7.1 because\r\n550 5.7.1 of policy")}, want: answered, reply: "550 5.7.1 no; because; of policy", kept: true},
		{name: "closes at RCPT", script: smtptest.Script{Answers: on("RCPT", smtptest.Close)}, want: fault, err: "RCPT"},
		{name: "closes at DATA", script: smtptest.Script{Answers: on("DATA", smtptest.Close)}, want: fault, err: "DATA"},
		{name: "refuses DATA", script: smtptest.Script{Answers: on("DATA", "451 4.3.0 later")}, want: answered, reply: "451 4.3.0 later", kept: true},
		{name: "250 at DATA", script: smtptest.Script{Answers: on("DATA", "250 ok")}, want: fault, err: "DATA was answered 250"},
		{name: "codes differ in an answer", script: smtptest.Script{Answers: on("MAIL", "250-yes\r\n550 no")}, want: fault, err: "not SMTP"},
		{name: "a line without end", script: smtptest.Script{Answers: on("MAIL", "250 "+strings.Repeat("x", 5000))}, want: fault, err: "too long"},
		{name: "an answer without end", script: smtptest.Script{Answers: on("MAIL", strings.Repeat("250-x\r\n", 5000))}, want: fault, err: "too long"},
		{name: "closes in the message", m: large, script: smtptest.Script{Answers: on("body", smtptest.Close)}, want: fault, err: "in the middle of the message"},
		{name: "552 in the message and closes", m: large, script: smtptest.Script{Answers: on("body", "552 5.3.4 too big"+smtptest.Close)}, want: answered, reply: "552 5.3.4 too big"},
		{name: "421 in the message and closes", m: large, script: smtptest.Script{Answers: on("body", "421 4.3.2 shutting down")}, want: answered, reply: "421 4.3.2 shutting down"},
		{name: "552 in the message and reads on", m: large, script: smtptest.Script{Answers: on("body", "552 5.3.4 too big"+smtptest.Silence)}, want: answered, reply: "552 5.3.4 too big"},
		{name: "250 in the message", m: large, script: smtptest.Script{Answers: on("body", "250 fine"+smtptest.Close)}, want: fault, err: "in the middle of the message"},
		{name: "refuses the message", script: smtptest.Script{Answers: on(".", "554 5.6.0 spam")}, want: answered, reply: "554 5.6.0 spam", seen: 1, kept: true},
		{name: "defers the message", script: smtptest.Script{Answers: on(".", "451 4.7.1 greylisted")}, want: answered, reply: "451 4.7.1 greylisted", seen: 1, kept: true},
		{name: "421 to the message", script: smtptest.Script{Answers: on(".", "421 4.3.2 bye")}, want: answered, reply: "421 4.3.2 bye", seen: 1},
		{name: "closes after the final dot", script: smtptest.Script{Answers: on(".", smtptest.Close)}, want: doubt, seen: 1},
		{name: "closes after a large message", m: large, script: smtptest.Script{Answers: on(".", smtptest.Close)}, want: doubt, seen: 1},
		{name: "garbage after the final dot", script: smtptest.Script{Answers: on(".", "thanks!")}, want: doubt, err: "not SMTP", seen: 1},
		{name: "354 after the final dot", script: smtptest.Script{Answers: on(".", "354 more")}, want: doubt, seen: 1},
		{name: "450 at MAIL", script: smtptest.Script{Answers: on("MAIL", "450 4.3.2 later")}, want: answered, reply: "450 4.3.2 later", kept: true},
		{name: "garbage at RCPT", script: smtptest.Script{Answers: on("RCPT", "yes")}, want: fault, err: "RCPT"},
		{name: "421 at RCPT", script: smtptest.Script{Answers: on("RCPT", "421 4.4.2 bye")}, want: answered, reply: "421 4.4.2 bye"},
		{name: "550 at DATA", script: smtptest.Script{Answers: on("DATA", "550 5.7.1 no")}, want: answered, reply: "550 5.7.1 no", kept: true},
		{name: "421 at DATA", script: smtptest.Script{Answers: on("DATA", "421 4.4.2 bye")}, want: answered, reply: "421 4.4.2 bye"},
		{name: "garbage at DATA", script: smtptest.Script{Answers: on("DATA", "ok")}, want: fault, err: "DATA"},
		{name: "refuses SIZE that it offers", script: smtptest.Script{Answers: on("MAIL", "555 5.5.4 SIZE?", "")}, want: answered, reply: "250 2.0.0 ok: queued as 1", seen: 1, kept: true},
		{name: "refuses every parameter", script: smtptest.Script{Answers: on("MAIL", "555 5.5.4 what?")}, want: answered, reply: "555 5.5.4 what?", kept: true},
		{name: "refuses DSN that it offers", m: noticed, script: smtptest.Script{Answers: on("RCPT", "501 5.5.4 NOTIFY?", "")}, want: answered, reply: "250 2.0.0 ok: queued as 1", seen: 1, kept: true},
		{name: "refuses an address by 501", m: noticed, script: smtptest.Script{Answers: on("RCPT", "501 5.1.3 bad address")}, want: answered, reply: "501 5.1.3 bad address", kept: true},
		{name: "refuses 8BITMIME that it offers", m: eight, script: smtptest.Script{Extensions: []string{"8BITMIME"}, Answers: on("MAIL", "555 5.5.4 BODY?")}, want: answered, reply: "555 5.5.4 BODY?", kept: true},
		{name: "refuses SMTPUTF8 that it offers", m: utf8, script: smtptest.Script{Extensions: []string{"SMTPUTF8", "8BITMIME"}, Answers: on("MAIL", "555 5.5.4 UTF8?")}, want: answered, reply: "555 5.5.4 UTF8?", kept: true},
		{name: "control characters in an answer", script: smtptest.Script{Answers: on(".", "250 o\x00k \x1b[2J\xff\u0085x")}, want: answered, reply: "250 o?k ?[2J??x", seen: 1, kept: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.New(t, tt.script)
			m := tt.m
			if m.To == nil {
				m = letter("b@x.test")
			}
			u := upstreamTo(t, peer, nil)
			reply, err := u.Send(t.Context(), m)
			if kept := keeps(u); kept != tt.kept {
				t.Errorf("the connection was kept: %v", kept)
			}
			tt.want.check(t, reply, err, tt.reply, tt.err)
			seen := peer.Seen()
			if len(seen) != tt.seen {
				t.Fatalf("%d messages reached their final dot, want %d", len(seen), tt.seen)
			}
			for _, s := range seen {
				if whole := bytes.Equal(s.Data, m.Data); !whole && len(s.To) > 0 || len(s.To) == 0 && len(s.Data) > 0 {
					t.Errorf("the upstream has %d bytes of %d for %v", len(s.Data), len(m.Data), s.To)
				}
			}
		})
	}
}

func TestUpstreamSilence(t *testing.T) {
	for _, tt := range []struct {
		step  string
		doubt bool
	}{{"connect", false}, {"EHLO", false}, {"MAIL", false}, {"RCPT", false}, {"DATA", false}, {".", true}} {
		t.Run(tt.step+" times out", func(t *testing.T) {
			t.Parallel()
			peer := smtptest.New(t, smtptest.Script{Answers: map[string][]string{tt.step: {smtptest.Silence}}})
			u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Timeout = 100 * time.Millisecond })
			u.answer = 100 * time.Millisecond
			_, err := u.Send(t.Context(), letter("b@x.test"))
			if netErr := net.Error(nil); !errors.As(err, &netErr) || !netErr.Timeout() || errors.Is(err, ErrInDoubt) != tt.doubt {
				t.Errorf("got %v", err)
			}
		})
		t.Run(tt.step+" is cancelled", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			peer := smtptest.New(t, smtptest.Script{
				Answers: map[string][]string{tt.step: {smtptest.Silence}},
				Before: func(step string) {
					if step == tt.step {
						cancel()
					}
				},
			})
			_, err := upstreamTo(t, peer, nil).Send(ctx, letter("b@x.test"))
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrInDoubt) != tt.doubt {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("stops reading the message", func(t *testing.T) {
		t.Parallel()
		peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
			if step == "body" {
				<-t.Context().Done()
			}
		}})
		m := letter("b@x.test")
		m.Data = bytes.Repeat([]byte("0123456789012345678901234567890\r\n"), 500_000)
		u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Timeout = 200 * time.Millisecond })
		u.farewell = 100 * time.Millisecond
		if _, err := u.Send(t.Context(), m); err == nil || errors.Is(err, ErrInDoubt) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWithdrawn(t *testing.T) {
	for _, tt := range []struct {
		step string
		sent bool
	}{{"RCPT", false}, {"DATA", false}, {".", true}} {
		t.Run(tt.step, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			peer := smtptest.New(t, smtptest.Script{Before: func(step string) {
				if step == tt.step {
					cancel(ErrWithdrawn)
					if !tt.sent {
						<-t.Context().Done()
					}
				}
			}})
			reply, err := upstreamTo(t, peer, nil).Send(ctx, letter("b@x.test"))
			if tt.sent && (err != nil || !reply.Positive()) {
				t.Errorf("the answer was not waited for: %v, %v", reply, err)
			}
			if !tt.sent && !errors.Is(err, ErrWithdrawn) {
				t.Errorf("got %v, %v", reply, err)
			}
		})
	}
}

func TestSecurity(t *testing.T) {
	login := func(c *UpstreamConfig) { c.Username, c.Password = "u", "se:cret" }
	with := func(s Security, more ...func(*UpstreamConfig)) func(*UpstreamConfig) {
		return func(c *UpstreamConfig) {
			c.Security = s
			for _, f := range more {
				f(c)
			}
		}
	}
	early := "250-upstream.test\r\n250-STARTTLS\r\n250 AUTH PLAIN"
	injected := map[string][]string{"STARTTLS": {"220 go\r\n250-injected\r\n250 AUTH PLAIN"}}
	tests := []struct {
		name   string
		script smtptest.Script
		change func(*UpstreamConfig)
		err    string // "": it is sent
		tls    bool
		login  string
	}{
		{"STARTTLS", smtptest.Script{TLS: "starttls"}, with(StartTLS), "", true, ""},
		{"implicit TLS", smtptest.Script{TLS: "tls"}, with(Implicit), "", true, ""},
		{"STARTTLS not offered", smtptest.Script{}, with(StartTLS), "does not offer STARTTLS", false, ""},
		{"STARTTLS refused", smtptest.Script{TLS: "starttls", Answers: map[string][]string{"STARTTLS": {"454 no"}}}, with(StartTLS), "STARTTLS was answered 454", false, ""},
		{"421 at STARTTLS", smtptest.Script{TLS: "starttls", Answers: map[string][]string{"STARTTLS": {"421 4.3.2 bye"}}}, with(StartTLS), "takes no mail now: 421", false, ""},
		{"closes at STARTTLS", smtptest.Script{TLS: "starttls", Answers: map[string][]string{"STARTTLS": {smtptest.Close}}}, with(StartTLS), "STARTTLS", false, ""},
		{"closes in the handshake", smtptest.Script{TLS: "starttls", Answers: map[string][]string{"STARTTLS": {"220 go" + smtptest.Close}}}, with(StartTLS), "TLS", false, ""},
		{"refuses EHLO after STARTTLS", smtptest.Script{TLS: "starttls", Answers: map[string][]string{"EHLO": {"", "550 who?"}, "HELO": {"550 who?"}}}, with(StartTLS), "HELO was answered 550", false, ""},
		{"AUTH offered before TLS only", smtptest.Script{TLS: "starttls", Login: "u:se:cret", Answers: map[string][]string{"EHLO": {early, "250 upstream.test", early, "250 upstream.test"}}}, with(StartTLS, login), "neither AUTH PLAIN nor", false, ""},
		{"STARTTLS, another name in the certificate", smtptest.Script{TLS: "starttls", Address: "127.0.0.2:0"}, with(StartTLS), "certificate", false, ""},
		{"implicit TLS, another name in the certificate", smtptest.Script{TLS: "tls", Address: "127.0.0.2:0"}, with(Implicit), "certificate", false, ""},
		{"HELO only", smtptest.Script{TLS: "starttls", Answers: map[string][]string{"EHLO": {"502 no"}}}, with(StartTLS), "does not offer STARTTLS", false, ""},
		{"plain text after STARTTLS", smtptest.Script{TLS: "starttls", Answers: injected}, with(StartTLS), "plain text after", false, ""},
		{"unknown authority", smtptest.Script{TLS: "starttls"}, with(StartTLS, func(c *UpstreamConfig) { c.RootCAs = x509.NewCertPool() }), "certificate", false, ""},
		{"not a TLS server", smtptest.Script{}, with(Implicit), "TLS", false, ""},
		{"PLAIN", smtptest.Script{TLS: "tls", Login: "u:se:cret"}, with(Implicit, login), "", true, "u"},
		{"LOGIN", smtptest.Script{TLS: "tls", Login: "u:se:cret", Mechanisms: "CRAM-MD5 LOGIN"}, with(Implicit, login), "", true, "u"},
		{"PLAIN in the old spelling", smtptest.Script{Extensions: []string{"AUTH=PLAIN"}, TLS: "tls", Login: "u:se:cret", Mechanisms: "NTLM"}, with(Implicit, login), "", true, "u"},
		{"login in plain text to loopback", smtptest.Script{Login: "u:se:cret"}, with(Plain, login), "", false, "u"},
		{"no known mechanism", smtptest.Script{TLS: "tls", Login: "u:se:cret", Mechanisms: "NTLM"}, with(Implicit, login), "neither AUTH PLAIN nor", false, ""},
		{"wrong password", smtptest.Script{TLS: "tls", Login: "u:other"}, with(Implicit, login), "AUTH was answered 535", false, ""},
		{"password in the answer", smtptest.Script{TLS: "tls", Login: "u:x", Answers: map[string][]string{"AUTH": {"535 se:cret is wrong, AHUAc2U6Y3JldA== too"}}}, with(Implicit, login), "535 *** is wrong, *** too", false, ""},
		{"421 at AUTH", smtptest.Script{TLS: "tls", Login: "u:se:cret", Answers: map[string][]string{"AUTH": {"421 4.7.0 too many"}}}, with(Implicit, login), "takes no mail now: 421", false, ""},
		{"closes at AUTH", smtptest.Script{TLS: "tls", Login: "u:se:cret", Answers: map[string][]string{"AUTH": {smtptest.Close}}}, with(Implicit, login), "AUTH", false, ""},
		{"garbage at AUTH", smtptest.Script{TLS: "tls", Login: "u:se:cret", Answers: map[string][]string{"AUTH": {"welcome"}}}, with(Implicit, login), "not SMTP", false, ""},
		{"LOGIN with an empty password", smtptest.Script{TLS: "tls", Login: "u:", Mechanisms: "LOGIN"}, with(Implicit, func(c *UpstreamConfig) { c.Username = "u" }), "", true, "u"},
		{"454 at AUTH", smtptest.Script{TLS: "tls", Login: "u:se:cret", Answers: map[string][]string{"AUTH": {"454 4.7.0 later"}}}, with(Implicit, login), "AUTH was answered 454", false, ""},
		{"login not wanted", smtptest.Script{TLS: "tls"}, with(Implicit, login), "neither AUTH PLAIN nor", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.New(t, tt.script)
			u := upstreamTo(t, peer, tt.change)
			checked := u.Check(t.Context())
			reply, err := u.Send(t.Context(), letter("b@x.test"))
			if tt.err != "" {
				for _, err := range []error{checked, err} {
					if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "se:cret") {
						t.Errorf("got %v, want %q", err, tt.err)
					}
				}
				return
			}
			if checked != nil || err != nil || !reply.Positive() {
				t.Fatalf("got %v, %v, %v", checked, reply, err)
			}
			if m := peer.Messages()[0]; m.TLS != tt.tls || m.Login != tt.login {
				t.Errorf("tls %v, login %q", m.TLS, m.Login)
			}
		})
	}
}

func TestUpstreamConfig(t *testing.T) {
	good := UpstreamConfig{Name: "esp", Address: "esp.test:25", Security: Plain, Hostname: "gw.test"}
	for _, tt := range []struct {
		name   string
		change func(*UpstreamConfig)
		err    string
	}{
		{"good", func(*UpstreamConfig) {}, ""},
		{"no port", func(c *UpstreamConfig) { c.Address = "esp.test" }, "host:port"},
		{"no host", func(c *UpstreamConfig) { c.Address = ":25" }, "host:port"},
		{"unknown security", func(c *UpstreamConfig) { c.Security = "ssl" }, "ssl"},
		{"password in plain text", func(c *UpstreamConfig) { c.Username = "u" }, "TLS only"},
		{"password in plain text to loopback", func(c *UpstreamConfig) { c.Username, c.Address = "u", "[::1]:25" }, ""},
		{"NUL in the password", func(c *UpstreamConfig) { c.Password = "a\x00b" }, "NUL"},
		{"EHLO injection", func(c *UpstreamConfig) { c.Hostname = "a\r\nMAIL" }, "host name"},
		{"negative messages of a connection", func(c *UpstreamConfig) { c.PerConnection = -1 }, "negative"},
		{"negative rate", func(c *UpstreamConfig) { c.Rate = -1 }, "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			_, err := NewUpstream(c)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

func TestOutcomeOf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reply Reply
		err   error
		want  Fate
	}{
		{"taken", OK, nil, Sent},
		{"refused", Refused, nil, Failed},
		{"deferred", OurFault, nil, Deferred},
		{"nothing at all", Reply{}, nil, Deferred},
		{"no answer", Reply{}, io.EOF, Deferred},
		{"turned away", Reply{}, fmt.Errorf("upstream: %w", TurnedAwayError{OurFault}), Deferred},
		{"no turn", Reply{}, fmt.Errorf("upstream: %w", ErrBusy), Deferred},
		{"not served", Reply{}, fmt.Errorf("upstream: %w", UnservedError{"AUTH", BadCredentials}), Deferred},
		{"answer lost", Reply{}, errors.Join(ErrInDoubt, io.EOF), InDoubt},
	} {
		if got := OutcomeOf(tt.reply, tt.err); got.Fate != tt.want || tt.err != nil && !got.Reply.Temporary() {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestSeveralRecipients(t *testing.T) {
	many := make([]string, 120)
	for i := range many {
		many[i] = strings.Repeat("r", i+1) + "@x.test"
	}
	for _, extensions := range [][]string{nil, {}} {
		t.Run("all are taken", func(t *testing.T) {
			peer := smtptest.New(t, smtptest.Script{Extensions: extensions})
			reply, err := upstreamTo(t, peer, nil).Send(t.Context(), letter(many...))
			if err != nil || !reply.Positive() {
				t.Fatal(reply, err)
			}
			var got []string
			for _, r := range peer.Messages()[0].To {
				got = append(got, r.Address)
			}
			if !slices.Equal(got, many) {
				t.Errorf("got %v", got)
			}
		})
		t.Run("one is refused", func(t *testing.T) {
			peer := smtptest.New(t, smtptest.Script{Extensions: extensions, Answers: map[string][]string{"RCPT": {"250 ok", "550 5.1.1 unknown", "250 ok"}}})
			u := upstreamTo(t, peer, nil)
			reply, err := u.Send(t.Context(), letter(many...))
			if err != nil || reply.Code != 550 || len(peer.Seen()) != 0 || slices.Contains(peer.Commands(), "DATA") {
				t.Fatal(reply, err, peer.Seen())
			}
			// The recipients that were taken must not get the next message.
			reply, err = u.Send(t.Context(), letter("next@x.test"))
			if err != nil || !reply.Positive() || peer.Connections() != 1 {
				t.Fatal(reply, err, peer.Connections())
			}
			if to := peer.Messages()[0].To; len(to) != 1 || to[0].Address != "next@x.test" {
				t.Errorf("got %v", to)
			}
		})
	}
}
