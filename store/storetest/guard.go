package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/policy"
	"heed/store"
)

// begin tells what is not free: "key=answer" in the order of the keys, "key=" while another has it in flight.
func begin(t *testing.T, s store.State, token string, now time.Time, mark, look []string) string {
	t.Helper()
	found, err := s.GuardBegin(ctx(t), token, mark, look, now, now.Add(time.Minute), nil)
	must(t, err)
	text := ""
	for _, key := range append(append([]string{}, mark...), look...) {
		if answer, ok := found[key]; ok {
			text += key + "=" + string(answer) + " "
		}
	}
	return text
}

func guardEnd(t *testing.T, s store.State, token, key, answer string, now time.Time) {
	t.Helper()
	must(t, s.GuardEnd(ctx(t), token, map[string][]byte{key: []byte(answer)}, now, now.Add(time.Hour), nil))
}

func guardAnswers(t *testing.T, s store.State) {
	abc := []string{"p/a", "p/b", "q/c"}
	want(t, "nothing stands", begin(t, s, "one", start, abc, nil), "")
	want(t, "in flight by another", begin(t, s, "two", start, []string{"p/a", "p/d"}, []string{"q/c"}), "p/a= q/c= ")
	want(t, "what was free is marked, what was not is not", begin(t, s, "one", start, abc, []string{"p/d"}), "p/d= ")
	guardEnd(t, s, "one", "p/a", "250 a\n", start)
	guardEnd(t, s, "one", "p/b", "", start)
	want(t, "an answer, free, in flight", begin(t, s, "three", start, nil, abc), "p/a=250 a\n q/c= ")
	want(t, "looking marks nothing", begin(t, s, "four", start, []string{"p/b"}, nil), "")
	want(t, "the answer is for its own transaction too", begin(t, s, "one", start, []string{"p/a"}, nil), "p/a=250 a\n ")
	guardEnd(t, s, "two", "p/a", "", start)
	guardEnd(t, s, "two", "p/a", "251 b", start)
	guardEnd(t, s, "one", "p/a", "", start)
	want(t, "the first answer stands", begin(t, s, "five", start, nil, []string{"p/a"}), "p/a=250 a\n ")
	guardEnd(t, s, "five", "q/c", "", start)
	want(t, "nobody gives up another's mark", begin(t, s, "five", start, nil, []string{"q/c"}), "q/c= ")
	guardEnd(t, s, "five", "q/c", "250 c", start) // it had it once, and its lease ended
	guardEnd(t, s, "one", "q/c", "", start)
	want(t, "an answer goes before another's mark", begin(t, s, "one", start, []string{"q/c"}, nil), "q/c=250 c ")
	for name, err := range map[string]error{
		"begin without a token": second(s.GuardBegin(ctx(t), "", []string{"p/z"}, nil, start, at(1), nil)),
		"renew without a token": s.GuardRenew(ctx(t), "", []string{"p/z"}, start, at(1)),
		"end without a token":   s.GuardEnd(ctx(t), "", map[string][]byte{"p/z": nil}, start, at(1), nil),
	} {
		if err == nil {
			t.Errorf("%s succeeded", name)
		}
	}
}

// guardRepeated: whoever did not hear the answer of a call may repeat it.
func guardRepeated(t *testing.T, s store.State) {
	for range 2 {
		want(t, "begun", begin(t, s, "one", start, []string{"p/a", "p/b"}, nil), "")
	}
	for range 2 {
		guardEnd(t, s, "one", "p/a", "250 a", start)
		guardEnd(t, s, "one", "p/b", "", start)
		must(t, s.GuardRenew(ctx(t), "one", []string{"p/a"}, start, at(2*time.Hour)))
	}
	want(t, "ended once", begin(t, s, "two", start, []string{"p/a", "p/b"}, nil), "p/a=250 a ")
	must(t, s.GuardRenew(ctx(t), "one", nil, start, at(1)))
	must(t, s.GuardEnd(ctx(t), "one", nil, start, at(1), nil))
}

