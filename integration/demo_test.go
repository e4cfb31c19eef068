package integration

import (
	"bufio"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo: the samples have the verdicts that it promises, and what it prints can be followed. One after the other: both
// like the usual ports.
func TestDemo(t *testing.T) {
	t.Parallel()
	t.Run("once", demoOnce)
	t.Run("followed", demoFollowed)
}

func demoOnce(t *testing.T) {
	cmd := exec.Command(binary, "demo", "--once")
	cmd.Dir = t.TempDir() // where there is no configuration
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantAll(t, string(out), "RECIPIENT", "COUNTRY", "VERDICT", "REASON", "klaus.schmidt@spedition.example", "DE (contact)", "[consent.unconfirmed]", "[optout.sender]", "[softoptin.entity]")
	if strings.Contains(string(out), "unexpected") {
		t.Errorf("%s", out)
	}
}

// demoFollowed does what the demo prints, line by line, as a newcomer would.
func demoFollowed(t *testing.T) {
	program(t, "curl")
	cmd := exec.Command(binary, "demo")
	cmd.Dir = t.TempDir()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	var printed strings.Builder
	in := bufio.NewReader(stdout)
	for !strings.Contains(printed.String(), "Running until Ctrl-C.") {
		line, err := in.ReadString('\n')
		printed.WriteString(line)
		if err != nil {
			cmd.Wait()
			t.Fatalf("the demo ended: %v\n%s", err, printed.String())
		}
	}
	out := printed.String()
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, out)
		}
		return m[1]
	}
	shell := func(line string) (string, error) {
		b, err := exec.Command("sh", "-c", line).CombinedOutput()
		return string(b), err
	}
	link := find(`\n  (http://127\.0\.0\.1:\d+/u/\S+)\n`)
	click, mail := find(`\n  (curl -d List-Unsubscribe=One-Click .*)\n`), find(`\n  (printf .*\| curl .*)\n`)
	if status, text := page(t, "GET", link, "", nil); status != 200 || !strings.Contains(text, "Acme Ltd") {
		t.Errorf("GET: %d\n%s", status, text)
	}
	if said, err := shell(mail); err != nil {
		t.Errorf("the mail before the opt-out: %v\n%s", err, said)
	}
	if said, err := shell(click); err != nil || !strings.Contains(said, "You are unsubscribed") {
		t.Errorf("one click: %v\n%s", err, said)
	}
	said, err := shell(strings.Replace(mail, "curl ", "curl -v ", 1))
	if err == nil || !strings.Contains(said, "550 5.7.1 <") || !strings.Contains(said, "[optout.") {
		t.Errorf("the mail after the opt-out: %v\n%s", err, said)
	}
	ready := find(`(http://127\.0\.0\.1:\d+/readyz)`)
	if status, _ := page(t, "GET", ready, "", nil); status != 200 {
		t.Errorf("readyz: %d", status)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, in)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	if _, err := exec.Command("curl", "-s", "-o", "/dev/null", link).Output(); err == nil {
		t.Error("the page is still there")
	}
}
