package redis_test

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"heed/policy"
	"heed/store"
	"heed/store/storetest"
)

// startReplica starts one and waits until it follows.
func startReplica(t *testing.T, primary *storetest.Redis) *storetest.Redis {
	t.Helper()
	host, port, _ := net.SplitHostPort(primary.Addr)
	r := storetest.StartRedis(t, "--replicaof", host+" "+port)
	awaitReplica(t, primary)
	return r
}

// refused is a write that must not be acknowledged.
func refused(t *testing.T, s store.State, person string) {
	t.Helper()
	if err := object(t, s, person); err == nil || !strings.Contains(err.Error(), "no replica confirmed") {
		t.Errorf("%s: acknowledged without the replica: %v", person, err)
	}
}

// TestADeadReplicaIsMissed: new connections, made when the replica is dead, do not make the promise less; a restart does.
func TestADeadReplicaIsMissed(t *testing.T) {
	t.Parallel()
	primary := storetest.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := startReplica(t, primary)
	s := open(t, primary.URL(), store.Options{Timeout: time.Second})
	replica.Kill()
	if err := plain(t, primary).Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	_ = object(t, s, "p") // its connection may be one of those
	refused(t, s, "p")
	refused(t, s, "p") // the second time there is nothing to write, and still nobody has it
	primary.Kill()
	primary.Start()
	_ = object(t, s, "p")
	if err := object(t, s, "p"); err != nil {
		t.Errorf("alone after a restart: %v", err)
	}
}

// TestAReplicaThatJoinsIsNeeded: from the first write after it came.
func TestAReplicaThatJoinsIsNeeded(t *testing.T) {
	t.Parallel()
	primary := storetest.StartRedis(t, "--repl-diskless-sync-delay", "0")
	s := open(t, primary.URL(), store.Options{Timeout: 2 * time.Second})
	if err := object(t, s, "p"); err != nil {
		t.Fatal(err)
	}
	replica := startReplica(t, primary)
	if err := replica.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	refused(t, s, "q")
	refused(t, s, "q")
	if err := replica.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	awaitReplica(t, primary)
	if err := object(t, s, "q"); err != nil {
		t.Error(err)
	}
}

// TestPasswords: servers and sentinels with the same password, or sentinels with none; and the least an ACL must allow.
func TestPasswords(t *testing.T) {
	t.Parallel()
	set := storetest.StartSentinel(t, time.Minute)
	for _, r := range set.Servers {
		c := plain(t, r)
		if err := c.Do(t.Context(), "acl", "setuser", "heed", "on", ">s:cr%t", "~heed:*",
			"+@read", "+@write", "+@scripting", "+@connection", "+wait", "+info", "+role", "+config|get").Err(); err != nil {
			t.Fatal(err)
		}
	}
	url := strings.Replace(set.URL, "://", "://heed:s:cr%25t@", 1)
	if err := object(t, open(t, url, store.Options{}), "p"); err != nil {
		t.Error(err)
	}
	wrong := strings.Replace(set.URL, "://", "://heed:hunter2@", 1)
	if _, err := store.Open(t.Context(), wrong, store.Options{Timeout: time.Second}); err == nil || !strings.Contains(err.Error(), "refuses the user or the password") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("opened with %v", err)
	}
}

// TestSlotsOnTheMove: while the cluster moves a slot its keys are neither written nor read half moved, and the rest
// works; when it is moved the new primary is found.
func TestSlotsOnTheMove(t *testing.T) {
	t.Parallel()
	set := storetest.StartCluster(t, time.Minute)
	s := open(t, set.URL, store.Options{Timeout: time.Second})
	entry := func(id string) []policy.Entry {
		return []policy.Entry{{ID: id, At: at, Person: "p", Action: policy.Allow}}
	}
	for _, err := range []error{object(t, s, "p"), s.Record(t.Context(), entry("before"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		key  string
		work func() error // of that slot
		rest func() error
	}{
		{"heed:{journal}", func() error { return s.Record(t.Context(), entry("meanwhile")) }, func() error { return object(t, s, "q") }},
		{"heed:{p}", func() error { _, err := s.Facts(t.Context(), []string{"p"}); return err }, func() error { return s.Record(t.Context(), entry("beside")) }},
	} {
		m := newMove(t, set, c.key)
		m.begin()
		m.keys(1) // the first key is on the other side
		if err := c.work(); err == nil || !strings.Contains(err.Error(), "moving these keys") {
			t.Errorf("%s, half moved: %v", c.key, err)
		}
		if err := c.rest(); err != nil {
			t.Errorf("beside %s: %v", c.key, err)
		}
		m.keys(1000)
		m.end()
		if err := c.work(); err != nil {
			t.Errorf("%s, moved: %v", c.key, err)
		}
	}
	if !isOut(t, s, "p") {
		t.Error("the opt-out was lost on the way")
	}
	n := 0
	if err := s.Journal(t.Context(), policy.JournalQuery{}, func(policy.Entry) bool { n++; return true }); err != nil || n != 3 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// move is one slot on its way to another primary.
type move struct {
	t                *testing.T
	slot             int64
	from, to         *goredis.Client
	fromID, toID, at string
	all              []*goredis.Client
}

func newMove(t *testing.T, set *storetest.Set, key string) *move {
	m := &move{t: t}
	for _, r := range set.Primaries() {
		c := plain(t, r)
		m.all = append(m.all, c)
		m.slot = c.ClusterKeySlot(t.Context(), key).Val()
		id, err := c.Do(t.Context(), "cluster", "myid").Text()
		if err != nil {
			t.Fatal(err)
		}
		if c.Exists(t.Context(), key).Err() == nil { // the others say MOVED
			m.from, m.fromID = c, id
		} else {
			m.to, m.toID, m.at = c, id, r.Addr
		}
	}
	return m
}

func (m *move) do(c *goredis.Client, args ...any) {
	m.t.Helper()
	if err := c.Do(m.t.Context(), args...).Err(); err != nil {
		m.t.Fatalf("%v: %v", args, err)
	}
}

func (m *move) begin() {
	m.do(m.to, "cluster", "setslot", m.slot, "importing", m.fromID)
	m.do(m.from, "cluster", "setslot", m.slot, "migrating", m.toID)
}

func (m *move) keys(n int) {
	host, port, _ := net.SplitHostPort(m.at)
	for _, key := range m.from.ClusterGetKeysInSlot(m.t.Context(), int(m.slot), n).Val() {
		m.do(m.from, "migrate", host, port, key, 0, 5000)
	}
}

func (m *move) end() {
	for _, c := range append([]*goredis.Client{m.to, m.from}, m.all...) {
		m.do(c, "cluster", "setslot", m.slot, "node", m.toID)
	}
}
