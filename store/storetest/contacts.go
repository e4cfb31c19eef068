package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"heed/policy"
	"heed/store"
)

// maria is a contact with something in every field.
func maria() policy.Contact {
	return policy.Contact{
		Address:          "maria@xn--mller-kva.example",
		Country:          policy.Dated[[]string]{Value: []string{"AT", "DE"}, At: at(-time.Hour)},
		AddressKind:      policy.Dated[policy.Kind]{Value: policy.Individual, At: at(-time.Hour)},
		SubscriberType:   policy.Dated[string]{Value: "corporate", At: at(-time.Hour)},
		AddressPublished: policy.Dated[string]{Value: "yes", At: at(-time.Hour)},
		Language:         policy.Dated[string]{Value: "de-AT", At: at(-time.Hour)},
		Relations: map[string]policy.Relation{"acme": {
			CollectedBy:      policy.Dated[string]{Value: "acme", At: at(-time.Hour)},
			Source:           policy.Dated[string]{Value: "fair \"Löwe\" \u2028", At: at(-time.Hour)},
			Relationship:     policy.Dated[string]{Value: "sale", At: at(-time.Hour)},
			Products:         policy.Dated[[]string]{Value: []string{}, At: at(-time.Hour)},
			ObjectionOffered: policy.Dated[string]{Value: "yes", At: at(-time.Hour)},
		}},
		Consents: []policy.Consent{{
			Sender: "acme", Method: policy.Double, Topics: []string{"newsletter"}, At: at(-time.Hour), Place: "web",
			ExpiresAt: at(time.Hour), Evidence: "ip 192.0.2.1",
		}},
	}
}

func factsRoundTrip(t *testing.T, s store.State) {
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria(), "otto": {Address: "otto@x.example"}}))
	objection := policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "events", At: at(1), Via: "page", Ref: "r1"}
	if _, err := s.AddOptOut(ctx(t), "maria", "", objection); err != nil {
		t.Fatal(err)
	}
	got, err := s.Facts(ctx(t), []string{"otto", "maria", "nobody", "maria"})
	must(t, err)
	want(t, "facts", got, map[string]policy.Facts{
		"maria": {Contact: maria().Merge(policy.Contact{}), OptOuts: []policy.OptOut{objection}},
		"otto":  {Contact: policy.Contact{Address: "otto@x.example"}},
	})
	if products := got["maria"].Contact.Relations["acme"].Products.Value; products == nil {
		t.Error("known to be empty became not known")
	}
	address, err := s.Address(ctx(t), "maria")
	must(t, err)
	want(t, "address", address, "maria@xn--mller-kva.example")
}

func factsOfTenThousand(t *testing.T, s store.State) {
	persons := numbered("p", 10_000)
	for some := range slices.Chunk(persons, 1000) {
		contacts := map[string]policy.Contact{}
		for i := 0; i < len(some); i += 2 {
			contacts[some[i]] = policy.Contact{Address: some[i] + "@x.example"}
		}
		must(t, s.Merge(ctx(t), contacts))
	}
	got, err := s.Facts(ctx(t), persons)
	must(t, err)
	want(t, "known persons", len(got), 5000)
	want(t, "the last one", got[persons[9998]].Contact.Address, persons[9998]+"@x.example")
	got, err = s.Facts(ctx(t), nil)
	must(t, err)
	want(t, "facts of nobody", len(got), 0)
}

func strangers(t *testing.T, s store.State) {
	must(t, s.Record(ctx(t), []policy.Entry{{ID: "e1", At: start, Person: "anna", Recipient: "anna@x.example"}}))
	got, err := s.Facts(ctx(t), []string{"anna", "nobody"})
	must(t, err)
	want(t, "facts of persons who only received mail", got, map[string]policy.Facts{})
	address, err := s.Address(ctx(t), "anna")
	must(t, err)
	want(t, "her address", address, "anna@x.example")
	address, err = s.Address(ctx(t), "nobody")
	must(t, err)
	want(t, "nobody's address", address, "")
}

func mergeAddsUp(t *testing.T, s store.State) {
	a := policy.Contact{Address: "maria@xn--mller-kva.example", Language: policy.Dated[string]{Value: "en", At: at(time.Hour)}}
	b := policy.Contact{Consents: []policy.Consent{{Sender: "beta", Method: policy.Single, At: start}}}
	for range 2 { // the second time changes nothing
		for _, c := range []policy.Contact{maria(), a, b} {
			must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": c}))
		}
		want(t, "merged", facts(t, s, "maria").Contact, maria().Merge(a).Merge(b))
	}
	if err := s.Merge(ctx(t), map[string]policy.Contact{"": a}); err == nil {
		t.Error("a contact of nobody was taken")
	}
	must(t, s.Merge(ctx(t), nil))
}