// guardRenewed: a mark that ended while nobody could renew it comes back; what stands meanwhile stays.
func guardRenewed(t *testing.T, s store.State) {
	renew := func(token string, now time.Time, keys ...string) {
		t.Helper()
		must(t, s.GuardRenew(ctx(t), token, keys, now, now.Add(time.Minute)))
	}
	_, err := s.GuardBegin(ctx(t), "one", []string{"p/a"}, nil, start, at(time.Millisecond), nil)
	must(t, err)
	time.Sleep(10 * time.Millisecond) // the server may have removed it by its own clock
	renew("one", at(time.Second), "p/a", "p/b")
	want(t, "it ended, and one that was never seen", begin(t, s, "two", at(time.Minute), []string{"p/a", "p/b"}, nil), "p/a= p/b= ")
	renew("two", at(2*time.Second), "p/a")
	want(t, "another's mark stays", begin(t, s, "one", at(3*time.Second), []string{"p/a"}, nil), "")
	renew("two", at(2*time.Minute), "p/b")
	want(t, "another's that ended is free", begin(t, s, "one", at(2*time.Minute), []string{"p/b"}, nil), "p/b= ")
	guardEnd(t, s, "two", "p/b", "250 b", at(2*time.Minute))
	renew("two", at(3*time.Minute), "p/b")
	want(t, "an answer stays", begin(t, s, "two", at(3*time.Minute), []string{"p/b"}, nil), "p/b=250 b ")
	want(t, "until its own end", begin(t, s, "two", at(time.Hour+2*time.Minute), []string{"p/b"}, nil), "")
	renew("one", at(10*time.Minute), "p/a")
	want(t, "the instant before its end", begin(t, s, "two", at(11*time.Minute-1), nil, []string{"p/a"}), "p/a= ")
	want(t, "what was renewed ends", begin(t, s, "two", at(11*time.Minute), []string{"p/a"}, nil), "")
}

func guardEnds(t *testing.T, s store.State) {
	begin(t, s, "one", start, []string{"p/a", "p/b"}, nil)
	must(t, s.GuardRenew(ctx(t), "one", []string{"p/b"}, start, at(3*time.Minute)))
	guardEnd(t, s, "one", "p/c", "250 c", start)
	want(t, "the instant before its end", begin(t, s, "two", at(time.Minute-1), nil, []string{"p/a"}), "p/a= ")
	want(t, "a mark ends, a renewed one does not", begin(t, s, "two", at(time.Minute), []string{"p/a", "p/b"}, nil), "p/b= ")
	want(t, "the answer before its end", begin(t, s, "two", at(time.Hour-1), nil, []string{"p/c"}), "p/c=250 c ")
	want(t, "the answer ends", begin(t, s, "two", at(time.Hour), []string{"p/c"}, nil), "")
	guardEnd(t, s, "two", "p/c", "251 c", at(time.Hour))
	want(t, "the next answer", begin(t, s, "three", at(time.Hour), nil, []string{"p/c"}), "p/c=251 c ")
	guardEnd(t, s, "one", "p/b", "250 b", start) // late, but before anybody else
	want(t, "an answer after the mark's end", begin(t, s, "three", at(time.Minute), nil, []string{"p/b"}), "p/b=250 b ")
}

func guardEntries(t *testing.T, s store.State) {
	entry := func(id string) []policy.Entry {
		return []policy.Entry{{ID: id, At: start, Event: policy.EventDecision, Person: "p", Recipient: "p@x.example"}}
	}
	for _, id := range []string{"first", "first", "second"} {
		token := "of " + id
		_, err := s.GuardBegin(ctx(t), token, []string{"p/a"}, nil, start, at(time.Minute), entry(id))
		must(t, err)
	}
	_, err := s.GuardBegin(ctx(t), "third", nil, nil, start, at(time.Minute), entry("third"))
	must(t, err)
	for range 2 {
		must(t, s.GuardEnd(ctx(t), "of first", map[string][]byte{"p/a": []byte("250 a")}, start, at(time.Hour), entry("ended")))
	}
	must(t, s.GuardEnd(ctx(t), "of first", nil, start, at(time.Hour), entry("alone")))
	var ids []string
	must(t, s.Journal(ctx(t), policy.JournalQuery{}, func(e policy.Entry) bool { ids = append(ids, e.ID+" "+e.Recipient); return true }))
	want(t, "journal", ids, []string{"first p@x.example", "third p@x.example", "ended p@x.example", "alone p@x.example"})
}

func guardConcurrently(t *testing.T, s store.State) {
	var takers atomic.Int64
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			found, err := s.GuardBegin(ctx(t), fmt.Sprint("t", n), []string{"p/a"}, nil, start, at(time.Minute), nil)
			if err != nil {
				t.Error(err)
			}
			if len(found) == 0 {
				takers.Add(1)
			}
		})
	}
	wg.Wait()
	want(t, "takers", takers.Load(), 1)
}

// guardForgets: erasure leaves the guard, which has no address, and what is over makes room for others.
func guardForgets(t *testing.T, s store.State) {
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"p": {Address: "p@x.example"}}))
	begin(t, s, "one", start, []string{"p/a"}, nil)
	guardEnd(t, s, "one", "p/a", "250 a", start)
	_, err := s.Erase(ctx(t), "p")
	must(t, err)
	want(t, "after erasure", begin(t, s, "two", start, nil, []string{"p/a"}), "p/a=250 a ")
	for i := range 300 {
		now := at(time.Duration(i) * time.Hour)
		key := fmt.Sprintf("p/%d", i)
		begin(t, s, "one", now, []string{key}, nil)
		guardEnd(t, s, "one", key, "250", now)
	}
	f := facts(t, s, "p")
	want(t, "the guard is nobody's fact", len(f.OptOuts)+len(f.Contact.Consents), 0)
}
