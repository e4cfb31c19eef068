package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"heed/policy"
	"heed/store"
)

func entries(t *testing.T, s store.State, q policy.JournalQuery) []policy.Entry {
	t.Helper()
	found := []policy.Entry{}
	must(t, s.Journal(ctx(t), q, func(e policy.Entry) bool { found = append(found, e); return true }))
	return found
}

func ids(entries []policy.Entry) []string {
	ids := []string{}
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func journalRoundTrip(t *testing.T, s store.State) {
	all := []policy.Entry{{
		ID: "d1", At: start, Event: "decision", Message: "m1", MessageID: "<1@x>", Account: "crm", Sender: "acme",
		Category: policy.Marketing, Topic: "news", Product: "crm", Person: "maria", Recipient: "maria@x.example", Stage: "data",
		Action: policy.Block, Code: policy.CodeConsentMissing,
		Verdict: &policy.Decision{
			Recipient: "maria@x.example", Action: policy.Block, Code: policy.CodeConsentMissing, Text: "Ä <b>",
			Checks: []policy.Check{{Code: "c", Text: "t", Citation: "UWG § 7"}}, Notices: []string{},
		},
	}, {
		ID: "o1", At: at(1), Event: "outcome", Decision: "d1", Fate: "in doubt", Reply: "250 2.0.0 ok", Person: "maria", Recipient: "maria@x.example",
	}, {
		ID: "x1", At: at(2), Event: "optout_removed", Person: "maria", Reason: "asked by phone",
		OptOut: &policy.OptOut{Scope: policy.ScopeAll, At: start, Via: "cli", Ref: "r"},
	}, {
		ID: "n1", At: at(3), Event: "outcome", Message: "m2",
	}}
	must(t, s.Record(ctx(t), all))
	must(t, s.Record(ctx(t), nil))
	want(t, "journal", entries(t, s, policy.JournalQuery{}), all)
	want(t, "the caller's verdict is untouched", all[0].Verdict.Recipient, "maria@x.example")
	for name, e := range map[string]policy.Entry{"no ID": {At: start}, "a recipient without a person": {ID: "y", At: start, Recipient: "a@b.de"}} {
		if err := s.Record(ctx(t), []policy.Entry{{ID: "good", At: start}, e}); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
	want(t, "entries", len(entries(t, s, policy.JournalQuery{})), len(all))
}

func journalQueries(t *testing.T, s store.State) {
	must(t, s.Record(ctx(t), []policy.Entry{
		{ID: "b", At: at(10), Person: "maria", MessageID: "<1@x>", Action: policy.Block},
		{ID: "a", At: at(10), Person: "otto", MessageID: "<1@x>", Action: policy.Allow},
		{ID: "c", At: at(5), Person: "maria", MessageID: "<2@x>", Action: policy.Allow}, // recorded late
		{ID: "d", At: at(20), Person: "maria", MessageID: "<1@x>"},
		{ID: "e", At: at(30), Person: "maria", MessageID: "<1@x>", Action: policy.Block},
	}))
	for _, c := range []struct {
		name string
		q    policy.JournalQuery
		want string
	}{
		{"all, by time and then as recorded", policy.JournalQuery{}, "c b a d e"},
		{"person", policy.JournalQuery{Person: "maria"}, "c b d e"},
		{"message", policy.JournalQuery{MessageID: "<1@x>"}, "b a d e"},
		{"action", policy.JournalQuery{Action: policy.Block}, "b e"},
		{"since, inclusive", policy.JournalQuery{Since: at(10)}, "b a d e"},
		{"since, to the nanosecond", policy.JournalQuery{Since: at(11)}, "d e"},
		{"person and message", policy.JournalQuery{Person: "maria", MessageID: "<1@x>"}, "b d e"},
		{"person and action", policy.JournalQuery{Person: "maria", Action: policy.Allow}, "c"},
		{"message and action", policy.JournalQuery{MessageID: "<1@x>", Action: policy.Allow}, "a"},
		{"everything", policy.JournalQuery{Person: "maria", MessageID: "<1@x>", Action: policy.Block, Since: at(11), Limit: 1}, "e"},
		{"person, newest two", policy.JournalQuery{Person: "maria", Limit: 2}, "d e"},
		{"person and action, newest one", policy.JournalQuery{Person: "maria", Action: policy.Block, Limit: 1}, "e"},
		{"newest, more than there are", policy.JournalQuery{Limit: 9}, "c b a d e"},
		{"newest since", policy.JournalQuery{Since: at(20), Limit: 9}, "d e"},
		{"nobody", policy.JournalQuery{Person: "nobody", Limit: 3}, ""},
	} {
		want(t, c.name, strings.Join(ids(entries(t, s, c.q)), " "), c.want)
	}
	n := 0
	must(t, s.Journal(ctx(t), policy.JournalQuery{}, func(policy.Entry) bool { n++; return n < 2 }))
	want(t, "calls after false", n, 2)
}

// many records n entries, all at one time in pairs, every third of maria.
func many(t *testing.T, s store.State, n int) []string {
	t.Helper()
	names := numbered("e", n)
	slices.Reverse(names) // the order is not the IDs'
	var all []policy.Entry
	for i, id := range names {
		e := policy.Entry{ID: id, At: at(time.Duration(i / 2)), Person: "otto", Action: policy.Allow}
		if i%3 == 0 {
			e.Person = "maria"
		}
		all = append(all, e)
	}
	must(t, s.Record(ctx(t), all))
	return names
}

func journalPages(t *testing.T, s store.State) {
	names := many(t, s, 1100)
	want(t, "journal", ids(entries(t, s, policy.JournalQuery{})), names)
	var marias []string
	for i := 0; i < len(names); i += 3 {
		marias = append(marias, names[i])
	}
	want(t, "one person's", ids(entries(t, s, policy.JournalQuery{Person: "maria", Action: policy.Allow})), marias)
	// An entry that comes while the journal is read is not of that reading, and does no harm.
	n := 0
	must(t, s.Journal(ctx(t), policy.JournalQuery{}, func(policy.Entry) bool {
		must(t, s.Record(ctx(t), []policy.Entry{{ID: fmt.Sprintf("late%d", n/100), At: at(time.Hour)}}))
		n++
		return true
	}))
	want(t, "entries read", n, len(names))
}

func journalLimits(t *testing.T, s store.State) {
	names := many(t, s, 700)
	for _, limit := range []int{1, 2, 255, 256, 257, 699, 700, 701} {
		got := ids(entries(t, s, policy.JournalQuery{Limit: limit}))
		want(t, fmt.Sprintf("newest %d", limit), got, names[max(0, len(names)-limit):])
	}
	got := ids(entries(t, s, policy.JournalQuery{Person: "maria", Action: policy.Allow, Limit: 230}))
	want(t, "newest of one person", len(got), 230)
	want(t, "the newest of them", got[229], names[699])
}

func journalIdempotent(t *testing.T, s store.State) {
	first := policy.Entry{ID: "e1", At: start, Person: "maria", Action: policy.Allow, Reason: "first"}
	must(t, s.Record(ctx(t), []policy.Entry{first}))
	again := first
	again.Reason, again.At, again.Person = "second", at(1), "otto"
	must(t, s.Record(ctx(t), []policy.Entry{again, {ID: "e2", At: at(2)}, {ID: "e2", At: at(3)}}))
	want(t, "journal", entries(t, s, policy.JournalQuery{}), []policy.Entry{first, {ID: "e2", At: at(2)}})
	want(t, "of another person", len(entries(t, s, policy.JournalQuery{Person: "otto"})), 0)
}

func journalAtomic(t *testing.T, s store.State) {
	const callers, each = 10, 20
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			var batch []policy.Entry
			for i := range each {
				batch = append(batch, policy.Entry{ID: fmt.Sprintf("%d-%d", caller, i), At: start, Message: fmt.Sprint(caller)})
			}
			if err := s.Record(ctx(t), batch); err != nil {
				t.Error(err)
			}
		})
	}
	// Whoever reads meanwhile finds a batch whole or not at all: pages may part them, this journal is one page.
	for range 20 {
		seen := map[string]int{}
		for _, e := range entries(t, s, policy.JournalQuery{}) {
			seen[e.Message]++
		}
		for message, n := range seen {
			if n != each {
				t.Errorf("message %s has %d of %d entries", message, n, each)
			}
		}
	}
	wg.Wait()
	want(t, "entries", len(entries(t, s, policy.JournalQuery{})), callers*each)
}

