package rewrite

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// corpus is a collection of real and tricky messages with an outside checker of rewrites. It is not part of the product.
const corpus = "../../shared/corpus"

func corpusDir() string { return cmp.Or(os.Getenv("HEED_CORPUS"), corpus) }

var bareLF = regexp.MustCompile(`\r?\n`)

// onTheWire is how a message of the corpus reaches the gateway: no mbox line, CRLF line ends, a final one.
func onTheWire(b []byte) []byte {
	if _, rest, ok := bytes.Cut(b, []byte("\n")); ok && bytes.HasPrefix(b, []byte("From ")) {
		b = rest
	}
	b = bareLF.ReplaceAll(b, []byte("\r\n"))
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, "\r\n"...)
	}
	return b
}

func bareCR(b []byte) bool {
	return bytes.Count(b, []byte("\r")) != bytes.Count(b, []byte("\r\n"))
}

// TestCorpus rewrites every message with one of three notices; HEED_CORPUS_ALL=1 with each of them.
func TestCorpus(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the corpus takes minutes")
	}
	dir := corpusDir()
	if _, err := os.Stat(filepath.Join(dir, "check_rewrite.py")); err != nil {
		t.Skipf("no corpus beside the repository: %v", err)
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skipf("the checker needs python3: %v", err)
	}
	for third, tt := range []struct {
		name, notice string
		treatment    Treatment
	}{
		{"ascii", `This is advertising from Acme Ltd, 1 High Street.*?takes effect at once\.`, sample(t, "en", "Acme Ltd")},
		{"latin", `Dies ist Werbung von (?:Bräuer & Söhne|Braeuer & Soehne).*?wirkt sofort\.`, sample(t, "de", "Bräuer & Söhne GmbH")},
		{"greek", `This is advertising from Αθήνα ΑΕ, 1 High Street.*?takes effect at once\.`, sample(t, "en", "Αθήνα ΑΕ")},
	} {
		t.Run(tt.name, func(t *testing.T) { checkCorpus(t, dir, third, tt.notice, tt.treatment) })
	}
}

func checkCorpus(t *testing.T, dir string, third int, notice string, treatment Treatment) {
	out := t.TempDir()
	if keep := os.Getenv("HEED_CORPUS_OUT"); keep != "" {
		out = filepath.Join(keep, t.Name())
	}
	refused := map[string][]string{}
	done, linked, n := 0, 0, 0
	err := filepath.WalkDir(filepath.Join(dir, "eml"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		if n++; n%3 != third && os.Getenv("HEED_CORPUS_ALL") == "" {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw = onTheWire(raw)
		if bareCR(raw) {
			return nil // refused at the door
		}
		rel, _ := filepath.Rel(filepath.Join(dir, "eml"), path)
		m, copied, err := copyOf(raw, treatment)
		var r *Refusal
		switch {
		case errors.As(err, &r):
			refused[r.Why] = append(refused[r.Why], rel)
			return nil
		case err != nil:
			t.Errorf("%s: %v", rel, err)
			return nil
		}
		done++
		if own := m.unsubscribeURLs(); hasLink(m) { // the checker takes it for a text that was not preserved
			linked++
			if bytes.Count(copied, []byte(treatment.Unsubscribe)) < 3 || bytes.Contains(copied, []byte(own[0]+"\"")) {
				t.Errorf("%s: the link %s stays", rel, own[0])
			}
			return nil
		}
		write(t, filepath.Join(out, "orig", rel), raw)
		write(t, filepath.Join(out, "new", rel), copied)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, why := range slices.Sorted(maps.Keys(refused)) {
		total += len(refused[why])
		t.Logf("refused %4d: %s (%s)", len(refused[why]), why, refused[why][0])
		if os.Getenv("HEED_CORPUS_REFUSED") != "" {
			t.Logf("all of them:\n%s", strings.Join(refused[why], "\n"))
		}
	}
	t.Logf("rewritten %d, of these %d with a link of the tool's own that became ours; refused %d", done, linked, total)
	if done == 0 || total*2 > done {
		t.Errorf("%d of %d messages refused: too many", total, done+total)
	}
	cmd := exec.Command("python3", filepath.Join(dir, "check_rewrite.py"), "--eol", "exact", "--no-warn", "-j", "2",
		"--unsub-url", `^https://opt\.acme\.example/u/`, "--notice", notice,
		"--add", "received,list-id", "--remove", removedFields(),
		filepath.Join(out, "orig"), filepath.Join(out, "new"))
	report, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the checker found mistakes: %v\n%s", err, report)
	} else {
		t.Logf("%s", report)
	}
}

// TestCorpusWrapped wraps what is signed or encrypted: the standard library reads its body, unchanged, and the notice.
func TestCorpusWrapped(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(corpusDir(), "eml", "*", "*.eml"))
	if testing.Short() || len(files) == 0 {
		t.Skip("-short, or no corpus")
	}
	wrapped := 0
	tr := short(t, ".de.eml")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = onTheWire(raw)
		m, err := Read(raw)
		if err != nil || bareCR(raw) {
			continue
		}
		m.WrapSigned = true
		out, _, err := m.Copy(tr)
		var r *Refusal
		switch {
		case errors.As(err, &r):
			if strings.Contains(r.Why, "signed or encrypted") {
				t.Logf("%s: %v", file, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", file, err)
			continue
		case m.wrap == nil:
			continue
		}
		wrapped++
		msg, err := mail.ReadMessage(bytes.NewReader(out))
		if err != nil {
			t.Logf("%s: the standard library: %v", file, err)
			continue
		}
		wantParts(t, msg, raw[m.head.body:], tr)
		if t.Failed() {
			t.Fatal(file)
		}
	}
	t.Logf("%d messages wrapped", wrapped)
}

func rewriteOnce(raw []byte, t Treatment) ([]byte, error) {
	_, out, err := copyOf(raw, t)
	return out, err
}

func copyOf(raw []byte, t Treatment) (*Mail, []byte, error) {
	m, err := Read(raw)
	if err != nil {
		return nil, nil, err
	}
	out, _, err := m.Copy(t)
	return m, out, err
}

func hasLink(m *Mail) bool {
	return slices.ContainsFunc(m.bodies, func(b *body) bool {
		return slices.ContainsFunc(b.spots, func(s spot) bool { return s.content == theLink })
	})
}

// removedFields are the fields that a copy lacks; the checker knows no prefixes.
func removedFields() string {
	names := []string{"bcc", "list-id", "dkim-signature", "heed-topic", "heed-product", "heed-country", "heed-language", "heed-category"}
	for _, n := range []string{"to", "cc", "bcc", "from", "sender", "date", "message-id", "subject", "reply-to", "user-agent"} {
		names = append(names, "resent-"+n)
	}
	return strings.Join(names, ",")
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
