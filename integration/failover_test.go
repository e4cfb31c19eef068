package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
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

// TestFailover: a primary dies at a random moment under mail by two nodes, round after round, and so does one of the
// nodes. What was answered 2xx arrives. An opt-out that one node acknowledged binds the very next message on the other,
// and stays.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, start := range redisSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failover(t, start(t, silence))
		})
	}
}

func failover(t *testing.T, set *storetest.Set) {
	up := smtptest.New(t, smtptest.Script{})
	a, b := twoNodes(t, set.URL, up)
	a.consented("k@spedition.de", "l@spedition.de")
	loads := []*load{startLoad(t, a, timesAt(up), 2), startLoad(t, b, timesAt(up), 2)}
	loads[1].number.Add(1 << 40) // names of its own
	const each = 20
	people := newObjectors(t, a, b, up, each*rounds(t))
	for round := range rounds(t) {
		var clicks sync.WaitGroup
		clicks.Go(func() { people.click(round*each, each) })
		loads[0].some()
		old := set.Failover((*storetest.Redis).Kill)
		loads[1].some()
		a.stop(syscall.SIGKILL)
		old.Start()
		a.start()
		set.Whole()
		loads[0].some()
		clicks.Wait()
	}
	for _, l := range loads {
		l.end()
	}
	a.stop(syscall.SIGTERM)
	b.stop(syscall.SIGTERM)
	a.timePasses(t) // what a dead node had is free when its lease ends
	a.start()
	b.start()
	a.spoolEmpty(t)
	for _, l := range loads {
		l.arrived(true)
	}
	people.objected()
}

// objectors are people who each click their link on one node; the other is then given mail to them.
type objectors struct {
	t              *testing.T
	clicked, asked *gateway
	people, links  []string
	acknowledged   []string
	unsure         int // the other node could not tell, and sent nothing
}

func newObjectors(t *testing.T, clicked, asked *gateway, up *smtptest.Upstream, n int) *objectors {
	t.Helper()
	o := &objectors{t: t, clicked: clicked, asked: asked}
	for i := range n {
		o.people = append(o.people, fmt.Sprintf("p%d@spedition.de", i))
	}
	clicked.consented(o.people...)
	for _, p := range o.people {
		o.links = append(o.links, clicked.link(t, up, p))
	}
	return o
}

// click lets n people object, one after the other.
func (o *objectors) click(from, n int) {
	for i := from; i < from+n; i++ {
		p := o.people[i]
		if oneClick(o.links[i]) != http.StatusOK {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		o.acknowledged = append(o.acknowledged, p)
		reply, err := submit(o.asked.smtp, "crm", us, []string{p}, letter("next@acme.example", p, ""))
		switch {
		case err == nil && strings.HasPrefix(reply, "550 5.7.1"):
		case err == nil && strings.HasPrefix(reply, "451 4.3.0"):
			o.unsure++
		default:
			o.t.Errorf("%s had opted out on one node, the other answered %q, %v", p, reply, err)
		}
	}
}

// objected holds what was acknowledged against what binds now.
func (o *objectors) objected() {
	o.t.Helper()
	if len(o.acknowledged) == 0 {
		o.t.Error("no opt-out was acknowledged")
	}
	for _, p := range o.acknowledged {
		o.asked.mustSubmit(o.t, "550 5.7.1", "crm", us, []string{p}, letter("after@acme.example", p, ""))
	}
	o.t.Logf("%d of %d opt-outs were acknowledged, each bound the next message on the other node; %d of those were answered 451",
		len(o.acknowledged), len(o.people), o.unsure)
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
