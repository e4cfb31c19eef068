package integration

import (
	"fmt"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// misbehaviour is an upstream that does not do as it should, and what a client and the journal hear of it.
type misbehaviour struct {
	name    string
	script  smtptest.Script
	reply   string // how the client's begins
	because string // what else it says; "": nothing is asked of it
	fate    string // the outcome in the journal
	taken   int    // times that the upstream has it
}

// noAnswer is what a client hears where its message waits because the upstream said nothing of use.
const (
	noAnswer = "451 4.4.1 no answer from the upstream)"
	unserved = "451 4.3.5 the upstream does not serve this gateway: "
	answered = "250 2.0.0 ok: queued as "
	queued   = "250 2.0.0 queued as "
)

// step is a script that answers one step so, the last answer again and again.
func step(name string, answers ...string) smtptest.Script {
	return smtptest.Script{Answers: map[string][]string{name: answers}}
}

func offering(s smtptest.Script, extensions ...string) smtptest.Script {
	s.Extensions = append([]string{}, extensions...)
	return s
}

var misbehaviours = []misbehaviour{
	{"none", smtptest.Script{}, answered, "", "sent", 1},
	{"no extension at all", offering(smtptest.Script{}), answered, "", "sent", 1},
	{"connection closed at once", step("connect", smtptest.Close), queued, noAnswer, "deferred", 0},
	{"greeting 421", step("connect", "421 4.3.2 not now"), queued, "421 4.3.2 not now)", "deferred", 0},
	{"greeting 450", step("connect", "450 4.3.2 not now"), queued, "450 4.3.2 not now)", "deferred", 0},
	{"greeting 554", step("connect", "554 5.3.2 no mail here"), queued, unserved + "the connection was answered 554 5.3.2 no mail here)", "deferred", 0},
	{"greeting of another protocol", step("connect", "HTTP/1.1 400 Bad Request"), queued, noAnswer, "deferred", 0},
	{"multi-line greeting", step("connect", "220-one\r\n220-two\r\n220 three"), answered, "", "sent", 1},
	{"EHLO closed", step("EHLO", smtptest.Close), queued, noAnswer, "deferred", 0},
	{"EHLO 421", step("EHLO", "421 4.3.2 not now"), queued, "421 4.3.2 not now)", "deferred", 0},
	{"EHLO unknown, HELO taken", step("EHLO", "502 5.5.1 what?"), answered, "", "sent", 1},
	{"EHLO garbage", step("EHLO", "hello\r\nyou"), queued, noAnswer, "deferred", 0},
	{"MAIL closed", step("MAIL", smtptest.Close), queued, noAnswer, "deferred", 0},
	{"MAIL 451", step("MAIL", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred", 0},
	{"MAIL 550", step("MAIL", "550 5.7.1 not you"), "550 5.7.1 not you", "", "failed", 0},
	{"MAIL 530, a login is demanded", smtptest.Script{Login: "ann:s3cret"}, queued, unserved + "MAIL was answered 530 5.7.0 authentication required)", "deferred", 0},
	{"MAIL 421", step("MAIL", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred", 0},
	{"MAIL garbage", step("MAIL", "%&$"), queued, noAnswer, "deferred", 0},
	{"RCPT closed", step("RCPT", smtptest.Close), queued, noAnswer, "deferred", 0},
	{"RCPT 450", step("RCPT", "450 4.2.1 greylisted"), queued, "450 4.2.1 greylisted)", "deferred", 0},
	{"RCPT 550 of several lines", step("RCPT", "550-5.1.1 no such user\r\n550 5.1.1 ask somebody"), "550-5.1.1 no such user", "550 5.1.1 ask somebody", "failed", 0},
	{"RCPT 421", step("RCPT", "421 4.7.0 too many"), queued, "421 4.7.0 too many)", "deferred", 0},
	{"RCPT 550, one command at a time", offering(step("RCPT", "550 5.1.1 no such user")), "550 5.1.1 no such user", "", "failed", 0},
	{"DATA closed", step("DATA", smtptest.Close), queued, noAnswer, "deferred", 0},
	{"DATA 451", step("DATA", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred", 0},
	{"DATA 554", step("DATA", "554 5.7.1 no content"), "554 5.7.1 no content", "", "failed", 0},
	{"DATA 250", step("DATA", "250 2.0.0 already done"), queued, noAnswer, "deferred", 0},
	{"final dot closed", step(".", smtptest.Close), queued, "may have been delivered)", "in doubt", 0},
	{"final dot 451", step(".", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred", 0},
	{"final dot 554", step(".", "554 5.7.1 spam"), "554 5.7.1 spam", "", "failed", 0},
	{"final dot 421", step(".", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred", 0},
	{"final dot garbage", step(".", "thanks"), queued, "may have been delivered)", "in doubt", 0},
	{"final dot 354", step(".", "354 more"), queued, "may have been delivered)", "in doubt", 0},
	{"final dot 250 of several lines", step(".", "250-2.0.0 Ok\r\n250 2.0.0 queued as 7F"), "250-2.0.0 Ok", "queued as 7F", "sent", 1},
}

// TestMisbehaviours: whatever an upstream does, the client hears what it needs to know, once, and the journal says how
// it went. One gateway stands in front of all of them.
func TestMisbehaviours(t *testing.T) {
	t.Parallel()
	ups := make([]*smtptest.Upstream, len(misbehaviours))
	var upstreams, accounts strings.Builder
	for i, m := range misbehaviours {
		ups[i] = smtptest.New(t, m.script)
		fmt.Fprintf(&upstreams, `", timeout: 5s}`+"\n"+`  - {name: up%d, url: "smtp://%s`, i, ups[i].Addr())
		fmt.Fprintf(&accounts, "  - {name: acc%d, password: secret, sender: acme, category: transactional, upstream: [up%d]}\n", i, i)
	}
	g := newGateway(t, setting{"UPSTREAM", "127.0.0.1:1" + upstreams.String()}, setting{"ACCOUNTS", accounts.String()}, setting{"BUDGET", "5s"})
	g.edit("{retry: [1s]", "{retry: [10m]")
	g.edit("password: secret, sender: acme, topic", "password: secret, upstream: [esp], sender: acme, topic")
	g.edit("password: secret, sender: acme, assessment", "password: secret, upstream: [esp], sender: acme, assessment")
	for _, name := range []string{"shop", "both"} {
		g.edit("{name: "+name+", password: secret", "{name: "+name+", upstream: [esp], password: secret")
	}
	g.start()
	for i, m := range misbehaviours {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprintf("mis%d@acme.example", i)
			reply, err := submit(g.smtp, fmt.Sprintf("acc%d", i), us, []string{"k@spedition.de"}, letter(id, "k@spedition.de", ""))
			if err != nil || !strings.HasPrefix(reply, m.reply) || !strings.Contains(reply, m.because) {
				t.Errorf("answered %q (%v), want %q with %q", reply, err, m.reply, m.because)
			}
			if n := len(ofMessage(ups[i].Messages(), id)); n != m.taken {
				t.Errorf("the upstream took it %d times, want %d", n, m.taken)
			}
			out := g.must("journal", "--message-id", id)
			if want := "fate=" + m.fate; strings.Count(out, "fate=") != 1 || !strings.Contains(out, want) {
				t.Errorf("journal, want %q alone:\n%s", want, out)
			}
		})
	}
}