func journalTrim(t *testing.T, s store.State) {
	names := many(t, s, 1100)
	n, err := s.Trim(ctx(t), at(300))
	must(t, err)
	want(t, "trimmed", n, 600)
	want(t, "left", ids(entries(t, s, policy.JournalQuery{})), names[600:])
	want(t, "left of one person", ids(entries(t, s, policy.JournalQuery{Person: "maria", Limit: 1})), names[1098:1099])
	n, err = s.Trim(ctx(t), at(300))
	must(t, err)
	want(t, "trimmed again", n, 0)
	n, err = s.Trim(ctx(t), at(time.Hour))
	must(t, err)
	want(t, "trimmed to the end", n, 500)
	want(t, "left", len(entries(t, s, policy.JournalQuery{Action: policy.Allow})), 0)
	must(t, s.Record(ctx(t), []policy.Entry{{ID: names[0], At: start}})) // the ID is free again
	want(t, "left", len(entries(t, s, policy.JournalQuery{})), 1)
}

func journalTrimForgets(t *testing.T, s store.State) {
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"known": {Address: "known@x.example"}}))
	if _, err := s.AddOptOut(ctx(t), "objector", "objector@x.example", policy.OptOut{Scope: policy.ScopeAll, At: start}); err != nil {
		t.Fatal(err)
	}
	persons := []string{"known", "objector", "mailed", "mailed-again"}
	for i, p := range persons {
		must(t, s.Record(ctx(t), []policy.Entry{{ID: fmt.Sprint(i), At: start, Person: p, Recipient: p + "@x.example"}}))
	}
	must(t, s.Record(ctx(t), []policy.Entry{{ID: "x", At: at(time.Hour), Person: "mailed-again", Recipient: "mailed-again@x.example"}}))
	n, err := s.Trim(ctx(t), at(time.Minute))
	must(t, err)
	want(t, "trimmed", n, 4)
	left := map[string]string{}
	for _, p := range persons {
		left[p], err = s.Address(ctx(t), p)
		must(t, err)
	}
	want(t, "addresses", left, map[string]string{"known": "known@x.example", "objector": "objector@x.example", "mailed": "", "mailed-again": "mailed-again@x.example"})
}
