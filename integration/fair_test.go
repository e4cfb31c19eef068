package integration

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// memory is what a process holds now, in MiB.
func (g *gateway) memory(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

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
	g := newGateway(t, setting{"BUDGET", "5s"},
		setting{"UPSTREAM", slow.Addr() + `", connections: 4}` + "\n" + `  - {name: quick, url: "smtp://` + quick.Addr()},
		setting{"MORE", "limits: {connections: 60, message: 2MiB, in_flight: 24MiB}"})
	g.edit("password: secret", "password: secret, upstream: [esp]")
	g.edit("name: shop, password: secret, upstream: [esp]", "name: shop, password: secret, upstream: [quick]")
	g.edit("- {name: both,", "- {name: slow, password: secret, sender: acme, category: transactional, upstream: [esp]}\n  - {name: both,")
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
	most, sent, again := 0, 0, 0
	for began := time.Now(); time.Since(began) < 8*time.Second; sent++ {
		id := fmt.Sprintf("quick%d@acme.example", sent)
		var reply string
		for range 20 { // the last tenth of the connections may be taken for a moment, by who is being put off
			var err error
			if reply, err = submit(g.smtp, "shop", us, []string{"k@spedition.de"}, letter(id, "k@spedition.de", "")+body); err == nil && !strings.HasPrefix(reply, "421") {
				break
			}
			again++
			time.Sleep(20 * time.Millisecond)
		}
		if !strings.HasPrefix(reply, "250 2.0.0 ok") {
			t.Errorf("the other account is answered %q", reply)
		}
		most = max(most, g.memory(t))
	}
	close(stop)
	let()
	clients.Wait()
	if n := len(quick.Messages()); n != sent || n < 10 { // first come, first served it was two
		t.Errorf("%d of %d arrived at the other upstream", n, sent)
	}
	t.Logf("beside %d queued and %d put off of the slow account, %d of the other were sent, with %d tries again for a connection; at most %d MiB resident", queued.Load(), refused.Load(), sent, again, most)
	if most > 400 {
		t.Errorf("%d MiB resident", most)
	}
}
