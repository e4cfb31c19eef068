package integration

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"heed/smtp/smtptest"
	"heed/store/storetest"
)

// hangUp submits a message and leaves right after the final dot, before the answer.
func (g *gateway) hangUp(t *testing.T, account string, to []string, message string) {
	t.Helper()
	w := g.loginWire(t, account)
	w.ask("MAIL FROM:<"+us+">", "250")
	for _, line := range rcpts(to) {
		w.ask(line, "250")
	}
	w.ask("DATA", "354")
	w.write(message + "\r\n.\r\n")
	w.c.Close()
}

// gate lets an upstream's final dots through one by one.
type gate struct {
	once   sync.Once
	opened chan struct{}
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) before(step string) {
	if step == "." {
		<-g.opened
	}
}

// TestLostReply: a client that left before its answer submits the message again and hears it; the upstream has it once.
func TestLostReply(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		dot := newGate()
		up := smtptest.New(t, smtptest.Script{Before: dot.before, Answers: map[string][]string{".": {"250 2.6.0 taken as X7\r\n"}}})
		t.Cleanup(dot.open)
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		g.consented("k@spedition.de")
		to, message := []string{"k@spedition.de"}, letter("lost@acme.example", "k@spedition.de", "")
		g.hangUp(t, "crm", to, message)
		up.AwaitCommands(t, "DATA", 1)
		g.mustSubmit(t, "451 4.3.0 this message is on its way", "crm", us, to, message)
		dot.open()
		eventually(t, "the first answer", func() bool {
			reply, err := submit(g.smtp, "crm", us, to, message)
			return err == nil && reply == "250 2.6.0 taken as X7"
		})
		g.stop(syscall.SIGKILL)
		g.start()
		g.mustSubmit(t, "250 2.6.0 taken as X7", "crm", us, to, "Received: from local by local; now\r\n"+message)
		if n := len(ofMessage(up.Seen(), "lost@acme.example")); n != 1 {
			t.Errorf("the upstream has it %d times", n)
		}
		g.mustSubmit(t, "250 2.6.0 taken as X7", "crm-none", us, to, message)
		g.mustSubmit(t, "250 2.6.0 taken as X7", "crm", us, to, message+" Again.")
		if n := len(ofMessage(up.Seen(), "lost@acme.example")); n != 3 {
			t.Errorf("of another account and with another body as well, the upstream has it %d times", n)
		}
		if out := g.must("journal", "--message-id", "lost@acme.example"); !strings.Contains(out, "repeated") {
			t.Errorf("the journal does not tell of the retries:\n%s", out)
		}
	})
}

// TestLostReplyOnAnotherNode: whichever node the client asks.
func TestLostReplyOnAnotherNode(t *testing.T) {
	t.Parallel()
	r := storetest.StartRedis(t)
	dot := newGate()
	up := smtptest.New(t, smtptest.Script{Before: dot.before})
	t.Cleanup(dot.open)
	one := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"STATE", r.URL()}).start()
	two := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"STATE", r.URL()}, setting{"KEYS", one.dir + "/keys.json"}).start()
	one.consented("k@spedition.de")
	to, message := []string{"k@spedition.de"}, letter("nodes@acme.example", "k@spedition.de", "")
	one.hangUp(t, "crm", to, message)
	up.AwaitCommands(t, "DATA", 1)
	two.mustSubmit(t, "451 4.3.0", "crm", us, to, message)
	dot.open()
	eventually(t, "the first answer on the other node", func() bool {
		reply, err := submit(two.smtp, "crm", us, to, message)
		return err == nil && strings.HasPrefix(reply, "250 ")
	})
	one.stop(syscall.SIGKILL)
	two.mustSubmit(t, "250 ", "crm", us, to, message)
	if n := len(ofMessage(up.Seen(), "nodes@acme.example")); n != 1 {
		t.Errorf("the upstream has it %d times", n)
	}
}

// TestRetryAfterCrash: a node dies while the upstream works on a message. Its client waits until the mark has ended.
func TestRetryAfterCrash(t *testing.T) {
	t.Parallel()
	dot := newGate()
	up := smtptest.New(t, smtptest.Script{Before: dot.before})
	t.Cleanup(dot.open)
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	g.consented("k@spedition.de")
	to, message := []string{"k@spedition.de"}, letter("crash@acme.example", "k@spedition.de", "")
	g.hangUp(t, "crm", to, message)
	up.AwaitCommands(t, "DATA", 1)
	g.stop(syscall.SIGKILL)
	g.start()
	g.mustSubmit(t, "451 4.3.0 this message is on its way", "crm", us, to, message)
	g.timePasses(t)
	dot.open()
	g.mustSubmit(t, "250 ", "crm", us, to, message)
}

// TestRetryAfterRefusal: what the client was refused is tried again; what was queued is not.
func TestRetryAfterRefusal(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {"554 5.7.1 no", "451 4.3.0 later", "250 2.0.0 ok\r\n"}}})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()}, setting{"GIVEUP", "1h"})...).start()
		g.consented("k@spedition.de")
		to, message := []string{"k@spedition.de"}, letter("refused@acme.example", "k@spedition.de", "")
		g.mustSubmit(t, "554 5.7.1 no", "crm", us, to, message)
		queued := g.mustSubmit(t, "250 2.0.0 queued as ", "crm", us, to, message)
		if again := g.mustSubmit(t, "250 ", "crm", us, to, message); again != queued {
			t.Errorf("answered %q, then %q", queued, again)
		}
		g.spoolEmpty(t)
		if again := g.mustSubmit(t, "250 ", "crm", us, to, message); again != queued {
			t.Errorf("answered %q, then, delivered, %q", queued, again)
		}
		if seen, taken := len(ofMessage(up.Seen(), "refused@acme.example")), len(ofMessage(up.Messages(), "refused@acme.example")); seen != 3 || taken != 1 {
			t.Errorf("the upstream saw it %d times and took it %d times", seen, taken)
		}
	})
}

// TestRetryOfPartlyDelivered: those who have it do not get it twice, the others get it.
func TestRetryOfPartlyDelivered(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"RCPT": {"", "550 5.1.1 not yet", ""}}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	to := []string{"k@spedition.de", "l@spedition.de"}
	g.consented(to...)
	message := letter("partly@acme.example", to[0], "")
	if reply := g.mustSubmit(t, "250 ", "crm", us, to, message); !strings.HasSuffix(reply, "1 sent, 1 failed") {
		t.Errorf("answered %q", reply)
	}
	g.mustSubmit(t, "250 ", "crm", us, to, message)
	g.mustSubmit(t, "250 ", "crm", us, to, message)
	got := map[string]int{}
	for _, m := range ofMessage(up.Messages(), "partly@acme.example") {
		got[m.To[0].Address]++
	}
	if fmt.Sprint(got) != "map[k@spedition.de:1 l@spedition.de:1]" {
		t.Errorf("delivered %v", got)
	}
}

// TestNoGuard: without a Message-ID, or with the guard off, each submission is one.
func TestNoGuard(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"no Message-ID": "", "off": "duplicate_guard: off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := smtptest.New(t, smtptest.Script{})
			g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"MORE", more}).start()
			message := letter("twice@acme.example", "k@spedition.de", "")
			if more == "" {
				message = strings.Replace(message, "Message-ID: <twice@acme.example>\r\n", "", 1)
			}
			for range 2 {
				g.mustSubmit(t, "250 ", "shop", us, []string{"k@spedition.de"}, message)
			}
			if n := len(up.Messages()); n != 2 {
				t.Errorf("the upstream has %d", n)
			}
		})
	}
}
