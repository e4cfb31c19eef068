package redis_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"heed/policy"
	"heed/store"
	"heed/store/storetest"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func object(t *testing.T, s store.State, person string) error {
	t.Helper()
	_, err := s.AddOptOut(t.Context(), person, person+"@x.example", policy.OptOut{Scope: policy.ScopeAll, At: at, Via: "page"})
	return err
}

func isOut(t *testing.T, s store.State, person string) bool {
	t.Helper()
	f, err := s.Facts(t.Context(), []string{person})
	if err != nil {
		t.Fatal(err)
	}
	return len(f[person].OptOuts) == 1
}

// plain is a connection of the test's own.
func plain(t *testing.T, r *storetest.Redis) *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: r.Addr})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	r := storetest.StartRedis(t)
	s := open(t, r.URL(), store.Options{})
	for i := range 20 {
		if err := object(t, s, fmt.Sprint("p", i)); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := s.SpoolAdd(t.Context(), "n", "q", at, []byte("body"), map[string][]byte{"c": nil}, 100); !ok || err != nil {
		t.Fatal(ok, err)
	}
	r.Kill()
	if err := object(t, s, "late"); err == nil {
		t.Error("a write was acknowledged by nobody")
	}
	r.Start()
	for i := range 20 {
		if !isOut(t, s, fmt.Sprint("p", i)) {
			t.Errorf("the opt-out of p%d is lost", i)
		}
	}
	if size, copies, err := s.SpoolSize(t.Context()); size != 4 || copies != 1 || err != nil {
		t.Error("the spool is lost:", size, copies, err)
	}
	if err := object(t, s, "late"); err != nil { // without a restart of ours
		t.Error(err)
	}
}

func TestStrictRefuses(t *testing.T) {
	for _, c := range []struct {
		name, says string
		args       []string
	}{
		{"fsync every second", "CONFIG SET appendfsync always", []string{"--appendfsync", "everysec"}},
		{"no append-only file", "CONFIG SET appendonly yes", []string{"--appendonly", "no"}},
		{"no fsync during rewrites", "CONFIG SET no-appendfsync-on-rewrite no", []string{"--no-appendfsync-on-rewrite", "yes"}},
		{"eviction", "maxmemory-policy noeviction", []string{"--maxmemory-policy", "allkeys-lru"}},
		{"CONFIG is forbidden", "durability: assumed", []string{"--rename-command", "CONFIG", ""}},
		{"CONFIG is forbidden by ACL", "durability: assumed", []string{"--user", "default", "on", "nopass", "~*", "&*", "+@all", "-config"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := storetest.StartRedis(t, c.args...)
			s, err := store.Open(t.Context(), r.URL(), store.Options{Durability: store.Strict})
			if err == nil {
				s.Close()
				t.Fatal("strict accepted it")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), r.Addr) {
				t.Errorf("says %q", err)
			}
			if err := object(t, open(t, r.URL(), store.Options{Durability: store.Assumed}), "p"); err != nil {
				t.Errorf("assumed: %v", err)
			}
		})
	}
}

func TestStrictRefusesAServerThatCameBackLax(t *testing.T) {
	r := storetest.StartRedis(t)
	s := open(t, r.URL(), store.Options{})
	if err := plain(t, r).ConfigSet(t.Context(), "appendfsync", "everysec").Err(); err != nil {
		t.Fatal(err)
	}
	if err := plain(t, r).Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the first may still find its old connection broken
		err := object(t, s, "p")
		if err == nil {
			t.Fatal("a write was acknowledged")
		} else if strings.Contains(err.Error(), "appendfsync everysec") {
			return
		}
	}
	t.Error("no write says why it was refused")
}

