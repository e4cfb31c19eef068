package store_test

import (
	"path/filepath"
	"strings"
	"testing"

	"heed/store"
	"heed/store/redis"
	"heed/store/sqlite"
)

var (
	_ store.State = (*sqlite.Store)(nil)
	_ store.State = (*redis.Store)(nil)
)

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name, url  string
		durability store.Durability
		says       string
	}{
		{"nothing", "", "", "use sqlite:PATH"},
		{"a bare path", "./data/state.db", "", "use sqlite:PATH"},
		{"another database", "postgres://user:secret@host/db", "", `"postgres" is unknown`},
		{"sentinel", "redis+sentinel://h1,h2/name", "", "not supported yet"},
		{"cluster", "redis+cluster://h1,h2", "", "not supported yet"},
		{"no file", "sqlite:", "", "use sqlite:./data/state.db"},
		{"memory", "sqlite::memory:", "", "would forget opt-outs"},
		{"a host", "sqlite://data/state.db", "", "has a host"},
		{"a malformed Redis URL", "redis://user:secret%@host", "", "escape special characters"},
		{"a Redis URL with options", "redis://user:secret@host/0?max_retries=9", "", "takes no options"},
		{"a Redis database that is no number", "redis://:secret@host/prod", "", "invalid database number"},
		{"a Redis URL without a server", "redis:///0", "", "names no server"},
		{"nobody there", "redis://user:secret@127.0.0.1:1/0", "", "connection refused"},
		{"an unknown durability", "sqlite:x.db", "fsync", "use strict, assumed or none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := store.Open(t.Context(), c.url, store.Options{Durability: c.durability})
			if err == nil || s != nil {
				t.Fatalf("opened: %v", s)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("says %q, not %q", err, c.says)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %q", err)
			}
		})
	}
}

func TestOpenSQLite(t *testing.T) {
	for _, form := range []string{"sqlite:", "sqlite://"} {
		s, err := store.Open(t.Context(), form+filepath.Join(t.TempDir(), "new", "state.db"), store.Options{Durability: store.None})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
