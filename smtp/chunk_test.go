package smtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// probe is how a connection begins where CHUNKING is offered.
var probe = []string{"EHLO gw.test", "BDAT 6 LAST", "RSET"}

func TestChunkMisbehaviour(t *testing.T) {
	taken := "250 2.0.0 ok: queued as 1"
	on := func(step string, answers ...string) map[string][]string { return map[string][]string{step: answers} }
	some := letter("b@x.test")
	some.Data = append([]byte("Subject: some\r\n\r\n"), bytes.Repeat([]byte(strings.Repeat("x", 998)+"\r\n"), 250)...) // several pieces
	large := letter("b@x.test")
	large.Data = append([]byte("Subject: large\r\n\r\n"), bytes.Repeat([]byte(".23456789012345678901234567890\r\n"), 10_000)...)
	dots := letter("b@x.test")
	dots.Data = []byte(".\r\n..\r\nQUIT\r\n.\r\nRSET\r\n")
	noticed := letter("b@x.test")
	noticed.To[0].Notify = []string{"NEVER"}
	bdat, data := "BDAT", "DATA"
	tests := []struct {
		name   string
		script smtptest.Script
		m      Message // zero: a letter
		want   result
		reply  string // its String
		err    string // part of the error
		seen   int    // messages that came whole
		kept   bool   // the connection is fit for the next message
		by     string // the command that the content went by last, "" if it did not
		conns  int    // 0: 1
	}{
		{name: "takes it", want: answered, reply: taken, seen: 1, kept: true, by: bdat},
		{name: "takes it in pieces", m: some, want: answered, reply: taken, seen: 1, kept: true, by: bdat},
		{name: "dots stay as they are", m: dots, want: answered, reply: taken, seen: 1, kept: true, by: bdat},
		{name: "a large message goes by DATA", m: large, want: answered, reply: taken, seen: 1, kept: true, by: data},
		{name: "two recipients go by DATA", m: letter("b@x.test", "c@x.test"), want: answered, reply: taken, seen: 1, kept: true, by: data},
		{name: "CHUNKING without PIPELINING", script: smtptest.Script{Extensions: []string{"CHUNKING"}}, want: answered, reply: taken, seen: 1, kept: true, by: data},

		{name: "does not know BDAT", script: smtptest.Script{Chunks: smtptest.Unknown}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "leaves the chunk of a refused BDAT", script: smtptest.Script{Chunks: smtptest.Unread}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "leaves the chunk and does not know QUIT", script: smtptest.Script{Chunks: smtptest.Unread, Answers: on("QUIT", "500 what?")}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "closes at the probe", script: smtptest.Script{Answers: on("probe", smtptest.Close)}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "garbage at the probe", script: smtptest.Script{Answers: on("probe", "what?")}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "takes the probe for a message", script: smtptest.Script{Answers: on("probe", "250 ok")}, want: answered, reply: "250 2.0.0 ok: queued as 2", seen: 2, kept: true, by: data, conns: 2},
		{name: "421 at the probe", script: smtptest.Script{Answers: on("probe", "421 4.3.2 what?")}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "421 at the probe, since it is going", script: smtptest.Script{Answers: map[string][]string{"probe": {"421 4.3.2 bye"}, "connect": {"", "421 4.3.2 bye"}}}, want: away, reply: "421 4.3.2 bye", conns: 2},
		{name: "502 at the probe, discards it", script: smtptest.Script{Answers: on("probe", "502 5.5.1 not now")}, want: answered, reply: taken, seen: 1, kept: true, by: bdat},
		{name: "closes at RSET", script: smtptest.Script{Answers: on("RSET", smtptest.Close)}, want: answered, reply: taken, seen: 1, kept: true, by: data, conns: 2},
		{name: "throws away what is pipelined", script: smtptest.Script{Flushes: true}, want: fault, err: "RCPT", conns: 2},

		{name: "refuses MAIL", script: smtptest.Script{Answers: on("MAIL", "550 5.1.8 no such sender")}, want: answered, reply: "550 5.1.8 no such sender", kept: true, by: bdat},
		{name: "450 at MAIL", script: smtptest.Script{Answers: on("MAIL", "450 4.3.2 later")}, want: answered, reply: "450 4.3.2 later", kept: true, by: bdat},
		{name: "421 at MAIL", script: smtptest.Script{Answers: on("MAIL", "421 4.4.2 bye")}, want: answered, reply: "421 4.4.2 bye"},
		{name: "closes at MAIL", script: smtptest.Script{Answers: on("MAIL", smtptest.Close)}, want: doubt},
		{name: "refuses MAIL, closes", script: smtptest.Script{Answers: on("MAIL", "550 no"+smtptest.Close)}, want: answered, reply: "550 no"},
		{name: "garbage at MAIL", script: smtptest.Script{Answers: on("MAIL", "yes")}, want: doubt, err: "not SMTP"},
		{name: "354 at MAIL", script: smtptest.Script{Answers: on("MAIL", "354 what")}, want: doubt, err: "354"},
		{name: "refuses MAIL, takes RCPT and BDAT", script: smtptest.Script{Answers: map[string][]string{"MAIL": {"550 no"}, "RCPT": {"250 ok"}, "BDAT": {"250 ok"}}}, want: doubt, err: "MAIL was answered 550, BDAT 250", seen: 1, by: bdat},
		{name: "refuses MAIL, takes BDAT", script: smtptest.Script{Answers: map[string][]string{"MAIL": {"550 no"}, "BDAT": {"250 ok"}}}, want: answered, reply: "550 no", seen: 1, by: bdat},
		{name: "refuses RCPT", script: smtptest.Script{Answers: on("RCPT", "550 5.1.1 unknown")}, want: answered, reply: "550 5.1.1 unknown", kept: true, by: bdat},
		{name: "refuses RCPT in several lines", script: smtptest.Script{Answers: on("RCPT", "550-5.7.1 no\r\n550 5.7.1 never")}, want: answered, reply: "550 5.7.1 no; never", kept: true, by: bdat},
		{name: "421 at RCPT", script: smtptest.Script{Answers: on("RCPT", "421 4.4.2 bye")}, want: answered, reply: "421 4.4.2 bye"},
		{name: "closes at RCPT", script: smtptest.Script{Answers: on("RCPT", smtptest.Close)}, want: doubt},
		{name: "refuses RCPT, closes", script: smtptest.Script{Answers: on("RCPT", "550 5.1.1 unknown"+smtptest.Close)}, want: answered, reply: "550 5.1.1 unknown"},
		{name: "refuses RCPT, takes BDAT", script: smtptest.Script{Answers: map[string][]string{"RCPT": {"452 4.2.2 full"}, "BDAT": {"250 ok"}}}, want: answered, reply: "452 4.2.2 full", seen: 1, by: bdat},
		{name: "refuses RCPT, 421 at BDAT", script: smtptest.Script{Answers: map[string][]string{"RCPT": {"550 no"}, "BDAT": {"421 bye"}}}, want: answered, reply: "550 no", by: bdat},
		{name: "refuses SIZE that it offers", script: smtptest.Script{Answers: on("MAIL", "555 5.5.4 SIZE?", "")}, want: answered, reply: taken, seen: 1, kept: true, by: data},
		{name: "refuses DSN that it offers", m: noticed, script: smtptest.Script{Answers: on("RCPT", "555 5.5.4 NOTIFY?", "")}, want: answered, reply: taken, seen: 1, kept: true, by: data},

		{name: "closes in the chunk", m: some, script: smtptest.Script{Answers: on("body", smtptest.Close)}, want: "any", by: bdat},
		{name: "552 in the chunk and closes", m: some, script: smtptest.Script{Answers: on("body", "552 5.3.4 too big"+smtptest.Close)}, want: answered, reply: "552 5.3.4 too big", by: bdat},
		{name: "refuses the message", script: smtptest.Script{Answers: on("BDAT", "554 5.6.0 spam")}, want: answered, reply: "554 5.6.0 spam", seen: 1, kept: true, by: bdat},
		{name: "defers the message", script: smtptest.Script{Answers: on("BDAT", "451 4.7.1 greylisted")}, want: answered, reply: "451 4.7.1 greylisted", seen: 1, kept: true, by: bdat},
		{name: "421 to the message", script: smtptest.Script{Answers: on("BDAT", "421 4.3.2 bye")}, want: answered, reply: "421 4.3.2 bye", seen: 1, by: bdat},
		{name: "closes after the chunk", script: smtptest.Script{Answers: on("BDAT", smtptest.Close)}, want: doubt, seen: 1, by: bdat},
		{name: "garbage after the chunk", script: smtptest.Script{Answers: on("BDAT", "thanks!")}, want: doubt, err: "not SMTP", seen: 1, by: bdat},
		{name: "354 after the chunk", script: smtptest.Script{Answers: on("BDAT", "354 more")}, want: doubt, seen: 1, by: bdat},
		{name: "502 at BDAT", script: smtptest.Script{Answers: on("BDAT", "502 5.5.1 not implemented")}, want: answered, reply: "250 2.0.0 ok: queued as 2", seen: 2, kept: true, by: data, conns: 2},
		{name: "503 at BDAT", script: smtptest.Script{Answers: on("BDAT", "503 5.5.1 not here")}, want: answered, reply: "250 2.0.0 ok: queued as 2", seen: 2, kept: true, by: data, conns: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.script.Extensions == nil {
				tt.script.Extensions = smtptest.Chunking()
			}
			m := tt.m
			if m.To == nil {
				m = letter("b@x.test")
			}
			peer := smtptest.New(t, tt.script)
			u := upstreamTo(t, peer, func(c *UpstreamConfig) {
				if tt.script.Flushes {
					c.Timeout = 100 * time.Millisecond
				}
			})
			reply, err := u.Send(t.Context(), m)
			if tt.want == "any" { // whether all of it was handed to the system when the peer closed is the system's matter
				if err == nil {
					t.Errorf("got %q", reply)
				}
			} else {
				tt.want.check(t, reply, err, tt.reply, tt.err)
			}
			// How much the system takes before it sees that the peer has closed is its own matter.
			if kept := keeps(u); kept != tt.kept && tt.script.Answers["body"] == nil {
				t.Errorf("the connection was kept: %v", kept)
			}
			if want := max(tt.conns, 1); peer.Connections() != want {
				t.Errorf("%d connections, want %d", peer.Connections(), want)
			}
			seen, by := peer.Seen(), ""
			if len(seen) != tt.seen {
				t.Errorf("%d messages came whole, want %d", len(seen), tt.seen)
			}
			if len(seen) > 0 && len(seen[len(seen)-1].To) > 0 && !bytes.Equal(seen[len(seen)-1].Data, m.Data) {
				t.Errorf("the upstream has %q", seen[len(seen)-1].Data)
			}
			for i, c := range peer.Commands() {
				if c, _, _ = strings.Cut(c, " "); c == data || c == bdat && i > len(probe) {
					by = c
				}
			}
			if by != tt.by && tt.by != "" {
				t.Errorf("the content went by %s, want %s", by, tt.by)
			}
			if content := "Subject"; slices.ContainsFunc(peer.Commands(), func(c string) bool { return strings.HasPrefix(c, content) }) {
				t.Errorf("content was read as commands: %q", peer.Commands())
			}
		})
	}
}