func TestReplicas(t *testing.T) {
	primary := storetest.StartRedis(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(primary.Addr)
	replica := storetest.StartRedis(t, "--replicaof", host+" "+port)
	awaitReplica(t, primary)
	if _, err := store.Open(t.Context(), replica.URL(), store.Options{}); err == nil || !strings.Contains(err.Error(), "name the primary") {
		t.Errorf("a replica was opened for writing: %v", err)
	}
	s := open(t, primary.URL(), store.Options{Timeout: 4 * time.Second})
	if err := object(t, s, "p"); err != nil {
		t.Fatal(err)
	}
	if n, err := plain(t, replica).Exists(t.Context(), "heed:{p}").Result(); n != 1 || err != nil {
		t.Errorf("acknowledged before the replica had it: %d, %v", n, err)
	}
	if err := replica.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := object(t, s, "q"); err == nil || !strings.Contains(err.Error(), "no replica confirmed") {
		t.Errorf("acknowledged without the replica: %v", err)
	}
	if err := replica.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	awaitReplica(t, primary)
	if err := object(t, s, "q"); err != nil {
		t.Error(err)
	}
}

// awaitReplica asks until the primary has a replica that follows.
func awaitReplica(t *testing.T, primary *storetest.Redis) {
	t.Helper()
	c := plain(t, primary)
	if err := c.Set(t.Context(), "x", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for {
		if n, err := c.Do(t.Context(), "wait", 1, 1000).Int(); err != nil {
			t.Fatal(err)
		} else if info := c.Info(t.Context(), "replication").Val(); n == 1 && strings.Contains(info, "state=online") {
			return
		}
	}
}

// openImpatient opens a store whose calls have 100 ms; on a busy machine opening may take it more than one try.
func openImpatient(t *testing.T, url string, durability store.Durability) store.State {
	t.Helper()
	for try := 1; ; try++ {
		s, err := store.Open(t.Context(), url, store.Options{Durability: durability, Timeout: 100 * time.Millisecond})
		if err == nil {
			t.Cleanup(func() { s.Close() })
			return s
		}
		if try == 50 {
			t.Fatal(err)
		}
	}
}

func TestEveryCallEndsWhenNobodyAnswers(t *testing.T) {
	r := storetest.StartRedis(t)
	strict, assumed := openImpatient(t, r.URL(), store.Strict), openImpatient(t, r.URL(), store.Assumed)
	t.Run("stopped", func(t *testing.T) {
		if err := r.Process().Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer r.Process().Signal(syscall.SIGCONT)
		storetest.Unanswered(t, strict)
		storetest.Unanswered(t, assumed)
	})
	t.Run("gone", func(t *testing.T) {
		r.Kill()
		storetest.Unanswered(t, strict)
		storetest.Unanswered(t, assumed)
		r.Start()
		lasting := open(t, r.URL(), store.Options{})
		if err := object(t, lasting, "p"); err != nil {
			t.Error(err)
		}
	})
}

// proxy passes bytes between a store and its server, counts turns, and loses answers when told to.
type proxy struct {
	net.Listener
	to    string
	turns atomic.Int64 // how often a client spoke after an answer, or at first
	lose  atomic.Int64 // drop the connection instead of the n-th answer from now; 0: never
	sent  atomic.Int64 // bytes passed to the server
}

func startProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(c)
		}
	}()
	t.Cleanup(func() { l.Close() })
	return p
}

