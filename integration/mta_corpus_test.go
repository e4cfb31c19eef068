package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// TestCorpusBehindMTAs sends real mail to real servers and to our sink: HEED_CORPUS_ALL=1, since it takes minutes. What
// the servers do to broken mail is theirs; they must get everything, once.
func TestCorpusBehindMTAs(t *testing.T) {
	if os.Getenv("HEED_CORPUS_ALL") == "" {
		t.Skip("HEED_CORPUS_ALL is not set: the corpus takes minutes")
	}
	dir := filepath.Join(corpus, "eml")
	if c := os.Getenv("HEED_CORPUS"); c != "" {
		dir = filepath.Join(c, "eml")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no corpus beside the repository: %v", err)
	}
	for _, tt := range []struct {
		name  string
		start func(*testing.T) *mta
	}{{"Postfix", startPostfix}, {"Exim", startExim}} {
		t.Run(tt.name, func(t *testing.T) { tt.start(t).corpus(t, dir) })
	}
}

func (m *mta) corpus(t *testing.T, dir string) {
	direct := newSink(t)
	gateways := []*gateway{
		newGateway(t, setting{"UPSTREAM", m.address}, setting{"DOMAINS", `["*"]`}).start(),
		newGateway(t, setting{"UPSTREAM", direct.Addr()}, setting{"DOMAINS", `["*"]`}).start(),
	}
	var tools [2]*tool
	sent, refused := map[string]string{}, map[string]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") || bareCR(t, path) {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		n := len(sent) + len(refused)
		if n%200 == 0 { // a connection of a test has a deadline
			tools = [2]*tool{gateways[0].tool(t, "shop"), gateways[1].tool(t, "shop")}
		}
		to := fmt.Sprintf("p%d@rcpt.example", n)
		var dots [2]string
		for i, tool := range tools {
			_, dots[i] = tool.send(string(raw), to)
		}
		switch taken := [2]bool{m.taken.MatchString(dots[0]), strings.HasPrefix(dots[1], "250 ")}; {
		case taken[0] && taken[1]:
			sent[to] = strings.TrimPrefix(path, dir+"/")
		case taken[0] || strings.HasPrefix(dots[0], "4") || strings.HasPrefix(dots[0], "250"):
			t.Errorf("%s: %q, and directly %q", path, dots[0], dots[1])
			fallthrough
		default:
			why, _, _ := strings.Cut(dots[0], "(")
			refused[to+" "+why]++
			if taken[1] {
				t.Logf("refused by the server: %s: %s", path, dots[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sent, %d refused", len(sent), len(refused))
	m.compare(t, sent, direct)
}

// compare counts the messages that differ from what the sink got directly.
func (m *mta) compare(t *testing.T, sent map[string]string, direct *smtptest.Upstream) {
	for deadline := time.Now().Add(5 * time.Minute); len(m.sink.Messages()) < len(sent) && time.Now().Before(deadline); {
		time.Sleep(time.Second)
	}
	byRecipient := func(u *smtptest.Upstream) map[string][][]byte {
		found := map[string][][]byte{}
		for _, got := range u.Messages() {
			found[got.To[0].Address] = append(found[got.To[0].Address], got.Data)
		}
		return found
	}
	through, straight := byRecipient(m.sink), byRecipient(direct)
	same := 0
	for to, path := range sent {
		if len(through[to]) != 1 || len(straight[to]) != 1 {
			t.Errorf("%s arrived %d times, directly %d times", path, len(through[to]), len(straight[to]))
			continue
		}
		_, have := topField(through[to][0]) // the server's Received, then the gateway's
		_, have = topField(have)
		_, want := topField(straight[to][0])
		if bytes.Equal(have, want) {
			same++
			continue
		}
		at := 0
		for at < min(len(have), len(want)) && have[at] == want[at] {
			at++
		}
		from := max(0, at-40)
		t.Logf("%s differs at %d: %q, directly %q", path, at, have[from:min(at+60, len(have))], want[from:min(at+60, len(want))])
	}
	t.Logf("%d of %d the same to the byte", same, len(sent))
	if same*10 < len(sent)*9 {
		t.Errorf("only %d of %d came through as they were sent", same, len(sent))
	}
	if n := len(m.sink.Messages()); n != len(sent) { // a bounce, or a message that nobody sent
		t.Errorf("%d messages at the next hop, want %d", n, len(sent))
	}
}
