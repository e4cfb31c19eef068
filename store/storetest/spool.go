package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"heed/store"
)

const enough = 1 << 40 // a limit that does not matter

func spoolAdd(t *testing.T, s store.State, due time.Time, body string, ids ...string) {
	t.Helper()
	copies := map[string][]byte{}
	for _, id := range ids {
		copies[id] = []byte("meta " + id)
	}
	ok, err := s.SpoolAdd(ctx(t), "a", "q", due, []byte(body), copies, enough)
	must(t, err)
	want(t, "added", ok, true)
}

func claim(t *testing.T, s store.State, node string, now, until time.Time, n int) string {
	t.Helper()
	items, err := s.SpoolClaim(ctx(t), node, now, until, n, nil)
	must(t, err)
	return itemIDs(items)
}

func itemIDs(items []store.SpoolItem) string {
	var ids []string
	for _, i := range items {
		ids = append(ids, i.ID)
	}
	return strings.Join(ids, " ")
}

func spooled(t *testing.T, s store.State) []store.SpoolItem {
	t.Helper()
	var items []store.SpoolItem
	must(t, s.SpoolList(ctx(t), func(i store.SpoolItem) bool { items = append(items, i); return true }))
	return items
}

func spoolHolds(t *testing.T, s store.State, bytes int64, copies int) {
	t.Helper()
	b, c, err := s.SpoolSize(ctx(t))
	must(t, err)
	want(t, "bytes and copies", []int64{b, int64(c)}, []int64{bytes, int64(copies)})
}