func (p *proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	var asked atomic.Bool
	go func() {
		buf := make([]byte, 1<<20)
		for {
			n, err := client.Read(buf)
			if err != nil {
				server.Close()
				return
			}
			if !asked.Swap(true) {
				p.turns.Add(1)
			}
			p.sent.Add(int64(n))
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := server.Read(buf)
		if err != nil || p.lose.Load() > 0 && p.lose.Add(-1) == 0 {
			return
		}
		asked.Store(false)
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) url() string { return "redis://" + p.Addr().String() + "/0" }

func TestFactsTakeOneRoundTrip(t *testing.T) {
	r := storetest.StartRedis(t)
	p := startProxy(t, r.Addr)
	s := open(t, p.url(), store.Options{})
	var persons []string
	contacts := map[string]policy.Contact{}
	for i := range 200 {
		person := fmt.Sprintf("person-of-22-chars-%03d", i)
		persons = append(persons, person)
		contacts[person] = policy.Contact{Address: person + "@x.example"}
	}
	if err := s.Merge(t.Context(), contacts); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 200} {
		before := p.turns.Load()
		if got, err := s.Facts(t.Context(), persons[:n]); err != nil || len(got) != n {
			t.Fatal(len(got), err)
		}
		if trips := p.turns.Load() - before; trips != 1 {
			t.Errorf("%d persons took %d round trips", n, trips)
		}
	}
}

// TestAWriteIsSentOnce loses the answers of writes: the library must not repeat them, and a caller may.
func TestAWriteIsSentOnce(t *testing.T) {
	r := storetest.StartRedis(t)
	p := startProxy(t, r.Addr)
	s, direct := open(t, p.url(), store.Options{}), open(t, r.URL(), store.Options{})
	client := plain(t, r)
	entry := []policy.Entry{{ID: "e", At: at, Person: "p", Recipient: "p@x.example", Action: policy.Allow}}
	consent := policy.Contact{Consents: []policy.Consent{{Sender: "acme", Method: policy.Single, At: at}}}
	for _, c := range []struct {
		name  string
		write func(context.Context) error
		evals int // scripts of one call
	}{
		{"AddOptOut", func(ctx context.Context) error {
			_, err := s.AddOptOut(ctx, "p", "p@x.example", policy.OptOut{Scope: policy.ScopeAll, At: at})
			return err
		}, 1},
		{"Record", func(ctx context.Context) error { return s.Record(ctx, entry) }, 1},
		{"Fingerprint", func(ctx context.Context) error { _, err := s.Fingerprint(ctx, "fp"); return err }, 1},
		{"SpoolDone", func(ctx context.Context) error { return s.SpoolDone(ctx, "c") }, 16},
		{"SpoolUpdate", func(ctx context.Context) error { _, err := s.SpoolUpdate(ctx, "n", "c", at, nil); return err }, 16},
		{"Erase", func(ctx context.Context) error { _, err := s.Erase(ctx, "p"); return err }, 2}, // of the person, and of the journal
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := s.Ping(t.Context()); err != nil { // connections are up
				t.Fatal(err)
			}
			if _, err := s.Fingerprint(t.Context(), "fp"); err != nil {
				t.Fatal(err)
			}
			if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			p.lose.Store(1)
			err := c.write(t.Context())
			if err == nil {
				t.Fatal("the answer was lost, and the call says it was done")
			}
			stats := client.Info(t.Context(), "commandstats").Val()
			if want := fmt.Sprintf("cmdstat_eval:calls=%d,", c.evals); !strings.Contains(stats, want) {
				t.Errorf("not %q: %s", want, stats)
			}
			if err := c.write(t.Context()); err != nil {
				t.Errorf("repeated by its caller: %v", err)
			}
		})
	}
	t.Run("the state is as after one", func(t *testing.T) {
		for range 2 { // and a merge whose answer is lost
			p.lose.Store(2) // the first is a reading's
			if err := s.Merge(t.Context(), map[string]policy.Contact{"p": consent}); err == nil {
				t.Error("merged without an answer")
			}
			if err := s.Merge(t.Context(), map[string]policy.Contact{"p": consent}); err != nil {
				t.Fatal(err)
			}
		}
		f, err := direct.Facts(t.Context(), []string{"p"})
		if err != nil || len(f["p"].OptOuts) != 1 || len(f["p"].Contact.Consents) != 1 {
			t.Errorf("facts: %v, %v", f, err)
		}
		n := 0
		if err := direct.Journal(t.Context(), policy.JournalQuery{}, func(policy.Entry) bool { n++; return true }); err != nil || n != 1 {
			t.Errorf("%d entries, %v", n, err)
		}
	})
}

