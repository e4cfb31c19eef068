package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset"

	"heed/policy"
	"heed/rewrite"
)

const noticePhrase = "This is advertising from Acme Ltd"

// noticeSample is how many HTML bodies of the corpus are looked at; HEED_CORPUS_ALL=1 looks at every one.
const noticeSample = 25

// reader is a Chromium that browser/notice.js drives.
type reader struct {
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

func startReader(t *testing.T) *reader {
	t.Helper()
	js, chromium := node(t, "playwright-core"), program(t, "chromium")
	r := &reader{}
	cmd := exec.Command(js, "browser/notice.js", chromium)
	var err error
	if r.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out, cmd.Stderr = bufio.NewReader(out), &r.err
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.in.Close()
		stuck := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("browser: %v\n%s", err, r.err.String())
		}
	})
	return r
}

// ask gives one order; the answer is what is wrong with the page.
func (r *reader) ask(t *testing.T, order map[string]any) (faults []string) {
	t.Helper()
	line, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	answer, err := r.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("browser: %v\n%s", err, r.err.String())
	}
	if err := json.Unmarshal(answer, &faults); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return faults
}

// marketing is a treatment with every paragraph of a notice.
func marketing(t *testing.T) rewrite.Treatment {
	t.Helper()
	all, err := rewrite.LoadNotices()
	if err != nil {
		t.Fatal(err)
	}
	in := rewrite.NoticeInput{
		Sender: policy.Sender{
			ID: "acme", Name: "Acme Ltd", PostalAddress: "1 High Street, London EC1A 1AA", Country: "GB", Contact: "privacy@acme.example",
			Website: "https://acme.example", PrivacyURL: "https://acme.example/privacy",
		},
		Topic: "newsletter", UnsubscribeURL: "https://opt.acme.example/u/AbC-123_456", Language: "en",
		Mailto: "mailto:unsubscribe@opt.acme.example?subject=unsubscribe%20AbC-123_456",
	}
	in.Decision.Notices = []string{"identity", "label", "reason", "objection", "art14", "unsubscribe", "country"}
	in.Decision.LegalBasis = "consent"
	in.Decision.Grounds = policy.Grounds{
		Source:  "trade fair 2026",
		Consent: &policy.Consent{At: time.Date(2026, 1, 10, 9, 0, 0, 0, time.UTC), Place: "https://acme.example/signup"},
	}
	notice, err := all.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	return rewrite.Treatment{Marketing: true, Unsubscribe: in.UnsubscribeURL, Mailto: in.Mailto, Notice: notice}
}

// htmlOf are the HTML bodies of a message, in UTF-8.
func htmlOf(raw []byte) (out []string) {
	defer func() { _ = recover() }() // QUIRK: go-message panics on some broken parameters
	e, err := message.Read(bytes.NewReader(raw))
	if err != nil && !message.IsUnknownCharset(err) {
		return nil
	}
	_ = e.Walk(func(_ []int, part *message.Entity, err error) error {
		if err != nil && !message.IsUnknownCharset(err) {
			return err
		}
		if typ, _, _ := part.Header.ContentType(); typ == "text/html" {
			if b, err := io.ReadAll(part.Body); err == nil {
				out = append(out, string(b))
			}
		}
		return nil
	})
	return out
}

var lineEnds = regexp.MustCompile(`\r?\n`)

// onTheWire is how a message of the corpus reaches the gateway: no mbox line, CRLF line ends, a final one.
func onTheWire(b []byte) []byte {
	if _, rest, ok := bytes.Cut(b, []byte("\n")); ok && bytes.HasPrefix(b, []byte("From ")) {
		b = rest
	}
	b = lineEnds.ReplaceAll(b, []byte("\r\n"))
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, "\r\n"...)
	}
	return b
}

