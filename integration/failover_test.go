package integration

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"heed/smtp/smtptest"
	"heed/store/storetest"
)

// redisSets are the ways in which servers stand in for each other.
var redisSets = map[string]func(testing.TB, time.Duration, ...string) *storetest.Set{
	"sentinel": storetest.StartSentinel, "cluster": storetest.StartCluster,
}

// silence is when the servers of the tests call one dead.
const silence = 2 * time.Second

// twoNodes are gateways that share a state.
func twoNodes(t *testing.T, state string, up *smtptest.Upstream) (a, b *gateway) {
	t.Helper()
	keys := t.TempDir() + "/keys.json"
	a = newGateway(t, setting{"STATE", state}, setting{"KEYS", keys}, setting{"UPSTREAM", up.Addr()}).start()
	b = newGateway(t, setting{"STATE", state}, setting{"KEYS", keys}, setting{"UPSTREAM", up.Addr()}).start()
	return a, b
}

// TestFailoverUnderLoad: HEED_ROUNDS sets how often a primary dies, else twice.
func TestFailoverUnderLoad(t *testing.T) {
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("HEED_ROUNDS")); err == nil {
		rounds = n
	}
	for name, start := range redisSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failoverUnderLoad(t, start(t, silence), rounds)
		})
	}
}

// failoverUnderLoad kills a primary at a random moment under mail by two nodes, again and again. What was answered 2xx
// arrives. An opt-out that one node acknowledged binds the very next message on the other, and stays.
func failoverUnderLoad(t *testing.T, set *storetest.Set, rounds int) {
	up := smtptest.New(t, smtptest.Script{})
	a, b := twoNodes(t, set.URL, up)
	a.consented("k@spedition.de", "l@spedition.de")
	var people, links []string
	for i := range 20 * rounds {
		people = append(people, fmt.Sprintf("p%d@spedition.de", i))
	}
	a.consented(people...)
	for _, p := range people {
		links = append(links, a.link(t, up, p))
	}
	loads := []*load{startLoad(t, a, up, 2), startLoad(t, b, up, 2)}
	loads[1].number.Add(1 << 40) // names of its own
	acknowledged := make([]bool, len(people))
	var unsure atomic.Int64
	for round := range rounds {
		var clicks sync.WaitGroup
		clicks.Go(func() {
			for at := 20 * round; at < 20*(round+1); at++ {
				p := people[at]
				if acknowledged[at] = oneClick(links[at]) == http.StatusOK; !acknowledged[at] {
					continue
				}
				reply, err := submit(b.smtp, "crm", us, []string{p}, letter("next@acme.example", p, ""))
				switch {
				case err == nil && strings.HasPrefix(reply, "550 5.7.1"):
				case err == nil && strings.HasPrefix(reply, "451 4.3.0"):
					unsure.Add(1)
				default:
					t.Errorf("%s had opted out on one node, the other answered %q, %v", p, reply, err)
				}
			}
		})
		loads[0].some()
		old := set.Failover((*storetest.Redis).Kill)
		loads[1].some()
		old.Start()
		set.Whole()
		loads[0].some()
		clicks.Wait()
	}
	for _, l := range loads {
		l.end()
	}
	eventually(t, "mail to be taken", func() bool { return a.ready() == http.StatusOK && b.ready() == http.StatusOK })
	drained(t, a)
	for _, l := range loads {
		l.arrived()
	}
	n := 0
	for i := range acknowledged {
		if !acknowledged[i] {
			continue
		}
		n++
		b.mustSubmit(t, "550 5.7.1", "crm", us, []string{people[i]}, letter("after@acme.example", people[i], ""))
	}
	t.Logf("%d rounds; %d of %d opt-outs were acknowledged, each bound the next message on the other node; %d of those were answered 451",
		rounds, n, len(acknowledged), unsure.Load())
}

// drained waits until nothing is in the spool; a copy whose end could not be noted is free when its lease ends.
func drained(t *testing.T, g *gateway) {
	t.Helper()
	begun := time.Now()
	for len(g.spooled(t)) > 0 {
		if time.Since(begun) > 4*time.Minute {
			t.Fatalf("the spool is not empty: %+v", g.spooled(t))
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("the spool was empty after %s", time.Since(begun).Round(time.Second))
}

// TestTooFewReplicas: without a replica that has it nothing is acknowledged; with it back all goes on.
func TestTooFewReplicas(t *testing.T) {
	for name, start := range redisSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, time.Minute)
			up := smtptest.New(t, smtptest.Script{})
			g := newGateway(t, setting{"UPSTREAM", up.Addr()}, setting{"STATE", set.URL}).start()
			g.consented("k@spedition.de")
			link := g.link(t, up, "k@spedition.de")
			signal := func(sig syscall.Signal) {
				primaries := map[*storetest.Redis]bool{}
				for _, r := range set.Primaries() {
					primaries[r] = true
				}
				for _, r := range set.Servers {
					if !primaries[r] {
						r.Process().Signal(sig)
					}
				}
			}
			signal(syscall.SIGSTOP)
			g.mustSubmit(t, "451 4.3.0", "crm", us, []string{"k@spedition.de"}, letter("alone@acme.example", "k@spedition.de", ""))
			if got := oneClick(link); got != http.StatusServiceUnavailable {
				t.Errorf("one-click is answered %d", got)
			}
			if got := g.ready(); got != http.StatusServiceUnavailable {
				t.Errorf("/readyz is answered %d", got)
			}
			for _, r := range set.Servers {
				r.Process().Signal(syscall.SIGCONT)
			}
			eventually(t, "readiness", func() bool { return g.ready() == http.StatusOK })
			if got := oneClick(link); got != http.StatusOK {
				t.Errorf("one-click is answered %d with the replicas back", got)
			}
			g.mustSubmit(t, "550 5.7.1", "crm", us, []string{"k@spedition.de"}, letter("out@acme.example", "k@spedition.de", ""))
			if n := len(ofMessage(up.Seen(), "alone@acme.example")); n != 0 {
				t.Errorf("it was refused and went out")
			}
		})
	}
}

// TestWrongTopology: what the URL says and what is there differ; the gateway does not start and says what to write.
func TestWrongTopology(t *testing.T) {
	t.Parallel()
	one, sentinel, cluster := storetest.StartRedis(t), storetest.StartSentinel(t, time.Minute), storetest.StartCluster(t, time.Minute)
	watchers := strings.TrimSuffix(strings.TrimPrefix(sentinel.URL, "redis+sentinel://"), "/heed")
	first, _, _ := strings.Cut(watchers, ",")
	lax := storetest.StartCluster(t, time.Minute, "--appendfsync", "everysec")
	for _, c := range []struct{ name, state, says string }{
		{"a cluster that is one server", "redis+cluster://" + one.Addr, "use redis://host:port/db"},
		{"one server that is a node", "redis://" + cluster.Servers[1].Addr, "use redis+cluster://"},
		{"one server that is a sentinel", "redis://" + first, "use redis+sentinel://"},
		{"one server that is a replica", "redis://" + sentinel.Servers[1].Addr, "name the primary"},
		{"sentinels that are servers", "redis+sentinel://" + one.Addr + "/heed", "name the sentinels"},
		{"another name", "redis+sentinel://" + watchers + "/prod", "of `sentinel monitor`"},
		{"a cluster that forgets", lax.URL, "CONFIG SET appendfsync always"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, code := newGateway(t, setting{"STATE", c.state}).refused()
			if code != 1 || !strings.Contains(out, c.says) {
				t.Errorf("exit %d, %s", code, out)
			}
		})
	}
}
