package integration

import (
	"fmt"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// newGatewayOf is a gateway whose accounts have two upstreams, in this order.
func newGatewayOf(t *testing.T, first, second string, settings ...setting) *gateway {
	t.Helper()
	g := newGateway(t, append(settings, setting{"UPSTREAM", first})...)
	g.edit("timeout: 10s, rewrites: []}", "timeout: 30s}\n"+`  - {name: two, url: "smtp://`+second+`", timeout: 10s}`)
	g.edit("password: secret", "password: secret, upstream: [esp, two]")
	return g
}

// TestSeveralUpstreams: the next upstream is asked where one cannot be reached or turns the connection away, and not
// where one may have the message or has answered it.
func TestSeveralUpstreams(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		script  smtptest.Script
		dead    bool // nobody listens
		reply   string
		second  int    // messages that reach the second
		journal string // in the outcome
	}{
		{"the first works", smtptest.Script{}, false, "250 2.0.0 ok: queued as 1", 0, "upstream=esp fate=sent"},
		{"nobody listens", smtptest.Script{}, true, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"the connection is closed", step("connect", smtptest.Close), false, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"the greeting refuses for good", step("connect", "554 5.3.2 no mail here"), false, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"the greeting puts off", step("connect", "421 4.3.2 not now"), false, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"the greeting does not come", step("connect", smtptest.Silence), false, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"a login is demanded", smtptest.Script{Login: "ann:s3cret"}, false, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"closed at MAIL", step("MAIL", smtptest.Close), false, "250 2.0.0 ok: queued as 1", 1, "upstream=two fate=sent"},
		{"the recipient is put off", step("RCPT", "450 4.2.1 greylisted"), false, "250 2.0.0 queued as ", 0, "upstream=esp fate=deferred"},
		{"the recipient is refused", step("RCPT", "550 5.1.1 no such user"), false, "550 5.1.1 no such user", 0, "upstream=esp fate=failed"},
		{"the answer is lost", step(".", smtptest.Close), false, "250 2.0.0 queued as ", 0, "upstream=esp fate=in doubt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first, second := smtptest.New(t, tt.script), smtptest.New(t, smtptest.Script{})
			if tt.dead {
				first.Close()
			}
			g := newGatewayOf(t, first.Addr(), second.Addr(), setting{"BUDGET", "10s"}).start()
			g.consented("k@spedition.de")
			g.mustSubmit(t, tt.reply, "crm", us, []string{"k@spedition.de"}, letter("several@acme.example", "k@spedition.de", ""))
			if n := len(second.Messages()); n != tt.second {
				t.Errorf("the second upstream got %d messages, want %d", n, tt.second)
			}
			if out := g.must("journal", "--message-id", "several@acme.example"); !strings.Contains(out, tt.journal) {
				t.Errorf("the journal lacks %q:\n%s", tt.journal, out)
			}
		})
	}
}

// TestUpstreamComesBack: while the first is away the second gets the mail; when it is back it gets it again.
func TestUpstreamComesBack(t *testing.T) {
	t.Parallel()
	address := freePort(t)
	second := smtptest.New(t, smtptest.Script{})
	g := newGatewayOf(t, address, second.Addr()).start()
	n := 0
	submit := func() {
		n++
		id := fmt.Sprintf("back%d@acme.example", n)
		g.mustSubmit(t, "250 2.0.0 ok: queued as ", "shop", us, []string{"k@spedition.de"}, letter(id, "k@spedition.de", ""))
	}
	for range 20 {
		submit()
	}
	if got := len(second.Messages()); got != 20 {
		t.Errorf("the second upstream got %d messages, want 20", got)
	}
	first := smtptest.New(t, smtptest.Script{Address: address})
	eventually(t, "mail at the first upstream again", func() bool { submit(); return len(first.Messages()) > 0 })
	if got := len(first.Messages()) + len(second.Messages()); got != n {
		t.Errorf("%d of %d messages arrived", got, n)
	}
}