// TestNoticeIsSeen renders copies in a real browser: the notice can be read at desktop and phone width, light and dark.
func TestNoticeIsSeen(t *testing.T) {
	t.Parallel()
	r, treatment := startReader(t), marketing(t)
	for _, tt := range []struct{ name, html string }{
		{"plain", "<p>x"},
		{"dark page", "<body style='background:#000;color:#fff'><p>x</body>"},
		{"right to left", "<html dir=rtl lang=ar><body dir=rtl><p>مرحبا</p></body></html>"},
		{"all text white", "<style>*{color:#fff!important;-webkit-text-fill-color:#fff!important}</style><body>x</body>"},
		{"dark mode turns all text white", "<style>@media (prefers-color-scheme:dark){*{color:#fff!important}p{background:#fff!important}a{color:#fff!important}}</style><body>x</body>"},
		{"blocks hidden by their names", "<style>div,p,a,strong{display:none!important}</style><body>x</body>"},
		{"all hidden in other ways", "<style>body *{opacity:0!important;visibility:hidden!important;height:0!important;max-height:0!important;overflow:hidden!important;font-size:0!important;line-height:0!important}</style><body>x</body>"},
		{"all moved away", "<style>body *{position:absolute!important;left:-9999px!important;text-indent:-9999px!important;transform:scale(0)!important;clip-path:inset(50%)!important;margin-left:-9999px!important}</style><body>x</body>"},
		{"font size of the body", "<body style='font-size:0;line-height:0;letter-spacing:-1em'>x</body>"},
		{"left in a hidden class", "<style>.pre{display:none}</style><body><div class=pre>x</body>"},
		{"left in what phones hide", "<style>@media (max-width:600px){.desk{display:none!important}}</style><body><table><tr><td class='a desk'>x</body>"},
		{"left in what dark mode hides", "<style>@media (prefers-color-scheme:dark){#light{visibility:hidden}}</style><body><div id=light>x</body>"},
		{"left off screen", "<body><div style='position:absolute;left:-9999px'>x</body>"},
		{"left in a box of no height", "<style>.c{overflow:hidden}.d{height:0}</style><body><div class='c d'>x</body>"},
		{"left in a shrunk box", "<body><div style='transform:scale(0)'>x</body>"},
		{"left in a clipped box", "<body><div style='position:absolute;clip:rect(0 0 0 0)'>x</body>"},
		{"left in a narrow box", "<body><div style='width:1px;overflow:hidden'>x</body>"},
		{"left in a faint box", "<body><div style='opacity:.1'>x</body>"},
		{"under an overlay", "<body>x<div style='position:fixed;top:0;left:0;width:100%;height:100%;background:#fff;z-index:5'>y</div></body>"},
		{"after floats", "<body><div style='float:left;width:70%;height:300px'>x</div></body>"},
		{"in a table left open", "<body><table><tr><td width=600>x</body>"},
		{"beside columns", "<body style='display:flex'><div>x</div></body>"},
		{"outlook only", "<body>x<!--[if mso]></body><![endif]--><![if !mso]><p>y</p><![endif]></body>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := "From: news@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + tt.html + "\r\n"
			seen := r.look(t, []byte(raw), treatment)
			if seen != 1 {
				t.Errorf("%d bodies looked at", seen)
			}
		})
	}
}

