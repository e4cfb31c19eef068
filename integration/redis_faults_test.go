package integration

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"heed/smtp/smtptest"
	"heed/store/storetest"
)

// ready is the status of /readyz; 0 is no answer.
func (g *gateway) ready() int {
	client := http.Client{Timeout: wirePatience}
	r, err := client.Get("http://" + g.admin + "/readyz")
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

// TestRedisAway: a state that is dead or hung refuses mail and opt-outs for the time being, within its deadlines;
// when it is back everything works without a restart, and what was acknowledged is there.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		away, back func(r *storetest.Redis)
	}{
		{"killed", (*storetest.Redis).Kill, (*storetest.Redis).Start},
		{"hung", func(r *storetest.Redis) { r.Process().Signal(syscall.SIGSTOP) }, func(r *storetest.Redis) { r.Process().Signal(syscall.SIGCONT) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := storetest.StartRedis(t)
			up := smtptest.New(t, smtptest.Script{})
			g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"STATE", r.URL()}).start()
			g.consented("out@spedition.de", "k@spedition.de")
			gone, link := g.link(t, up, "out@spedition.de"), g.link(t, up, "k@spedition.de")
			if got := oneClick(gone); got != http.StatusOK {
				t.Fatalf("the opt-out is answered %d", got)
			}
			c.away(r)
			start := time.Now()
			g.mustSubmit(t, "451 4.3.0", "crm", us, []string{"k@spedition.de"}, letter("away1@acme.example", "k@spedition.de", ""))
			g.mustSubmit(t, "451 4.3.0", "shop", us, []string{"k@spedition.de"}, letter("away2@acme.example", "k@spedition.de", ""))
			if got := oneClick(link); got != http.StatusServiceUnavailable {
				t.Errorf("one-click is answered %d", got)
			}
			if got := g.ready(); got != http.StatusServiceUnavailable {
				t.Errorf("/readyz is answered %d", got)
			}
			if took := time.Since(start); took > wirePatience {
				t.Errorf("all that took %s", took)
			}
			c.back(r)
			eventually(t, "readiness", func() bool { return g.ready() == http.StatusOK })
			eventually(t, "mail to be taken again", func() bool {
				reply, err := submit(g.smtp, "crm", us, []string{"k@spedition.de"}, letter("again@acme.example", "k@spedition.de", ""))
				return err == nil && strings.HasPrefix(reply, "250 ")
			})
			g.mustSubmit(t, "550 5.7.1", "crm", us, []string{"out@spedition.de"}, letter("out@acme.example", "out@spedition.de", ""))
			if got := oneClick(link); got != http.StatusOK {
				t.Errorf("one-click is answered %d when Redis is back", got)
			}
			g.mustSubmit(t, "550 5.7.1", "crm", us, []string{"k@spedition.de"}, letter("out2@acme.example", "k@spedition.de", ""))
			for _, id := range []string{"away1@acme.example", "away2@acme.example"} {
				if len(ofMessage(up.Seen(), id)) != 0 {
					t.Errorf("%s was refused and went out", id)
				}
			}
		})
	}
}

// TestDrainWithoutState: a node whose state hangs ends all the same.
func TestDrainWithoutState(t *testing.T) {
	t.Parallel()
	r := storetest.StartRedis(t)
	g := newGateway(t, setting{"STATE", r.URL()}).start()
	w := g.loginWire(t, "shop")
	w.begin(us, "k@spedition.de")
	r.Process().Signal(syscall.SIGSTOP)
	w.write(letter("hung@acme.example", "k@spedition.de", "") + "\r\n.\r\n")
	g.stop(syscall.SIGTERM)
	w.expect("451 4.3.0")
	if code := g.cmd.ProcessState.ExitCode(); code < 0 || code > 1 {
		t.Errorf("exit %d\n%s", code, g.log.String())
	}
}

// TestRedisNotDurable: a server that may forget what it acknowledged is refused at start, with what to set.
func TestRedisNotDurable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, remedy string }{
		{"appendfsync everysec", "CONFIG SET appendfsync always"},
		{"appendonly no", "CONFIG SET appendonly yes"},
		{"maxmemory-policy allkeys-lru", "CONFIG SET maxmemory-policy noeviction"},
	} {
		t.Run(c.set, func(t *testing.T) {
			t.Parallel()
			r := storetest.StartRedis(t)
			redisCommand(t, r.Addr, "CONFIG SET "+c.set)
			g := newGateway(t, setting{"STATE", r.URL()})
			out, code := g.refused()
			if code <= 0 || !strings.Contains(out, c.remedy) {
				t.Errorf("exit %d, %s", code, out)
			}
			g = newGateway(t, setting{"STATE", r.URL()}, setting{"DURABILITY", "assumed"})
			g.start()
		})
	}
}
