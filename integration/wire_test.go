package integration

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// wirePatience bounds every wait of a wire: longer than any deadline of the gateway that a test provokes.
const wirePatience = 60 * time.Second

// wire is a raw SMTP connection: what a test writes goes out as it stands.
type wire struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

// dialWire connects and takes the greeting.
func (g *gateway) dialWire(t *testing.T) *wire {
	t.Helper()
	c, err := net.Dial("tcp", g.smtp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &wire{t, c, bufio.NewReader(c)}
	w.expect("220")
	return w
}

// loginWire is dialWire, EHLO and AUTH.
func (g *gateway) loginWire(t *testing.T, account string) *wire {
	t.Helper()
	w := g.dialWire(t)
	w.ask("EHLO client.example", "250")
	w.ask("AUTH PLAIN "+plain(account, "secret"), "235")
	return w
}

func plain(account, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + account + "\x00" + password))
}

// write sends bytes; that the gateway has hung up is for the answers to show.
func (w *wire) write(raw string) {
	w.c.SetWriteDeadline(time.Now().Add(wirePatience))
	io.WriteString(w.c, raw)
}

// answer reads one reply, its lines joined by "\n"; the error is the connection's.
func (w *wire) answer() (string, error) {
	w.c.SetReadDeadline(time.Now().Add(wirePatience))
	return readReply(w.in)
}

func readReply(in *bufio.Reader) (string, error) {
	var lines []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return strings.Join(append(lines, line), "\n"), err
		}
		line = strings.TrimRight(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n"), nil
		}
	}
}

// expect reads one reply, which must begin with prefix.
func (w *wire) expect(prefix string) string {
	w.t.Helper()
	reply, err := w.answer()
	if err != nil || !strings.HasPrefix(reply, prefix) {
		w.t.Fatalf("answered %q (%v), want %s", reply, err, prefix)
	}
	return reply
}

// ask sends a line and expects a reply to it.
func (w *wire) ask(line, prefix string) string {
	w.t.Helper()
	w.write(line + "\r\n")
	return w.expect(prefix)
}

// closed reads what is left until the gateway closes the connection; where it does not, the test fails.
func (w *wire) closed() string {
	w.t.Helper()
	w.c.SetReadDeadline(time.Now().Add(wirePatience))
	b, err := io.ReadAll(w.in)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		w.t.Fatalf("the connection stays open; it said %q", b)
	}
	return string(b)
}

// begin opens a transaction as far as 354.
func (w *wire) begin(from string, to ...string) {
	w.t.Helper()
	w.ask("MAIL FROM:<"+from+">", "250")
	for _, r := range to {
		w.ask("RCPT TO:<"+r+">", "250")
	}
	w.ask("DATA", "354")
}

// send is a whole transaction; it returns the answer to the final dot.
func (w *wire) send(from, to, message string) string {
	w.t.Helper()
	w.begin(from, to)
	w.write(message + "\r\n.\r\n")
	reply, err := w.answer()
	if err != nil {
		w.t.Fatalf("no answer to the final dot: %q, %v", reply, err)
	}
	return reply
}

// letter is a plain message with more header fields, each with its CRLF.
func letter(id, to, fields string) string {
	return fmt.Sprintf("From: Acme <news@acme.example>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <%s>\r\n%s\r\nHello.", to, id, id, fields)
}

// lives proves that the gateway still takes a good message and hands it on. Everything that was submitted before has
// then passed by the upstream, or never will.
func (g *gateway) lives(t *testing.T, up *smtptest.Upstream) {
	t.Helper()
	id := unique("good") + "@acme.example"
	reply := g.loginWire(t, "shop").send("news@acme.example", "friend@example.net", letter(id, "friend@example.net", ""))
	if !strings.HasPrefix(reply, "250 ") || len(ofMessage(up.Messages(), id)) != 1 {
		t.Fatalf("a good message is answered %q; the upstream has it %d times", reply, len(ofMessage(up.Messages(), id)))
	}
}

// unique is a word that no other test has.
func unique(prefix string) string { return prefix + "-" + strconv.FormatInt(time.Now().UnixNano(), 36) }

// ofMessage are those with this Message-ID.
func ofMessage(all []smtptest.Message, id string) (found []smtptest.Message) {
	for _, m := range all {
		if header, _, _ := strings.Cut(string(m.Data), "\r\n\r\n"); m.From != "" && strings.Contains(header, "Message-ID: <"+id+">") {
			found = append(found, m)
		}
	}
	return found
}

var memoryLine = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peak is the most memory the process ever had resident, in MiB.
func (g *gateway) peak(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Skipf("memory is not measured here: %v", err)
	}
	m := memoryLine.FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmHWM in %s", b)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// eventually polls until met; what names the wait.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(wirePatience); !met(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
