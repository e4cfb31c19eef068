package storetest

import (
	"testing"
	"time"

	"heed/policy"
	"heed/store"
)

// tell records an outcome by which sender told person.
func tell(t *testing.T, s store.State, id, person, sender string, i policy.Informed) {
	t.Helper()
	must(t, s.Record(ctx(t), []policy.Entry{outcome(id, person, sender, &i)}))
}

func outcome(id, person, sender string, i *policy.Informed) policy.Entry {
	return policy.Entry{
		ID: id, At: start, Event: policy.EventOutcome, Person: person, Sender: sender, Recipient: person + "@x.example",
		Fate: "sent", Informed: i,
	}
}

func informed(d time.Duration, message string) policy.Informed {
	return policy.Informed{At: at(d), Message: message, CollectedBy: "Fair \"Löwe\" \u2028 Ltd", Source: "exhibitors: 2026"}
}

func informedLatest(t *testing.T, s store.State) {
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria()}))
	tell(t, s, "e1", "maria", "acme", informed(time.Hour, "m1"))
	first := policy.Facts{Contact: maria().Merge(policy.Contact{}), Informed: map[string]policy.Informed{"acme": informed(time.Hour, "m1")}}
	want(t, "told once", facts(t, s, "maria"), first)
	want(t, "another person", facts(t, s, "otto"), policy.Facts{})
	tell(t, s, "e1", "maria", "acme", informed(time.Hour, "m1"))
	tell(t, s, "e2", "maria", "acme", informed(time.Minute, "m0"))
	want(t, "told again, and earlier", facts(t, s, "maria"), first)
	must(t, s.Record(ctx(t), []policy.Entry{outcome("e3", "maria", "acme", nil)}))
	want(t, "an outcome that told nothing", facts(t, s, "maria"), first)
	for _, sender := range []string{"acme", "a:b", "Ä\n"} {
		tell(t, s, "e4 "+sender, "maria", sender, informed(time.Hour+1, "m2"))
	}
	later := informed(time.Hour+1, "m2")
	want(t, "by sender, the latest", facts(t, s, "maria").Informed, map[string]policy.Informed{"acme": later, "a:b": later, "Ä\n": later})
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria()}))
	want(t, "after an import", len(facts(t, s, "maria").Informed), 3)
	i := informed(0, "m")
	for name, e := range map[string]policy.Entry{"nobody was told": outcome("e5", "", "acme", &i), "nobody told": outcome("e6", "maria", "", &i)} {
		if e.Recipient = ""; s.Record(ctx(t), []policy.Entry{e}) == nil {
			t.Errorf("%s: recorded", name)
		}
	}
}

// informedByGuard: what was told comes with the answer, in one write, and is in no journal.
func informedByGuard(t *testing.T, s store.State) {
	begin(t, s, "one", start, []string{"p/a"}, nil)
	i := informed(1, "one")
	for range 2 {
		must(t, s.GuardEnd(ctx(t), "one", map[string][]byte{"p/a": []byte("250")}, start, at(time.Hour), []policy.Entry{outcome("e1", "p", "acme", &i)}))
	}
	want(t, "a stranger who was told", facts(t, s, "p"), policy.Facts{Contact: policy.Contact{Address: "p@x.example"}, Informed: map[string]policy.Informed{"acme": i}})
	for _, e := range entries(t, s, policy.JournalQuery{}) {
		if e.Informed != nil {
			t.Error("the journal has it: erasure would not reach it")
		}
	}
}

func informedErased(t *testing.T, s store.State) {
	optOut := policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "events", At: start}
	add(t, s, "maria", optOut, true)
	tell(t, s, "e1", "maria", "acme", informed(0, "m1"))
	tell(t, s, "e2", "maria", "beta", informed(0, "m1"))
	tell(t, s, "e3", "otto", "acme", informed(0, "m1"))
	erase(t, s, "maria", true)
	want(t, "facts", facts(t, s, "maria"), policy.Facts{OptOuts: []policy.OptOut{optOut}})
	want(t, "another's", len(facts(t, s, "otto").Informed), 1)
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria()}))
	want(t, "after an import", len(facts(t, s, "maria").Informed), 0)
	tell(t, s, "e4", "maria", "acme", informed(-time.Hour, "m2"))
	want(t, "told anew", facts(t, s, "maria").Informed, map[string]policy.Informed{"acme": informed(-time.Hour, "m2")})
}

// informedTrimmed: of one of whom nothing else is known, what was told goes with the journal's last word of it.
func informedTrimmed(t *testing.T, s store.State) {
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"known": {Address: "known@x.example"}}))
	add(t, s, "objector", policy.OptOut{Scope: policy.ScopeAll, At: start}, true)
	left := map[string]int{}
	for _, p := range []string{"known", "objector", "stranger"} {
		tell(t, s, p, p, "acme", informed(0, "m"))
	}
	_, err := s.Trim(ctx(t), at(time.Minute))
	must(t, err)
	for _, p := range []string{"known", "objector", "stranger"} {
		left[p] = len(facts(t, s, p).Informed)
	}
	want(t, "left", left, map[string]int{"known": 1, "objector": 1, "stranger": 0})
}
