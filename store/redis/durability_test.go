package redis

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heed/policy"
)

// scripted speaks the protocol of a server that the machine does not have.
type scripted struct {
	net.Listener
	answer func(args []string) string

	mu    sync.Mutex
	heard []string
	conns []net.Conn
}

func startScripted(t *testing.T, answer func(args []string) string) *scripted {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{Listener: l, answer: answer}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			go s.serve(c)
		}
	}()
	return s
}

// hangUp ends all connections and forgets what was heard, as a restart does.
func (s *scripted) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns, s.heard = nil, nil
}

func (s *scripted) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		args, err := command(in)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.heard = append(s.heard, strings.Join(args, " "))
		s.mu.Unlock()
		if _, err := io.WriteString(c, s.answer(args)); err != nil {
			return
		}
	}
}

// command reads an array of bulk strings.
func command(in *bufio.Reader) (args []string, err error) {
	n, err := length(in)
	for range n {
		size, e := length(in)
		b := make([]byte, size+2)
		if _, err = io.ReadFull(in, b); err != nil || e != nil {
			return nil, io.EOF
		}
		args = append(args, string(b[:size]))
	}
	return args, err
}

func length(in *bufio.Reader) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// primary is what a scripted server says of itself.
type primary struct {
	version, fsync, run string
	online              bool   // INFO shows a replica
	joined              bool   // ROLE shows one
	synced              string // its answer to WAITAOF
	waited              int    // and to WAIT
}

const (
	synced   = "*2\r\n:1\r\n:0\r\n"
	unsynced = "*2\r\n:0\r\n:0\r\n"
)

func (p primary) answer(args []string) string {
	switch strings.ToLower(args[0] + " " + args[min(1, len(args)-1)]) {
	case "info server":
		return bulk("# Server\r\nredis_version:" + p.version + "\r\nredis_mode:standalone\r\nrun_id:" + p.run + "\r\n")
	case "info replication":
		text := "# Replication\r\nrole:master\r\nmaster_replid:a\r\n"
		if p.online {
			text += "slave0:ip=127.0.0.1,port=1,state=online,offset=1,lag=0\r\n"
		}
		return bulk(text)
	case "role role":
		if p.joined {
			return "*3\r\n" + bulk("master") + ":0\r\n*1\r\n" + bulks("127.0.0.1", "1", "0")
		}
		return "*3\r\n" + bulk("master") + ":0\r\n*0\r\n"
	case "config get":
		value := map[string]string{"appendonly": "yes", "appendfsync": p.fsync, "no-appendfsync-on-rewrite": "no", "maxmemory-policy": "noeviction"}[args[2]]
		return bulks(args[2], value)
	case "ping ping":
		return "+PONG\r\n"
	case "waitaof 1":
		return p.synced
	case "wait 1":
		return fmt.Sprintf(":%d\r\n", p.waited)
	case "hget " + metaKey:
		return bulk(strconv.Itoa(schemaVersion))
	}
	if args[0] == "hsetnx" || args[0] == "zadd" || args[0] == "eval" {
		return ":1\r\n"
	}
	return "-ERR unknown command\r\n"
}