func TestBurst(t *testing.T) {
	ok, no, bye := Reply{Code: 250}, Reply{Code: 550}, Reply{Code: 421}
	all := func(r ...Reply) []Reply { return r }
	cut := errors.New("write: broken pipe")
	for _, tt := range []struct {
		name string
		b    burst
		want ending
		err  error // what want.err is
	}{
		{"taken", burst{all(ok, ok, ok), nil, nil}, ending{reply: ok}, nil},
		{"refused", burst{all(ok, ok, no), nil, nil}, ending{reply: no, refused: true}, nil},
		{"refused before its end", burst{all(ok, ok, no), nil, cut}, ending{reply: no, refused: true, broken: true}, nil},
		{"taken before its end", burst{all(ok, ok, ok), nil, cut}, ending{broken: true}, cut},
		{"nothing was heard", burst{nil, io.EOF, nil}, ending{broken: true}, ErrInDoubt},
		{"nothing was heard, not all was sent", burst{nil, io.EOF, cut}, ending{broken: true, lost: true}, cut},
		{"MAIL taken, not all was sent", burst{all(ok), io.EOF, cut}, ending{broken: true}, cut},
		{"MAIL taken, then nothing", burst{all(ok), io.EOF, nil}, ending{broken: true}, ErrInDoubt},
		{"RCPT taken, then nothing", burst{all(ok, ok), io.EOF, nil}, ending{broken: true}, ErrInDoubt},
		{"RCPT refused, then nothing", burst{all(ok, no), io.EOF, nil}, ending{reply: no, broken: true}, nil},
		{"RCPT refused, not all was sent", burst{all(ok, no), io.EOF, cut}, ending{reply: no, broken: true}, nil},
		{"MAIL refused, then garbage", burst{all(no, Reply{Code: 354}), errGarbage, nil}, ending{reply: no, broken: true}, nil},
		{"garbage", burst{all(Reply{Code: 354}), errGarbage, nil}, ending{broken: true}, ErrInDoubt},
		{"going away", burst{all(bye), nil, nil}, ending{reply: bye, broken: true, lost: true}, nil},
		{"going away, not all was sent", burst{all(bye), nil, cut}, ending{reply: bye, broken: true, lost: true}, nil},
		{"going away at BDAT", burst{all(ok, ok, bye), nil, nil}, ending{reply: bye, refused: true, broken: true}, nil},
		{"BDAT unknown", burst{all(ok, ok, Reply{Code: 500}), nil, nil}, ending{broken: true, unknown: true}, nil},
		{"BDAT refused with RCPT", burst{all(ok, no, Reply{Code: 503}), nil, nil}, ending{reply: no, refused: true}, nil},
		{"RCPT refused, BDAT taken", burst{all(ok, no, ok), nil, nil}, ending{reply: no, broken: true}, nil},
		{"MAIL refused, the rest taken", burst{all(no, ok, ok), nil, nil}, ending{broken: true}, ErrInDoubt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.b.judge()
			if tt.err != nil && !errors.Is(got.err, tt.err) || errors.Is(got.err, ErrInDoubt) != (tt.err == ErrInDoubt) { //nolint:errorlint // which row it is
				t.Errorf("got %v, want %v", got.err, tt.err)
			}
			if got.err != nil && got.reply.Code != 0 || got.err == nil && got.reply.Code == 0 {
				t.Errorf("both or neither of a reply and an error: %+v", got)
			}
			if got.err = nil; got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestChunksAfterMessages(t *testing.T) {
	envelope := func(by string) []string { return []string{"MAIL FROM:<a@acme.test> SIZE=22", "RCPT TO:<c@x.test>", by} }
	const bdat, data = "BDAT 22 LAST", "DATA"
	for _, tt := range []struct {
		name    string
		answers map[string][]string
		between func(*Upstream, *smtptest.Upstream)
		want    []string // commands of the second message
		conns   int
	}{
		{"after success", nil, nil, envelope(bdat), 1},
		{"on a connection that was idle", nil, func(u *Upstream, _ *smtptest.Upstream) { u.fresh = 0 }, envelope(data), 1},
		{"after a refused message", map[string][]string{"BDAT": {"554 no"}}, nil, append([]string{"RSET"}, envelope(data)...), 1},
		{"after a refused RCPT", map[string][]string{"RCPT": {"550 no", ""}}, nil, append([]string{"RSET"}, envelope(data)...), 1},
		{"after it was cut", nil, func(_ *Upstream, p *smtptest.Upstream) { p.Cut() }, slices.Concat(probe, envelope(bdat)), 2},
		{"after it was cut while idle", nil, func(u *Upstream, p *smtptest.Upstream) { u.fresh = 0; p.Cut() }, slices.Concat(probe, envelope(data)), 2},
		{"421 at the second MAIL", map[string][]string{"MAIL": {"", "421 4.4.2 enough", ""}}, nil, nil, 2},
		{"says 421 unasked", map[string][]string{"BDAT": {"250 ok\r\n421 4.4.2 enough", ""}}, nil, slices.Concat(probe, envelope(bdat)), 2},
		{"does not know BDAT later", map[string][]string{"BDAT": {"", "500 what?"}}, nil, nil, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.New(t, smtptest.Script{Extensions: smtptest.Chunking(), Answers: tt.answers})
			u := upstreamTo(t, peer, nil)
			u.fresh = time.Hour
			if _, err := u.Send(t.Context(), letter("b@x.test")); err != nil {
				t.Fatal(err)
			}
			before := len(peer.Commands())
			if tt.between != nil {
				tt.between(u, peer)
				awaitGone(t, u)
			}
			send(t, u, "c@x.test")
			if got := peer.Commands()[before:]; tt.want != nil && !slices.Equal(got, tt.want) || peer.Connections() != tt.conns {
				t.Errorf("got %q over %d connections, want %q over %d", got, peer.Connections(), tt.want, tt.conns)
			}
			if m := peer.Messages(); m[len(m)-1].To[0].Address != "c@x.test" {
				t.Errorf("got %v", m)
			}
		})
	}
}

// The first message of a second connection shows it again: another server may stand behind the same address.
func TestEveryConnectionIsTried(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Extensions: smtptest.Chunking()})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.PerConnection = 1 })
	send(t, u, "b@x.test")
	send(t, u, "c@x.test")
	probes := 0
	for _, c := range peer.Commands() {
		if c == probe[1] {
			probes++
		}
	}
	if probes != 2 || peer.Connections() != 2 {
		t.Errorf("%d probes over %d connections", probes, peer.Connections())
	}
}

