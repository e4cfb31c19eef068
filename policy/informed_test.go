package policy

import (
	"slices"
	"testing"
)

// TestArt14IsGivenOnce: when the notice is due, and what it is taken to have said.
func TestArt14IsGivenOnce(t *testing.T) {
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	informed := func(sender, by, source string) func(*Question) {
		return func(q *Question) {
			q.Facts.Informed = map[string]Informed{sender: {At: q.At.AddDate(0, -1, 0), CollectedBy: by, Source: source}}
		}
	}
	both := func(first, then func(*Question)) func(*Question) { return func(q *Question) { first(q); then(q) } }
	collected := func(by, source string) func(*Question) {
		return func(q *Question) {
			q.relate(func(r *Relation) { r.CollectedBy.Value, r.Source.Value = by, source })
		}
	}
	told := informed("acme", "Fair Ltd", "exhibitors")
	tests := []struct {
		name string
		bend func(*Question)
		due  bool
	}{
		{"first contact", func(*Question) {}, true},
		{"informed", told, false},
		{"informed by another sender", informed("beta", "Fair Ltd", "exhibitors"), true},
		{"informed by both", both(told, func(q *Question) { q.Facts.Informed["beta"] = Informed{At: q.At} }), false},
		{"a record without a time says nothing", both(told, func(q *Question) {
			q.Facts.Informed["acme"] = Informed{CollectedBy: "Fair Ltd", Source: "exhibitors"}
		}), true},
		{"collected by another since", both(told, collected("Lists Inc", "exhibitors")), true},
		{"from another source since", both(told, collected("Fair Ltd", "visitors")), true},
		{"the source is not known any more", both(told, collected("Fair Ltd", "")), true},
		{"the collector is not known any more", both(told, collected("", "exhibitors")), true},
		{"collected again from where it was, later", both(told, func(q *Question) {
			q.relate(func(r *Relation) { r.CollectedBy.At, r.Source.At = q.At, q.At })
		}), false},
		{"collected by the sender since", both(told, collected("acme", "shop")), false},
		{"by nobody known, first contact", collected("", ""), true},
		{"by nobody known, informed", both(collected("", ""), informed("acme", "", "")), false},
		{"consent", func(q *Question) { q.Facts.Contact.Consents = lawful().Facts.Contact.Consents }, false},
		{"generic address", func(q *Question) { q.Recipient = "info@firma.example" }, false},
		{"observed block, first contact", func(q *Question) { q.country("DE"); q.Account.Observe = true }, true},
		{"observed block, informed", both(told, func(q *Question) { q.country("DE"); q.Account.Observe = true }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := lawful()
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.country("GB")
			q.Facts.Contact.SubscriberType.Value = "corporate"
			collected("Fair Ltd", "exhibitors")(&q)
			tt.bend(&q)
			d := rules.Decide(q)
			if d.Stops() {
				t.Fatalf("blocked: %s %s", d.Code, d.Text)
			}
			if due := slices.Contains(d.Notices, NoticeArt14); due != tt.due {
				t.Errorf("notices %v, want art14 %t", d.Notices, tt.due)
			}
			i := d.Informs("m1", q.At)
			if (i != nil) != tt.due {
				t.Fatalf("informs %+v", i)
			}
			if i == nil {
				return
			}
			if !i.At.Equal(q.At) || i.Message != "m1" {
				t.Errorf("informs %+v", i)
			}
			q.Facts.Informed = map[string]Informed{"acme": *i}
			if again := rules.Decide(q); slices.Contains(again.Notices, NoticeArt14) || !slices.Equal(slices.DeleteFunc(slices.Clone(d.Notices), func(n string) bool { return n == NoticeArt14 }), again.Notices) {
				t.Errorf("then %v, after %v", again.Notices, d.Notices)
			}
		})
	}
}
