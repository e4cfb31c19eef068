package storetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Set is several real servers that stand in for each other: a primary and a replica under three sentinels, or a
// cluster of three primaries and three replicas. All end with the test.
type Set struct {
	URL     string // what store.Open takes
	Servers []*Redis

	t        testing.TB
	watchers []*Redis // sentinels
}

const setName = "heed"

// StartSentinel starts a primary, a replica and three sentinels, that call a server dead which is silent for so long.
func StartSentinel(t testing.TB, silent time.Duration, args ...string) *Set {
	t.Helper()
	s := &Set{t: t}
	given := map[string]bool{}
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	primary := newRedis(t, freePort(t, given), args...)
	host, port, _ := net.SplitHostPort(primary.Addr)
	replica := newRedis(t, freePort(t, given), append(args, "--replicaof", host+" "+port)...)
	s.Servers = []*Redis{primary, replica}
	s.start(s.Servers)
	var addrs []string
	for range 3 {
		w := newRedis(t, freePort(t, given))
		config := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %[3]s %[6]d\nsentinel failover-timeout %[3]s 3000\n",
			portOf(w.Addr), filepath.Dir(config), setName, host, port, silent.Milliseconds())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.args = []string{w.args[0], config, "--sentinel"}
		s.watchers, addrs = append(s.watchers, w), append(addrs, w.Addr)
	}
	s.start(s.watchers)
	for _, w := range s.watchers {
		s.must(w, "sentinel", "debug", "publish-period", "200", "info-period", "500", "ping-period", "200")
	}
	s.URL = "redis+sentinel://" + strings.Join(addrs, ",") + "/" + setName
	s.Whole()
	return s
}

// StartCluster starts three primaries with a replica each, that call a node dead which is silent for so long.
func StartCluster(t testing.TB, silent time.Duration, args ...string) *Set {
	t.Helper()
	s := &Set{t: t}
	given := map[string]bool{}
	var addrs []string
	bus := map[*Redis]string{}
	for range 6 {
		busPort := freePort(t, given)
		r := newRedis(t, freePort(t, given), append([]string{
			"--cluster-enabled", "yes", "--cluster-port", busPort, "--cluster-node-timeout", fmt.Sprint(silent.Milliseconds()), "--repl-diskless-sync-delay", "0",
		}, args...)...)
		bus[r] = busPort
		s.Servers, addrs = append(s.Servers, r), append(addrs, r.Addr)
	}
	s.start(s.Servers)
	for i, r := range s.Servers {
		s.must(r, "cluster", "set-config-epoch", i+1)
		if i < 3 {
			s.must(r, "cluster", "addslotsrange", []int{0, 5461, 10923}[i], []int{5460, 10922, 16383}[i])
		}
		if i > 0 {
			s.must(r, "cluster", "meet", "127.0.0.1", portOf(s.Servers[0].Addr), bus[s.Servers[0]])
		}
	}
	for i, r := range s.Servers[3:] {
		id := fmt.Sprint(s.must(s.Servers[i], "cluster", "myid"))
		s.eventually(r.Addr+" to be a replica", func() bool { return s.do(r, "cluster", "replicate", id) == "OK" })
	}
	s.URL = "redis+cluster://" + strings.Join(addrs, ",")
	s.Whole()
	return s
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// start starts all of them side by side.
func (s *Set) start(servers []*Redis) {
	s.t.Helper()
	redis.SetLogger(silent{}) // servers that are dead are what these tests are about
	for _, r := range servers {
		r.spawn()
	}
	for _, r := range servers {
		r.await()
	}
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// do asks one server; its error is the answer.
func (s *Set) do(r *Redis, args ...any) any {
	c := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: time.Second, DisableIdentity: true, Protocol: 2})
	defer c.Close()
	answer, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		return err
	}
	return answer
}

func (s *Set) must(r *Redis, args ...any) any {
	s.t.Helper()
	answer := s.do(r, args...)
	if err, failed := answer.(error); failed {
		s.t.Fatalf("%s: %v: %v", r.Addr, args, err)
	}
	return answer
}

func (s *Set) eventually(what string, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(40 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			for _, r := range s.Servers {
				s.t.Logf("%s: %v %v", r.Addr, s.do(r, "role"), s.do(r, "cluster", "nodes"))
			}
			s.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Primaries are the servers that are primaries of something now, as they themselves say.
func (s *Set) Primaries() []*Redis {
	var found []*Redis
	for _, r := range s.Servers {
		if role, ok := s.do(r, "role").([]any); ok && role[0] == "master" && s.serves(r) {
			found = append(found, r)
		}
	}
	return found
}

// serves tells whether the others agree that it is a primary.
func (s *Set) serves(r *Redis) bool {
	if len(s.watchers) == 0 {
		return strings.Contains(fmt.Sprint(s.do(r, "cluster", "slots")), portOf(r.Addr))
	}
	for _, w := range s.watchers {
		if named := fmt.Sprint(s.do(w, "sentinel", "get-master-addr-by-name", setName)); named != "[127.0.0.1 "+portOf(r.Addr)+"]" {
			return false
		}
	}
	return true
}

// Whole waits until every server runs, and each primary has a replica that follows.
func (s *Set) Whole() {
	s.t.Helper()
	s.eventually("the servers to be whole", func() bool {
		primaries := s.Primaries()
		if len(primaries) != len(s.Servers)/2 {
			return false
		}
		for _, r := range s.Servers {
			role, ok := s.do(r, "role").([]any)
			if !ok || role[0] == "master" && len(role[2].([]any)) != 1 || role[0] == "slave" && role[3] != "connected" {
				return false
			}
			if len(s.watchers) == 0 {
				info := fmt.Sprint(s.do(r, "cluster", "info"))
				if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") || strings.Contains(fmt.Sprint(s.do(r, "cluster", "nodes")), "fail") {
					return false
				}
			}
		}
		for _, w := range s.watchers {
			if info := fmt.Sprint(s.do(w, "info", "sentinel")); !strings.Contains(info, "status=ok,address="+primaries[0].Addr+",slaves=1,sentinels=3") {
				return false
			}
		}
		return true
	})
}

// Failover makes one primary's replica take over: away takes the primary from the others. It returns when another
// primary is there.
func (s *Set) Failover(away func(*Redis)) (old *Redis) {
	s.t.Helper()
	before := s.Primaries()
	old = before[int(time.Now().UnixNano()/1000)%len(before)]
	away(old)
	s.eventually("another primary", func() bool {
		now := s.Primaries()
		return len(now) == len(before) && !slices.Contains(now, old)
	})
	return old
}

// Flush empties all of them.
func (s *Set) Flush() {
	s.t.Helper()
	for _, r := range s.Primaries() {
		s.must(r, "flushall")
	}
}
