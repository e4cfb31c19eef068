package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"heed/smtp"
)

// The test binary itself is an upstream where these are set: a process of its own, which a test can kill.
const (
	sinkAddress = "HEED_TEST_SINK"
	sinkFile    = "HEED_TEST_SINK_FILE"
)

// sink takes every message and notes its Message-ID and recipient before it says so.
func sink(address, file string) int {
	out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := &smtp.Server{
		Hostname: "sink.test", Handler: &noted{out: out},
		Trusted: func(netip.Addr) (string, bool) { return "anybody", true },
	}
	fmt.Fprintln(os.Stderr, s.Serve(ln))
	return 1
}

// noted is the sink's handler.
type noted struct {
	out *os.File
	n   atomic.Int64
}

func (*noted) Recipient(context.Context, smtp.Envelope, string) smtp.Reply { return smtp.OK }

func (s *noted) Message(_ context.Context, m smtp.Message) smtp.Reply {
	id := "none"
	if found := messageID.FindSubmatch(m.Data); found != nil {
		id = string(found[1])
	}
	for _, to := range m.To {
		if _, err := fmt.Fprintf(s.out, "%s %s\n", id, to.Address); err != nil { // one write: whole or not at all
			return smtp.OurFault
		}
	}
	return smtp.OK.With("ok: queued as %d", s.n.Add(1))
}

// sinkProcess is a running sink.
type sinkProcess struct {
	t          *testing.T
	addr, file string
	cmd        *exec.Cmd
}

func startSinkProcess(t *testing.T) *sinkProcess {
	t.Helper()
	s := &sinkProcess{t: t, addr: freePort(t), file: filepath.Join(t.TempDir(), "taken")}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *sinkProcess) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), sinkAddress+"="+s.addr, sinkFile+"="+s.file)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	awaitListener(s.t, s.addr, "the sink")
}

func (s *sinkProcess) kill() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// times is how often each message arrived, all its recipients together.
func (s *sinkProcess) times() map[string]int {
	b, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	times := map[string]int{}
	for line := range strings.Lines(string(b)) {
		id, _, _ := strings.Cut(line, " ")
		times[id]++
	}
	return times
}
