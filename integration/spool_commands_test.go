package integration

import (
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// keptID submits a message that cannot be delivered now, and gives the ID that the client was told.
func (g *gateway) keptID(t *testing.T, account, from, to, id string) string {
	t.Helper()
	reply := g.mustSubmit(t, "250 2.0.0 queued as ", account, from, []string{to}, letter(id, to, "X-Mine: yes\r\n"))
	kept, _, _ := strings.Cut(strings.TrimPrefix(reply, "250 2.0.0 queued as "), " ")
	return kept
}

// TestSpoolCommands: an operator looks at single copies, sends them now and gives them up, beside a running gateway.
func TestSpoolCommands(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		const to = "k@spedition.de"
		port := freePort(t)
		g := newGateway(t, append(state, setting{"UPSTREAM", port})...)
		g.edit("retry: [1s]", "retry: [1h]")
		g.start()
		first, second := g.keptID(t, "shop", us, to, "first@acme.example"), g.keptID(t, "shop", us, to, "second@acme.example")
		g.keptID(t, "shop", us, to, "third@acme.example")

		wantAll(t, g.must("spool", "show", first), first, "shop", "<"+us+">", "<"+to+">", "esp", "attempts     1", "no answer from the upstream", "next attempt", "Message-ID: <first@acme.example>", "X-Mine: yes")
		if raw := g.must("spool", "show", "--message", first); raw != letter("first@acme.example", to, "X-Mine: yes\r\n")+"\r\n" {
			t.Errorf("the message is\n%q", raw)
		}
		shown := decode[struct {
			ID, Account, From, Recipient, Upstream, Last, Header string
			Attempts, Bytes                                      int
			InProgress                                           bool `json:"in_progress"`
			Accepted, Due                                        time.Time
		}](t, g.must("--json", "spool", "show", second))
		if shown.ID != second || shown.Account != "shop" || shown.From != us || shown.Recipient != to || shown.Attempts != 1 || shown.Bytes == 0 || shown.InProgress || !strings.Contains(shown.Header, "X-Mine") || shown.Due.Sub(shown.Accepted) < 50*time.Minute {
			t.Errorf("%+v", shown)
		}
		for _, args := range [][]string{{"show"}, {"retry"}, {"drop"}} {
			if out, code := g.run("spool", args[0], "nothing"); code != 1 || !strings.Contains(out, "nothing: no such copy waits") {
				t.Errorf("spool %s: exit %d, %s", args[0], code, out)
			}
		}
		for _, line := range []string{"spool show", "spool drop", "spool retry a b", "--json spool show --message " + first} {
			if out, code := g.run(strings.Fields(line)...); code != 2 {
				t.Errorf("%s: exit %d, %s", line, code, out)
			}
		}

		wantAll(t, g.must("spool", "drop", first), "dropped "+first+" to <"+to+">")
		wantAll(t, g.must("--json", "spool", "drop", "--bounce", second), `"id": "`+second+`"`)
		wantAll(t, g.must("journal", "--message-id", "first@acme.example"), "fate=dropped", "account=shop", "given up by the operator")
		if list := g.spooled(t); len(list) != 2 {
			t.Errorf("%d wait, want the third and a bounce", len(list))
		}

		up := smtptest.New(t, smtptest.Script{Address: port})
		// The bounce was due at once and may have found nobody: then it waits for an hour, as the third does.
		eventually(t, "everything to go", func() bool {
			wantAll(t, g.must("spool", "retry"), " due now")
			time.Sleep(time.Second)
			return len(up.Messages()) >= 2 && len(g.spooled(t)) == 0
		})
		if n := len(ofMessage(up.Seen(), "first@acme.example")) + len(ofMessage(up.Seen(), "second@acme.example")); n != 0 {
			t.Errorf("what was dropped went out %d times", n)
		}
		if n := len(ofMessage(up.Messages(), "third@acme.example")); n != 1 {
			t.Errorf("the third arrived %d times", n)
		}
		reports := nullSender(up)
		if len(reports) != 1 || !strings.Contains(string(reports[0].Data), "Message-ID: <second@acme.example>") || !strings.Contains(string(reports[0].Data), "given up by the operator") {
			t.Errorf("reports: %+v", reports)
		}
	})
}

// TestRetryInDoubtAndInProgress: what may have arrived is retried by hand only, and said so; what is being attempted
// is left alone.
func TestRetryInDoubtAndInProgress(t *testing.T) {
	t.Parallel()
	const to = "k@spedition.de"
	up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {smtptest.Close, ""}}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	id := g.keptID(t, "shop", us, to, "doubt@acme.example")
	wantAll(t, g.must("spool", "show", id), "in doubt", "may deliver it twice")
	wantAll(t, g.must("spool", "retry", id), "1 due now", "1 of them in doubt", "may arrive twice")
	g.spoolEmpty(t)
	if n := len(ofMessage(up.Seen(), "doubt@acme.example")); n != 2 {
		t.Errorf("the upstream saw it %d times", n)
	}

	hung := make(chan struct{})
	slow := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			<-hung
		}
	}})
	g = newGateway(t, setting{"UPSTREAM", slow.Addr()}, setting{"BUDGET", "1s"}).start()
	id = g.keptID(t, "shop", us, to, "slow@acme.example")
	wantAll(t, g.must("spool", "show", id), "being attempted")
	for _, command := range []string{"retry", "drop"} {
		if out, code := g.run("spool", command, id); code != 1 || !strings.Contains(out, id+": it is being attempted now") {
			t.Errorf("spool %s: exit %d, %s", command, code, out)
		}
	}
	wantAll(t, g.must("spool", "retry"), "0 due now", "1 left alone")
	close(hung)
	g.spoolEmpty(t)
	if n := len(ofMessage(slow.Messages(), "slow@acme.example")); n != 1 {
		t.Errorf("it arrived %d times", n)
	}
}
