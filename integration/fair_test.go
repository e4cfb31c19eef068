package integration

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// TestSlowUpstreamSlowsItsOwn: the clients of an account whose upstream hangs take neither connections nor memory nor
// attempts from those of another, however many they are.
func TestSlowUpstreamSlowsItsOwn(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{})
	slow := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			<-hung
		}
	}})
	let := sync.OnceFunc(func() { close(hung) })
	t.Cleanup(let)
	quick := smtptest.New(t, smtptest.Script{})
	g := newGatewayOf(t, slow.Addr(), quick.Addr(), setting{"BUDGET", "5s"},
		setting{"ACCOUNTS", "  - {name: slow, password: secret, sender: acme, category: transactional}"},
		setting{"MORE", "limits: {connections: 60, message: 2MiB, in_flight: 24MiB}"})
	g.edit("timeout: 30s}", "timeout: 30s, connections: 4}")
	g.edit("upstream: [esp, two]", "upstream: [two]")
	g.edit("{name: slow, password: secret, upstream: [two]", "{name: slow, password: secret, upstream: [esp]")
	g.start()

	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<20/72)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var queued, refused atomic.Int64
	for i := range 80 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				reply, err := submit(g.smtp, "slow", us, []string{"k@spedition.de"}, letter(fmt.Sprintf("slow%d-%d@acme.example", i, n), "k@spedition.de", "")+body)
				switch {
				case err == nil && strings.HasPrefix(reply, "250 2.0.0 "): // queued, or at the end sent
					queued.Add(1)
				case err != nil || strings.HasPrefix(reply, "421 4.3.2") || strings.HasPrefix(reply, "451 4.3.0"):
					refused.Add(1)
					time.Sleep(200 * time.Millisecond)
				default:
					t.Errorf("a slow one is answered %q", reply)
				}
			}
		})
	}
	eventually(t, "clients that wait and clients that are put off", func() bool { return queued.Load() > 5 && refused.Load() > 5 })
	const letters = 20
	again := -letters
	for n := range letters {
		var reply string
		eventually(t, "a connection", func() (met bool) { // the last tenth may be taken for a moment, by who is being put off
			var err error
			reply, err = submit(g.smtp, "shop", us, []string{"k@spedition.de"}, letter(fmt.Sprintf("quick%d@acme.example", n), "k@spedition.de", "")+body)
			again++
			return err == nil && !strings.HasPrefix(reply, "421")
		})
		if !strings.HasPrefix(reply, "250 2.0.0 ok") {
			t.Errorf("the other account is answered %q", reply)
		}
	}
	close(stop)
	let()
	clients.Wait()
	if n := len(quick.Messages()); n != letters {
		t.Errorf("%d of %d arrived at the other upstream", n, letters)
	}
	t.Logf("beside %d queued and %d put off of the slow account, %d of the other were sent, with %d tries again for a connection; at most %d MiB resident", queued.Load(), refused.Load(), letters, again, g.peak(t))
}
