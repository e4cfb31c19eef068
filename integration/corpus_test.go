package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// corpus is a collection of real and tricky messages, with a sender, a sink and an outside checker. It is not part of
// the product.
const corpus = "../../shared/corpus"

// corpusSample is how many of its messages are sent; HEED_CORPUS_ALL=1 sends every one.
const corpusSample = "300"

// TestCorpus sends real mail through the gateway: what comes out is the message with what is due, checked from outside.
func TestCorpus(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: the corpus takes long")
	}
	if _, err := os.Stat(filepath.Join(corpus, "send_corpus.py")); err != nil {
		t.Skipf("no corpus beside the repository: %v", err)
	}
	python := program(t, "/usr/bin/python3") // Debian's, which finds Debian's aiosmtpd
	if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
		t.Skip("python3-aiosmtpd is not installed")
	}
	dir, upstream := t.TempDir(), freePort(t)
	if keep := os.Getenv("HEED_CORPUS_OUT"); keep != "" {
		dir = keep
	}
	startSink(t, python, upstream, filepath.Join(dir, "sink"))
	g := newGateway(t, setting{"UPSTREAM", upstream}, setting{"DOMAINS", `["*"]`}).start()
	var rows []string
	for i := range 2500 {
		rows = append(rows, fmt.Sprintf("m%d@rcpt.example,DE,en,acme,2025-01-01,double,2025-01-01", i))
	}
	g.contacts("email,country,language,collected_by,collected_at,consent,consent_at", rows...)

	pairs := filepath.Join(dir, "pairs")
	args := []string{filepath.Join(corpus, "send_corpus.py"), g.smtp[strings.LastIndexByte(g.smtp, ':')+1:], filepath.Join(dir, "sink"), pairs, "--auth", "crm:secret"}
	if os.Getenv("HEED_CORPUS_ALL") == "" {
		args = append(args, "--limit", corpusSample)
	}
	sent, err := exec.Command(python, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("send_corpus.py: %v\n%s", err, sent)
	}
	t.Logf("%s", sent)
	if !strings.Contains(string(sent), "delivered twice: 0") {
		t.Errorf("delivered twice: %s", sent)
	}
	accepted := corpusResult(t, filepath.Join(pairs, "result.tsv"))

	checker := exec.Command(python, filepath.Join(corpus, "check_rewrite.py"), "--eol", "exact", "--no-warn", "-j", "2", "--allow-http",
		"--unsub-url", `^http://127\.0\.0\.1:\d+/u/`, "--notice", `This is advertising from Acme Ltd, 1 High Street.*?takes effect at once\.`,
		"--add", "received,list-id", "--remove", corpusRemovable(), filepath.Join(pairs, "orig"), filepath.Join(pairs, "new"))
	report, err := checker.CombinedOutput()
	if err != nil {
		t.Errorf("the checker found mistakes: %v\n%s", err, report)
	}
	lines := strings.SplitAfter(strings.TrimSpace(string(report)), "\n")
	t.Logf("%s", strings.Join(lines[max(0, len(lines)-12):], ""))
	if !strings.Contains(string(report), fmt.Sprintf("checked %d pairs: %d ok, 0 failed", accepted, accepted)) {
		t.Errorf("not every one of %d accepted messages was checked and found right", accepted)
	}
	// The journal has one outcome for each.
	if n := strings.Count(g.must("journal"), " fate=sent "); n != accepted {
		t.Errorf("%d outcomes journaled, %d messages accepted", n, accepted)
	}
}

func startSink(t *testing.T, python, address, dir string) {
	t.Helper()
	_, port, _ := strings.Cut(address, ":")
	sink := exec.Command(python, filepath.Join(corpus, "sink.py"), port, dir)
	out, err := sink.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sink.Process.Signal(syscall.SIGTERM)
		stuck := time.AfterFunc(20*time.Second, func() { sink.Process.Kill() })
		defer stuck.Stop()
		sink.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "sink on") {
		t.Fatalf("sink: %q %v", line, err)
	}
}

var refusalReason = regexp.MustCompile(`^(\d{3} \d\.\d+\.\d+) (?:<\S+> blocked )?(\[[a-z_.]+\] )?(.{0,80})`)

// corpusResult counts what became of the messages: none may be lost, and what is refused says why.
func corpusResult(t *testing.T, file string) (accepted int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]int{}
	unrewritable := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 3 {
			t.Fatalf("%q", line)
		}
		switch f[1] {
		case "accepted":
			accepted++
		case "lost":
			t.Errorf("lost: %s", line)
		default:
			m := refusalReason.FindStringSubmatch(f[2])
			// The reply to a bare CR closes the connection; send_corpus.py then notes the end of its next command.
			if m == nil && strings.Contains(f[2], "SMTPServerDisconnected") && bareCR(t, filepath.Join(filepath.Dir(file), "orig", f[0])) {
				reasons["bare CR"]++
				continue
			}
			if m == nil || m[1][0] != '5' {
				t.Errorf("not a clear, permanent refusal: %s", line)
				continue
			}
			why, _, _ := strings.Cut(m[3], " (decision")
			reasons[m[1]+" "+m[2]+why]++
			if m[2] == "[content.unrewritable] " {
				unrewritable++
			}
		}
	}
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		t.Logf("refused %4d: %s", reasons[r], r)
	}
	t.Logf("accepted %d, not safely rewritable %d", accepted, unrewritable)
	if unrewritable*4 > accepted {
		t.Errorf("%d not safely rewritable, %d accepted: too many", unrewritable, accepted)
	}
	return accepted
}

func bareCR(t *testing.T, file string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\r")) != bytes.Count(b, []byte("\r\n"))
}

// corpusRemovable are the fields that a copy lacks; the checker knows no prefixes.
func corpusRemovable() string {
	names := []string{"bcc", "list-id", "dkim-signature", "heed-topic", "heed-product", "heed-country", "heed-language", "heed-category"}
	for _, n := range []string{"to", "cc", "bcc", "from", "sender", "date", "message-id", "subject", "reply-to", "user-agent"} {
		names = append(names, "resent-"+n)
	}
	return strings.Join(names, ",")
}
