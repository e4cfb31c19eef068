package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestView: what is known may be a moment old under work, and never after a rest.
func TestView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail error
		loads := 0
		v := &view[int]{load: func(context.Context) (int, error) {
			time.Sleep(10 * time.Millisecond)
			loads++
			return loads, fail
		}}
		for _, c := range []struct {
			name  string
			after time.Duration
			fail  error
			get   func(context.Context) (int, error)
			want  string
		}{
			{"at first it waits", 0, nil, v.get, "1 <nil>"},
			{"fresh", fresh / 4, nil, v.get, "1 <nil>"},
			{"older: it asks beside the work", fresh / 2, nil, v.get, "1 <nil>"},
			{"that is known by now", fresh / 4, nil, v.get, "2 <nil>"},
			{"after a rest it waits", 2 * fresh, nil, v.get, "3 <nil>"},
			{"nobody can be asked", 2 * fresh, errors.New("silence"), v.get, "3 <nil>"},
			{"nobody can be asked anew", 0, errors.New("silence"), v.anew, "3 silence"},
			{"anew", 0, nil, v.anew, "6 <nil>"},
			{"what changes is not known", 2 * fresh, errChanging, v.get, "6 " + errChanging.Error()},
			{"also at once", 0, errChanging, v.get, "6 " + errChanging.Error()},
			{"until it is settled", 0, nil, v.get, "9 <nil>"},
		} {
			time.Sleep(c.after)
			fail = c.fail
			got, err := c.get(t.Context())
			time.Sleep(20 * time.Millisecond) // what is asked for beside has come
			synctest.Wait()
			if text := fmt.Sprint(got, " ", err); text != c.want {
				t.Errorf("%s: %s, want %s", c.name, text, c.want)
			}
		}
		v.renewBeside(t)
		if got, err := v.anew(t.Context()); got != 11 || err != nil {
			t.Errorf("anew took the answer to what was asked for before: %d, %v", got, err)
		}
		v.close()
		if _, err := v.anew(t.Context()); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("anew of a closed view: %v", err)
		}
	})
}

// renewBeside starts a load and does not wait.
func (v *view[T]) renewBeside(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.start()
}

// bulks is an array of texts.
func bulks(texts ...string) string {
	out := fmt.Sprintf("*%d\r\n", len(texts))
	for _, text := range texts {
		out += bulk(text)
	}
	return out
}

// TestSentinelsAgree: a primary is whom more than half of the sentinels name.
func TestSentinelsAgree(t *testing.T) {
	redis.SetLogger(silent{})
	for _, c := range []struct {
		name, say string // what each says, a capital one is replacing it, + does not reach a; -: nothing, ?: that it knows no such primary
		want      string // whom, or what the error says
		doubts    bool   // it is not sure enough for a server that is new
	}{
		{"all", "aaa", "a", false},
		{"one is behind", "bab", "b", false},
		{"one is silent", "-aa", "a", false},
		{"one is new and knows nothing", "a?a", "a", false},
		{"a takeover is on its way", "ab-", "do not agree", false},
		{"no two agree", "abc", "do not agree", false},
		{"one answers", "a--", "1 of the 3 sentinels answered", false},
		{"half of them", "aa--", "2 of the 4 sentinels answered", false},
		{"one sentinel", "a", "a", false},
		{"all are replacing it", "AAA", "a", true},
		{"one is replacing it", "aaA", "a", true},
		{"one is replacing it, another is silent", "aA-", "a", true},
		{"one is behind and replaces another", "bbA", "b", false},
		{"one does not reach it", "a+a", "a", false},
		{"two do not reach it", "a++", "a", true},
		{"none", "--", "connection refused", false},
		{"another name", "???", "the sentinels know no primary", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addrs []string
			for _, says := range c.say {
				server := startScripted(t, func(args []string) string {
					if args[0] != "sentinel" {
						return "-ERR unknown command\r\n"
					}
					if says == '?' {
						return "-ERR No such master with that name\r\n"
					}
					host, flags := strings.ToLower(string(says)), "master"
					switch {
					case says == '+':
						host, flags = "a", "s_down,master,disconnected"
					case says < 'a':
						flags = "s_down,o_down,master,failover_in_progress"
					}
					return bulks("name", "m", "ip", host, "port", "1", "flags", flags)
				})
				if says == '-' {
					server.Close()
				}
				addrs = append(addrs, server.Addr().String())
			}
			s := newSentinels(target{addrs: addrs, master: "m"})
			defer s.close()
			got, err := s.primary(t.Context(), "")
			if host, _, _ := net.SplitHostPort(got); err == nil && host != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v; want %s", got, err, c.want)
			}
			if err != nil {
				return
			}
			if err := s.names(t.Context(), got); c.doubts != unexecuted(err) || !c.doubts && err != nil {
				t.Errorf("named: %v", err)
			}
			if err := s.names(t.Context(), "z:1"); !unexecuted(err) {
				t.Errorf("another server: %v", err)
			}
		})
	}
}

