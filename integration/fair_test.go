package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// TestSlowUpstreamSlowsItsOwn: the clients of an account whose upstream hangs take neither connections nor memory nor
// attempts from those of another, however many they are and however long they wait.
func TestSlowUpstreamSlowsItsOwn(t *testing.T) {
	t.Parallel()
	hung := newGate()
	slow := smtptest.New(t, smtptest.Script{
		Before:  hung.before,
		Answers: map[string][]string{"MAIL": append(slices.Repeat([]string{"450 4.3.2 later"}, 6), "")}, // for the spool, which tries again
	})
	quick := smtptest.New(t, smtptest.Script{})
	g := newGatewayOf(t, slow.Addr(), quick.Addr(), setting{"BUDGET", "5m"},
		setting{"ACCOUNTS", "  - {name: slow, password: secret, sender: acme, category: transactional}"},
		setting{"MORE", "limits: {connections: 60, message: 2MiB, in_flight: 24MiB}"})
	g.edit("timeout: 30s}", "timeout: 30s, connections: 4}")
	g.edit("upstream: [esp, two]", "upstream: [two]")
	g.edit("{name: slow, password: secret, upstream: [two]", "{name: slow, password: secret, upstream: [esp]")
	g.start()

	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<20/72)
	var stop atomic.Bool
	var clients sync.WaitGroup
	var taken, refused atomic.Int64
	for i := range 70 {
		clients.Go(func() {
			for n := 0; !stop.Load(); n++ {
				reply, err := submit(g.smtp, "slow", us, []string{"k@spedition.de"}, letter(fmt.Sprintf("slow%d-%d@acme.example", i, n), "k@spedition.de", "")+body)
				switch {
				case err == nil && strings.HasPrefix(reply, "250 2.0.0 "): // queued, or at the end sent
					taken.Add(1)
				case err != nil || strings.HasPrefix(reply, "421 4.3.2") || strings.HasPrefix(reply, "451 4.3.0"):
					refused.Add(1)
					time.Sleep(500 * time.Millisecond)
				default:
					t.Errorf("a slow one is answered %q", reply)
				}
			}
		})
	}
	end := sync.OnceFunc(func() { stop.Store(true); hung.open(); clients.Wait() })
	t.Cleanup(end)
	eventually(t, "mail that waits in the spool and clients that are put off", func() bool { return taken.Load() > 0 && refused.Load() > 50 })
	const letters = 20
	tries := 0
	for n := range letters {
		var reply string
		// Its part of the connections may be taken for a moment, by who is being put off.
		eventually(t, "the other account to be heard", func() (met bool) {
			var err error
			reply, err = submit(g.smtp, "shop", us, []string{"k@spedition.de"}, letter(fmt.Sprintf("quick%d@acme.example", n), "k@spedition.de", "")+body)
			tries++
			return err == nil && !strings.HasPrefix(reply, "421")
		})
		if !strings.HasPrefix(reply, "250 2.0.0 ok") || tries > 10*letters { // without a part of its own it takes a thousand
			t.Fatalf("the other account is answered %q; %d tries", reply, tries)
		}
	}
	end()
	if n := len(quick.Messages()); n != letters {
		t.Errorf("%d of %d arrived at the other upstream", n, letters)
	}
	t.Logf("beside %d of the slow account that were put off, %d of the other were sent in %d tries; at most %d MiB resident", refused.Load(), letters, tries, g.peak(t))
}
