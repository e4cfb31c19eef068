package smtp

import (
	"context"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	hello = `
		S 220 gw.test ESMTP*
		C EHLO client.test
		S 250-gw.test\n*
	`
	envelope = hello + `
		C MAIL FROM:<a@b.test>
		S 250 2.1.0 ok
		C RCPT TO:<c@d.test>
		S 250 2.1.5 ok
	`
	inData = envelope + `
		C DATA
		S 354 *
	`
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestDialogs(t *testing.T) {
	elsewhere := fromPeer("192.0.2.7:4000")
	small := withLimits(Limits{Message: 20, Recipients: 2})
	for _, c := range []struct {
		name    string
		option  doorOption
		script  string
		taken   []string // the data of the messages
		handler func(*doorHandler)
	}{
		{name: "a message", script: inData + `
			C Subject: hi
			C
			C ..dot
			C .
			S 250 2.0.0 ok
			C QUIT
			S 221 2.0.0 *
			CLOSED`, taken: []string{"Subject: hi\r\n\r\n.dot\r\n"}},
		{name: "the EHLO answer", script: `
			S 220 gw.test *
			C EHLO client.test
			S 250-gw.test\n250-PIPELINING\n250-SIZE 26214400\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250-DSN\n250-LIMITS RCPTMAX=1000\n250-STARTTLS\n250 AUTH PLAIN LOGIN`},
		{name: "no AUTH offered in plain text off loopback", option: elsewhere, script: `
			S 220 gw.test *
			C EHLO client.test
			S 250-gw.test\n250-PIPELINING\n250-SIZE 26214400\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250-DSN\n250-LIMITS RCPTMAX=1000\n250 STARTTLS`},
		{name: "HELO", script: `
			S 220 gw.test *
			C HELO [192.0.2.1]
			S 250 gw.test
			C MAIL FROM:<>
			S 250 2.1.0 ok`},
		{name: "the client's name is not echoed", script: `
			S 220 *
			C EHLO a\x00b
			S 500 5.5.2 *
			C EHLO b\xc3\xbccher
			S 500 5.5.2 *
			C EHLO
			S 501 5.5.4 *
			C EHLO evil\x7f
			S 500 5.5.2 *`},
		{name: "order", script: `
			S 220 *
			C MAIL FROM:<a@b.test>
			S 503 5.5.1 *
			C RCPT TO:<a@b.test>
			S 503 5.5.1 *
			C EHLO c
			S 250-*
			C RCPT TO:<a@b.test>
			S 503 5.5.1 *
			C DATA
			S 503 5.5.1 *
			C MAIL FROM:<a@b.test>
			S 250 *
			C DATA
			S 503 5.5.1 *
			C AUTH PLAIN
			S 503 5.5.1 *
			C STARTTLS
			S 503 5.5.1 *`},
		{name: "nested MAIL", script: envelope + `
			C MAIL FROM:<other@b.test>
			S 503 5.5.1 *
			C RSET
			S 250 2.0.0 *
			C DATA
			S 503 5.5.1 *
			C MAIL FROM:<other@b.test>
			S 250 2.1.0 ok
			C DATA
			S 503 5.5.1 *`},
		{name: "EHLO ends a transaction", script: envelope + `
			C EHLO again
			S 250-*
			C DATA
			S 503 5.5.1 *`},
		{name: "two messages", script: inData + `
			C one
			C .
			S 250 *
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<c@d.test>
			S 250 *
			C DATA
			S 354 *
			C two
			C .
			S 250 *`, taken: []string{"one\r\n", "two\r\n"}},
		{name: "an empty message", script: inData + `
			C .
			S 250 *`, taken: []string{"\r\n"}},
		{name: "pipelining", script: hello + `
			R MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\nDATA\r\n
			S 250 2.1.0 ok
			S 250 2.1.5 ok
			S 250 2.1.5 ok
			S 354 *
			R x\r\n.\r\nMAIL FROM:<>\r\nQUIT\r\n
			S 250 2.0.0 ok
			S 250 2.1.0 ok
			S 221 *
			CLOSED`, taken: []string{"x\r\n"}},
		{name: "verbs in any case, spaces after them", script: `
			S 220 *
			C ehlo c \x20
			S 250-*
			C mail from:<a@b.test>  size=10
			S 250 *
			C rcpt to: <c@d.test> \x20
			S 250 *
			C data \x20
			S 354 *
			C .
			S 250 *
			C noop
			S 250 *
			C quit \x20
			S 221 *`, taken: []string{"\r\n"}},
		{name: "SIZE", option: small, script: hello + `
			C MAIL FROM:<a@b.test> SIZE=21
			S 552 5.3.4 message is too big, the limit is 20 bytes
			C MAIL FROM:<a@b.test> SIZE=4294967296
			S 552 5.3.4 *
			C MAIL FROM:<a@b.test> SIZE=99999999999999999999
			S 552 5.3.4 *
			C MAIL FROM:<a@b.test> SIZE=-1
			S 501 5.5.4 *
			C MAIL FROM:<a@b.test> SIZE=1 SIZE=2
			S 501 5.5.4 *
			C MAIL FROM:<a@b.test> SIZE=20
			S 250 *`},
		{name: "exactly the limit", option: small, script: inData + `
			C 234567890123456789
			C .
			S 250 *`[0:], taken: []string{"234567890123456789\r\n"}},
		{name: "one over the limit, then the session goes on", option: small, script: inData + `
			C 2345678901234567890
			C .
			S 552 5.3.4 *
			C MAIL FROM:<a@b.test>
			S 250 *`},
		{name: "dots do not count", option: small, script: inData + `
			C ..34567890123456789
			C .
			S 250 *`, taken: []string{".34567890123456789\r\n"}},
		{name: "far over the limit", option: small, script: inData + `
			R ` + strings.Repeat("x", 1100) + `\r\n
			C .
			S 552 5.3.4 *`},
		{name: "too many recipients", option: small, script: envelope + `
			C RCPT TO:<2@d.test>
			S 250 *
			C RCPT TO:<3@d.test>
			S 452 4.5.3 *
			C RCPT TO:<2@d.test>
			S 250 2.1.5 named twice*
			C DATA
			S 354 *
			C .
			S 250 *`, taken: []string{"\r\n"}},
		{name: "BDAT", script: envelope + `
			R BDAT 4\r\na\r\nb
			S 250 2.0.0 4 octets received
			R BDAT 0\r\n
			S 250 2.0.0 0 octets received
			R BDAT 5 LAST\r\n\r\n.\r\n
			S 250 2.0.0 ok
			C MAIL FROM:<a@b.test>
			S 250 *`, taken: []string{"a\r\nb\r\n.\r\n"}},
		{name: "BDAT in one packet with its envelope and what follows", script: hello + `
			R MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 6 LAST\r\nhello\nBAD
			S 250 *
			S 250 *
			S 550 5.5.2 *
			CLOSED`},
		{name: "pipelined BDAT without a last line end", script: hello + `
			R MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 5 LAST\r\nhelloMAIL FROM:<>\r\n
			S 250 *
			S 250 *
			S 250 *
			S 250 *`, taken: []string{"hello\r\n"}},
		{name: "BDAT, an empty message", script: envelope + `
			C BDAT 0 LAST
			S 250 2.0.0 ok`, taken: []string{"\r\n"}},
		{name: "BDAT ends in CR", script: envelope + `
			R BDAT 3 LAST\r\nab\r
			S 550 5.5.2 *
			CLOSED`},
		{name: "BDAT without a transaction skips its chunk", script: hello + `
			R BDAT 12 LAST\r\nMAIL FROM:<>NOOP\r\n
			S 503 5.5.1 *
			S 250 2.0.0 *`},
		{name: "BDAT over the limit skips its chunk", option: small, script: envelope + `
			R BDAT 21\r\n123456789012345678901NOOP\r\n
			S 552 5.3.4 *
			S 250 2.0.0 *
			R BDAT 4 LAST\r\nxx\r\nNOOP\r\n
			S 503 *
			S 250 *`},
		{name: "RSET in the middle of BDAT", script: envelope + `
			R BDAT 4\r\na\r\nb
			S 250 *
			C RSET
			S 250 *
			C BDAT 0 LAST
			S 503 *`},
		{name: "QUIT in the middle of BDAT", script: envelope + `
			R BDAT 4\r\na\r\nb
			S 250 *
			C QUIT
			S 221 *
			CLOSED`},
		{name: "DATA, MAIL and RCPT in the middle of BDAT", script: envelope + `
			R BDAT 4\r\na\r\nb
			S 250 *
			C DATA
			S 503 *
			C MAIL FROM:<a@b.test>
			S 503 *
			C RCPT TO:<a@b.test>
			S 503 *`},
		{name: "AUTH PLAIN with an initial response", option: elsewhere, script: `
			S 220 *
			C EHLO c
			S 250-*
			C STARTTLS
			S 220 *
			TLS
			C EHLO c
			S 250-gw.test\n250-PIPELINING\n250-SIZE 26214400\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250-DSN\n250-LIMITS RCPTMAX=1000\n250 AUTH PLAIN LOGIN
			C AUTH PLAIN ` + b64("\x00shop\x00secret") + `
			S 235 2.7.0 *
			C AUTH PLAIN
			S 503 5.5.1 *
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<a@b.test>
			S 250 *`},
		{name: "AUTH PLAIN asked for", script: hello + `
			C AUTH PLAIN
			S 334 *
			C ` + b64("shop\x00shop\x00secret") + `
			S 235 2.7.0 *
			C EHLO c
			S 250-gw.test\n*
			C STARTTLS
			S 503 5.5.1 *`},
		{name: "AUTH LOGIN", script: hello + `
			C auth login
			S 334 VXNlcm5hbWU6
			C ` + b64("shop") + `
			S 334 UGFzc3dvcmQ6
			C ` + b64("secret") + `
			S 235 2.7.0 *`},
		{name: "AUTH LOGIN with an initial response", script: hello + `
			C AUTH LOGIN ` + b64("shop") + `
			S 334 UGFzc3dvcmQ6
			C ` + b64("secret") + `
			S 235 2.7.0 *`},
		{name: "AUTH refused in plain text off loopback", option: elsewhere, script: hello + `
			C AUTH PLAIN ` + b64("\x00shop\x00secret") + `
			S 538 5.7.11 *
			C AUTH LOGIN
			S 538 5.7.11 *`},
		{name: "wrong passwords", script: hello + `
			C AUTH PLAIN ` + b64("\x00shop\x00wrong") + `
			S 535 5.7.8 *
			C AUTH PLAIN ` + b64("admin\x00shop\x00secret") + `
			S 535 5.7.8 *
			C AUTH PLAIN ` + b64("\x00nobody\x00secret") + `
			S 421 4.7.0 *
			CLOSED`},
		{name: "broken AUTH", script: hello + `
			C AUTH
			S 501 5.5.4 *
			C AUTH CRAM-MD5
			S 504 5.5.4 *
			C AUTH PLAIN !!!
			S 501 5.5.2 *
			C AUTH PLAIN =
			S 501 5.5.2 *
			C AUTH LOGIN
			S 334 *
			C *
			S 501 *
			C AUTH LOGIN
			S 334 *
			C QUIT?
			S 501 5.5.2 *
			C AUTH PLAIN
			S 334 *
			C ` + b64("no zeros") + `
			S 501 5.5.2 *
			C NOOP
			S 250 *`},
		{name: "a login that cannot be decided tells nothing", script: hello + `
			C AUTH PLAIN ` + b64("\x00broken\x00x") + `
			S 454 4.7.0 temporary authentication failure`},
		{name: "no account, no relay", option: elsewhere, script: hello + `
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<c@d.test>
			S 530 5.7.0 *
			C RCPT TO:<postmaster>
			S 530 5.7.0 *
			C DATA
			S 503 *`},
		{name: "STARTTLS forgets what was said before", script: hello + `
			C STARTTLS
			S 220 *
			TLS
			C MAIL FROM:<a@b.test>
			S 503 5.5.1 *
			C STARTTLS
			S 503 5.5.1 *
			C EHLO c
			S 250-*
			C MAIL FROM:<a@b.test>
			S 250 *`},
		{name: "plain text behind STARTTLS", script: hello + `
			R STARTTLS\r\nMAIL FROM:<a@b.test>\r\n
			S 503 5.5.1 *
			CLOSED`},
		{name: "plain text instead of the handshake", script: hello + `
			C STARTTLS
			S 220 *
			C MAIL FROM:<a@b.test>
			R \x20
			`},
		{name: "STARTTLSfoo", script: hello + `
			C STARTTLSfoo
			S 500 5.5.1 *
			C STARTTLS foo
			S 501 5.5.4 *`},
		{name: "no TLS", option: func(s *Server, _ *doorSetup) { s.TLS = nil }, script: hello + `
			C STARTTLS
			S 502 5.5.1 *`},
		{name: "REQUIRETLS", script: hello + `
			C MAIL FROM:<a@b.test> REQUIRETLS
			S 504 5.5.4 *
			C RCPT TO:<a@b.test>
			S 503 *`},
		{name: "BINARYMIME", script: hello + `
			C MAIL FROM:<a@b.test> BODY=BINARYMIME
			S 504 5.5.4 *`},
		{name: "broken paths", script: hello + `
			C MAIL FROM:<a@b@c.test>
			S 501 5.1.7 *
			C MAIL FROM:<a b@c.test>
			S 501 5.1.7 *
			C MAIL FROM:<@c.test>
			S 501 5.1.7 *
			C MAIL FROM:<a@c..test>
			S 501 5.1.7 *
			C MAIL FROM:<a@-c.test>
			S 501 5.1.7 *
			C MAIL FROM:<postmaster>
			S 501 5.1.7 *
			C MAIL FROM:<a@c.test>SIZE=1
			S 501 5.1.7 *
			C MAIL FROM:<a@c.test
			S 501 5.1.7 *
			C MAIL a@b.test
			S 501 5.5.4 *
			C MAIL FROM:<a@b.test> SMTPUTF8=1
			S 501 5.5.4 *
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<>
			S 501 5.1.3 *
			C RCPT TO:<a@c.test> NOTIFY=NEVER NOTIFY=SUCCESS
			S 501 5.5.4 *
			C RCPT TO:<a@c.test> NOTIFY=NEVER,SUCCESS
			S 501 5.5.4 *
			C RCPT TO:<a@c.test> ORCPT=rfc822;a+0D+0Ab@c
			S 501 5.5.4 *
			C RCPT TO:<a@[192.0.2.1]>
			S 250 *
			C RCPT TO:<postMaster>
			S 250 *
			C RCPT TO:<@x.test,@y.test:b@c.test>
			S 250 *
			C RCPT TO:bare@c.test
			S 250 *`},
		{name: "8-bit paths need SMTPUTF8", script: hello + `
			C MAIL FROM:<ü@b.test>
			S 553 5.6.7 *
			C MAIL FROM:<a@bücher.test>
			S 553 5.6.7 *
			C MAIL FROM:<\xff@b.test> SMTPUTF8
			S 553 5.6.7 *
			C MAIL FROM:<ü@bücher.test> SMTPUTF8
			S 250 *
			C RCPT TO:<ü@bücher.test>
			S 250 *
			C RSET
			S 250 *
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<ü@bücher.test>
			S 553 5.6.7 *`},
		{name: "controls in commands", script: hello + `
			C MAIL FROM:<a\x00@b.test>
			S 500 5.5.2 *
			C NOOP \x01
			S 500 5.5.2 *
			C VRFY \xe9
			S 500 5.5.2 *`},
		{name: "bare LF ends no command", script: `
			S 220 *
			R EHLO c\nMAIL FROM:<a@b.test>\n
			S 550 5.5.2 *
			CLOSED`},
		{name: "bare CR in a command", script: hello + `
			R NOOP\rMAIL FROM:<a@b.test>\r\n
			S 550 5.5.2 *
			CLOSED`},
		{name: "a long command", script: `
			S 220 *
			R ` + strings.Repeat("x", maxCommand+10) + `
			S 500 5.5.2 *
			CLOSED`},
		{name: "unknown commands", script: `
			S 220 *
			C GET / HTTP/1.1
			S 500 5.5.1 *
			C Host: gw.test
			S 500 5.5.1 *
			C XCLIENT ADDR=1.2.3.4
			S 500 5.5.1 *
			C
			S 500 5.5.1 *
			C VRFY a@b.test
			S 252 *
			C EXPN list
			S 502 *
			C HELP
			S 502 *`},
		{name: "a stranger's noise", option: elsewhere, script: "S 220 *\n" + strings.Repeat("C NOOP\nS 250 *\n", maxStranger) + `
			C NOOP
			S 421 4.7.0 *
			CLOSED`},
		{name: "a NUL in the message", script: inData + `
			C a\x00b
			C .
			S 554 5.6.0 *
			C NOOP
			S 250 *`},
		{name: "long lines pass", script: inData + `
			C ` + strings.Repeat("a", 5000) + `
			C
			C ` + strings.Repeat("b", 300_000) + `
			C .
			S 250 *`, taken: []string{strings.Repeat("a", 5000) + "\r\n\r\n" + strings.Repeat("b", 300_000) + "\r\n"}},
		{name: "a huge header line", script: inData + `
			C Subject: ` + strings.Repeat("a", 1<<20) + `
			C
			C .
			S 554 5.6.0 *
			C NOOP
			S 250 *`},
		{name: "100,000 header lines", script: inData + `
			R ` + strings.Repeat(`X: y\r\n`, 100_000) + `
			C
			C .
			S 554 5.6.0 *
			C NOOP
			S 250 *`},
		{name: "Recipient's reply as it is, made safe", handler: func(h *doorHandler) {
			h.recipient = func(context.Context, Envelope, string) Reply {
				return Reply{550, [3]int{5, 7, 1}, "first\r\n250 second\rthird\x00 ü"}
			}
		}, script: hello + `
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<c@d.test>
			S 550-5.7.1 first\n550 5.7.1 250 second?third? ?
			C DATA
			S 503 *
			C RSET
			S 250 *
			C MAIL FROM:<a@b.test> SMTPUTF8
			S 250 *
			C RCPT TO:<c@d.test>
			S 550-5.7.1 first\n550 5.7.1 250 second?third? ü`},
		{name: "421 closes", handler: func(h *doorHandler) {
			h.recipient = func(context.Context, Envelope, string) Reply { return Reply{421, [3]int{4, 3, 2}, "going"} }
		}, script: hello + `
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<c@d.test>
			S 421 4.3.2 going
			CLOSED`},
		{name: "421 after DATA closes", handler: func(h *doorHandler) {
			h.message = func(context.Context, Message) Reply { return Reply{421, [3]int{4, 3, 2}, "going"} }
		}, script: inData + `
			C .
			S 421 4.3.2 going
			CLOSED`, taken: []string{"\r\n"}},
		{name: "an answer that is none", handler: func(h *doorHandler) {
			h.recipient = func(context.Context, Envelope, string) Reply { return Reply{} }
			h.message = func(context.Context, Message) Reply { return Reply{354, [3]int{}, "go on"} }
		}, script: hello + `
			C MAIL FROM:<a@b.test>
			S 250 *
			C RCPT TO:<c@d.test>
			S 451 4.3.0 *`},
		{name: "a refused message does not end the session", handler: func(h *doorHandler) {
			h.message = func(context.Context, Message) Reply { return Refused }
		}, script: inData + `
			C .
			S 550 5.7.1 blocked
			C MAIL FROM:<a@b.test>
			S 250 *`, taken: []string{"\r\n"}},
		{name: "a panic costs one reply", handler: func(h *doorHandler) {
			h.message = func(context.Context, Message) Reply { panic("detail") }
		}, script: inData + `
			C .
			S 451 4.3.0 temporary failure in the gateway, see *
			C MAIL FROM:<a@b.test>
			S 250 *`, taken: []string{"\r\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var options []doorOption
			if c.option != nil {
				options = append(options, c.option)
			}
			d := openDoor(t, options...)
			if c.handler != nil {
				c.handler(d.handler)
			}
			d.dial(t).play(c.script)
			var taken []string
			for _, m := range d.handler.messages() {
				taken = append(taken, string(m.Data))
			}
			if !reflect.DeepEqual(taken, c.taken) {
				t.Errorf("taken %.200q\nwant  %.200q", taken, c.taken)
			}
		})
	}
}

// Line ends that one server takes for the end of data and another does not (CVE-2023-51764 and its kin).
func TestSmuggling(t *testing.T) {
	const attack = `MAIL FROM:<smuggled@bank.test>\r\nRCPT TO:<v@d.test>\r\nDATA\r\nevil\r\n.\r\n`
	for _, end := range []string{`\n.\n`, `\n.\r\n`, `\r.\r\n`, `\r.\r`, `\r\n.\n`, `\r\n.\rX`, `\r\r\n.\r\n`, `a\rb\r\n.\r\n`, `a\nb\r\n.\r\n`, `\r\n.\r\r\n`, `\n\r.\r\n`} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t)
			d.dial(t).play(inData + `
				R text` + end + attack + `
				S 550 5.5.2 bare CR or LF in message, closing the connection
				CLOSED`)
			if n := len(d.handler.messages()); n > 0 {
				t.Errorf("%d messages were taken", n)
			}
		})
	}
}