func TestChunkSilence(t *testing.T) {
	for _, step := range []string{"MAIL", "RCPT", "BDAT"} {
		script := smtptest.Script{Extensions: smtptest.Chunking(), Answers: map[string][]string{step: {smtptest.Silence}}}
		t.Run(step+" times out", func(t *testing.T) {
			t.Parallel()
			u := upstreamTo(t, smtptest.New(t, script), nil)
			u.answer = 100 * time.Millisecond
			_, err := u.Send(t.Context(), letter("b@x.test"))
			if netErr := net.Error(nil); !errors.As(err, &netErr) || !netErr.Timeout() || !errors.Is(err, ErrInDoubt) {
				t.Errorf("got %v", err)
			}
		})
		t.Run(step+" is cancelled", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			cancelled := script
			cancelled.Before = func(reached string) {
				if reached == step {
					cancel()
				}
			}
			_, err := upstreamTo(t, smtptest.New(t, cancelled), nil).Send(ctx, letter("b@x.test"))
			if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrInDoubt) {
				t.Errorf("got %v", err)
			}
		})
		t.Run(step+" is withdrawn", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			peer := smtptest.New(t, smtptest.Script{Extensions: smtptest.Chunking(), Before: func(reached string) {
				if reached == step {
					cancel(ErrWithdrawn)
				}
			}})
			// Too late: all of it is on its way, so the answer is waited for.
			if reply, err := upstreamTo(t, peer, nil).Send(ctx, letter("b@x.test")); err != nil || !reply.Positive() {
				t.Errorf("got %v, %v", reply, err)
			}
		})
	}
}

