package smtp

import (
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// What nobody asked for is no answer to the next message, whatever connection it came over: the upstream refuses that
// one, and its client hears so.
func TestStrayAnswer(t *testing.T) {
	const stray = "250 2.0.0 stray"
	for _, over := range []struct {
		name, tls string
		pass      bool
	}{
		{"plain", "", false},
		{"plain, the client's login", "", true},
		{"TLS", "tls", false},
		{"TLS, the client's login", "starttls", true},
	} {
		for _, tt := range []struct {
			name, first string                   // answer to the first message
			between     func(*smtptest.Upstream) // while no message is under way
		}{
			{name: "with the last answer", first: "250 2.0.0 ok\r\n" + stray},
			{name: "right behind the last answer", first: "250 2.0.0 ok" + smtptest.Apart + stray},
			{name: "in one record with an answer as long as the buffer", first: "250 2.0.0 " + strings.Repeat("o", maxAnswerLine-12) + "\r\n" + stray},
			{name: "while unused", between: func(u *smtptest.Upstream) { u.Stray(stray + "\r\n") }},
			{name: "part of one", between: func(u *smtptest.Upstream) { u.Stray("25") }},
			{name: "closed", between: (*smtptest.Upstream).Cut},
		} {
			for _, extensions := range [][]string{smtptest.DefaultExtensions(), smtptest.Chunking()} {
				step := map[int]string{len(smtptest.DefaultExtensions()): ".", len(smtptest.Chunking()): "BDAT"}[len(extensions)]
				t.Run(over.name+"/"+tt.name+"/"+step, func(t *testing.T) {
					t.Parallel()
					peer := smtptest.New(t, smtptest.Script{
						Extensions: extensions, TLS: over.tls, Login: "ann:s3cret",
						Answers: map[string][]string{step: {tt.first, "554 5.6.0 spam"}},
					})
					send := senderTo(t, peer, over.tls, over.pass).Send
					if reply, err := send(t.Context(), letter("b@x.test")); err != nil || !reply.Positive() {
						t.Fatal(reply, err)
					}
					if tt.between != nil {
						tt.between(peer)
					}
					reply, err := send(t.Context(), letter("c@x.test"))
					if err != nil || reply.String() != "554 5.6.0 spam" || peer.Connections() != 2 {
						t.Errorf("%s, %v over %d connections", reply, err, peer.Connections())
					}
				})
			}
		}
	}
}

// senderTo sends as ann to the peer: with the gateway's login, or with a client's.
func senderTo(t *testing.T, peer *smtptest.Upstream, tls string, pass bool) Sender {
	t.Helper()
	u := upstreamTo(t, peer, func(c *UpstreamConfig) {
		c.Security = map[string]Security{"": Plain, "starttls": StartTLS, "tls": Implicit}[tls]
		c.Username, c.Password = "ann", "s3cret"
	})
	if !pass {
		return u
	}
	p := u.Passing()
	t.Cleanup(func() { p.Close() })
	l, reply, err := p.LogIn(t.Context(), "ann", "s3cret")
	if err != nil || l == nil {
		t.Fatal(reply, err)
	}
	return l
}
