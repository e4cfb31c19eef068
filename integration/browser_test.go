package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// browser is a Chromium that browser/optout.js drives.
type browser struct {
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// seen is what a person finds on a page.
type seen struct {
	Status, Cookies, Overflow      int
	Title, Heading, Language, Text string
	Styled                         bool
	Complaints                     []string
	Buttons                        []struct {
		Name, Value, Text string
		Height, Right     float64
	}
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	js, chromium := node(t, "playwright-core"), program(t, "chromium")
	b := &browser{}
	cmd := exec.Command(js, "browser/optout.js", chromium)
	var err error
	if b.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.out, cmd.Stderr = bufio.NewReader(out), &b.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.in.Close()
		stuck := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("browser: %v\n%s", err, b.stderr.String())
		}
	})
	return b
}

// do gives one order and returns the page after it; what holds of every page is checked here.
func (b *browser) do(t *testing.T, order map[string]any) seen {
	t.Helper()
	line, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	answer, err := b.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("browser: %v\n%s", err, b.stderr.String())
	}
	var s seen
	if err := json.Unmarshal(answer, &s); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	if s.Status != 200 || s.Cookies != 0 || s.Overflow > 0 || !s.Styled || len(s.Complaints) > 0 || s.Heading != s.Title {
		t.Errorf("page: %+v", s)
	}
	for _, button := range s.Buttons {
		if button.Height < 44 || button.Right > order["width"].(float64) { // 44 CSS pixels: WCAG 2.5.5
			t.Errorf("button %+v", button)
		}
	}
	return s
}

// TestBrowser: a recipient opens the link, stops the sender, thinks again.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	m := g.tool(t, "crm")
	mails := 0
	for _, tt := range []struct {
		name, to, language, masked string
		width                      float64
		scripts                    bool
		ask, stop, stopped, undone string
	}{
		{"desktop", "james@spedition.example", "en-GB", "j•••@s•••.example", 1280, true, "Stop marketing email", "Stop all marketing email from Acme Ltd", "You are unsubscribed", "Undone"},
		{"phone", "p." + strings.Repeat("very-long-", 5) + "name@spedition.example", "en-US", "p•••@s•••.example", 320, true, "Stop marketing email", "Stop all marketing email from Acme Ltd", "You are unsubscribed", "Undone"},
		{"no scripts", "anna@spedition.example", "en-GB", "a•••@s•••.example", 320, false, "Stop marketing email", "Stop all marketing email from Acme Ltd", "You are unsubscribed", "Undone"},
		{"German", "klaus@spedition.example", "de-AT", "k•••@s•••.example", 320, true, "Werbe-E-Mails abbestellen", "Alle Werbe-E-Mails von Acme Ltd abbestellen", "Sie sind abgemeldet", "Rückgängig gemacht"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			send := func(subject string) {
				m.sent(plainMail(tt.to, subject), tt.to)
				mails++
			}
			g.consented(tt.to)
			send("one")
			url := link(t, up.Await(t, mails)[mails-1])
			s := b.do(t, map[string]any{"do": "visit", "url": url, "width": tt.width, "language": tt.language, "scripts": tt.scripts})
			if s.Title != tt.ask || s.Language != tt.language[:2] || !strings.Contains(s.Text, "Acme Ltd") || !strings.Contains(s.Text, tt.masked) || strings.Contains(s.Text, tt.to) || len(s.Buttons) != 3 || s.Buttons[0].Text != tt.stop {
				t.Errorf("opened: %+v", s)
			}
			send("two") // opening changed nothing
			s = b.do(t, map[string]any{"do": "press", "name": "scope", "value": "sender", "width": tt.width})
			if s.Title != tt.stopped || !strings.Contains(s.Text, tt.masked) || !strings.Contains(s.Text, "Acme Ltd") || len(s.Buttons) != 1 {
				t.Errorf("stopped: %+v", s)
			}
			m.blocked(plainMail(tt.to, "three"), tt.to, "optout.sender")
			s = b.do(t, map[string]any{"do": "press", "name": "undo", "value": "1", "width": tt.width})
			if s.Title != tt.undone || len(s.Buttons) != 3 {
				t.Errorf("undone: %+v", s)
			}
			send("four")
		})
	}
}
