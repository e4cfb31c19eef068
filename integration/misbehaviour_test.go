package integration

import (
	"cmp"
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
	scheme  string // "": smtp
	login   bool   // the gateway has one: gw, secret
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

// chunking is step at a server that takes BDAT.
func chunking(name string, answers ...string) smtptest.Script {
	return offering(step(name, answers...), smtptest.Chunking()...)
}

// secured is step at a server that offers TLS, with a certificate that the gateway has no reason to trust.
func secured(how, name string, answers ...string) smtptest.Script {
	s := step(name, answers...)
	s.TLS = how
	return s
}

func withLogin(s smtptest.Script) smtptest.Script {
	s.Login = "gw:secret"
	return s
}

func offering(s smtptest.Script, extensions ...string) smtptest.Script {
	s.Extensions = append([]string{}, extensions...)
	return s
}

var misbehaviours = []misbehaviour{
	{"none", smtptest.Script{}, answered, "", "sent", 1, "", false},
	{"no extension at all", offering(smtptest.Script{}), answered, "", "sent", 1, "", false},
	{"connection closed at once", step("connect", smtptest.Close), queued, noAnswer, "deferred", 0, "", false},
	{"greeting 421", step("connect", "421 4.3.2 not now"), queued, "421 4.3.2 not now)", "deferred", 0, "", false},
	{"greeting 450", step("connect", "450 4.3.2 not now"), queued, "450 4.3.2 not now)", "deferred", 0, "", false},
	{"greeting 554", step("connect", "554 5.3.2 no mail here"), queued, unserved + "the connection was answered 554 5.3.2 no mail here)", "deferred", 0, "", false},
	{"greeting of another protocol", step("connect", "HTTP/1.1 400 Bad Request"), queued, noAnswer, "deferred", 0, "", false},
	{"multi-line greeting", step("connect", "220-one\r\n220-two\r\n220 three"), answered, "", "sent", 1, "", false},
	{"EHLO closed", step("EHLO", smtptest.Close), queued, noAnswer, "deferred", 0, "", false},
	{"EHLO 421", step("EHLO", "421 4.3.2 not now"), queued, "421 4.3.2 not now)", "deferred", 0, "", false},
	{"EHLO unknown, HELO taken", step("EHLO", "502 5.5.1 what?"), answered, "", "sent", 1, "", false},
	{"EHLO garbage", step("EHLO", "hello\r\nyou"), queued, noAnswer, "deferred", 0, "", false},
	{"MAIL closed", step("MAIL", smtptest.Close), queued, noAnswer, "deferred", 0, "", false},
	{"MAIL 451", step("MAIL", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred", 0, "", false},
	{"MAIL 550", step("MAIL", "550 5.7.1 not you"), "550 5.7.1 not you", "", "failed", 0, "", false},
	{"MAIL 530, a login is demanded", smtptest.Script{Login: "ann:s3cret"}, queued, unserved + "MAIL was answered 530 5.7.0 authentication required)", "deferred", 0, "", false},
	{"MAIL 421", step("MAIL", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred", 0, "", false},
	{"MAIL garbage", step("MAIL", "%&$"), queued, noAnswer, "deferred", 0, "", false},
	{"RCPT closed", step("RCPT", smtptest.Close), queued, noAnswer, "deferred", 0, "", false},
	{"RCPT 450", step("RCPT", "450 4.2.1 greylisted"), queued, "450 4.2.1 greylisted)", "deferred", 0, "", false},
	{"RCPT 550 of several lines", step("RCPT", "550-5.1.1 no such user\r\n550 5.1.1 ask somebody"), "550-5.1.1 no such user", "550 5.1.1 ask somebody", "failed", 0, "", false},
	{"RCPT 421", step("RCPT", "421 4.7.0 too many"), queued, "421 4.7.0 too many)", "deferred", 0, "", false},
	{"RCPT 550, one command at a time", offering(step("RCPT", "550 5.1.1 no such user")), "550 5.1.1 no such user", "", "failed", 0, "", false},
	{"DATA closed", step("DATA", smtptest.Close), queued, noAnswer, "deferred", 0, "", false},
	{"DATA 451", step("DATA", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred", 0, "", false},
	{"DATA 554", step("DATA", "554 5.7.1 no content"), "554 5.7.1 no content", "", "failed", 0, "", false},
	{"DATA 250", step("DATA", "250 2.0.0 already done"), queued, noAnswer, "deferred", 0, "", false},
	{"final dot closed", step(".", smtptest.Close), queued, "may have been delivered)", "in doubt", 0, "", false},
	{"final dot 451", step(".", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred", 0, "", false},
	{"final dot 554", step(".", "554 5.7.1 spam"), "554 5.7.1 spam", "", "failed", 0, "", false},
	{"final dot 421", step(".", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred", 0, "", false},
	{"final dot garbage", step(".", "thanks"), queued, "may have been delivered)", "in doubt", 0, "", false},
	{"final dot 354", step(".", "354 more"), queued, "may have been delivered)", "in doubt", 0, "", false},
	{"final dot 250 of several lines", step(".", "250-2.0.0 Ok\r\n250 2.0.0 queued as 7F"), "250-2.0.0 Ok", "queued as 7F", "sent", 1, "", false},
	{"closed in the body, all of which was on its way", step("body", smtptest.Close), queued, "may have been delivered)", "in doubt", 0, "", false},

	{"BDAT taken", chunking("BDAT"), answered, "", "sent", 1, "", false},
	{"BDAT closed", chunking("BDAT", smtptest.Close), queued, "may have been delivered)", "in doubt", 0, "", false},
	{"BDAT 452", chunking("BDAT", "452 4.3.1 full"), queued, "452 4.3.1 full)", "deferred", 0, "", false},
	{"BDAT 554", chunking("BDAT", "554 5.7.1 spam"), "554 5.7.1 spam", "", "failed", 0, "", false},
	{"BDAT 421", chunking("BDAT", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred", 0, "", false},
	{"BDAT garbage", chunking("BDAT", "thanks"), queued, "may have been delivered)", "in doubt", 0, "", false},
	{"BDAT refused as a command: DATA", chunking("BDAT", "500 5.5.1 what?"), answered, "", "sent", 1, "", false},
	{"BDAT offered and not known: DATA", smtptest.Script{Extensions: smtptest.Chunking(), Chunks: smtptest.Unknown}, answered, "", "sent", 1, "", false},
	{"the chunk of a refused BDAT is read as commands: DATA", smtptest.Script{Extensions: smtptest.Chunking(), Chunks: smtptest.Unread}, answered, "", "sent", 1, "", false},
	{"in one burst: MAIL 550", chunking("MAIL", "550 5.7.1 not you"), "550 5.7.1 not you", "", "failed", 0, "", false},
	{"in one burst: MAIL 530", offering(smtptest.Script{Login: "ann:s3cret"}, smtptest.Chunking()...), queued, unserved + "MAIL was answered 530 5.7.0 authentication required)", "deferred", 0, "", false},
	{"in one burst: MAIL closed", chunking("MAIL", smtptest.Close), queued, "may have been delivered)", "in doubt", 0, "", false},
	{"in one burst: RCPT 550", chunking("RCPT", "550 5.1.1 no such user"), "550 5.1.1 no such user", "", "failed", 0, "", false},
	{"in one burst: RCPT 450", chunking("RCPT", "450 4.2.1 greylisted"), queued, "450 4.2.1 greylisted)", "deferred", 0, "", false},

	{"STARTTLS is not offered", smtptest.Script{}, queued, noAnswer, "deferred", 0, "smtp+starttls", false},
	{"STARTTLS 454", secured("starttls", "STARTTLS", "454 4.7.0 not now"), queued, unserved + "STARTTLS was answered 454 4.7.0 not now)", "deferred", 0, "smtp+starttls", false},
	{"STARTTLS closed", secured("starttls", "STARTTLS", smtptest.Close), queued, noAnswer, "deferred", 0, "smtp+starttls", false},
	{"STARTTLS, then closed", secured("starttls", "STARTTLS", "220 2.0.0 go ahead"+smtptest.Close), queued, noAnswer, "deferred", 0, "smtp+starttls", false},
	{"STARTTLS and an answer slipped in behind it", secured("starttls", "STARTTLS", "220 2.0.0 go ahead\r\n250 2.0.0 ok"), queued, noAnswer, "deferred", 0, "smtp+starttls", false},
	{"STARTTLS with a certificate of nobody we know", secured("starttls", ""), queued, noAnswer, "deferred", 0, "smtp+starttls", false},
	{"TLS with a certificate of nobody we know", secured("tls", ""), queued, noAnswer, "deferred", 0, "smtps", false},
	{"TLS at a port that speaks plainly", smtptest.Script{}, queued, noAnswer, "deferred", 0, "smtps", false},

	{"AUTH taken", withLogin(smtptest.Script{}), answered, "", "sent", 1, "", true},
	{"AUTH is not offered", smtptest.Script{}, queued, noAnswer, "deferred", 0, "", true},
	{"AUTH closed", withLogin(step("AUTH", smtptest.Close)), queued, noAnswer, "deferred", 0, "", true},
	{"AUTH 454", withLogin(step("AUTH", "454 4.7.0 later")), queued, unserved + "AUTH was answered 454 4.7.0 later)", "deferred", 0, "", true},
	{"AUTH 535", withLogin(step("AUTH", "535 5.7.8 wrong")), queued, unserved + "AUTH was answered 535 5.7.8 wrong)", "deferred", 0, "", true},
	{"AUTH 421", withLogin(step("AUTH", "421 4.7.0 too many")), queued, "421 4.7.0 too many)", "deferred", 0, "", true},
}

// TestMisbehaviours: whatever an upstream does, the client hears what it needs to know, once, and the journal says how
// it went. One gateway stands in front of all of them.
func TestMisbehaviours(t *testing.T) {
	t.Parallel()
	ups := make([]*smtptest.Upstream, len(misbehaviours))
	var upstreams, accounts strings.Builder
	for i, m := range misbehaviours {
		ups[i] = smtptest.New(t, m.script)
		login := ""
		if m.login {
			login = ", username: gw, password: secret"
		}
		fmt.Fprintf(&upstreams, `", timeout: 5s}`+"\n"+`  - {name: up%d%s, url: "%s://%s`, i, login, cmp.Or(m.scheme, "smtp"), ups[i].Addr())
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
