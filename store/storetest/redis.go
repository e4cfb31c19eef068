package storetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// Redis is a real redis-server of a test, on loopback, with its data in a folder of the test.
type Redis struct {
	Addr string // 127.0.0.1:port

	t    testing.TB
	args []string
	cmd  *exec.Cmd
	done chan struct{}
	out  bytes.Buffer
}

// StartRedis starts a server that keeps what it acknowledges (append-only, fsync always); args override. It ends
// with the test. Without redis-server the test is skipped, in CI (where CI is set) it fails.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	r := newRedis(t, freePort(t, map[string]bool{}), args...)
	r.Start()
	return r
}

// newRedis is a server that was not started yet.
func newRedis(t testing.TB, port string, args ...string) *Redis {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed, and CI is set")
		}
		t.Skip("redis-server is not installed: apt-get install redis-server")
	}
	r := &Redis{t: t, Addr: net.JoinHostPort("127.0.0.1", port)}
	r.args = append([]string{
		path, "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
	}, args...)
	t.Cleanup(r.Kill)
	return r
}

// freePort is one that nothing listens on and that no other process of the test's was given.
func freePort(t testing.TB, given map[string]bool) string {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		l.Close()
		if !given[port] {
			given[port] = true
			return port
		}
	}
}

// URL is what store.Open takes.
func (r *Redis) URL() string { return "redis://" + r.Addr + "/0" }

// Start starts the server again after Kill, with the data it left.
func (r *Redis) Start() {
	r.t.Helper()
	r.spawn()
	r.await()
}

func (r *Redis) spawn() {
	r.t.Helper()
	r.out.Reset()
	r.cmd, r.done = exec.Command(r.args[0], r.args[1:]...), make(chan struct{})
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { // ends with the process, which Kill ends
		defer close(r.done)
		_ = r.cmd.Wait()
	}()
}

// await returns when the server takes commands.
func (r *Redis) await() {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		if answers(r.Addr) {
			return
		}
		select {
		case <-r.done:
			r.t.Fatalf("redis-server ended:\n%s", r.out.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			r.t.Fatal("redis-server does not answer")
		}
	}
}

// answers tells whether a server has loaded its data and takes commands; a password is its own matter.
func answers(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := fmt.Fprint(c, "PING\r\n"); err != nil {
		return false
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	return err == nil && (bytes.HasPrefix(b[:n], []byte("+PONG")) || bytes.HasPrefix(b[:n], []byte("-NOAUTH")))
}

// Kill ends the server as a power cut would, and waits for its end.
func (r *Redis) Kill() {
	if r.cmd == nil || r.cmd.Process == nil {
		return
	}
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.done
}

// Process is the server's, for signals.
func (r *Redis) Process() *os.Process { return r.cmd.Process }
