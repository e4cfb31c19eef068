package redis_test

import (
	"errors"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"heed/store"
	"heed/store/storetest"
)

func open(t testing.TB, url string, o store.Options) store.State {
	t.Helper()
	s, err := store.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// empty removes everything, so that the tests can share one server.
func empty(t testing.TB, r *storetest.Redis) {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: r.Addr})
	defer c.Close()
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	for _, durability := range []store.Durability{store.Strict, store.Assumed} {
		t.Run(string(durability), func(t *testing.T) {
			r := storetest.StartRedis(t)
			storetest.Run(t, func(t *testing.T) store.State {
				empty(t, r)
				return open(t, r.URL(), store.Options{Durability: durability, Timeout: time.Minute})
			})
		})
	}
}

// TestContractOnSets: the same holds where servers stand in for each other.
func TestContractOnSets(t *testing.T) {
	for name, start := range sets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, time.Minute) // a slow machine is no dead server
			storetest.Run(t, func(t *testing.T) store.State {
				set.Flush()
				return open(t, set.URL, store.Options{Timeout: time.Minute})
			})
		})
	}
}

var sets = map[string]func(testing.TB, time.Duration, ...string) *storetest.Set{"sentinel": storetest.StartSentinel, "cluster": storetest.StartCluster}

func Benchmark(b *testing.B) {
	r := storetest.StartRedis(b)
	storetest.Bench(b, func(b *testing.B) store.State {
		empty(b, r)
		return open(b, r.URL(), store.Options{})
	})
}