func spoolRoundTrip(t *testing.T, s store.State) {
	body, meta := []byte("a\r\n\x00\xff\r\n"), []byte("\x00meta\xff")
	ok, err := s.SpoolAdd(ctx(t), "a", "q", start, body, map[string][]byte{"c1": meta, "c2": nil}, enough)
	must(t, err)
	want(t, "added", ok, true)
	spoolHolds(t, s, int64(len(body)), 2)
	items, err := s.SpoolClaim(ctx(t), "b", start, at(time.Hour), 9, nil)
	must(t, err)
	want(t, "claimed", items, []store.SpoolItem{
		{ID: "c1", Queue: "q", Due: start, Lease: at(time.Hour), Meta: meta, Body: body},
		{ID: "c2", Queue: "q", Due: start, Lease: at(time.Hour), Meta: []byte{}, Body: body},
	})
	for name, err := range map[string]error{
		"add without a node":   second(s.SpoolAdd(ctx(t), "", "q", start, body, map[string][]byte{"c3": nil}, enough)),
		"add without copies":   second(s.SpoolAdd(ctx(t), "a", "q", start, body, nil, enough)),
		"claim without a node": second(s.SpoolClaim(ctx(t), "", at(2*time.Hour), at(3*time.Hour), 1, nil)),
	} {
		if err == nil {
			t.Errorf("%s succeeded", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func spoolAddIdempotent(t *testing.T, s store.State) {
	spoolAdd(t, s, start, "body", "c1", "c2")
	spoolAdd(t, s, start, "body", "c1", "c2")
	spoolHolds(t, s, 4, 2)
	ok, err := s.SpoolAdd(ctx(t), "a", "q", start, []byte("body"), map[string][]byte{"c1": nil, "c2": nil}, 4)
	must(t, err)
	want(t, "repeated when the spool is full: added", ok, true)
	must(t, s.SpoolDone(ctx(t), "c1"))
	must(t, s.SpoolDone(ctx(t), "c2"))
	spoolHolds(t, s, 0, 0)
}

func spoolLimit(t *testing.T, s store.State) {
	for _, c := range []struct {
		id    string
		bytes int
		ok    bool
	}{{"a", 60, true}, {"b", 41, false}, {"c", 40, true}, {"d", 1, false}, {"e", 0, true}} {
		ok, err := s.SpoolAdd(ctx(t), "n", "q", start, make([]byte, c.bytes), map[string][]byte{c.id: nil, c.id + "2": nil}, 100)
		must(t, err)
		want(t, fmt.Sprintf("%s with %d bytes added", c.id, c.bytes), ok, c.ok)
	}
	spoolHolds(t, s, 100, 6)
	must(t, s.SpoolDone(ctx(t), "a"))
	must(t, s.SpoolDone(ctx(t), "a2"))
	ok, err := s.SpoolAdd(ctx(t), "n", "q", start, make([]byte, 60), map[string][]byte{"f": nil}, 100)
	must(t, err)
	want(t, "added in the room that was freed", ok, true)
}

func spoolLimitConcurrently(t *testing.T, s store.State) {
	const adders, body, limit = 16, 100, 1000
	var wg sync.WaitGroup
	for adder := range adders {
		wg.Go(func() {
			for i := range 5 {
				id := fmt.Sprintf("%d-%d", adder, i)
				if _, err := s.SpoolAdd(ctx(t), "n", "q", start, make([]byte, body), map[string][]byte{id: nil}, limit); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	size, copies, err := s.SpoolSize(ctx(t))
	must(t, err)
	if size < limit || size > limit+adders*body || int(size) != copies*body {
		t.Errorf("%d bytes in %d copies; the limit is %d, each adder may exceed it by %d", size, copies, limit, body)
	}
}

func spoolClaimOrder(t *testing.T, s store.State) {
	for i := 19; i >= 0; i-- {
		spoolAdd(t, s, at(time.Duration(i)), "b", fmt.Sprintf("c%02d", i))
	}
	want(t, "before any is due", claim(t, s, "b", at(-1), at(time.Hour), 99), "")
	want(t, "none", claim(t, s, "b", at(99), at(time.Hour), 0), "")
	want(t, "first three", claim(t, s, "b", at(99), at(time.Hour), 3), "c00 c01 c02")
	want(t, "next two", claim(t, s, "b", at(99), at(time.Hour), 2), "c03 c04")
	want(t, "what is due by then", claim(t, s, "b", at(7), at(time.Hour), 99), "c05 c06 c07")
	want(t, "nothing more is due", claim(t, s, "b", at(7), at(time.Hour), 99), "")
}

func spoolLease(t *testing.T, s store.State) {
	spoolAdd(t, s, at(time.Minute), "b", "c1")
	want(t, "due later", claim(t, s, "b", start, at(time.Hour), 9), "")
	want(t, "due now, the adder's lease has ended", claim(t, s, "b", at(time.Minute), at(time.Hour), 9), "c1")
	want(t, "leased to another", claim(t, s, "a", at(2*time.Minute), at(2*time.Hour), 9), "")
	want(t, "leased to itself, it may be sending it", claim(t, s, "b", at(2*time.Minute), at(2*time.Hour), 9), "")
	want(t, "the instant before its end", claim(t, s, "a", at(time.Hour-1), at(2*time.Hour), 9), "")
	want(t, "the lease ended", claim(t, s, "a", at(time.Hour), at(2*time.Hour), 9), "c1")
	held, err := s.SpoolRenew(ctx(t), "b", at(3*time.Hour), []string{"c1"})
	must(t, err)
	want(t, "still the first node's", len(held), 0)
}

func spoolClaimConcurrently(t *testing.T, s store.State) {
	const copies = 200
	for i := range copies {
		spoolAdd(t, s, at(time.Duration(i%7)), "b", fmt.Sprintf("c%03d", i))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	holders := map[string][]string{}
	for node := range 8 {
		name := fmt.Sprintf("node%d", node)
		wg.Go(func() {
			for misses := 0; misses < 3; {
				items, err := s.SpoolClaim(ctx(t), name, at(time.Hour), at(2*time.Hour), 7, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if len(items) == 0 {
					misses++
				}
				mu.Lock()
				for _, i := range items {
					holders[i.ID] = append(holders[i.ID], name)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	want(t, "claimed", len(holders)+len(strings.Fields(claim(t, s, "last", at(time.Hour), at(2*time.Hour), copies))), copies)
	for id, nodes := range holders {
		if len(nodes) != 1 {
			t.Errorf("%s was leased to %v", id, nodes)
		}
	}
}

func spoolRenew(t *testing.T, s store.State) {
	spoolAdd(t, s, start, "b", "c1", "c2", "c3")
	want(t, "claimed", claim(t, s, "b", start, at(time.Minute), 2), "c1 c2")
	held, err := s.SpoolRenew(ctx(t), "b", at(time.Hour), []string{"c2", "c3", "gone", "c1"})
	must(t, err)
	want(t, "held", len(held), 2)
	want(t, "after the first lease's end", claim(t, s, "c", at(2*time.Minute), at(time.Hour), 9), "c3")
	must(t, s.SpoolDone(ctx(t), "c1"))
	held, err = s.SpoolRenew(ctx(t), "b", at(2*time.Hour), []string{"c1", "c2"})
	must(t, err)
	want(t, "held", held, []string{"c2"})
	held, err = s.SpoolRenew(ctx(t), "b", at(2*time.Hour), nil)
	must(t, err)
	want(t, "held of none", len(held), 0)
}

func spoolUpdate(t *testing.T, s store.State) {
	update := func(what, node, id string, due time.Time, meta string, ok bool) {
		t.Helper()
		got, err := s.SpoolUpdate(ctx(t), node, id, due, []byte(meta))
		must(t, err)
		want(t, what, got, ok)
	}
	spoolAdd(t, s, start, "b", "c1", "c2")
	want(t, "claimed", claim(t, s, "b", start, at(time.Hour), 1), "c1")
	update("by who does not hold it", "a", "c1", at(1), "stolen", false)
	update("of what is not there", "b", "gone", at(1), "m", false)
	update("by its holder", "b", "c1", at(2*time.Minute), "second", true)
	update("repeated after a lost answer", "b", "c1", at(2*time.Minute), "second", true)
	update("changed after the lease was given up", "b", "c1", at(3*time.Minute), "third", false)
	want(t, "not due again yet", claim(t, s, "c", at(time.Minute), at(time.Hour), 9), "c2")
	items, err := s.SpoolClaim(ctx(t), "c", at(2*time.Minute), at(time.Hour), 9, nil)
	must(t, err)
	want(t, "due again", items, []store.SpoolItem{{ID: "c1", Queue: "q", Due: at(2 * time.Minute), Lease: at(time.Hour), Meta: []byte("second"), Body: []byte("b")}})
	update("by who held it before", "b", "c1", at(2*time.Minute), "second", false)
	must(t, s.SpoolDone(ctx(t), "c1"))
	update("of what is done", "c", "c1", at(1), "m", false)
}

func spoolDone(t *testing.T, s store.State) {
	spoolAdd(t, s, start, "body", "c1", "c2")
	spoolAdd(t, s, start, "other", "c3")
	must(t, s.SpoolDone(ctx(t), "c1"))
	must(t, s.SpoolDone(ctx(t), "c1"))
	must(t, s.SpoolDone(ctx(t), "gone"))
	spoolHolds(t, s, 9, 2)
	items, err := s.SpoolClaim(ctx(t), "b", start, at(1), 9, nil)
	must(t, err)
	want(t, "left", itemIDs(items), "c2 c3")
	want(t, "the body of the last copy", items[0].Body, []byte("body"))
	must(t, s.SpoolDone(ctx(t), "c2")) // leased
	spoolHolds(t, s, 5, 1)
	want(t, "left after its lease", claim(t, s, "b", at(9), at(10), 9), "c3")
	must(t, s.SpoolDone(ctx(t), "c3"))
	spoolHolds(t, s, 0, 0)
	want(t, "listed", len(spooled(t, s)), 0)
}

func spoolList(t *testing.T, s store.State) {
	var expected []store.SpoolItem
	for i := range 300 {
		id := fmt.Sprintf("c%03d", i)
		spoolAdd(t, s, at(time.Duration(i/2)), "b", id)
		expected = append(expected, store.SpoolItem{ID: id, Queue: "q", Due: at(time.Duration(i / 2)), Lease: at(time.Duration(i / 2)), Meta: []byte("meta " + id)})
	}
	many := numbered("d", 300) // in one shard, at one time
	spoolAdd(t, s, at(time.Hour), "b", many...)
	for _, id := range many {
		expected = append(expected, store.SpoolItem{ID: id, Queue: "q", Due: at(time.Hour), Lease: at(time.Hour), Meta: []byte("meta " + id)})
	}
	want(t, "list", spooled(t, s), expected)
	want(t, "claimed", claim(t, s, "b", start, at(2*time.Hour), 1), "c000")
	want(t, "leased", spooled(t, s)[0].Lease, at(2*time.Hour))
	if ok, err := s.SpoolUpdate(ctx(t), "b", "c000", at(3*time.Hour), []byte("m")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	items := spooled(t, s)
	want(t, "updated", items[len(items)-1], store.SpoolItem{ID: "c000", Queue: "q", Due: at(3 * time.Hour), Meta: []byte("m")})
	n := 0
	must(t, s.SpoolList(ctx(t), func(store.SpoolItem) bool { n++; return n < 3 }))
	want(t, "calls after false", n, 3)
}

func spoolClaimBytes(t *testing.T, s store.State) {
	big := bytes.Repeat([]byte("x"), 20<<20)
	for i := range 3 {
		copies := map[string][]byte{fmt.Sprintf("c%d", i): nil, fmt.Sprintf("c%d+", i): nil}
		if ok, err := s.SpoolAdd(ctx(t), "a", "q", at(time.Duration(i)), big, copies, enough); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for _, c := range []string{"c0 c0+", "c1 c1+", "c2 c2+", ""} {
		items, err := s.SpoolClaim(ctx(t), "b", at(time.Hour), at(2*time.Hour), 99, nil)
		must(t, err)
		want(t, "claimed", itemIDs(items), c)
		for _, i := range items {
			if !bytes.Equal(i.Body, big) {
				t.Errorf("%s came with %d other bytes", i.ID, len(i.Body))
			}
		}
	}
}
