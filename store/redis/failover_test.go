package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"heed/policy"
	"heed/store"
	"heed/store/storetest"
)

// silence is when the servers of the tests call one dead.
const silence = 2 * time.Second

// ways are how a primary goes away from the others.
var ways = map[string]struct{ away, back func(*storetest.Redis) }{
	"killed": {(*storetest.Redis).Kill, (*storetest.Redis).Start},
	"hung": {
		func(r *storetest.Redis) { _ = r.Process().Signal(syscall.SIGSTOP) },
		func(r *storetest.Redis) { _ = r.Process().Signal(syscall.SIGCONT) },
	},
}

// TestFailover: a primary goes away at a random moment under writes, and another takes over. Nothing acknowledged is
// lost, an opt-out that one node acknowledged is never missing in what another reads, and work goes on by itself.
func TestFailover(t *testing.T) {
	for name, start := range sets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failover(t, start(t, silence), []string{"killed", "hung"})
		})
	}
}

// TestEveryCallEndsOnSets: none of the servers answers.
func TestEveryCallEndsOnSets(t *testing.T) {
	for name, start := range sets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, time.Minute)
			s := open(t, set.URL, store.Options{Timeout: 2 * time.Second})
			for _, r := range set.Servers {
				ways["hung"].away(r)
			}
			storetest.Unanswered(t, s)
			for _, r := range set.Servers {
				r.Kill()
			}
			storetest.Unanswered(t, s)
		})
	}
}

// TestIdleNodeAndReturnedPrimary: a node that had nothing to do while a replica took over. The old primary is back, and
// nobody has told it yet: the node takes it for the primary neither for reads nor for writes.
func TestIdleNodeAndReturnedPrimary(t *testing.T) {
	for name, start := range sets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, silence)
			idle, busy := open(t, set.URL, store.Options{}), open(t, set.URL, store.Options{})
			var before, meanwhile, after []string
			for i := range 12 { // some of them on each server of a cluster
				before, meanwhile, after = append(before, fmt.Sprint("before", i)), append(meanwhile, fmt.Sprint("meanwhile", i)), append(after, fmt.Sprint("after", i))
			}
			objections(t, idle, before)
			old := set.Failover((*storetest.Redis).Kill)
			meanwhile = objections(t, busy, meanwhile)
			old.Start()
			seen(t, idle, meanwhile)
			acknowledged := objections(t, idle, after)
			if len(acknowledged) == 0 {
				t.Error("the node does not find the new primary")
			}
			set.Whole()
			seen(t, busy, acknowledged)
		})
	}
}

// objections returns those that were acknowledged.
func objections(t *testing.T, s store.State, persons []string) (acknowledged []string) {
	t.Helper()
	for _, person := range persons {
		if err := object(t, s, person); err == nil {
			acknowledged = append(acknowledged, person)
		} else {
			t.Log(person, err)
		}
	}
	return acknowledged
}

func seen(t *testing.T, s store.State, persons []string) {
	t.Helper()
	facts, err := s.Facts(t.Context(), persons)
	if err != nil {
		t.Fatal(err)
	}
	for _, person := range persons {
		if len(facts[person].OptOuts) == 0 {
			t.Errorf("the opt-out of %s was acknowledged and is not there", person)
		}
	}
}

// writers write to two nodes and keep what was acknowledged.
type writers struct {
	t     *testing.T
	nodes [2]store.State
	stop  chan struct{}
	wait  sync.WaitGroup

	mu                        sync.Mutex
	optOuts, entries, spooled []string
	number, failures, acks    atomic.Int64
}

func (w *writers) start() {
	w.stop = make(chan struct{})
	for range 6 {
		w.wait.Go(func() {
			for {
				select {
				case <-w.stop:
					return
				default:
					w.one(w.number.Add(1))
				}
			}
		})
	}
}

func (w *writers) one(n int64) {
	a, b := w.nodes[n%2], w.nodes[(n+1)%2]
	ctx, id := context.WithoutCancel(w.t.Context()), fmt.Sprint("n", n)
	var list *[]string
	var err error
	switch n % 3 {
	case 0:
		var added bool
		list = &w.optOuts
		added, err = a.AddOptOut(ctx, id, id+"@x.example", policy.OptOut{Scope: policy.ScopeAll, At: at, Via: "page", Ref: id})
		if err == nil && !added {
			w.t.Errorf("the first opt-out of %s is answered as if there had been one", id)
		}
		if err == nil {
			if f, err := b.Facts(ctx, []string{id}); err == nil && len(f[id].OptOuts) != 1 {
				w.t.Errorf("the opt-out of %s was acknowledged, and the other node reads %v", id, f[id])
			}
		}
	case 1:
		list = &w.entries
		err = a.Record(ctx, []policy.Entry{{ID: id, At: at.Add(time.Duration(n)), Person: "p" + id, Recipient: id + "@y.example", Action: policy.Allow}})
	case 2:
		list = &w.spooled
		var added bool
		if added, err = a.SpoolAdd(ctx, "node", "", at, []byte("body of "+id), map[string][]byte{id: nil}, 1<<40); err == nil && !added {
			w.t.Errorf("%s is not in the spool", id)
		}
	}
	if err != nil {
		w.failures.Add(1)
		return
	}
	w.acks.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = append(*list, id)
}

// some waits until more was acknowledged.
func (w *writers) some() {
	w.t.Helper()
	enough := w.acks.Load() + 20 + rand.Int64N(100)
	for end := time.Now().Add(time.Minute); w.acks.Load() < enough; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("writes do not go on: %d acknowledged, want %d", w.acks.Load(), enough)
		}
	}
}

// check holds what is there against what was acknowledged, and tells how much is missing.
func (w *writers) check() {
	w.t.Helper()
	s := w.nodes[0]
	facts, err := s.Facts(w.t.Context(), w.optOuts)
	if err != nil {
		w.t.Fatal(err)
	}
	lost := 0
	for _, id := range w.optOuts {
		if len(facts[id].OptOuts) != 1 {
			lost++
		}
	}
	recorded, spooled := map[string]bool{}, map[string]bool{}
	if err := s.Journal(w.t.Context(), policy.JournalQuery{}, func(e policy.Entry) bool { recorded[e.ID] = true; return true }); err != nil {
		w.t.Fatal(err)
	}
	if err := s.SpoolList(w.t.Context(), func(i store.SpoolItem) bool { spooled[i.ID] = true; return true }); err != nil {
		w.t.Fatal(err)
	}
	unrecorded, unspooled := missing(w.entries, recorded), missing(w.spooled, spooled)
	w.t.Logf("acknowledged: %d opt-outs, %d journal entries, %d spooled; lost: %d, %d, %d; refused meanwhile: %d",
		len(w.optOuts), len(w.entries), len(w.spooled), lost, unrecorded, unspooled, w.failures.Load())
	if lost+unrecorded+unspooled > 0 {
		w.t.Error("acknowledged writes are lost")
	}
}

func missing(ids []string, there map[string]bool) (n int) {
	for _, id := range ids {
		if !there[id] {
			n++
		}
	}
	return n
}

func failover(t *testing.T, set *storetest.Set, rounds []string) {
	w := &writers{t: t}
	for i := range w.nodes {
		w.nodes[i] = open(t, set.URL, store.Options{})
	}
	for _, how := range rounds {
		w.start()
		w.some()
		old := set.Failover(ways[how].away)
		w.some() // with the new primary, which is alone
		ways[how].back(old)
		set.Whole()
		w.some()
		close(w.stop)
		w.wait.Wait()
	}
	w.check()
}
