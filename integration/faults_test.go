package integration

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the state, and to let time pass in it

	"heed/smtp/smtptest"
)

// waiting is a row of `spool list --json`.
type waiting struct {
	ID, Recipient, Last string
	Due                 time.Time
	Attempts            int
	Bounce              bool
}

// spooled is what waits.
func (g *gateway) spooled(t *testing.T) []waiting {
	t.Helper()
	var list struct{ Spool []waiting }
	if out := g.must("--json", "spool", "list"); json.Unmarshal([]byte(out), &list) != nil {
		t.Fatalf("spool list: %s", out)
	}
	return list.Spool
}

func (g *gateway) spoolEmpty(t *testing.T) {
	t.Helper()
	eventually(t, "an empty spool", func() bool { return len(g.spooled(t)) == 0 })
}

// timePasses makes all that waits due and every lease ended, as time would. What is being attempted is free for
// another attempt then: it is for gateways that stand still.
func (g *gateway) timePasses(t *testing.T) {
	g.inSpool(t, "UPDATE copies SET due = 0, lease = 0; UPDATE guard SET until = 0 WHERE answer = x''", "all")
}

// waitsNoMore makes due what nobody works on.
func (g *gateway) waitsNoMore(t *testing.T) {
	g.inSpool(t, fmt.Sprintf("UPDATE copies SET due = 0 WHERE lease <= %d", time.Now().UnixNano()), "free")
}

func (g *gateway) inSpool(t *testing.T, sqlite, redis string) {
	t.Helper()
	if strings.HasPrefix(g.state, "redis") {
		redisTimePasses(t, g.state, redis)
		return
	}
	db, err := sql.Open("sqlite", "file:"+g.dir+"/state.db?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(sqlite); err != nil {
		t.Fatal(err)
	}
}

// submit is one transaction by an account; the error is the connection's and leaves open what became of the message.
func submit(addr, account, from string, to []string, message string) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	w := &wire{c: c, in: bufio.NewReader(c)}
	reply, err := w.answer()
	for _, line := range append([]string{"EHLO c", "AUTH PLAIN " + plain(account, "secret"), "MAIL FROM:<" + from + ">"}, append(rcpts(to), "DATA")...) {
		if err != nil || reply[0] > '3' {
			return reply, err
		}
		w.write(line + "\r\n")
		reply, err = w.answer()
	}
	if err != nil || reply[0] > '3' {
		return reply, err
	}
	w.write(message + "\r\n.\r\n")
	return w.answer()
}

func rcpts(to []string) (lines []string) {
	for _, r := range to {
		path, params, _ := strings.Cut(r, " ")
		lines = append(lines, strings.TrimSpace("RCPT TO:<"+path+"> "+params))
	}
	return lines
}

// mustSubmit is submit where the answer must begin with prefix.
func (g *gateway) mustSubmit(t *testing.T, prefix, account, from string, to []string, message string) string {
	t.Helper()
	reply, err := submit(g.smtp, account, from, to, message)
	if err != nil || !strings.HasPrefix(reply, prefix) {
		t.Fatalf("answered %q (%v), want %s", reply, err, prefix)
	}
	return reply
}

var messageID = regexp.MustCompile(`(?m)^Message-ID: <([^>]+)>`)

const us = "news@acme.example"

// TestUpstreamDown: mail is taken while the upstream is away, survives a crash of the gateway, and is delivered once.
func TestUpstreamDown(t *testing.T) {
	t.Parallel()
	for _, between := range []string{"nothing", "a crash", "a restart"} {
		t.Run(between, func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			g := newGateway(t, setting{"UPSTREAM", port}).start()
			g.consented("k@spedition.de", "l@spedition.de")
			var ids []string
			for i, to := range [][]string{{"k@spedition.de"}, {"k@spedition.de", "l@spedition.de"}} {
				id := fmt.Sprintf("down%d@acme.example", i)
				ids = append(ids, id)
				reply := g.mustSubmit(t, "250 ", "crm", us, to, letter(id, to[0], ""))
				if !strings.Contains(reply, "queued") {
					t.Errorf("answered %q, want queued", reply)
				}
			}
			if list := g.spooled(t); len(list) != 3 || list[0].Recipient == "" {
				t.Errorf("spool list: %+v", list)
			}
			switch between {
			case "a crash":
				g.stop(syscall.SIGKILL)
				g.timePasses(t)
				g.start()
			case "a restart": // leaves no lease behind
				g.stop(syscall.SIGTERM)
				g.start()
			}
			up := smtptest.New(t, smtptest.Script{Address: port})
			up.Await(t, 3)
			g.spoolEmpty(t)
			g.lives(t, up)
			if a, b := ofMessage(up.Messages(), ids[0]), ofMessage(up.Messages(), ids[1]); len(a) != 1 || len(b) != 2 || b[0].To[0].Address == b[1].To[0].Address {
				t.Errorf("delivered %d and %d times", len(a), len(b))
			}
		})
	}
}

