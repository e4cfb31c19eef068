package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"heed/smtp/smtptest"
	"heed/store/storetest"
)

// TestSpoolFull: what there is no room for stays with its client, for one recipient and for several, and nothing of it
// is kept or sent; what is sent at once needs no room.
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		one, two := []string{"k@spedition.de"}, []string{"k@spedition.de", "l@spedition.de"}
		port := freePort(t)
		g := newGateway(t, append(state, setting{"UPSTREAM", port})...)
		g.edit("spool: {retry: [1s]", "spool: {max: 64KiB, retry: [1h]")
		g.start()
		big := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 40<<10/72)
		const full = "452 4.3.1 the spool is full"
		g.mustSubmit(t, "250 2.0.0 queued as ", "shop", us, one, letter("fits@acme.example", "k@spedition.de", "")+big)
		for _, to := range [][]string{one, two} {
			g.mustSubmit(t, full, "shop", us, to, letter("full@acme.example", "k@spedition.de", "")+big)
		}
		g.mustSubmit(t, "250 2.0.0 queued as ", "shop", us, two, letter("small@acme.example", "k@spedition.de", ""))
		if list := g.spooled(t); len(list) != 3 {
			t.Errorf("%d wait, want 3", len(list))
		}
		up := smtptest.New(t, smtptest.Script{Address: port})
		eventually(t, "the upstream to be found again", func() bool {
			reply, err := submit(g.smtp, "shop", us, one, letter("now@acme.example", "k@spedition.de", "")+big)
			if err != nil || reply != full && !strings.HasPrefix(reply, "250 2.0.0 ok: queued as 1") {
				t.Fatalf("answered %q (%v)", reply, err)
			}
			return reply != full
		})
		g.mustSubmit(t, full, "shop", us, two, letter("full@acme.example", "k@spedition.de", "")+big) // several are made durable first
		g.must("spool", "retry")
		g.spoolEmpty(t)
		g.mustSubmit(t, "250 2.0.0 ", "shop", us, two, letter("again@acme.example", "k@spedition.de", "")+big)
		for id, want := range map[string]int{"fits": 1, "small": 2, "now": 1, "again": 2, "full": 0} {
			if n := len(ofMessage(up.Seen(), id+"@acme.example")); n != want {
				t.Errorf("%s went out %d times, want %d", id, n, want)
			}
		}
		if out := g.must("journal", "--message-id", "full@acme.example"); !strings.Contains(out, "fate=deferred") || strings.Contains(out, "fate=sent") {
			t.Errorf("journal:\n%s", out)
		}
	})
}

// TestSpoolFullAndOnItsWay: a message that cannot be kept and may not be sent a second time is answered by the
// upstream, beyond reply_budget.
func TestSpoolFullAndOnItsWay(t *testing.T) {
	t.Parallel()
	dot, answer := make(chan struct{}, 9), make(chan struct{})
	let := sync.OnceFunc(func() { close(answer) })
	up := smtptest.New(t, smtptest.Script{Before: func(step string) {
		if step == "." {
			dot <- struct{}{}
			<-answer
		}
	}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"BUDGET", "1s"})
	g.edit("spool: {", "spool: {max: 1KiB, ")
	g.start()
	t.Cleanup(let)
	reply := make(chan string, 1)
	go func() {
		r, err := submit(g.smtp, "shop", us, []string{"k@spedition.de"}, letter("way@acme.example", "k@spedition.de", "X-Long: "+strings.Repeat("x", 900)+"\r\n"+"X-Long: "+strings.Repeat("x", 900)+"\r\n"))
		if err != nil {
			r = err.Error()
		}
		reply <- r
	}()
	<-dot
	// One that came later and that there is room for is kept: the first one's budget was over before that.
	g.mustSubmit(t, "250 2.0.0 queued as ", "shop", us, []string{"k@spedition.de"}, letter("kept@acme.example", "k@spedition.de", ""))
	select {
	case r := <-reply:
		t.Fatalf("answered %q before the upstream did", r)
	default:
	}
	let()
	if r := <-reply; !strings.HasPrefix(r, "250 2.0.0 ok: queued as ") {
		t.Errorf("answered %q", r)
	}
	g.spoolEmpty(t)
	for _, id := range []string{"way", "kept"} {
		if n := len(ofMessage(up.Seen(), id+"@acme.example")); n != 1 {
			t.Errorf("%s went out %d times", id, n)
		}
	}
}

// TestRedisRefusesWrites: a state that answers and does not write takes no mail and no opt-out; nothing is kept by
// halves, and it goes on when it writes again.
func TestRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, refuse, allow string }{
		{"out of memory", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"},
		{"a replica", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := storetest.StartRedis(t)
			port := freePort(t)
			up := smtptest.New(t, smtptest.Script{Address: port})
			g := newGateway(t, setting{"UPSTREAM", port}, setting{"STATE", r.URL()}).start()
			g.consented("k@spedition.de")
			link := g.link(t, up, "k@spedition.de")
			up.Close()
			g.mustSubmit(t, "250 2.0.0 queued as ", "shop", us, []string{"k@spedition.de"}, letter("kept@acme.example", "k@spedition.de", ""))
			redisCommand(t, r.Addr, c.refuse)
			for _, to := range [][]string{{"k@spedition.de"}, {"k@spedition.de", "l@spedition.de"}} {
				g.mustSubmit(t, "451 4.3.0 ", "shop", us, to, letter("refused@acme.example", "k@spedition.de", ""))
			}
			if got := oneClick(link); got != http.StatusServiceUnavailable {
				t.Errorf("one-click is answered %d", got)
			}
			redisCommand(t, r.Addr, c.allow)
			up = smtptest.New(t, smtptest.Script{Address: port})
			g.spoolEmpty(t)
			eventually(t, "mail to be taken again", func() bool {
				reply, err := submit(g.smtp, "shop", us, []string{"k@spedition.de"}, letter("again@acme.example", "k@spedition.de", ""))
				return err == nil && strings.HasPrefix(reply, "250 ")
			})
			if got := oneClick(link); got != http.StatusOK {
				t.Errorf("one-click is answered %d when the state writes again", got)
			}
			if n := len(ofMessage(up.Messages(), "kept@acme.example")); n != 1 {
				t.Errorf("what was kept arrived %d times", n)
			}
			if n := len(ofMessage(up.Seen(), "refused@acme.example")); n != 0 {
				t.Errorf("what was refused went out %d times", n)
			}
		})
	}
}
