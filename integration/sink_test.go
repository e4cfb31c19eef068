package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestPostfixSink: Postfix's own test server behind the gateway, a peer that we did not write.
func TestPostfixSink(t *testing.T) {
	t.Parallel()
	path := program(t, "smtp-sink")
	dir, address := t.TempDir(), freePort(t)
	args := []string{"-c", "-d", filepath.Join(dir, "%M."), address, "100"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "root"}, args...) // it wants to be told whom to run as
	}
	cmd := exec.Command(path, args...)
	launch(t, cmd, address, "", func() { cmd.Process.Kill() })
	g := newGateway(t, setting{"UPSTREAM", address}).start()
	g.consented("a@spedition.example", "b@spedition.example", "c@spedition.example")
	m := g.tool(t, "crm")
	raw := eightBit("a@spedition.example", "sink")
	to := []string{"a@spedition.example", "b@spedition.example", "c@spedition.example"}
	if rcpt, dot := m.send(raw, to...); !strings.HasPrefix(dot, "250 2.0.0 Ok") {
		t.Fatalf("%q %q", rcpt, dot)
	}
	dumps, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(dumps) != 3 {
		t.Fatalf("%d dumps: %v", len(dumps), err)
	}
	found := map[string]string{}
	for _, dump := range dumps {
		b, err := os.ReadFile(dump)
		if err != nil {
			t.Fatal(err)
		}
		p := split(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
		rcpt := p.take("X-Rcpt-Args")
		for _, f := range []string{"X-Client-Addr", "X-Client-Proto", "X-Helo-Args", "X-Mail-Args"} {
			p.take(f)
		}
		if len(rcpt) != 1 || !strings.HasPrefix(p.fields[0], "Received:") { // the sink's own
			t.Fatalf("%q", b)
		}
		address := strings.Trim(rcpt[0], "<>")
		// The sink ends its dump with a blank line of its own.
		data := strings.TrimSuffix(strings.Join(p.fields[1:], "")+"\r\n"+string(p.body), "\r\n")
		found[address] = wantCopy(t, []byte(raw), smtptest.Message{To: []smtptest.Recipient{{Address: address}}, Data: []byte(data)}, address)
	}
	if len(found) != 3 || found[to[0]] == found[to[1]] || found[to[1]] == found[to[2]] {
		t.Errorf("%v", found)
	}
}