// TestInDoubt: when the upstream closes after the final dot the message may have arrived: it is not sent again before
// the upstream's own time is over.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {smtptest.Close, "451 4.3.0 later", ""}}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	g.mustSubmit(t, "250 2.0.0 queued", "shop", us, []string{"k@spedition.de"}, letter("doubt@acme.example", "k@spedition.de", ""))
	// Another message is put off and retried meanwhile: the retry loop runs.
	g.mustSubmit(t, "250 2.0.0 queued", "shop", us, []string{"k@spedition.de"}, letter("other@acme.example", "k@spedition.de", ""))
	up.Await(t, 1)
	eventually(t, "only the message in doubt to wait", func() bool { return len(g.spooled(t)) == 1 })
	if left := time.Until(g.spooled(t)[0].Due); left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("due in %s, want 10 minutes", left)
	}
	if n := len(ofMessage(up.Seen(), "doubt@acme.example")); n != 1 {
		t.Errorf("the upstream saw it %d times", n)
	}
	if out := g.must("journal", "--message-id", "doubt@acme.example"); !strings.Contains(out, "fate=in doubt") {
		t.Errorf("journal: %s", out)
	}
	g.timePasses(t)
	g.spoolEmpty(t)
	if n := len(ofMessage(up.Seen(), "doubt@acme.example")); n != 2 {
		t.Errorf("after its time the upstream saw it %d times", n)
	}
}

// TestDeferredThenTaken: 4yz of the upstream is queued and tried again.
func TestDeferredThenTaken(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"RCPT": {"450 4.2.1 later", "", "450 4.2.1 later", ""}, ".": {"451 4.3.0 later", ""}}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	reply := g.mustSubmit(t, "250 2.0.0 queued", "shop", us, []string{"k@spedition.de"}, letter("later@acme.example", "k@spedition.de", ""))
	if !strings.Contains(reply, "esp: ") || !strings.Contains(reply, "450 4.2.1 later") && !strings.Contains(reply, "later") {
		t.Errorf("answered %q, which does not say why", reply)
	}
	g.spoolEmpty(t)
	if n := len(ofMessage(up.Messages(), "later@acme.example")); n != 1 {
		t.Errorf("delivered %d times", n)
	}
	out := g.must("journal", "--message-id", "later@acme.example")
	if strings.Count(out, "fate=deferred") != 3 || strings.Count(out, "fate=sent") != 1 {
		t.Errorf("journal: %s", out)
	}
}