// proven are the commands from the last write on, by their names.
func (s *scripted) proven() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, heard := range s.heard {
		name, rest, _ := strings.Cut(heard, " ")
		switch {
		case name == "eval" && strings.Contains(rest, fenceScript):
			name = "fence"
		case name == "eval" || name == "hget":
			name, names = "write", nil
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// TestWaitAOF: a server that answers before its fsync is waited for, where it can say when it is done.
func TestWaitAOF(t *testing.T) {
	for _, c := range []struct {
		name, version, fsync, synced string
		opens                        string // "" or what the refusal says
		proven                       string
	}{
		{"7.2 and every second", "7.2.4", "everysec", synced, "", "write fence waitaof role"},
		{"8.0 and every second", "8.0.0", "everysec", synced, "", "write fence waitaof role"},
		{"the fsync does not come", "7.2.4", "everysec", unsynced, "did not bring the write to its disk", ""},
		{"the append-only file went away", "7.2.4", "everysec", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n", "WAITAOF cannot be used", ""},
		{"7.2 and always", "7.2.4", "always", "-ERR must not be asked\r\n", "", "write role"},
		{"7.2 and never", "7.2.4", "no", "", "CONFIG SET appendfsync always", ""},
		{"7.0 and every second", "7.0.15", "everysec", "", "CONFIG SET appendfsync always", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := startScripted(t, primary{version: c.version, fsync: c.fsync, run: "1", synced: c.synced}.answer)
			s, err := Open(t.Context(), "redis://"+server.Addr().String(), Options{Verify: true, Log: slog.New(slog.DiscardHandler), Timeout: time.Second})
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != (c.opens == "") || err != nil && !strings.Contains(err.Error(), c.opens) {
				t.Errorf("opened with %v, want %q", err, c.opens)
			}
			if got := server.proven(); c.opens == "" && got != c.proven {
				t.Errorf("sent %q, want %q", got, c.proven)
			}
		})
	}
}

// TestProof: what follows a write on the wire before it is acknowledged, also where the server is another than before.
func TestProof(t *testing.T) {
	lone := primary{version: "7.2.4", fsync: "always", run: "1", synced: "-ERR must not be asked\r\n"}
	as := func(change func(*primary)) primary { p := lone; change(&p); return p }
	everySecond := func(p *primary) { p.run, p.fsync, p.synced = "2", "everysec", synced }
	for _, c := range []struct {
		name          string
		before, after primary
		restarts      bool
		proven, says  string
	}{
		{"alone", lone, lone, false, "write role", ""},
		{"a replica", as(func(p *primary) { p.online, p.waited = true, 1 }), as(func(p *primary) { p.online, p.waited = true, 1 }), false, "write fence wait", ""},
		{
			"a replica of Redis 6", as(func(p *primary) { p.version, p.online, p.waited = "6.2.14", true, 1 }),
			as(func(p *primary) { p.online, p.waited = true, 1 }), false, "write ping wait", "",
		},
		{
			"the replica does not confirm", as(func(p *primary) { p.online, p.waited = true, 1 }),
			as(func(p *primary) { p.online = true }), false, "write fence wait info info", "no replica confirmed",
		},
		{"the first replica has come", lone, as(func(p *primary) { p.joined, p.waited = true, 1 }), false, "write role fence wait", ""},
		{"and does not confirm", lone, as(func(p *primary) { p.joined, p.online = true, true }), false, "write role fence wait info info", "no replica confirmed"},
		{"restarted", lone, as(func(p *primary) { p.run = "2" }), true, "write role role", ""},
		{"restarted with fsync every second", lone, as(everySecond), true, "write role fence waitaof role", ""},
		{
			"restarted with fsync every second, which does not come", lone,
			as(func(p *primary) { everySecond(p); p.synced = unsynced }), true, "write role fence waitaof role", "did not bring the write to its disk",
		},
		{"restarted with a replica", lone, as(func(p *primary) { p.run, p.online, p.joined, p.waited = "2", true, true, 1 }), true, "write role fence wait", ""},
		{
			"restarted without its replica", as(func(p *primary) { p.online, p.waited = true, 1 }),
			as(func(p *primary) { p.run = "2" }), true, "write fence wait info info role", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var now atomic.Pointer[primary]
			now.Store(&c.before)
			server := startScripted(t, func(args []string) string { return now.Load().answer(args) })
			s, err := Open(t.Context(), "redis://"+server.Addr().String(), Options{Verify: true, Log: slog.New(slog.DiscardHandler), Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if now.Store(&c.after); c.restarts {
				server.hangUp()
			}
			for { // the first may still find its old connection broken
				_, err = s.AddOptOut(t.Context(), "p", "", policy.OptOut{Scope: policy.ScopeAll, At: time.Now()})
				if !unanswered(err) {
					break
				}
			}
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("acknowledged with %v, want %q", err, c.says)
			}
			if got := server.proven(); got != c.proven {
				t.Errorf("sent %q, want %q", got, c.proven)
			}
		})
	}
}

// TestTakeover: the first write after a takeover goes to the promoted server, with its proof, although the old primary
// is back under its address, answers as one and was named a moment ago.
func TestTakeover(t *testing.T) {
	before := primary{version: "7.2.4", fsync: "everysec", run: "1", synced: synced}
	again, other := before, before
	again.run, other.run = "2", "3"
	var of atomic.Pointer[primary]
	of.Store(&before)
	old := startScripted(t, func(args []string) string { return of.Load().answer(args) })
	promoted := startScripted(t, other.answer)
	var named atomic.Pointer[scripted]
	named.Store(old)
	sentinel := startScripted(t, func(args []string) string {
		if args[0] != "sentinel" {
			return "-ERR unknown command\r\n"
		}
		host, port, _ := net.SplitHostPort(named.Load().Addr().String())
		return bulks("name", "m", "ip", host, "port", port)
	})
	s, err := Open(t.Context(), "redis+sentinel://"+sentinel.Addr().String()+"/m", Options{Verify: true, Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	named.Store(promoted)
	of.Store(&again)
	old.hangUp()
	if added, err := s.AddOptOut(t.Context(), "p", "", policy.OptOut{Scope: policy.ScopeAll, At: time.Now()}); !added || err != nil {
		t.Error(added, err)
	}
	if got := promoted.proven(); got != "write role fence waitaof role" {
		t.Errorf("the promoted server heard %q", got)
	}
	if got := old.proven(); strings.Contains(got, "write") {
		t.Errorf("the old primary heard %q", got)
	}
}

// TestReplicaAccounting: what is asked for after each change of a server.
func TestReplicaAccounting(t *testing.T) {
	const none = "0000000000000000000000000000000000000000"
	info := func(run, history, before, state string) (string, string) {
		replication := "role:master\r\nmaster_replid:" + history + "\r\nmaster_replid2:" + before + "\r\n"
		if state != "" {
			replication += "connected_slaves:1\r\nslave0:ip=127.0.0.1,port=1,state=" + state + ",offset=1,lag=0\r\n"
		}
		return "run_id:" + run + "\r\n", replication
	}
	type seen struct{ run, history, before, state string }
	for _, c := range []struct {
		name string
		seen []seen
		want bool
	}{
		{"alone", []seen{{"r", "a", none, ""}}, false},
		{"one is copying", []seen{{"r", "a", none, "send_bulk"}}, false},
		{"one follows", []seen{{"r", "a", none, "online"}}, true},
		{"it died", []seen{{"r", "a", none, "online"}, {"r", "a", none, ""}}, true},
		{"it died long ago: the server began a history of its own", []seen{{"r", "a", none, "online"}, {"r", "b", none, ""}}, true},
		{"the server restarted", []seen{{"r", "a", none, "online"}, {"s", "a", none, ""}}, false},
		{"it was a replica meanwhile and was promoted", []seen{{"r", "a", none, "online"}, {"r", "c", "b", ""}}, false},
		{"promoted, then joined, then alone", []seen{{"r", "c", "b", ""}, {"r", "c", "b", "online"}, {"r", "c", "b", ""}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &durability{}
			for _, s := range c.seen {
				d.note(info(s.run, s.history, s.before, s.state))
			}
			if d.known.replicated != c.want {
				t.Errorf("a replica's word is needed: %t, want %t", d.known.replicated, c.want)
			}
		})
	}
}

func TestSlotOf(t *testing.T) {
	for key, want := range map[string]int{"123456789": 0x31C3, "foo": 12182, "heed:{foo}:x": 12182, "{}foo": 9500, "": 0} {
		if got := slotOf(key); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}
