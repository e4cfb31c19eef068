package policy

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestMergeRules(t *testing.T) {
	older, newer := day("2025-01-01"), day("2026-01-01")
	rel := func(r Relation) Contact { return Contact{Relations: map[string]Relation{"acme": r}} }
	tests := []struct {
		name       string
		a, b, want Contact
	}{
		{"later kind wins", Contact{AddressKind: Dated[Kind]{Generic, newer}}, Contact{AddressKind: Dated[Kind]{Individual, older}}, Contact{AddressKind: Dated[Kind]{Generic, newer}}},
		{"stricter kind at a tie", Contact{AddressKind: Dated[Kind]{Generic, older}}, Contact{AddressKind: Dated[Kind]{Consumer, older}}, Contact{AddressKind: Dated[Kind]{Consumer, older}}},
		{"both countries at a tie", Contact{Country: Dated[[]string]{[]string{"GB"}, older}}, Contact{Country: Dated[[]string]{[]string{"DE"}, older}}, Contact{Country: Dated[[]string]{[]string{"DE", "GB"}, older}}},
		{"an empty cell says nothing", Contact{Language: Dated[string]{"de", older}}, Contact{}, Contact{Language: Dated[string]{"de", older}}},
		{"collected by another at a tie", rel(Relation{CollectedBy: Dated[string]{"acme", older}}), rel(Relation{CollectedBy: Dated[string]{"ListCo", older}}), rel(Relation{CollectedBy: Dated[string]{"ListCo", older}})},
		{"no relationship is stricter than a sale", rel(Relation{Relationship: Dated[string]{"sale", older}}), rel(Relation{Relationship: Dated[string]{"none", older}}), rel(Relation{Relationship: Dated[string]{"none", older}})},
		{"later sale beats no relationship", rel(Relation{Relationship: Dated[string]{"none", older}}), rel(Relation{Relationship: Dated[string]{"sale", newer}}), rel(Relation{Relationship: Dated[string]{"sale", newer}})},
		{"common products at a tie", rel(Relation{Products: Dated[[]string]{[]string{"a", "b"}, older}}), rel(Relation{Products: Dated[[]string]{[]string{"b", "c"}, older}}), rel(Relation{Products: Dated[[]string]{[]string{"b"}, older}})},
		{
			"consents append",
			Contact{Consents: []Consent{{Sender: "acme", Method: Single, At: newer}}},
			Contact{Consents: []Consent{{Sender: "acme", Method: Double, At: older}, {Sender: "acme", Method: Single, At: newer}}},
			Contact{Consents: []Consent{{Sender: "acme", Method: Double, At: older}, {Sender: "acme", Method: Single, At: newer}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, got := range []Contact{tt.a.Merge(tt.b), tt.b.Merge(tt.a), tt.a.Merge(tt.b).Merge(tt.a)} {
				if !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %+v\nwant %+v", got, tt.want)
				}
			}
		})
	}
}

// Any order of any imports, repeated or not, comes to the same contact.
func TestMergeOrderDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(v ...string) string { return v[r.IntN(len(v))] }
	when := func() time.Time { return day("2026-01-01").AddDate(0, 0, r.IntN(3)) }
	one := func() Contact {
		c := Contact{
			AddressKind: Dated[Kind]{Kind(pick("", "individual", "generic", "consumer")), when()},
			Language:    Dated[string]{pick("", "de", "en"), when()},
			Relations: map[string]Relation{pick("acme", "beta"): {
				CollectedBy:      Dated[string]{pick("", "acme", "beta", "ListCo"), when()},
				Relationship:     Dated[string]{pick("", "none", "sale", "inquiry"), when()},
				ObjectionOffered: Dated[string]{pick("", "yes", "no"), when()},
			}},
		}
		if r.IntN(2) == 0 {
			c.Country = Dated[[]string]{[]string{pick("DE", "GB", "AT")}, when()}
		}
		if r.IntN(2) == 0 {
			c.Consents = []Consent{{Sender: "acme", Method: Method(pick("single", "double")), At: when(), WithdrawnAt: when()}}
		}
		return c
	}
	for range 300 {
		rows := []Contact{one(), one(), one(), one()}
		var first string
		for range 6 {
			var c Contact
			for _, i := range r.Perm(len(rows)) {
				c = c.Merge(rows[i])
				if r.IntN(3) == 0 {
					c = c.Merge(rows[i])
				}
			}
			b, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = string(b)
			} else if first != string(b) {
				t.Fatalf("order matters:\n%s\n%s", first, b)
			}
		}
	}
}