// A chunk whose size is not understood must not be read as commands.
func TestSmugglingByBDAT(t *testing.T) {
	for _, command := range []string{"BDAT", "BDAT x", "BDAT -1", "BDAT +5", "BDAT 22 LASTX", "BDAT 22 LAST LAST", "BDAT 4294967296", "BDAT 99999999999999999999", "BDAT 0x10"} {
		for _, before := range []string{hello, envelope} {
			d := openDoor(t)
			c := d.dial(t)
			c.play(before + "R " + command + `\r\nRSET\r\nMAIL FROM:<smuggled@bank.test>\r\n`)
			if got := c.reply(); !strings.HasPrefix(got, "501 5.5.4 ") && !strings.HasPrefix(got, "552 5.3.4 ") {
				t.Errorf("%s: %s", command, got)
			}
			c.expectClosed()
		}
	}
}

// go-smtp stays in command state when DATA times out: the rest of the body would be run as commands.
func TestDataTimeoutSmuggling(t *testing.T) {
	d := openDoor(t, withLimits(Limits{DataTimeout: 50 * time.Millisecond}))
	c := d.dial(t)
	c.play(inData + `
		C first half
		S 421 4.4.2 *
	`)
	c.Write([]byte("MAIL FROM:<smuggled@bank.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n.\r\n"))
	c.expectClosed()
	if n := len(d.handler.messages()); n > 0 {
		t.Errorf("%d messages were taken", n)
	}
}