// TestClusterIsHeard: a map counts when more than half of its primaries have answered.
func TestClusterIsHeard(t *testing.T) {
	redis.SetLogger(silent{})
	for _, c := range []struct {
		name  string
		nodes string // the map of each of four nodes: the place of its three primaries; -: it is silent
		seeds int
		want  string // the first primary, or what the error says
	}{
		{"all", "012 012 012 012", 4, "0"},
		{"from one that is named", "012 012 012 012", 1, "0"},
		{"a replica took over", "- 312 312 312", 4, "3"},
		{"one of them does not know yet", "012 312 312 312", 4, "3"},
		{"cut off with the old primary", "012 - - -", 4, "more than half"},
		{"cut off, and only that one is named", "012 - - -", 1, "more than half"},
		{"cut off with a replica", "- - - 012", 4, "more than half"},
		{"silent", "- - - -", 4, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addrs []string
			for _, says := range strings.Fields(c.nodes) {
				server := startScripted(t, func(args []string) string { return mapReply(addrs, says, args) })
				if says == "-" {
					server.Close()
				}
				addrs = append(addrs, server.Addr().String())
			}
			s := &servers{at: map[string]*server{}, options: target{}.options(time.Second)}
			defer s.close()
			cl := newCluster(addrs[:c.seeds], s)
			defer cl.close()
			got, err := cl.primary(t.Context(), "")
			if err != nil && strings.Contains(err.Error(), c.want) {
				return
			}
			if err != nil || got != addrs[c.want[0]-'0'] {
				t.Errorf("%q, %v; want %s of %v", got, err, c.want, addrs)
			}
			if err := cl.names(t.Context(), got); err != nil {
				t.Error(err)
			}
			if err := cl.names(t.Context(), "z:1"); !unexecuted(err) {
				t.Errorf("another server: %v", err)
			}
		})
	}
}

// mapReply is a node's answer, where the map is that of says; one that names a later first primary is newer.
func mapReply(addrs []string, says string, args []string) string {
	if strings.EqualFold(args[len(args)-1], "info") {
		return bulk("cluster_state:ok\r\ncluster_current_epoch:" + says[:1] + "\r\n")
	}
	if !strings.EqualFold(args[0], "cluster") {
		return "-ERR unknown command\r\n"
	}
	out := fmt.Sprintf("*%d\r\n", len(says))
	for i, n := range says {
		host, port, _ := net.SplitHostPort(addrs[n-'0'])
		out += fmt.Sprintf("*3\r\n:%d\r\n:%d\r\n*3\r\n%s:%s\r\n%s", []int{0, 5461, 10923}[i], []int{5460, 10922, 16383}[i], bulk(host), port, bulk(fmt.Sprint(n)))
	}
	return out
}
