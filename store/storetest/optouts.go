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

func add(t *testing.T, s store.State, person string, o policy.OptOut, added bool) {
	t.Helper()
	got, err := s.AddOptOut(ctx(t), person, "", o)
	must(t, err)
	want(t, "added", got, added)
}

func optOutFirstWins(t *testing.T, s store.State) {
	first := policy.OptOut{Scope: policy.ScopeSender, Sender: "acme", At: start, Via: "one-click", Ref: "a"}
	second := policy.OptOut{Scope: policy.ScopeSender, Sender: "acme", At: at(time.Hour), Via: "cli", Ref: "b"}
	add(t, s, "maria", first, true)
	add(t, s, "maria", first, false)
	want(t, "facts", facts(t, s, "maria"), policy.Facts{OptOuts: []policy.OptOut{first}})
	add(t, s, "maria", second, false)
	first.Ref = "" // two references object: an undo by either lifts nothing
	want(t, "facts after another reference", facts(t, s, "maria"), policy.Facts{OptOuts: []policy.OptOut{first}})
	for _, ref := range []string{"a", "b"} {
		removed, err := s.RemoveOptOut(ctx(t), "maria", policy.OptOut{Scope: policy.ScopeSender, Sender: "acme", Ref: ref, At: start.Add(-time.Hour)})
		must(t, err)
		want(t, "removed by "+ref, removed, false)
	}
}

func optOutKeys(t *testing.T, s store.State) {
	all := []policy.OptOut{ // none of these is another
		{Scope: policy.ScopeAll},
		{Scope: policy.ScopeSender, Sender: "a"},
		{Scope: policy.ScopeSender, Sender: "a:b"},
		{Scope: policy.ScopeSender, Sender: "a%3Ab"},
		{Scope: policy.ScopeTopic, Sender: "a", Topic: "b:c"},
		{Scope: policy.ScopeTopic, Sender: "a:b", Topic: "c"},
		{Scope: policy.ScopeTopic, Sender: "a", Topic: "Ä\x00\n"},
	}
	for i := range all {
		all[i].At, all[i].Via = at(time.Duration(i)), "api"
		add(t, s, "maria", all[i], true)
	}
	for _, o := range all {
		add(t, s, "maria", o, false)
	}
	want(t, "opt-outs", facts(t, s, "maria").OptOuts, all)
	// What the scope does not ask for makes no difference.
	add(t, s, "maria", policy.OptOut{Scope: policy.ScopeAll, Sender: "a", Topic: "b", At: start}, false)
	add(t, s, "maria", policy.OptOut{Scope: policy.ScopeSender, Sender: "a", Topic: "b", At: start}, false)
}

func optOutUnknown(t *testing.T, s store.State) {
	for _, c := range []struct {
		name, person string
		scope        policy.Scope
	}{
		{"no scope", "maria", ""},
		{"unknown scope", "maria", "some"},
		{"no person", "", policy.ScopeAll},
		{"nobody's", "maria", policy.ScopeSender},
		{"a topic of nobody's", "maria", policy.ScopeTopic},
	} {
		if _, err := s.AddOptOut(ctx(t), c.person, "", policy.OptOut{Scope: c.scope, At: start}); err == nil {
			t.Errorf("%s: added", c.name)
		}
		if _, err := s.RemoveOptOut(ctx(t), c.person, policy.OptOut{Scope: c.scope, At: start}); err == nil {
			t.Errorf("%s: removed", c.name)
		}
	}
}

func optOutRemove(t *testing.T, s store.State) {
	stands := policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", At: start, Via: "page", Ref: "token"}
	for _, c := range []struct {
		name    string
		remove  policy.OptOut
		removed bool
	}{
		{"same ref, same time", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", Ref: "token", At: start}, true},
		{"same ref, stands since later", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", Ref: "token", At: at(-1)}, true},
		{"same ref, stands since earlier", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", Ref: "token", At: at(1)}, false},
		{"same ref, any time", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", Ref: "token"}, true},
		{"other ref", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", Ref: "other"}, false},
		{"no ref, any time", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news", At: at(time.Hour)}, true},
		{"other topic", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "events"}, false},
		{"other sender", policy.OptOut{Scope: policy.ScopeTopic, Sender: "beta", Topic: "news"}, false},
		{"other scope", policy.OptOut{Scope: policy.ScopeSender, Sender: "acme"}, false},
	} {
		if _, err := s.AddOptOut(ctx(t), "maria", "", stands); err != nil {
			t.Fatal(err)
		}
		got, err := s.RemoveOptOut(ctx(t), "maria", c.remove)
		must(t, err)
		want(t, c.name+": removed", got, c.removed)
		want(t, c.name+": left", len(facts(t, s, "maria").OptOuts) == 0, c.removed)
	}
}

func optOutsListed(t *testing.T, s store.State) {
	const persons = 300
	expected := map[string]int{}
	for i, p := range numbered("p", persons) {
		address := ""
		if i%2 == 0 {
			address = p + "@x.example"
		}
		for _, o := range []policy.OptOut{{Scope: policy.ScopeAll, At: start}, {Scope: policy.ScopeSender, Sender: "acme", At: start}} {
			if _, err := s.AddOptOut(ctx(t), p, address, o); err != nil {
				t.Fatal(err)
			}
			expected[p+address+string(o.Scope)+o.Sender] = 1
		}
	}
	found := map[string]int{}
	must(t, s.OptOuts(ctx(t), func(person, address string, o policy.OptOut) bool {
		found[person+address+string(o.Scope)+o.Sender]++
		return true
	}))
	want(t, "opt-outs", found, expected)
	n := 0
	must(t, s.OptOuts(ctx(t), func(string, string, policy.OptOut) bool { n++; return n < 3 }))
	want(t, "calls after false", n, 3)
}

func optOutsConcurrently(t *testing.T, s store.State) {
	var wg sync.WaitGroup
	var added atomic.Int64
	for caller := range 16 {
		wg.Go(func() {
			for i := range 10 {
				o := policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: fmt.Sprint(i), At: start, Ref: fmt.Sprint(caller)}
				ok, err := s.AddOptOut(ctx(t), "maria", "maria@x.example", o)
				if err != nil {
					t.Error(err)
				}
				if ok {
					added.Add(1)
				}
			}
		})
	}
	wg.Wait()
	want(t, "callers who were first", added.Load(), 10)
	want(t, "opt-outs", len(facts(t, s, "maria").OptOuts), 10)
}
