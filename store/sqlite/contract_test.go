package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"heed/store"
	"heed/store/storetest"
)

func open(t testing.TB, path string) store.State {
	t.Helper()
	s, err := store.Open(t.Context(), "sqlite:"+path, store.Options{Timeout: time.Minute}) // no test waits for it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.State { return open(t, filepath.Join(t.TempDir(), "state.db")) })
}

func Benchmark(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.State { return open(b, filepath.Join(b.TempDir(), "state.db")) })
}
