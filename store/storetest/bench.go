package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"heed/policy"
	"heed/store"
)

// Bench measures what a message waits for.
func Bench(b *testing.B, open func(b *testing.B) store.State) {
	b.Run("Facts1", func(b *testing.B) { benchFacts(b, open(b), 1) })
	b.Run("Facts200", func(b *testing.B) { benchFacts(b, open(b), 200) })
	b.Run("Record50", func(b *testing.B) {
		s := open(b)
		var n atomic.Int64
		concurrently(b, 50, func() error {
			id := n.Add(1)
			return s.Record(b.Context(), []policy.Entry{{
				ID: fmt.Sprint(id), At: start, Person: fmt.Sprint("p", id%1000), Recipient: fmt.Sprintf("p%d@x.example", id%1000),
				MessageID: fmt.Sprint("<", id, "@x>"), Action: policy.Allow,
			}})
		})
	})
	b.Run("Guard50", func(b *testing.B) {
		s := open(b)
		var n atomic.Int64
		concurrently(b, 50, func() error {
			id := n.Add(1)
			key, token := fmt.Sprint("p", id%1000, "/", id), fmt.Sprint(id)
			if _, err := s.GuardBegin(b.Context(), token, []string{key}, nil, start, at(time.Minute), []policy.Entry{{ID: token, At: start}}); err != nil {
				return err
			}
			return s.GuardEnd(b.Context(), token, map[string][]byte{key: []byte("250 2.0.0 Ok: queued as 1A2B")}, start, at(time.Hour), []policy.Entry{{ID: token + "e", At: start}})
		})
	})
	b.Run("AddOptOut1", func(b *testing.B) { benchOptOut(b, open(b), 1) })
	b.Run("AddOptOut50", func(b *testing.B) { benchOptOut(b, open(b), 50) })
}

func benchFacts(b *testing.B, s store.State, n int) {
	persons := numbered("p", n)
	contacts := map[string]policy.Contact{}
	for _, p := range persons {
		contacts[p] = maria()
	}
	must(b, s.Merge(b.Context(), contacts))
	for b.Loop() {
		got, err := s.Facts(b.Context(), persons)
		if err != nil || len(got) != n {
			b.Fatal(len(got), err)
		}
	}
}

func benchOptOut(b *testing.B, s store.State, callers int) {
	var n atomic.Int64
	concurrently(b, callers, func() error {
		_, err := s.AddOptOut(b.Context(), fmt.Sprint("p", n.Add(1)), "", policy.OptOut{Scope: policy.ScopeAll, At: start, Via: "page"})
		return err
	})
}

func concurrently(b *testing.B, callers int, call func() error) {
	b.SetParallelism(callers) // times GOMAXPROCS
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(); err != nil {
				b.Error(err)
			}
		}
	})
}