// The same over TLS, where what the socket has is not what the connection has.
func TestChunksOverTLS(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode string
		s    Security
	}{{"STARTTLS", "starttls", StartTLS}, {"implicit TLS", "tls", Implicit}} {
		t.Run(tt.name, func(t *testing.T) {
			peer := smtptest.New(t, smtptest.Script{Extensions: smtptest.Chunking(), TLS: tt.mode, Login: "u:p"})
			u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Security, c.Username, c.Password = tt.s, "u", "p" })
			u.fresh = time.Hour
			for range 5 {
				send(t, u, "b@x.test")
			}
			peer.Cut()
			awaitGone(t, u)
			send(t, u, "b@x.test")
			if peer.Connections() != 2 || slices.Contains(peer.Commands(), "DATA") || len(peer.Messages()) != 6 {
				t.Errorf("%d connections, %q", peer.Connections(), peer.Commands())
			}
		})
	}
}

// What a server does not do is tried again after an hour.
func TestChunksAreTriedAgain(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Extensions: smtptest.Chunking(), Answers: map[string][]string{"probe": {smtptest.Close, ""}}})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.PerConnection = 1 })
	c := &clock{}
	u.pool.now = c.now
	by := func() string {
		before := len(peer.Commands())
		send(t, u, "b@x.test")
		got := strings.Join(peer.Commands()[before:], " ")
		return map[bool]string{true: "BDAT", false: "DATA"}[strings.Contains(got, "BDAT 22 LAST")]
	}
	got := []string{by(), by()}
	c.advance(time.Hour)
	if got = append(got, by()); !slices.Equal(got, []string{"DATA", "DATA", "BDAT"}) {
		t.Errorf("got %v", got)
	}
}

// A server that throws away what came behind a command is told one command at a time from then on.
func TestLockStepAfterSilence(t *testing.T) {
	peer := smtptest.New(t, smtptest.Script{Flushes: true})
	u := upstreamTo(t, peer, func(c *UpstreamConfig) { c.Timeout = 200 * time.Millisecond })
	if reply, err := u.Send(t.Context(), letter("b@x.test")); err == nil || errors.Is(err, ErrInDoubt) {
		t.Errorf("got %v, %v", reply, err)
	}
	u.config.Timeout = 10 * time.Second
	send(t, u, "c@x.test")
	send(t, u, "d@x.test")
	if n := len(peer.Messages()); n != 2 || peer.Connections() != 2 {
		t.Errorf("%d messages over %d connections", n, peer.Connections())
	}
}
