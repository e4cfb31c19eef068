// Package storetest is the contract of the state: what every store.State does, as tests and benchmarks. It also starts
// a real redis-server for tests.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"heed/policy"
	"heed/store"
)

// Run holds a store to the contract. open returns an empty state and closes it with the test.
func Run(t *testing.T, open func(t *testing.T) store.State) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s store.State)
	}{
		{"facts round trip", factsRoundTrip},
		{"facts of ten thousand persons", factsOfTenThousand},
		{"a stranger is missing from facts", strangers},
		{"merge is the policy's", mergeAddsUp},
		{"merges at the same time lose nothing", mergeConcurrently},
		{"what a person was told is the latest, of each sender", informedLatest},
		{"what a person was told comes with the guard's answer", informedByGuard},
		{"erasure forgets what was told", informedErased},
		{"trim forgets what a stranger was told", informedTrimmed},
		{"an opt-out is recorded once, the first stays", optOutFirstWins},
		{"an opt-out's key is its scope, sender and topic", optOutKeys},
		{"an opt-out that cannot be understood is an error", optOutUnknown},
		{"an opt-out is removed as asked", optOutRemove},
		{"opt-outs survive erasure and merges", optOutsSurvive},
		{"erasure forgets contact and address", eraseForgets},
		{"erasure is not undone for old journal entries", eraseStays},
		{"a repeated opt-out does not bring an address back", eraseThenRepeat},
		{"opt-outs are listed once each", optOutsListed},
		{"opt-outs at the same time", optOutsConcurrently},
		{"an entry comes back as it was", journalRoundTrip},
		{"the journal is queried", journalQueries},
		{"the journal is read in order over many pages", journalPages},
		{"the newest entries, oldest first", journalLimits},
		{"an entry's ID is recorded once", journalIdempotent},
		{"record is all or nothing", journalAtomic},
		{"trim", journalTrim},
		{"trim forgets whom nothing else is known of", journalTrimForgets},
		{"the spool gives back what it got", spoolRoundTrip},
		{"spool add twice is once", spoolAddIdempotent},
		{"the spool's limit", spoolLimit},
		{"the spool's limit holds against adders at the same time", spoolLimitConcurrently},
		{"claims take the earliest first", spoolClaimOrder},
		{"a lease keeps others away until it ends", spoolLease},
		{"no copy is leased to two nodes", spoolClaimConcurrently},
		{"renewal", spoolRenew},
		{"update", spoolUpdate},
		{"done frees the body with its last copy", spoolDone},
		{"the spool is listed by due time", spoolList},
		{"a claim's bodies are bounded", spoolClaimBytes},
		{"the guard tells what stands", guardAnswers},
		{"the guard takes repeated calls", guardRepeated},
		{"the guard's marks and answers end", guardEnds},
		{"the guard renews what ended", guardRenewed},
		{"the guard's entries ride along", guardEntries},
		{"the guard has one taker", guardConcurrently},
		{"the guard forgets what is over", guardForgets},
		{"a claim leaves queues out", spoolQueues},
		{"one copy is read", spoolGet},
		{"one copy is taken", spoolTake},
		{"copies are made due", spoolRetry},
		{"the fingerprint that was first stands", fingerprint},
		{"an ended context is honoured", endedContext},
		{"a closed state fails", closed},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// start is when the tests play: no test depends on the clock of the machine.
var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

func ctx(t testing.TB) context.Context { return t.Context() }

// must stops the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want compares as JSON, which is what a user sees of a value.
func want(t testing.TB, what string, got, want any) {
	t.Helper()
	g, err := json.Marshal(got)
	must(t, err)
	w, err := json.Marshal(want)
	must(t, err)
	if string(g) != string(w) {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func facts(t testing.TB, s store.State, person string) policy.Facts {
	t.Helper()
	f, err := s.Facts(ctx(t), []string{person})
	must(t, err)
	return f[person]
}

func fingerprint(t *testing.T, s store.State) {
	stands := false
	for _, fp := range []string{"", "first", "second", "", "first"} {
		got, err := s.Fingerprint(ctx(t), fp)
		must(t, err)
		if fp == "" && !stands {
			want(t, "fingerprint before there is one", got, "")
			continue
		}
		stands = true
		want(t, "fingerprint after "+fp, got, "first")
	}
}

// calls is every method, for what holds of all.
func calls(s store.State) map[string]func(context.Context) error {
	optOut := policy.OptOut{Scope: policy.ScopeAll, At: start, Via: "page"}
	return map[string]func(context.Context) error{
		"Facts":        func(c context.Context) error { _, err := s.Facts(c, []string{"p"}); return err },
		"Merge":        func(c context.Context) error { return s.Merge(c, map[string]policy.Contact{"p": {Address: "p@x.de"}}) },
		"Erase":        func(c context.Context) error { _, err := s.Erase(c, "p"); return err },
		"Address":      func(c context.Context) error { _, err := s.Address(c, "p"); return err },
		"AddOptOut":    func(c context.Context) error { _, err := s.AddOptOut(c, "p", "", optOut); return err },
		"RemoveOptOut": func(c context.Context) error { _, err := s.RemoveOptOut(c, "p", optOut); return err },
		"OptOuts": func(c context.Context) error {
			return s.OptOuts(c, func(string, string, policy.OptOut) bool { return true })
		},
		"Record": func(c context.Context) error { return s.Record(c, []policy.Entry{{ID: "e", At: start}}) },
		"Journal": func(c context.Context) error {
			return s.Journal(c, policy.JournalQuery{}, func(policy.Entry) bool { return true })
		},
		"Trim": func(c context.Context) error { _, err := s.Trim(c, start); return err },
		"SpoolAdd": func(c context.Context) error {
			_, err := s.SpoolAdd(c, "n", "q", start, []byte("b"), map[string][]byte{"c": nil}, 100)
			return err
		},
		"SpoolClaim":  func(c context.Context) error { _, err := s.SpoolClaim(c, "n", at(1), at(2), 1, nil); return err },
		"SpoolRenew":  func(c context.Context) error { _, err := s.SpoolRenew(c, "n", at(2), []string{"c"}); return err },
		"SpoolUpdate": func(c context.Context) error { _, err := s.SpoolUpdate(c, "n", "c", at(2), nil); return err },
		"SpoolTake":   func(c context.Context) error { _, _, err := s.SpoolTake(c, "n", "c", at(1), at(2)); return err },
		"SpoolRetry":  func(c context.Context) error { _, err := s.SpoolRetry(c, at(1), []string{"c"}); return err },
		"SpoolGet":    func(c context.Context) error { _, _, err := s.SpoolGet(c, "c"); return err },
		"SpoolDone":   func(c context.Context) error { return s.SpoolDone(c, "c") },
		"SpoolList":   func(c context.Context) error { return s.SpoolList(c, func(store.SpoolItem) bool { return true }) },
		"SpoolSize":   func(c context.Context) error { _, _, err := s.SpoolSize(c); return err },
		"GuardBegin": func(c context.Context) error {
			_, err := s.GuardBegin(c, "t", []string{"p/1"}, nil, start, at(1), nil)
			return err
		},
		"GuardRenew": func(c context.Context) error { return s.GuardRenew(c, "t", []string{"p/1"}, start, at(1)) },
		"GuardEnd": func(c context.Context) error {
			return s.GuardEnd(c, "t", map[string][]byte{"p/1": []byte("a")}, start, at(1), nil)
		},
		"Fingerprint": func(c context.Context) error { _, err := s.Fingerprint(c, "f"); return err },
		"Ping":        s.Ping,
	}
}

func endedContext(t *testing.T, s store.State) {
	ended, cancel := context.WithCancel(ctx(t))
	cancel()
	late, cancel := context.WithDeadline(ctx(t), time.Unix(1, 0))
	defer cancel()
	for name, call := range calls(s) {
		if err := call(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s after its deadline: %v", name, err)
		}
	}
	want(t, "facts", facts(t, s, "p"), policy.Facts{})
}

// Unanswered calls every method on a state whose server does not answer: each has to end by itself.
func Unanswered(t *testing.T, s store.State) {
	var all sync.WaitGroup
	for name, call := range calls(s) {
		all.Go(func() {
			if err := call(context.WithoutCancel(t.Context())); err == nil {
				t.Errorf("%s succeeded although nobody answered", name)
			}
		})
	}
	all.Wait()
}

func closed(t *testing.T, s store.State) {
	must(t, s.Close())
	for name, call := range calls(s) {
		if err := call(ctx(t)); err == nil {
			t.Errorf("%s succeeded on a closed state", name)
		}
	}
}

// numbered is n names that sort by number.
func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	return names
}