// TestBounces: who failed for good after others were taken is reported to the sender (RFC 3464), once.
func TestBounces(t *testing.T) {
	t.Parallel()
	t.Run("one of two is refused", func(t *testing.T) {
		t.Parallel()
		up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{"RCPT": {"", "550 5.1.1 no such user", ""}}})
		g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
		reply := g.mustSubmit(t, "250 ", "shop", us, []string{"k@spedition.de", "l@spedition.de"}, letter("half@acme.example", "k@spedition.de", "X-Mine: yes\r\n"))
		if !strings.Contains(reply, "1 sent, 1 failed") {
			t.Errorf("answered %q", reply)
		}
		up.Await(t, 2)
		g.spoolEmpty(t)
		bounces := nullSender(up)
		if len(bounces) != 1 || len(bounces[0].To) != 1 || bounces[0].To[0].Address != us {
			t.Fatalf("bounces: %+v", bounces)
		}
		refused := "l@spedition.de"
		for _, m := range ofMessage(up.Messages(), "half@acme.example") {
			if m.To[0].Address == refused {
				refused = "k@spedition.de"
			}
		}
		text := string(bounces[0].Data)
		for _, part := range []string{
			"Content-Type: multipart/report; report-type=delivery-status", "Content-Type: message/delivery-status", "Content-Type: text/rfc822-headers",
			"Reporting-MTA: dns; gw.acme.example", "Final-Recipient: rfc822; " + refused, "Action: failed", "Status: 5.1.1",
			"Diagnostic-Code: smtp; 550 5.1.1 no such user", "Message-ID: <half@acme.example>", "X-Mine: yes", "Auto-Submitted: auto-replied",
		} {
			if !strings.Contains(text, part) {
				t.Errorf("the bounce lacks %q:\n%s", part, text)
			}
		}
	})
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {"451 4.3.0 never"}}})
		reports := smtptest.New(t, smtptest.Script{})
		g := newGateway(t, setting{"GIVEUP", "2s"}, setting{"UPSTREAM", up.Addr() + `", timeout: 10s}` + "\n" + `  - {name: reports, url: "smtp://` + reports.Addr()},
			setting{"MORE", "bounces: {upstream: reports}"})
		g.edit("password: secret", "password: secret, upstream: [esp]")
		g.start()
		for id, x := range map[string]struct{ from, to string }{
			"wanted": {us, "k@spedition.de"}, "never": {us, "k@spedition.de NOTIFY=NEVER"}, "null": {"", "k@spedition.de"}, "success": {us, "k@spedition.de NOTIFY=SUCCESS"},
		} {
			g.mustSubmit(t, "250 2.0.0 queued", "shop", x.from, []string{x.to}, letter(id+"@acme.example", "k@spedition.de", ""))
		}
		g.spoolEmpty(t)
		bounces := nullSender(reports)
		if len(bounces) != 1 || !strings.Contains(string(bounces[0].Data), "Message-ID: <wanted@acme.example>") || !strings.Contains(string(bounces[0].Data), "Status: 5.4.7") {
			t.Errorf("%d bounces: %+v", len(bounces), bounces)
		}
		if out := g.must("journal"); strings.Count(out, "fate=gave up") != 4 {
			t.Errorf("journal: %s", out)
		}
	})
}

func nullSender(up *smtptest.Upstream) (found []smtptest.Message) {
	for _, m := range up.Messages() {
		if m.From == "" {
			found = append(found, m)
		}
	}
	return found
}

// edit replaces text in the configuration.
func (g *gateway) edit(old, with string) {
	g.t.Helper()
	b, err := os.ReadFile(g.config)
	if err != nil || !strings.Contains(string(b), old) {
		g.t.Fatalf("%q is not in the configuration: %v", old, err)
	}
	if err := os.WriteFile(g.config, []byte(strings.ReplaceAll(string(b), old, with)), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// TestOptOutWhileMailWaits: an opt-out stops the mail that was accepted before it.
func TestOptOutWhileMailWaits(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	g.consented("k@spedition.de")
	link := g.link(t, up, "k@spedition.de")
	up.Close()
	g.mustSubmit(t, "250 2.0.0 queued", "crm", us, []string{"k@spedition.de"}, letter("stopped@acme.example", "k@spedition.de", ""))
	if got := oneClick(link); got != http.StatusOK {
		t.Fatalf("the opt-out is answered %d", got)
	}
	back := smtptest.New(t, smtptest.Script{Address: up.Addr()})
	back.Await(t, 1)
	g.spoolEmpty(t)
	out := g.must("journal", "--message-id", "stopped@acme.example")
	if !strings.Contains(out, "stage=retry action=block code=optout.") || !strings.Contains(out, "fate=blocked") {
		t.Errorf("journal: %s", out)
	}
	wasStopped(t, back, "stopped@acme.example", "k@spedition.de", "optout.")
}

// TestReplyBudget: a slow upstream's message is queued for the client while its one transaction stays open.
func TestReplyBudget(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	up := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			<-release
		}
	}})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"BUDGET", "1s"}).start()
	g.consented("k@spedition.de", "l@spedition.de")
	g.mustSubmit(t, "250 2.0.0 queued", "crm", us, []string{"k@spedition.de"}, letter("slow1@acme.example", "k@spedition.de", ""))
	g.mustSubmit(t, "250 2.0.0 queued", "crm", us, []string{"k@spedition.de", "l@spedition.de"}, letter("slow2@acme.example", "k@spedition.de", ""))
	if list := g.spooled(t); len(list) != 3 {
		t.Errorf("%d wait, want 3", len(list))
	}
	let()
	up.Await(t, 3)
	g.spoolEmpty(t)
	g.lives(t, up)
	if a, b := len(ofMessage(up.Seen(), "slow1@acme.example")), len(ofMessage(up.Seen(), "slow2@acme.example")); a != 1 || b != 2 {
		t.Errorf("the upstream saw them %d and %d times", a, b)
	}
	if out := g.must("journal", "--message-id", "slow1@acme.example"); strings.Count(out, "fate=sent") != 1 {
		t.Errorf("journal: %s", out)
	}
}
