package redis_test

import (
	"testing"
	"time"

	"heed/store"
	"heed/store/storetest"
)

// What waits in a state without queues waits on in one with them.
func TestSpoolOfSchema1(t *testing.T) {
	r := storetest.StartRedis(t)
	s := open(t, r.URL(), store.Options{})
	c := plain(t, r)
	for _, id := range []string{"free", "leased"} {
		if ok, err := s.SpoolAdd(t.Context(), "n", "", at, []byte("body"), map[string][]byte{id: []byte("m")}, 100); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if held, err := s.SpoolRenew(t.Context(), "n", at.Add(time.Hour), []string{"free"}); len(held) != 1 || err != nil {
		t.Fatal(held, err)
	}
	if ok, err := s.SpoolUpdate(t.Context(), "n", "free", at, []byte("m")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	keys, err := c.Keys(t.Context(), "heed:{spool:*}:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys { // as schema 1 had it
		shard := key[:len("heed:{spool:00}")]
		switch key[len(shard):] {
		case ":free:":
			err = c.Rename(t.Context(), key, shard+":free").Err()
		case ":queues":
			err = c.Del(t.Context(), key).Err()
		case ":copy:free", ":copy:leased":
			err = c.HDel(t.Context(), key, "queue").Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.HSet(t.Context(), "heed:{meta}:state", "schema", 1).Err(); err != nil {
		t.Fatal(err)
	}
	s = open(t, r.URL(), store.Options{})
	if version := c.HGet(t.Context(), "heed:{meta}:state", "schema").Val(); version != "2" {
		t.Errorf("schema %s", version)
	}
	items, err := s.SpoolClaim(t.Context(), "b", at, at.Add(time.Hour), 9, []string{"esp"})
	if err != nil || len(items) != 2 || items[0].ID != "free" || string(items[1].Body) != "body" {
		t.Fatalf("claimed %v, %v", items, err)
	}
	if i, ok, err := s.SpoolGet(t.Context(), "free"); !ok || err != nil || i.Queue != "" {
		t.Errorf("got %v, %v", i, err)
	}
	if ok, err := s.SpoolUpdate(t.Context(), "b", "free", at, nil); !ok || err != nil {
		t.Error(ok, err)
	}
	for _, id := range []string{"free", "leased"} {
		if err := s.SpoolDone(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if items, err := s.SpoolClaim(t.Context(), "b", at.Add(9*time.Hour), at.Add(10*time.Hour), 9, nil); err != nil || len(items) != 0 {
		t.Errorf("left %v, %v", items, err)
	}
}