func mergeConcurrently(t *testing.T, s store.State) {
	const callers, each = 8, 10
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range each {
				c := policy.Contact{Consents: []policy.Consent{{Sender: fmt.Sprintf("s%d-%d", caller, i), Method: policy.Single, At: start}}}
				if err := s.Merge(ctx(t), map[string]policy.Contact{"maria": c, fmt.Sprintf("p%d", i): c}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want(t, "consents", len(facts(t, s, "maria").Contact.Consents), callers*each)
	want(t, "consents of another", len(facts(t, s, "p3").Contact.Consents), callers)
}

// recipientOf reads the address in a journal entry.
func recipientOf(t *testing.T, s store.State, id string) string {
	t.Helper()
	for _, e := range entries(t, s, policy.JournalQuery{}) {
		if e.ID == id {
			if e.Verdict != nil && e.Verdict.Recipient != e.Recipient {
				t.Errorf("entry %s names %q and %q", id, e.Recipient, e.Verdict.Recipient)
			}
			return e.Recipient
		}
	}
	t.Fatalf("entry %s is missing", id)
	return ""
}

func erase(t *testing.T, s store.State, person string, known bool) {
	t.Helper()
	got, err := s.Erase(ctx(t), person)
	must(t, err)
	want(t, "something was known of "+person, got, known)
}

func eraseForgets(t *testing.T, s store.State) {
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria(), "otto": {Address: "otto@x.example"}}))
	must(t, s.Record(ctx(t), []policy.Entry{
		{ID: "e1", At: start, Person: "maria", Recipient: "maria@müller.example", Verdict: &policy.Decision{Recipient: "maria@müller.example", Action: policy.Block}},
		{ID: "e2", At: start, Person: "otto", Recipient: "otto@x.example"},
	}))
	want(t, "recipient before", recipientOf(t, s, "e1"), "maria@xn--mller-kva.example")
	erase(t, s, "maria", true)
	erase(t, s, "maria", false)
	erase(t, s, "nobody", false)
	want(t, "facts", facts(t, s, "maria"), policy.Facts{})
	want(t, "recipient", recipientOf(t, s, "e1"), "")
	want(t, "another's recipient", recipientOf(t, s, "e2"), "otto@x.example")
	want(t, "her entries", ids(entries(t, s, policy.JournalQuery{Person: "maria"})), []string{"e1"})
	address, err := s.Address(ctx(t), "maria")
	must(t, err)
	want(t, "address", address, "")
}

func eraseStays(t *testing.T, s store.State) {
	const address = "maria@x.example"
	must(t, s.Record(ctx(t), []policy.Entry{{ID: "before", At: start, Person: "maria", Recipient: address}}))
	erase(t, s, "maria", true)
	must(t, s.Record(ctx(t), []policy.Entry{{ID: "erased", At: at(1), Event: "erased", Person: "maria", Recipient: address}}))
	if got, err := s.Address(ctx(t), "maria"); err != nil || got != "" {
		t.Errorf("the record of the erasure brought the address back: %q, %v", got, err)
	}
	must(t, s.Record(ctx(t), []policy.Entry{{ID: "after", At: at(2), Person: "maria", Recipient: address}}))
	want(t, "recipient after she wrote again", recipientOf(t, s, "after"), address)
	want(t, "recipient of the entry before", recipientOf(t, s, "before"), "")
	want(t, "recipient of the erasure", recipientOf(t, s, "erased"), "")
	erase(t, s, "maria", true)
	want(t, "recipient after a second erasure", recipientOf(t, s, "after"), "")
}

func eraseThenRepeat(t *testing.T, s store.State) {
	optOut := policy.OptOut{Scope: policy.ScopeAll, At: start, Via: "import"}
	for _, added := range []bool{true, false} {
		got, err := s.AddOptOut(ctx(t), "maria", "Maria@X.example", optOut)
		must(t, err)
		want(t, "added", got, added)
		erase(t, s, "maria", added)
	}
	want(t, "facts", facts(t, s, "maria"), policy.Facts{OptOuts: []policy.OptOut{optOut}})
}

func optOutsSurvive(t *testing.T, s store.State) {
	optOut := policy.OptOut{Scope: policy.ScopeAll, At: start, Via: "one-click", Ref: "r"}
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria()}))
	if _, err := s.AddOptOut(ctx(t), "maria", "", optOut); err != nil {
		t.Fatal(err)
	}
	erase(t, s, "maria", true)
	want(t, "opt-outs after erasure", facts(t, s, "maria"), policy.Facts{OptOuts: []policy.OptOut{optOut}})
	must(t, s.Merge(ctx(t), map[string]policy.Contact{"maria": maria()}))
	got := facts(t, s, "maria")
	want(t, "opt-outs after an import", got.OptOuts, []policy.OptOut{optOut})
	want(t, "address after an import", got.Contact.Address, maria().Address)
}
