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
		{"sentinels without the primary's name", "redis+sentinel://user:secret@h1,h2", "", "what the sentinels call the primary"},
		{"sentinels with two names", "redis+sentinel://:secret@h1,h2/name/prod", "", "invalid database number"},
		{"a server among sentinels without a host", "redis+sentinel://:secret@h1,,h2/name", "", "is not host:port"},
		{"a sentinel's port", "redis+sentinel://:secret@h1:0/name", "", "is not host:port"},
		{"a cluster with a database", "redis+cluster://user:secret@h1,h2/3", "", "a cluster has no databases"},
		{"a cluster without servers", "redis+cluster://user:secret@", "", "names no server"},
		{"a cluster with options", "redis+cluster://h1?addr=secret", "", "takes no options"},
		{"a slash in the password", "redis+cluster://user:sec/secret@h1", "", "escape special characters"},
		{"two servers of no topology", "redis://:secret@h1,h2/0", "", "redis+sentinel://"},
		{"no sentinel there", "redis+sentinel://user:secret@127.0.0.1:1,127.0.0.1:2/name", "", "connection refused"},
		{"no node there", "rediss+cluster://user:secret@127.0.0.1:1,127.0.0.1:2", "", "connection refused"},
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
