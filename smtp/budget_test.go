package smtp

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The memory is 100 bytes and a message may need 20. Each step is one claim or release; what waits is told after it.
func TestBudgetIsFairBetweenAccounts(t *testing.T) {
	type step struct {
		do      string // + takes, - gives back
		account string
		n, held int64 // held: by the same message
		want    string
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"one alone holds four fifths", []step{
			{"+", "a", 60, 0, "a60"}, {"+", "a", 20, 0, "a20 a60"}, {"+", "a", 1, 0, "a20 a60 (a1)"}, {"-", "a", 20, 0, "a1 a60"},
		}},
		{"what one leaves is another's at once", []step{
			{"+", "a", 80, 0, "a80"}, {"+", "a", 20, 0, "a80 (a20)"}, {"+", "b", 16, 0, "a80 b16 (a20)"}, {"+", "c", 4, 0, "a80 b16 c4 (a20)"},
		}},
		{"what one message needs is never too much", []step{
			{"+", "a", 80, 0, "a80"}, {"+", "b", 20, 0, "a80 b20"},
		}},
		{"who holds least comes first", []step{
			{"+", "a", 70, 0, "a70"},
			{"+", "b", 10, 0, "a70 b10"},
			{"+", "b", 11, 0, "a70 b10 b11"},
			{"+", "a", 20, 0, "a70 b10 b11 (a20)"},
			{"+", "b", 12, 0, "a70 b10 b11 (a20 b12)"},
			{"+", "c", 15, 0, "a70 b10 b11 (a20 b12 c15)"},
			{"-", "b", 10, 0, "a70 b11 c15 (a20 b12)"},
			{"-", "a", 70, 0, "a20 b11 b12 c15"},
		}},
		{"a big one is not overtaken for ever by small ones", []step{
			{"+", "a", 70, 0, "a70"},
			{"+", "b", 15, 0, "a70 b15"},
			{"+", "c", 20, 0, "a70 b15 (c20)"},
			{"+", "b", 4, 0, "a70 b15 (b4 c20)"},
			{"-", "b", 15, 0, "a70 b4 c20"},
		}},
		{"half messages that wait for each other: the last of who holds most", []step{
			{"+", "a", 10, 0, "a10"},
			{"+", "a", 70, 0, "a10 a70"},
			{"+", "b", 20, 0, "a10 a70 b20"},
			{"+", "a", 11, 10, "a10 a70 b20 (a11)"},
			{"+", "b", 11, 20, "a10 a70 b20 (a11 b11)"},
			{"+", "a", 12, 70, "a10 a70 b20 (a11 b11) no a12"},
			{"-", "a", 70, 0, "a10 a11 b11 b20 no a12"},
		}},
		{"what is given back is forgotten", []step{
			{"+", "a", 80, 0, "a80"}, {"-", "a", 80, 0, ""}, {"+", "b", 80, 0, "b80"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(100, 20)
				var mu sync.Mutex
				now := map[string]string{} // claims, by what became of them
				for i, s := range tt.steps {
					name := fmt.Sprintf("%s%d", s.account, s.n)
					mu.Lock()
					if now[name] = "waits"; s.do == "-" {
						now[name] = "given back"
					}
					mu.Unlock()
					if s.do == "-" {
						b.release(s.account, s.n)
					} else {
						go func() {
							err := b.acquire(context.Background(), &claim{account: s.account, n: s.n, held: s.held}, time.Hour)
							mu.Lock()
							defer mu.Unlock()
							if now[name] = "held"; err != nil {
								now[name] = "refused"
							}
						}()
					}
					synctest.Wait()
					mu.Lock()
					text := state(now)
					mu.Unlock()
					if text != s.want {
						t.Fatalf("step %d: %q, want %q", i+1, text, s.want)
					}
				}
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				if len(b.queue) != 0 || b.stuck != 0 {
					t.Errorf("%d wait after their time, %d bytes of theirs", len(b.queue), b.stuck)
				}
			})
		})
	}
}

// state is the claims that are held, (those that wait), and no those that were refused.
func state(now map[string]string) string {
	by := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		by[now[name]] = append(by[now[name]], name)
	}
	text := strings.Join(by["held"], " ")
	if len(by["waits"]) > 0 {
		text += " (" + strings.Join(by["waits"], " ") + ")"
	}
	if len(by["refused"]) > 0 {
		text += " no " + strings.Join(by["refused"], " ")
	}
	return text
}

// Of the last tenth of all connections an account has its part and no more.
func TestConnectionsAreFairBetweenAccounts(t *testing.T) {
	s := &Server{Limits: Limits{Connections: 20}}
	s.once.Do(s.setUp)
	connect := func(account string) *dialog {
		d := &dialog{server: s, account: account}
		s.dialogs[d] = struct{}{}
		return d
	}
	var a []*dialog
	for i := range 18 {
		a = append(a, connect("a"))
		if !s.share(a[i]) {
			t.Fatalf("connection %d of one account alone is refused", i+1)
		}
	}
	over := connect("a")
	if s.share(over) {
		t.Error("one account has more than nine tenths")
	}
	s.gone(over)
	b := connect("b")
	if !s.share(b) || !s.share(connect("")) {
		t.Error("there is no room for another account, or for who has not logged in")
	}
	if s.share(a[0]) {
		t.Error("the first account begins as before, though another needs room")
	}
	b.account = "a" // a connection is counted once
	if s.share(b); s.accounts["a"] != 19 || s.accounts["b"] != 0 {
		t.Errorf("counted %v", s.accounts)
	}
	for _, d := range append(a, b) {
		s.gone(d)
		s.gone(d)
	}
	if len(s.accounts) != 0 {
		t.Errorf("left %v", s.accounts)
	}
}
