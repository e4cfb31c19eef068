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
	fate    string // the outcome in the journal; the upstream has what is sent, once, and nothing else
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

// misbehaviours, by how the gateway is told to go there.
var misbehaviours = []struct {
	scheme, login string
	upstreams     []misbehaviour
}{
	{"smtp", "", []misbehaviour{
		{"none", smtptest.Script{}, answered, "", "sent"},
		{"no extension at all", offering(smtptest.Script{}), answered, "", "sent"},
		{"connection closed at once", step("connect", smtptest.Close), queued, noAnswer, "deferred"},
		{"greeting 421", step("connect", "421 4.3.2 not now"), queued, "421 4.3.2 not now)", "deferred"},
		{"greeting 450", step("connect", "450 4.3.2 not now"), queued, "450 4.3.2 not now)", "deferred"},
		{"greeting 554", step("connect", "554 5.3.2 no mail here"), queued, unserved + "the connection was answered 554 5.3.2 no mail here)", "deferred"},
		{"greeting of another protocol", step("connect", "HTTP/1.1 400 Bad Request"), queued, noAnswer, "deferred"},
		{"multi-line greeting", step("connect", "220-one\r\n220-two\r\n220 three"), answered, "", "sent"},
		{"EHLO closed", step("EHLO", smtptest.Close), queued, noAnswer, "deferred"},
		{"EHLO 421", step("EHLO", "421 4.3.2 not now"), queued, "421 4.3.2 not now)", "deferred"},
		{"EHLO unknown, HELO taken", step("EHLO", "502 5.5.1 what?"), answered, "", "sent"},
		{"EHLO garbage", step("EHLO", "hello\r\nyou"), queued, noAnswer, "deferred"},
		{"MAIL closed", step("MAIL", smtptest.Close), queued, noAnswer, "deferred"},
		{"MAIL 451", step("MAIL", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred"},
		{"MAIL 550", step("MAIL", "550 5.7.1 not you"), "550 5.7.1 not you", "", "failed"},
		{"MAIL 530, a login is demanded", smtptest.Script{Login: "ann:s3cret"}, queued, unserved + "MAIL was answered 530 5.7.0 authentication required)", "deferred"},
		{"MAIL 421", step("MAIL", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred"},
		{"MAIL garbage", step("MAIL", "%&$"), queued, noAnswer, "deferred"},
		{"RCPT closed", step("RCPT", smtptest.Close), queued, noAnswer, "deferred"},
		{"RCPT 450", step("RCPT", "450 4.2.1 greylisted"), queued, "450 4.2.1 greylisted)", "deferred"},
		{"RCPT 550 of several lines", step("RCPT", "550-5.1.1 no such user\r\n550 5.1.1 ask somebody"), "550-5.1.1 no such user", "550 5.1.1 ask somebody", "failed"},
		{"RCPT 421", step("RCPT", "421 4.7.0 too many"), queued, "421 4.7.0 too many)", "deferred"},
		{"RCPT 550, one command at a time", offering(step("RCPT", "550 5.1.1 no such user")), "550 5.1.1 no such user", "", "failed"},
		{"DATA closed", step("DATA", smtptest.Close), queued, noAnswer, "deferred"},
		{"DATA 451", step("DATA", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred"},
		{"DATA 554", step("DATA", "554 5.7.1 no content"), "554 5.7.1 no content", "", "failed"},
		{"DATA 250", step("DATA", "250 2.0.0 already done"), queued, noAnswer, "deferred"},
		{"final dot closed", step(".", smtptest.Close), queued, "may have been delivered)", "in doubt"},
		{"final dot 451", step(".", "451 4.3.0 later"), queued, "451 4.3.0 later)", "deferred"},
		{"final dot 554", step(".", "554 5.7.1 spam"), "554 5.7.1 spam", "", "failed"},
		{"final dot 421", step(".", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred"},
		{"final dot garbage", step(".", "thanks"), queued, "may have been delivered)", "in doubt"},
		{"final dot 354", step(".", "354 more"), queued, "may have been delivered)", "in doubt"},
		{"final dot 250 of several lines", step(".", "250-2.0.0 Ok\r\n250 2.0.0 queued as 7F"), "250-2.0.0 Ok", "queued as 7F", "sent"},
		{"closed in the body, all of which was on its way", step("body", smtptest.Close), queued, "may have been delivered)", "in doubt"},

		{"BDAT taken", chunking("BDAT"), answered, "", "sent"},
		{"BDAT closed", chunking("BDAT", smtptest.Close), queued, "may have been delivered)", "in doubt"},
		{"BDAT 452", chunking("BDAT", "452 4.3.1 full"), queued, "452 4.3.1 full)", "deferred"},
		{"BDAT 554", chunking("BDAT", "554 5.7.1 spam"), "554 5.7.1 spam", "", "failed"},
		{"BDAT 421", chunking("BDAT", "421 4.3.2 closing"), queued, "421 4.3.2 closing)", "deferred"},
		{"BDAT garbage", chunking("BDAT", "thanks"), queued, "may have been delivered)", "in doubt"},
		{"BDAT refused as a command: DATA", chunking("BDAT", "500 5.5.1 what?"), answered, "", "sent"},
		{"BDAT offered and not known: DATA", smtptest.Script{Extensions: smtptest.Chunking(), Chunks: smtptest.Unknown}, answered, "", "sent"},
		{"the chunk of a refused BDAT is read as commands: DATA", smtptest.Script{Extensions: smtptest.Chunking(), Chunks: smtptest.Unread}, answered, "", "sent"},
		{"in one burst: MAIL 550", chunking("MAIL", "550 5.7.1 not you"), "550 5.7.1 not you", "", "failed"},
		{"in one burst: MAIL 530", offering(smtptest.Script{Login: "ann:s3cret"}, smtptest.Chunking()...), queued, unserved + "MAIL was answered 530 5.7.0 authentication required)", "deferred"},
		{"in one burst: MAIL closed", chunking("MAIL", smtptest.Close), queued, "may have been delivered)", "in doubt"},
		{"in one burst: RCPT 550", chunking("RCPT", "550 5.1.1 no such user"), "550 5.1.1 no such user", "", "failed"},
		{"in one burst: RCPT 450", chunking("RCPT", "450 4.2.1 greylisted"), queued, "450 4.2.1 greylisted)", "deferred"},
	}},
	{"smtp+starttls", "", []misbehaviour{
		{"STARTTLS is not offered", smtptest.Script{}, queued, noAnswer, "deferred"},
		{"STARTTLS 454", secured("starttls", "STARTTLS", "454 4.7.0 not now"), queued, unserved + "STARTTLS was answered 454 4.7.0 not now)", "deferred"},
		{"STARTTLS closed", secured("starttls", "STARTTLS", smtptest.Close), queued, noAnswer, "deferred"},
		{"STARTTLS, then closed", secured("starttls", "STARTTLS", "220 2.0.0 go ahead"+smtptest.Close), queued, noAnswer, "deferred"},
		{"STARTTLS and an answer slipped in behind it", secured("starttls", "STARTTLS", "220 2.0.0 go ahead\r\n250 2.0.0 ok"), queued, noAnswer, "deferred"},
		{"STARTTLS with a certificate of nobody we know", secured("starttls", ""), queued, noAnswer, "deferred"},
	}},
	{"smtps", "", []misbehaviour{
		{"TLS with a certificate of nobody we know", secured("tls", ""), queued, noAnswer, "deferred"},
		{"TLS at a port that speaks plainly", smtptest.Script{}, queued, noAnswer, "deferred"},
	}},
	{"smtp", ", username: gw, password: secret", []misbehaviour{
		{"AUTH taken", withLogin(smtptest.Script{}), answered, "", "sent"},
		{"AUTH is not offered", smtptest.Script{}, queued, noAnswer, "deferred"},
		{"AUTH closed", withLogin(step("AUTH", smtptest.Close)), queued, noAnswer, "deferred"},
		{"AUTH 454", withLogin(step("AUTH", "454 4.7.0 later")), queued, unserved + "AUTH was answered 454 4.7.0 later)", "deferred"},
		{"AUTH 535", withLogin(step("AUTH", "535 5.7.8 wrong")), queued, unserved + "AUTH was answered 535 5.7.8 wrong)", "deferred"},
		{"AUTH 421", withLogin(step("AUTH", "421 4.7.0 too many")), queued, "421 4.7.0 too many)", "deferred"},
	}},
}

// TestMisbehaviours: whatever an upstream does, the client hears what it needs to know, once, and the journal says how
// it went. One gateway stands in front of all of them.
func TestMisbehaviours(t *testing.T) {
	t.Parallel()
	var all []misbehaviour
	var ups []*smtptest.Upstream
	var upstreams, accounts strings.Builder
	for _, way := range misbehaviours {
		for _, m := range way.upstreams {
			n, up := len(all), smtptest.New(t, m.script)
			fmt.Fprintf(&upstreams, "  - {name: up%d, url: \"%s://%s\", timeout: 5s%s}\n", n, way.scheme, up.Addr(), way.login)
			fmt.Fprintf(&accounts, "  - {name: acc%d, password: secret, sender: acme, category: transactional, upstream: [up%d]}\n", n, n)
			all, ups = append(all, m), append(ups, up)
		}
	}
	g := newGateway(t, setting{"BUDGET", "5s"})
	g.edit("{retry: [1s]", "{retry: [10m]")
	g.edit("password: secret", "password: secret, upstream: [esp]")
	g.edit("accounts:\n", "accounts:\n"+accounts.String())
	g.edit("upstreams:\n", "upstreams:\n"+upstreams.String())
	g.start()
	for i, m := range all {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprintf("mis%d@acme.example", i)
			reply, err := submit(g.smtp, fmt.Sprintf("acc%d", i), us, []string{"k@spedition.de"}, letter(id, "k@spedition.de", ""))
			if err != nil || !strings.HasPrefix(reply, m.reply) || !strings.Contains(reply, m.because) {
				t.Errorf("answered %q (%v), want %q with %q", reply, err, m.reply, m.because)
			}
			taken := 0
			if m.fate == "sent" {
				taken = 1
			}
			if n := len(ofMessage(ups[i].Messages(), id)); n != taken {
				t.Errorf("the upstream took it %d times, want %d", n, taken)
			}
			out := g.must("journal", "--message-id", id)
			if want := "fate=" + m.fate; strings.Count(out, "fate=") != 1 || !strings.Contains(out, want) {
				t.Errorf("journal, want %q alone:\n%s", want, out)
			}
		})
	}
}
