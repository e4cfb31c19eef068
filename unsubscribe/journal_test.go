package unsubscribe

import (
	"strings"
	"testing"
	"time"

	"heed/policy"
)

func TestEntryIDs(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 15, 0, 0, time.UTC)
	o := policy.OptOut{Scope: policy.ScopeSender, Ref: "r"}
	a, b, later := newEntryID(at), newEntryID(at), newEntryID(at.Add(time.Millisecond))
	if len(a) != 16 || a == b || a[:9] != b[:9] || strings.Compare(a, later) >= 0 || strings.Compare(b, later) >= 0 {
		t.Errorf("new: %s %s %s", a, b, later)
	}
	first := repeatEntryID(at, o)
	if first != repeatEntryID(at.Add(13*time.Hour), o) {
		t.Error("a repetition of the same day has another ID")
	}
	all := o
	all.Scope = policy.ScopeAll
	other := o
	other.Ref = "s"
	for name, id := range map[string]string{
		"the next day": repeatEntryID(at.Add(14*time.Hour), o), "another scope": repeatEntryID(at, all), "another token": repeatEntryID(at, other),
	} {
		if id == first {
			t.Errorf("%s has the same ID", name)
		}
	}
}