func TestCommandTimeout(t *testing.T) {
	for _, before := range []string{"S 220 *", envelope, envelope + `
		R BDAT 4\r\na\r\nb
		S 250 *`, hello + `
		C AUTH LOGIN
		S 334 *`, "S 220 *\nR EHL"} {
		d := openDoor(t, withLimits(Limits{CommandTimeout: 50 * time.Millisecond}))
		d.dial(t).play(before + `
			S 421 4.4.2 *
			CLOSED`)
	}
}

func TestFailedHandshakeEndsTheConnection(t *testing.T) {
	d := openDoor(t)
	c := d.dial(t)
	c.play(hello + `
		C STARTTLS
		S 220 *
		C MAIL FROM:<a@b.test>`)
	answer := make([]byte, 100) // a TLS alert at most
	n, _ := c.in.Read(answer)
	if strings.Contains(string(answer[:n]), "250") || n > 0 && answer[0] != 21 {
		t.Errorf("plain text was answered: %q", answer[:n])
	}
	if n, err := c.in.Read(answer); err == nil {
		t.Errorf("still open: %q", answer[:n])
	}
}

func TestSilentHandshakeIsCut(t *testing.T) {
	for _, implicit := range []bool{true, false} {
		d := openDoor(t, withLimits(Limits{CommandTimeout: 50 * time.Millisecond}), func(_ *Server, s *doorSetup) { s.implicit = implicit })
		c := d.dial(t)
		if !implicit {
			c.play(hello + "C STARTTLS\nS 220 *")
		}
		if got, err := c.in.ReadString(0); err == nil {
			t.Errorf("still open, said %q", got)
		}
	}
}