// TestReaderFindsFaults: what it is there to find, it finds.
func TestReaderFindsFaults(t *testing.T) {
	t.Parallel()
	r := startReader(t)
	for _, tt := range []struct{ name, style, around, want string }{
		{"fine", "", "", ""},
		{"white on white", "color:#fff", "", "contrast"},
		{"white in dark mode", "", "@media (prefers-color-scheme:dark){body{color:#fff}}", "dark: contrast"},
		{"small", "font-size:10px", "", "font size"},
		{"hidden", "display:none", "", "no box"},
		{"hidden on phones", "", "@media (max-width:500px){body{display:none}}", "375 light: no box"},
		{"invisible", "visibility:hidden", "", "visibility"},
		{"faint", "opacity:.2", "", "contrast"},
		{"off screen", "position:absolute;left:-9999px", "", "outside"},
		{"cut off", "height:0;overflow:hidden", "", "cut off"},
		{"covered", "", "i{position:fixed;top:0;left:0;width:100%;height:100%}", "covered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			html := "<style>" + tt.around + "</style><body><p>x</p><div lang=en dir=ltr style='" + tt.style + "'>" + noticePhrase + "</div><i></i></body>"
			got := strings.Join(r.ask(t, map[string]any{"html": html, "phrase": noticePhrase}), "\n")
			if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// look makes the copy of a message and tells how many HTML bodies with a notice it has; a Refusal has none.
func (r *reader) look(t *testing.T, raw []byte, treatment rewrite.Treatment) (bodies int) {
	t.Helper()
	m, err := rewrite.Read(raw)
	var out []byte
	if err == nil {
		out, _, err = m.Copy(treatment)
	}
	var refused *rewrite.Refusal
	if err != nil {
		if !errors.As(err, &refused) {
			t.Error(err)
		}
		t.Logf("refused: %v", err)
		return 0
	}
	for _, h := range htmlOf(out) {
		if !strings.Contains(h, treatment.Unsubscribe) {
			continue // an attachment, or not readable by go-message
		}
		bodies++
		for _, f := range r.ask(t, map[string]any{"html": h, "phrase": noticePhrase}) {
			t.Error(f)
		}
	}
	return bodies
}

// TestNoticeIsSeenInCorpus does the same with real mail.
func TestNoticeIsSeenInCorpus(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(filepath.Join(corpus, "eml")); err != nil || testing.Short() {
		t.Skipf("no corpus beside the repository, or -short: %v", err)
	}
	var mails [][]byte
	var names []string
	err := filepath.WalkDir(filepath.Join(corpus, "eml"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		raw, err := os.ReadFile(path)
		if raw = onTheWire(raw); err == nil && bytes.Contains(bytes.ToLower(raw), []byte("text/html")) {
			mails, names = append(mails, raw), append(names, path[len(corpus):])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	step := max(len(mails)/noticeSample, 1)
	if os.Getenv("HEED_CORPUS_ALL") != "" {
		step = 1
	}
	r, treatment := startReader(t), marketing(t)
	seen, refused := 0, 0
	for i := 0; i < len(mails); i += step {
		t.Run(names[i], func(t *testing.T) {
			n := r.look(t, mails[i], treatment)
			if seen += n; n == 0 {
				refused++
			}
		})
	}
	t.Logf("%d bodies looked at in %d messages, %d without one", seen, (len(mails)+step-1)/step, refused)
	if seen < 10 {
		t.Error("too few")
	}
}

// TestScreenshots makes the pictures of docs/rewriting: HEED_SCREENSHOTS is where they go, `make screenshots` sets it.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("HEED_SCREENSHOTS")
	if dir == "" {
		t.Skip("make screenshots makes the pictures")
	}
	files, err := filepath.Glob("testdata/newsletters/*.eml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d newsletters, %v", len(files), err)
	}
	r, treatment := startReader(t), marketing(t)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = onTheWire(raw)
		m, err := rewrite.Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		after, _, err := m.Copy(treatment)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		for when, mail := range map[string][]byte{"before": raw, "after": after} {
			for screen, width := range map[string]int{"desktop": 1280, "phone": 375} {
				picture, err := filepath.Abs(filepath.Join(dir, name+"-"+screen+"-"+when+".jpg"))
				if err != nil {
					t.Fatal(err)
				}
				html := htmlOf(mail)
				if len(html) != 1 {
					t.Fatalf("%s: %d HTML bodies", file, len(html))
				}
				r.ask(t, map[string]any{"html": html[0], "picture": picture, "width": width, "quality": 60})
			}
		}
	}
}