func TestTwoNodesShareTheState(t *testing.T) {
	r := storetest.StartRedis(t)
	a, b := open(t, r.URL(), store.Options{}), open(t, r.URL(), store.Options{})
	if err := object(t, a, "p"); err != nil {
		t.Fatal(err)
	}
	if !isOut(t, b, "p") {
		t.Error("the other node does not know of the opt-out")
	}
	// A copy that this node never saw is found all the same.
	if ok, err := a.SpoolAdd(t.Context(), "a", "q", at, []byte("x"), map[string][]byte{"c1": nil, "c2": nil}, 100); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if held, err := b.SpoolRenew(t.Context(), "a", at.Add(time.Hour), []string{"c1", "c2"}); len(held) != 2 || err != nil {
		t.Error("renewed:", held, err)
	}
	if ok, err := b.SpoolUpdate(t.Context(), "a", "c1", at, []byte("m")); !ok || err != nil {
		t.Error("updated:", ok, err)
	}
	for _, id := range []string{"c1", "c2"} {
		if err := b.SpoolDone(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if size, copies, err := a.SpoolSize(t.Context()); size != 0 || copies != 0 || err != nil {
		t.Error("left:", size, copies, err)
	}
}

func TestKeysHoldNoAddressAndOneSlotHoldsAPerson(t *testing.T) {
	r := storetest.StartRedis(t)
	s := open(t, r.URL(), store.Options{})
	const person = "AAAAAAAAAAAAAAAAAAAAAA"
	entry := policy.Entry{ID: "e", At: at, Person: person, Recipient: "maria@x.example", MessageID: "<1@x.example>", Action: policy.Allow}
	for _, err := range []error{
		s.Merge(t.Context(), map[string]policy.Contact{person: {Address: "maria@x.example"}}),
		object(t, s, person),
		s.Record(t.Context(), []policy.Entry{entry}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := s.SpoolAdd(t.Context(), "n", "q", at, []byte("b"), map[string][]byte{"c": nil}, 9); !ok || err != nil {
		t.Fatal(ok, err)
	}
	keys, err := plain(t, r).Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.Contains(key, "maria") || strings.Contains(key, "@") || !strings.HasPrefix(key, "heed:{") {
			t.Errorf("key %q", key)
		}
		if strings.Contains(key, person) && key != "heed:{"+person+"}" && !strings.HasPrefix(key, "heed:{journal}:person:") {
			t.Errorf("key %q lies beside the person's hash", key)
		}
	}
	if _, err := s.Erase(t.Context(), person); err != nil {
		t.Fatal(err)
	}
	dump, err := plain(t, r).HGetAll(t.Context(), "heed:{"+person+"}").Result()
	if err != nil || strings.Contains(fmt.Sprint(dump), "maria") || len(dump) != 1 {
		t.Errorf("after erasure: %v, %v", dump, err)
	}
	journal, err := plain(t, r).HGetAll(t.Context(), "heed:{journal}:entries").Result()
	if err != nil || strings.Contains(fmt.Sprint(journal), "maria") {
		t.Errorf("the journal holds an address: %v, %v", journal, err)
	}
}

func TestFullMemory(t *testing.T) {
	for _, durability := range []store.Durability{store.Strict, store.Assumed, store.None} {
		t.Run(string(durability), func(t *testing.T) {
			r := storetest.StartRedis(t)
			fullMemory(t, r, open(t, r.URL(), store.Options{Durability: durability}))
		})
	}
	t.Run("with a replica", func(t *testing.T) {
		r := storetest.StartRedis(t, "--repl-diskless-sync-delay", "0")
		startReplica(t, r)
		fullMemory(t, r, open(t, r.URL(), store.Options{}))
	})
}

// fullMemory: what is not kept is not acknowledged, and what makes room goes on.
func fullMemory(t *testing.T, r *storetest.Redis, s store.State) {
	add := func(id string) (bool, error) {
		return s.SpoolAdd(t.Context(), "n", "q", at, []byte("body"), map[string][]byte{id: nil}, 1<<30)
	}
	if ok, err := add("c1"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := plain(t, r).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	entries := []policy.Entry{{ID: "e1", At: at}, {ID: "e2", At: at}}
	for name, err := range map[string]error{
		"add": second(add("c2")), "record": s.Record(t.Context(), entries), "opt-out": object(t, s, "p"),
		"guard": s.GuardEnd(t.Context(), "token", map[string][]byte{"p/a": []byte("250 a")}, at, at.Add(time.Hour), entries),
	} {
		if err == nil || !strings.Contains(err.Error(), "memory is full") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What empties the spool goes on.
	if items, err := s.SpoolClaim(t.Context(), "n", at, at.Add(time.Minute), 9, nil); len(items) != 1 || err != nil {
		t.Error("claimed:", items, err)
	}
	if ok, err := s.SpoolUpdate(t.Context(), "n", "c1", at, []byte("m")); !ok || err != nil {
		t.Error("updated:", ok, err)
	}
	if err := s.SpoolDone(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	if size, copies, err := s.SpoolSize(t.Context()); size != 0 || copies != 0 || err != nil {
		t.Error("left:", size, copies, err)
	}
	if err := s.Journal(t.Context(), policy.JournalQuery{}, func(e policy.Entry) bool { t.Error("recorded", e.ID); return true }); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestANewerStateIsRefused(t *testing.T) {
	r := storetest.StartRedis(t)
	if err := plain(t, r).HSet(t.Context(), "heed:{meta}:state", "schema", 3).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), r.URL(), store.Options{}); err == nil || !strings.Contains(err.Error(), "use the newer program") {
		t.Errorf("opened: %v", err)
	}
}

func TestWrongPassword(t *testing.T) {
	r := storetest.StartRedis(t, "--requirepass", "right")
	for url, says := range map[string]string{
		r.URL():                                 "wants a password",
		"redis://:wrong-one@" + r.Addr + "/0":   "refuses the user or the password",
		"redis://nobody:wrong@" + r.Addr + "/0": "refuses the user or the password",
	} {
		_, err := store.Open(t.Context(), url, store.Options{})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s: %v", url, err)
		}
	}
	open(t, "redis://:right@"+r.Addr+"/3", store.Options{})
}
