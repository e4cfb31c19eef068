package integration

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"heed/policy"
	"heed/smtp/smtptest"
)

// TestInformedOnce: where the data came from is said until one message with it was delivered, and again when it comes
// from elsewhere or the person was forgotten.
func TestInformedOnce(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		const first, waits = "jo@haulage.example", "kim@haulage.example"
		up := smtptest.New(t, smtptest.Script{})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		imported := func(collector, at string, to ...string) {
			t.Helper()
			var rows []string
			for _, a := range to {
				rows = append(rows, a+",GB,"+collector+","+at+",exhibitors of "+collector)
			}
			g.contacts("email,country,collected_by,collected_at,source", rows...)
		}
		n := 0
		// carries sends a message over up and wants its notice to say whence, or "" to say nothing of it.
		carries := func(to, whence string) {
			t.Helper()
			n++
			g.asksSame(t, to, whence != "")
			id := fmt.Sprintf("m%d@acme.example", n)
			g.mustSubmit(t, "250 2.0.0 ok", "crm", us, []string{to}, letter(id, to, "Heed-Language: en\r\n"))
			wantWhence(t, ofMessage(up.Seen(), id), whence)
		}

		imported("Fair Ltd", "2026-02-11", first, waits)
		carries(first, "Fair Ltd")
		carries(first, "")
		carries(waits, "Fair Ltd")
		imported("Fair Ltd", "2026-02-11", first) // an import takes nothing back
		carries(first, "")
		wantAll(t, g.must("contacts", "show", first), "informed by acme (GDPR Art. 14)", "delivered", "Fair Ltd", "exhibitors of Fair Ltd")
		shown := decode[struct{ Informed map[string]policy.Informed }](t, g.must("--json", "contacts", "show", first)).Informed["acme"]
		var carried []string
		for _, line := range strings.Split(g.must("journal", "--recipient", first), "\n") {
			if strings.Contains(line, ",art14,") {
				carried = append(carried, line)
			}
		}
		if len(carried) != 1 || shown.Message == "" || !strings.Contains(carried[0], "message="+shown.Message) {
			t.Errorf("the journal has %q, the contact %+v", carried, shown)
		}
		wantAll(t, g.must("journal", "--message-id", "m1@acme.example"), ",art14,", "fate=sent")

		g.stop(syscall.SIGKILL)
		g.start()
		carries(first, "")
		imported("Lists Inc", "2026-03-01", first)
		carries(first, "Lists Inc")
		carries(first, "")
		carries(waits, "")

		g.must("contacts", "erase", first)
		imported("Fair Ltd", "2026-02-11", first)
		carries(first, "Fair Ltd")
		carries(first, "")
	})
}

// TestInformedAfterWaiting: a message that was put off or refused tells nobody anything; the spool's copy carries the
// notice, of two that wait the first.
func TestInformedAfterWaiting(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		const to = "jo@haulage.example"
		up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {"550 5.7.1 no", "451 4.7.1 later", "451 4.7.1 later", ""}}})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...)
		g.edit("retry: [1s]", "retry: [1h]")
		g.start()
		g.contacts("email,country,collected_by,collected_at,source", to+",GB,Fair Ltd,2026-02-11,exhibitors of Fair Ltd")
		say := func(prefix, id string) string {
			t.Helper()
			g.asksSame(t, to, true)
			return g.mustSubmit(t, prefix, "crm", us, []string{to}, letter(id, to, "Heed-Language: en\r\n"))
		}
		say("550 5.7.1 no", "refused@acme.example")
		var kept []string
		for _, id := range []string{"first@acme.example", "second@acme.example"} {
			reply := say("250 2.0.0 queued as ", id)
			copy, _, _ := strings.Cut(strings.TrimPrefix(reply, "250 2.0.0 queued as "), " ")
			kept = append(kept, copy)
		}
		if out := g.must("contacts", "show", to); strings.Contains(out, "informed") {
			t.Errorf("nothing was delivered:\n%s", out)
		}
		for i, id := range []string{"first@acme.example", "second@acme.example"} {
			g.must("spool", "retry", kept[i])
			eventually(t, "the copy to go", func() bool { return len(g.spooled(t)) == 1-i })
			all := ofMessage(up.Seen(), id)
			if len(all) != 2 {
				t.Fatalf("%s was seen %d times", id, len(all))
			}
			wantWhence(t, all[:1], "Fair Ltd")
			wantWhence(t, all[1:], []string{"Fair Ltd", ""}[i])
		}
		g.asksSame(t, to, false)
		wantAll(t, g.must("contacts", "show", to), "informed by acme (GDPR Art. 14)")
	})
}

// asksSame: command and API tell what is due, and record nothing by it.
func (g *gateway) asksSame(t *testing.T, to string, due bool) {
	t.Helper()
	var answer checked
	for range 2 {
		if status := g.api("/api/v1/check", map[string]any{"account": "crm", "recipients": []string{to}}, &answer); status != 200 || len(answer.Decisions) != 1 {
			t.Fatalf("check: %d, %+v", status, answer)
		}
		if d := answer.Decisions[0]; d.Action != policy.Allow || slices.Contains(d.Notices, policy.NoticeArt14) != due {
			t.Errorf("%s %s, notices %v, want art14 %t", d.Action, d.Code, d.Notices, due)
		}
	}
	if out := g.must("check", "--account", "crm", "--to", to); strings.Contains(out, " art14,") != due {
		t.Errorf("want art14 %t\n%s", due, out)
	}
}

// wantWhence wants one message whose notice says whence the data came, or, "", nothing of it; it always says that one
// may object.
func wantWhence(t *testing.T, found []smtptest.Message, whence string) {
	t.Helper()
	if len(found) != 1 {
		t.Fatalf("%d messages arrived", len(found))
	}
	body := strings.Join(strings.Fields(string(found[0].Data)), " ") // lines are wrapped
	wantAll(t, body, "right to object")
	switch has := strings.Contains(body, "About your data"); {
	case has != (whence != ""):
		t.Errorf("want the notice of Art. 14: %t\n%s", whence != "", body)
	case has && !strings.Contains(body, whence):
		t.Errorf("want %s\n%s", whence, body)
	}
}
