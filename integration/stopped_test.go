package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// wasStopped wants that a message went to nobody, and that its sender was told by which rule, in one report.
func wasStopped(t *testing.T, up *smtptest.Upstream, id, to, code string) {
	t.Helper()
	if n := len(ofMessage(up.Seen(), id)); n != 0 {
		t.Errorf("it went out %d times", n)
	}
	var reports []string
	for _, m := range nullSender(up) { // each holds the header of what it reports
		if strings.Contains(string(m.Data), "Message-ID: <"+id+">") {
			if len(m.To) != 1 || m.To[0].Address != us {
				t.Errorf("it was reported to %v", m.To)
			}
			reports = append(reports, string(m.Data))
		}
	}
	if len(reports) != 1 {
		t.Fatalf("%d reports", len(reports))
	}
	wantAll(t, reports[0], "Subject: Your message was stopped by a rule", "This is no delivery failure", "["+code, "Action: failed", "Status: 5.7.1", "Final-Recipient: rfc822; "+to)
}

// TestRulesChangeWhileMailWaits: what was lawful when it was accepted is decided on again before it is sent.
func TestRulesChangeWhileMailWaits(t *testing.T) {
	t.Parallel()
	const to = "k@spedition.de"
	reload := func(old, with string) func(*testing.T, *gateway) {
		return func(t *testing.T, g *gateway) {
			g.edit(old, with)
			before := strings.Count(g.log.String(), "reloaded")
			g.cmd.Process.Signal(syscall.SIGHUP)
			eventually(t, "the reload", func() bool { return strings.Count(g.log.String(), "reloaded") > before })
		}
	}
	for _, c := range []struct {
		name, account string
		change        func(*testing.T, *gateway)
		code          string // "": it waits, and is sent when the change is undone
		undo          func(*testing.T, *gateway)
	}{
		{"the consent expires", "crm", func(*testing.T, *gateway) {}, "consent.expired", nil},
		{"the sender's domain changes", "shop", reload("domains: [acme.example]", "domains: [acme.test]"), "sender.domain", nil},
		{"observe becomes enforce", "look", reload(", enforcement: observe", ""), "consent.", nil},
		{"transactional mail becomes marketing", "shop", reload("sender: acme, category: transactional", "sender: acme, topic: newsletter, product: crm, assessment: passed"), "consent.", nil},
		{"the account is removed", "shop", reload("{name: shop,", "{name: shop2,"), "", reload("{name: shop2,", "{name: shop,")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			g := newGateway(t, setting{"UPSTREAM", port}).start()
			expires := time.Now().Add(8 * time.Second) // enough for a busy machine to submit
			if c.account == "crm" {
				g.contacts("email,country,collected_by,collected_at,consent,consent_at,consent_expires_at", to+",DE,acme,2025-01-01,double,2025-01-01,"+expires.UTC().Format(time.RFC3339))
			}
			id := strings.ReplaceAll(c.name, " ", "-") + "@acme.example"
			g.mustSubmit(t, "250 2.0.0 queued", c.account, us, []string{to}, letter(id, to, ""))
			c.change(t, g)
			if c.account == "crm" {
				time.Sleep(time.Until(expires.Add(time.Second)))
			}
			up := smtptest.New(t, smtptest.Script{Address: port})
			if c.code == "" {
				eventually(t, "an attempt that finds no account", func() bool {
					l := g.spooled(t)
					return len(l) == 1 && strings.Contains(l[0].Last, "account shop is not configured")
				})
				if n := len(up.Seen()); n != 0 {
					t.Errorf("%d went out", n)
				}
				c.undo(t, g)
				up.Await(t, 1)
				g.spoolEmpty(t)
				return
			}
			up.Await(t, 1)
			g.spoolEmpty(t)
			wasStopped(t, up, id, to, c.code)
			wantAll(t, g.must("journal", "--message-id", id), "stage=retry", fmt.Sprintf("action=block code=%s", c.code), "fate=blocked")
		})
	}
}