func TestImplicitTLS(t *testing.T) {
	d := openDoor(t, fromPeer("[2001:db8::1]:25"), func(_ *Server, s *doorSetup) { s.implicit = true })
	c := d.dial(t)
	c.startTLS()
	c.play(`
		S 220 gw.test *
		C EHLO c
		S 250-*
		C STARTTLS
		S 503 *
		C AUTH PLAIN ` + b64("\x00shop\x00secret") + `
		S 235 *
		C MAIL FROM:<a@b.test>
		S 250 *
		C RCPT TO:<c@d.test>
		S 250 *
		C DATA
		S 354 *
		C .
		S 250 *
		C QUIT
		S 221 *
		CLOSED`)
	if e := d.handler.messages()[0].Envelope; !e.TLS || !e.Auth || e.Account != "shop" || e.Peer.String() != "2001:db8::1" {
		t.Errorf("%+v", e)
	}
}

func TestEnvelope(t *testing.T) {
	d := openDoor(t)
	var taken []int
	d.handler.recipient = func(_ context.Context, e Envelope, _ string) Reply {
		taken = append(taken, e.Taken)
		return OK
	}
	c := d.dial(t)
	c.play(hello + `
		C MAIL FROM:<"b a"@b.test> SIZE=12 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+3D1 AUTH=<>
		S 250 *
		C RCPT TO:<"v@evil.test> NOTIFY=NEVER ORCPT=rfc822;x"@mine.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c.test
		S 250 *
		C RCPT TO:<"plain"@mine.test> NOTIFY=NEVER
		S 250 *
		C RCPT TO:<Postmaster>
		S 250 *
		C DATA
		S 354 *
		C .
		S 250 *
		C MAIL FROM:<>
		S 250 *
		C RCPT TO:<c@d.test>
		S 250 *
		C DATA
		S 354 *
		C ü
		C .
		S 250 *`)
	got := d.handler.messages()
	want := Envelope{Account: "crm", From: `"b a"@b.test`, UTF8: true, Body: "8BITMIME", Size: 12, Return: "HDRS", EnvID: "QQ=1", Helo: "client.test", Taken: 3}
	e := got[0].Envelope
	if e.ID == "" || !e.Peer.IsLoopback() {
		t.Errorf("%+v", e)
	}
	want.ID, want.Peer = e.ID, e.Peer
	if e != want {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
	to := []Recipient{
		{Address: `"v@evil.test> NOTIFY=NEVER ORCPT=rfc822;x"@mine.test`, Notify: []string{"SUCCESS", "DELAY"}, ORcpt: "rfc822;a+b@c.test"},
		{Address: "plain@mine.test", Notify: []string{"NEVER"}},
		{Address: "Postmaster@gw.test"},
	}
	if !reflect.DeepEqual(got[0].To, to) {
		t.Errorf("got  %+v\nwant %+v", got[0].To, to)
	}
	if !reflect.DeepEqual(taken, []int{0, 1, 2, 0}) {
		t.Errorf("Taken was %v", taken)
	}
	second := got[1].Envelope
	if second.ID == e.ID || second.From != "" || second.UTF8 || second.Body != "8BITMIME" || second.Return != "" {
		t.Errorf("the second transaction: %+v", second)
	}
}

// RFC 2920: the replies to one group of commands leave together.
func TestRepliesAreCoalesced(t *testing.T) {
	d := openDoor(t)
	c := d.dial(t)
	c.play(hello)
	c.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\nDATA\r\n")
	b := make([]byte, 4096)
	n, err := c.Conn.Read(b)
	if err != nil || strings.Count(string(b[:n]), "\r\n") != 4 {
		t.Errorf("the first packet is %q, %v", b[:n], err)
	}
}

func TestAuthOverridesTheNetwork(t *testing.T) {
	d := openDoor(t)
	c := d.dial(t)
	c.play(hello + "C AUTH PLAIN " + b64("\x00shop\x00secret") + `
		S 235 *
		C MAIL FROM:<a@b.test>
		S 250 *
		C RCPT TO:<c@d.test>
		S 250 *
		C DATA
		S 354 *
		C .
		S 250 *`)
	if e := d.handler.messages()[0].Envelope; e.Account != "shop" || !e.Auth || e.TLS {
		t.Errorf("%+v", e)
	}
}

func TestLoginsAreThrottledByNetwork(t *testing.T) {
	d := openDoor(t, fromPeer("198.51.100.9:1"), func(_ *Server, s *doorSetup) { s.implicit = true })
	for i := range throttleTries {
		c := d.dial(t)
		c.startTLS()
		c.play("S 220 *\nC EHLO c\nS 250-*\nC AUTH PLAIN " + b64(fmt.Sprintf("\x00shop\x00wrong%d", i)) + "\nS 535 *")
	}
	c := d.dial(t)
	c.startTLS()
	c.play("S 220 *\nC EHLO c\nS 250-*\nC AUTH PLAIN " + b64("\x00shop\x00secret") + "\nS 421 4.7.0 *\nCLOSED")
}
