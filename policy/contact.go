package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Merge adds what o knows. Of two values the later dated wins, at a tie the stricter; consents append. The order of
// merges does not matter, and merging the same twice changes nothing: an import may be repeated.
func (c Contact) Merge(o Contact) Contact {
	c.Address = later(Dated[string]{Value: c.Address}, Dated[string]{Value: o.Address}, smaller).Value
	c.Country = both(c.Country, o.Country, union)
	c.AddressKind = later(c.AddressKind, o.AddressKind, ranked(Consumer, Individual, Generic))
	c.SubscriberType = later(c.SubscriberType, o.SubscriberType, ranked("individual", "corporate"))
	c.AddressPublished = later(c.AddressPublished, o.AddressPublished, ranked("no", "yes"))
	c.Language = later(c.Language, o.Language, smaller)
	relations := make(map[string]Relation, len(c.Relations)+len(o.Relations))
	for id, r := range c.Relations {
		relations[id] = r.merge(Relation{}, id)
	}
	for id, r := range o.Relations {
		relations[id] = relations[id].merge(r, id)
	}
	c.Relations = nil
	if len(relations) > 0 {
		c.Relations = relations
	}
	c.Consents = mergeConsents(c.Consents, o.Consents)
	return c
}

func (r Relation) merge(o Relation, sender string) Relation {
	return Relation{
		CollectedBy: later(r.CollectedBy, o.CollectedBy, func(a, b string) string {
			switch sender { // the sender itself is the laxest collector
			case a:
				return b
			case b:
				return a
			}
			return smaller(a, b)
		}),
		Source:           later(r.Source, o.Source, smaller),
		Relationship:     later(r.Relationship, o.Relationship, ranked("none", "inquiry", "negotiation", "sale")),
		Products:         both(r.Products, o.Products, intersection),
		ObjectionOffered: later(r.ObjectionOffered, o.ObjectionOffered, ranked("no", "yes")),
	}
}

// later is the later of two known values; at a tie, the one that stricter chooses. The zero value is not known.
func later[T comparable](a, b Dated[T], stricter func(a, b T) T) Dated[T] {
	var none T
	switch {
	case b.Value == none:
		return a
	case a.Value == none || b.At.After(a.At):
		return b
	case a.At.After(b.At):
		return a
	}
	a.Value = stricter(a.Value, b.Value)
	return a
}

// both is later for sets; nil is not known, the empty set is known to be empty.
func both(a, b Dated[[]string], tie func(a, b []string) []string) Dated[[]string] {
	switch {
	case b.Value == nil:
		return a
	case a.Value == nil || b.At.After(a.At):
		return b
	case a.At.After(b.At):
		return a
	}
	a.Value = tie(a.Value, b.Value)
	return a
}

// ranked chooses by rank, the strictest first; a value without rank loses to one that has it.
func ranked[T ~string](order ...T) func(a, b T) T {
	return func(a, b T) T {
		i, j := slices.Index(order, a), slices.Index(order, b)
		if i < 0 && j < 0 {
			return T(smaller(string(a), string(b)))
		}
		if j < 0 || i >= 0 && i < j {
			return a
		}
		return b
	}
}

// smaller chooses by text where neither is stricter, so that the order of merges does not matter.
func smaller(a, b string) string {
	if a == "" || b != "" && b < a {
		return b
	}
	return a
}

func union(a, b []string) []string {
	u := append(slices.Clone(a), b...)
	slices.Sort(u)
	return slices.Compact(u)
}

func intersection(a, b []string) []string {
	both := []string{}
	for _, v := range a {
		if slices.Contains(b, v) {
			both = append(both, v)
		}
	}
	slices.Sort(both)
	return slices.Compact(both)
}

func mergeConsents(a, b []Consent) []Consent {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y Consent) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.text(), y.text())) })
	return slices.CompactFunc(all, func(x, y Consent) bool { return x.text() == y.text() })
}

// text is the consent as one line: two consents with the same are one.
func (c Consent) text() string {
	t := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	return strings.Join([]string{c.Sender, string(c.Method), strings.Join(c.Topics, ";"), t(c.At), c.Place, t(c.ExpiresAt), t(c.WithdrawnAt), c.Evidence}, "\x00")
}
