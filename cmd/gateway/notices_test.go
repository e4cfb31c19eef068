package main

import (
	"slices"
	"testing"

	"heed/config"
	"heed/rewrite"
)

// TestNoticeLanguages: what policy.language may name is what there are texts in.
func TestNoticeLanguages(t *testing.T) {
	n, err := rewrite.LoadNotices()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n.Languages(), config.Languages(); !slices.Equal(got, want) {
		t.Errorf("texts in %v, config knows %v", got, want)
	}
}
