package redis

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted speaks the protocol of a server that the machine does not have.
type scripted struct {
	net.Listener
	answer func(args []string) string

	mu    sync.Mutex
	heard []string
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
			go s.serve(c)
		}
	}()
	return s
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

// TestWaitAOF: a server that answers before its fsync is waited for, where it can say when it is done.
func TestWaitAOF(t *testing.T) {
	for _, c := range []struct {
		name, version, fsync, synced string
		opens                        string // "" or what the refusal says
		waits                        bool
	}{
		{"7.2 and every second", "7.2.4", "everysec", "*2\r\n:1\r\n:0\r\n", "", true},
		{"8.0 and every second", "8.0.0", "everysec", "*2\r\n:1\r\n:0\r\n", "", true},
		{"the fsync does not come", "7.2.4", "everysec", "*2\r\n:0\r\n:0\r\n", "did not bring the write to its disk", true},
		{"the append-only file went away", "7.2.4", "everysec", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n", "WAITAOF cannot be used", true},
		{"7.2 and always", "7.2.4", "always", "-ERR must not be asked\r\n", "", false},
		{"7.2 and never", "7.2.4", "no", "", "CONFIG SET appendfsync always", false},
		{"7.0 and every second", "7.0.15", "everysec", "", "CONFIG SET appendfsync always", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := startScripted(t, func(args []string) string {
				switch strings.ToLower(args[0] + " " + args[min(1, len(args)-1)]) {
				case "info server":
					return bulk("# Server\r\nredis_version:" + c.version + "\r\nredis_mode:standalone\r\nrun_id:1\r\n")
				case "info replication":
					return bulk("# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:a\r\n")
				case "role role":
					return "*3\r\n" + bulk("master") + ":0\r\n*0\r\n"
				case "config get":
					value := map[string]string{"appendonly": "yes", "appendfsync": c.fsync, "no-appendfsync-on-rewrite": "no", "maxmemory-policy": "noeviction"}[args[2]]
					return "*2\r\n" + bulk(args[2]) + bulk(value)
				case "ping ping":
					return "+PONG\r\n"
				case "waitaof 1":
					return c.synced
				case "hget " + metaKey:
					return bulk(strconv.Itoa(schemaVersion))
				case "hsetnx " + metaKey:
					return ":1\r\n"
				}
				return "-ERR unknown command\r\n"
			})
			s, err := Open(context.Background(), "redis://"+server.Addr().String(), Options{Verify: true, Log: slog.New(slog.DiscardHandler), Timeout: time.Second})
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != (c.opens == "") || err != nil && !strings.Contains(err.Error(), c.opens) {
				t.Errorf("opened with %v, want %q", err, c.opens)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			heard := strings.Join(server.heard, "\n")
			if got := strings.Contains(heard, "\nwaitaof 1 0 "); got != c.waits {
				t.Errorf("waited: %t\n%s", got, heard)
			}
			if c.opens == "" && c.waits && !strings.Contains(heard, "\nhget "+metaKey+" schema\nwaitaof 1 0 ") {
				t.Errorf("the write is not followed by the wait:\n%s", heard)
			}
		})
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
				d.observe(info(s.run, s.history, s.before, s.state))
			}
			if d.isReplicated() != c.want {
				t.Errorf("a replica's word is needed: %t, want %t", d.isReplicated(), c.want)
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
