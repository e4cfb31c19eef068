package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"heed/store"
)

func spoolQueues(t *testing.T, s store.State) {
	for i := range 30 { // the first queue's all come first, and the others stand in every shard
		for queue, due := range map[string]int{"hung": i, "other": 100 + i, "": 200 + i, "a:b {c}": 300 + i} {
			ok, err := s.SpoolAdd(ctx(t), "a", queue, at(time.Duration(due)), []byte("b"), map[string][]byte{fmt.Sprintf("%03d", due): nil}, enough)
			must(t, err)
			want(t, "added", ok, true)
		}
	}
	claim := func(n int, skip ...string) string {
		t.Helper()
		items, err := s.SpoolClaim(ctx(t), "b", at(time.Hour), at(2*time.Hour), n, skip)
		must(t, err)
		var got []string
		for _, i := range items {
			got = append(got, i.Queue+"="+i.ID)
		}
		return strings.Join(got, " ")
	}
	want(t, "from all", claim(2), "hung=000 hung=001")
	want(t, "without the first", claim(2, "hung"), "other=100 other=101")
	want(t, "without two", claim(2, "other", "hung", "gone"), "=200 =201")
	want(t, "without three", claim(1, "other", "hung", ""), "a:b {c}=300")
	want(t, "without any", claim(9, "other", "hung", "", "a:b {c}"), "")
	want(t, "from all again", claim(1), "hung=002")
	if ok, err := s.SpoolUpdate(ctx(t), "b", "100", at(50), nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	want(t, "an updated copy stays in its queue", claim(1, "hung"), "other=100")
	items, err := s.SpoolClaim(ctx(t), "c", at(3*time.Hour), at(4*time.Hour), 99, []string{"hung", "", "a:b {c}"})
	must(t, err)
	want(t, "of one queue when all leases have ended", len(items), 30)
	for i := range 30 {
		must(t, s.SpoolDone(ctx(t), fmt.Sprintf("%03d", 100+i)))
	}
	want(t, "listed", len(spooled(t, s)), 90)
	want(t, "queue of the first listed", spooled(t, s)[0].Queue, "hung")
}

func spoolGet(t *testing.T, s store.State) {
	get := func(id string) (store.SpoolItem, bool) {
		t.Helper()
		i, ok, err := s.SpoolGet(ctx(t), id)
		must(t, err)
		return i, ok
	}
	spoolAdd(t, s, start, "body", "c1", "c2")
	i, ok := get("c2")
	want(t, "found", ok, true)
	want(t, "just added", i, store.SpoolItem{ID: "c2", Queue: "q", Due: start, Lease: start, Meta: []byte("meta c2"), Body: []byte("body")})
	want(t, "claimed", claim(t, s, "b", at(time.Second), at(time.Hour), 1), "c1")
	i, _ = get("c1")
	want(t, "lease", i.Lease, at(time.Hour))
	if ok, err := s.SpoolUpdate(ctx(t), "b", "c1", at(time.Minute), []byte("m")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	i, _ = get("c1")
	want(t, "updated", i, store.SpoolItem{ID: "c1", Queue: "q", Due: at(time.Minute), Meta: []byte("m"), Body: []byte("body")})
	must(t, s.SpoolDone(ctx(t), "c1"))
	for _, id := range []string{"c1", "never", ""} {
		i, ok = get(id)
		want(t, id+" found", ok, false)
		want(t, id, i, store.SpoolItem{})
	}
}

func spoolTake(t *testing.T, s store.State) {
	take := func(what, node, id string, now, until time.Time, found bool) store.SpoolItem {
		t.Helper()
		i, ok, err := s.SpoolTake(ctx(t), node, id, now, until)
		must(t, err)
		want(t, what, ok, found)
		return i
	}
	spoolAdd(t, s, at(time.Minute), "body", "c1", "c2")
	take("leased to who added it", "drop", "c1", start, at(time.Hour), false)
	take("gone", "drop", "gone", start, at(time.Hour), false)
	want(t, "claimed", claim(t, s, "b", at(time.Minute), at(time.Hour), 1), "c1")
	take("leased to who attempts it", "drop", "c1", at(time.Hour-1), at(2*time.Hour), false)
	if ok, err := s.SpoolUpdate(ctx(t), "b", "c1", at(5*time.Hour), []byte("m")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	i := take("not due", "drop", "c1", start, at(2*time.Hour), true)
	want(t, "taken", i, store.SpoolItem{ID: "c1", Queue: "q", Due: at(5 * time.Hour), Lease: at(2 * time.Hour), Meta: []byte("m"), Body: []byte("body")})
	take("repeated", "drop", "c1", start, at(2*time.Hour), true)
	take("by another", "else", "c1", start, at(2*time.Hour), false)
	take("its lease ended", "drop", "c2", at(time.Minute), at(2*time.Hour), true)
	want(t, "claimed while taken", claim(t, s, "b", at(time.Hour), at(3*time.Hour), 9), "")
	want(t, "claimed after that, what is due", claim(t, s, "b", at(2*time.Hour), at(9*time.Hour), 9), "c2")
	must(t, s.SpoolDone(ctx(t), "c1"))
	must(t, s.SpoolDone(ctx(t), "c2"))
	spoolHolds(t, s, 0, 0)
	if _, _, err := s.SpoolTake(ctx(t), "", "c1", start, at(1)); err == nil {
		t.Error("take without a node succeeded")
	}
}

func spoolRetry(t *testing.T, s store.State) {
	retry := func(now time.Time, ids ...string) string {
		t.Helper()
		free, err := s.SpoolRetry(ctx(t), now, ids)
		must(t, err)
		return strings.Join(free, " ")
	}
	all := []string{"c1", "c2", "c3", "c4", "gone"}
	spoolAdd(t, s, at(time.Minute), "b", all[:3]...)
	spoolAdd(t, s, at(time.Hour), "b", "c4")
	want(t, "none asked for", retry(at(time.Minute)), "")
	want(t, "leased to who added them", retry(at(time.Second), all...), "")
	want(t, "claimed", claim(t, s, "b", at(time.Minute), at(2*time.Hour), 2), "c1 c2")
	if ok, err := s.SpoolUpdate(ctx(t), "b", "c1", at(24*time.Hour), []byte("m")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	want(t, "not due", claim(t, s, "b", at(2*time.Minute), at(2*time.Hour), 1), "c3")
	if ok, err := s.SpoolUpdate(ctx(t), "b", "c3", at(3*time.Minute), []byte("m")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	want(t, "free", retry(at(2*time.Minute), all...), "c1 c3")
	want(t, "repeated", retry(at(2*time.Minute), all...), "c1 c3")
	i, _, err := s.SpoolGet(ctx(t), "c1")
	must(t, err)
	want(t, "due, the rest as it was", i, store.SpoolItem{ID: "c1", Queue: "q", Due: at(2 * time.Minute), Meta: []byte("m"), Body: []byte("b")})
	want(t, "listed by due time", itemIDs(spooled(t, s)), "c2 c1 c3 c4")
	want(t, "what was due is not put off", retry(at(4*time.Minute), "c1"), "c1")
	want(t, "claimed at once", claim(t, s, "c", at(2*time.Minute), at(3*time.Hour), 9), "c1 c3")
	want(t, "an ended lease", retry(at(time.Hour), "c4", "c2"), "c4")
	for _, id := range all {
		must(t, s.SpoolDone(ctx(t), id))
	}
	spoolHolds(t, s, 0, 0)
	want(t, "left", claim(t, s, "c", at(99*time.Hour), at(100*time.Hour), 9), "")
}
