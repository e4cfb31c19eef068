package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"heed/smtp/smtptest"
)

// mta is a real mail server as the upstream. It hands on what it takes to a sink that records it.
type mta struct {
	address string
	sink    *smtptest.Upstream
	taken   *regexp.Regexp // how it answers a message, by DATA and by BDAT
	refusal string         // how it refuses gone@spedition.example
	open    func()         // ends its greylisting of grey@spedition.example
	ca      string         // PEM file of its certificate, which is for localhost
	login   bool           // offers AUTH over TLS: gw, secret
	arrived int            // found at the next hop
}

// mtaName stands in the Received fields of the real mail servers.
const mtaName = "mta.test"

// newSink is the next hop. It offers no CHUNKING: how mail leaves the server is not what is tested.
func newSink(t *testing.T) *smtptest.Upstream {
	return smtptest.New(t, smtptest.Script{Extensions: smtptest.DefaultExtensions()})
}

// asRoot skips a test of a server that needs root to become a user of its own; it returns that user.
func asRoot(t *testing.T, name string) (uid, gid int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skipf("only root can start a private instance under the user %s", name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		missing(t, "the user "+name)
		return 0, 0
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// openDir is a temporary folder that other users can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// launch starts a server and waits until it greets; the test's end stops it, and shows what it said and its log files,
// which match logs, where the test failed.
func launch(t *testing.T, cmd *exec.Cmd, address, logs string, stop func()) {
	t.Helper()
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		stuck := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		cmd.Wait()
		if t.Failed() {
			files, _ := filepath.Glob(logs)
			for _, f := range files {
				b, _ := os.ReadFile(f)
				t.Logf("%s:\n%s", filepath.Base(f), b)
			}
			t.Logf("%s said:\n%s", cmd.Path, said.String())
		}
	})
	awaitListener(t, address, cmd.Path)
}

// arrival waits for the message of that Message-ID to that recipient at the next hop. What the server put on top is
// checked and taken off.
func (m *mta) arrival(t *testing.T, id, to string) smtptest.Message {
	t.Helper()
	field := []byte("\r\nMessage-ID: <" + id + "@acme.example>\r\n")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, got := range m.sink.Messages() {
			if len(got.To) == 1 && got.To[0].Address == to && bytes.Contains(got.Data, field) {
				var top string
				top, got.Data = topField(got.Data)
				if !strings.HasPrefix(top, "Received: from ") || !strings.Contains(top, "by "+mtaName) {
					t.Errorf("on top stands %q, want the server's Received", top)
				}
				m.arrived++
				return got
			}
		}
	}
	t.Fatalf("%s did not arrive for %s", id, to)
	return smtptest.Message{}
}

// topField is the first header field, folded lines and line end included, and what follows.
func topField(raw []byte) (string, []byte) {
	end := 0
	for line := range bytes.Lines(raw) {
		if end > 0 && line[0] != ' ' && line[0] != '\t' {
			break
		}
		end += len(line)
	}
	return string(raw[:end]), raw[end:]
}

// untouched wants a transactional message: the gateway's Received, then what the tool sent to the byte.
func untouched(t *testing.T, raw string, got smtptest.Message) {
	t.Helper()
	top, rest := topField(got.Data)
	if !strings.HasPrefix(top, "Received: ") || !strings.Contains(top, "by gw.acme.example with ") {
		t.Errorf("on top stands %q, want the gateway's Received", top)
	}
	if have := string(rest); have != raw {
		t.Errorf("got\n%.2000q\nwant\n%.2000q", have, raw)
	}
}

// trial is a message that tries a server in one respect.
type trial struct {
	name string
	raw  func(t *testing.T, to, id string) string
}

func withBody(body string) func(*testing.T, string, string) string {
	return func(_ *testing.T, to, id string) string {
		head, _, _ := strings.Cut(plainMail(to, id), "\r\n\r\n")
		return head + "\r\n\r\n" + body
	}
}

var trials = []trial{
	{"plain", withBody("Hello,\r\n\r\nsee what is new: https://acme.example/news\r\n")},
	{"8-bit", func(_ *testing.T, to, id string) string { return eightBit(to, id) }},
	{"dots", withBody(".\r\n..\r\n...\r\n.a\r\n\r\n.\r\n\r\na.\r\n.\r\n")},
	{"long lines", withBody(strings.Repeat("x", 998) + "\r\n." + strings.Repeat("y", 997) + "\r\n" + strings.Repeat("ü", 499) + "\r\n")},
	{"blanks", withBody(" \r\n\t\r\nend of line \t \r\n\r\n\r\nFrom here\r\n>From there\r\n\r\n\r\n")},
	{"empty body", withBody("")},
	{"attachment", func(t *testing.T, to, id string) string { return mixed(t, to, id, 300_000) }},
}

// behind is the gateway in front of a real server, by all that the two have to agree on.
func (m *mta) behind(t *testing.T) {
	g := newGateway(t, setting{"UPSTREAM", m.address}).start()
	const to = "lager@spedition.example"
	three := []string{"a@spedition.example", "b@spedition.example", "c@spedition.example"}
	g.consented(append(three, to, "gone@spedition.example", "grey@spedition.example", "jörg@spedition.example")...)
	marketing, transactional := g.tool(t, "crm"), g.tool(t, "shop")
	take := func(t *testing.T, from *tool, raw string, to ...string) {
		t.Helper()
		if rcpt, dot := from.send(raw, to...); !m.taken.MatchString(dot) {
			t.Fatalf("%q, then %q, want the server's %s", rcpt, dot, m.taken)
		}
	}
	for i, l := range trials {
		t.Run(l.name, func(t *testing.T) {
			id := fmt.Sprintf("letter.%d", i)
			raw := l.raw(t, to, id)
			take(t, marketing, raw, to)
			wantCopy(t, []byte(raw), m.arrival(t, id, to), to)
			raw = l.raw(t, to, id+".tx")
			take(t, transactional, raw, to)
			untouched(t, raw, m.arrival(t, id+".tx", to))
		})
	}
	t.Run("several recipients", func(t *testing.T) {
		raw := eightBit("list@acme.example", "three")
		take(t, marketing, raw, three...)
		links := map[string]bool{}
		for _, to := range three {
			links[wantCopy(t, []byte(raw), m.arrival(t, "three", to), to)] = true
		}
		if len(links) != 3 {
			t.Errorf("%d links, want one for each", len(links))
		}
	})
	t.Run("international address", func(t *testing.T) {
		const to = "jörg@spedition.example"
		raw := strings.Replace(eightBit(to, "utf8"), "=?utf-8?b?R3LDvMOfZQ==?=", "Grüße für Jörg", 1)
		transactional.say("250", "MAIL FROM:<news@acme.example> SMTPUTF8 BODY=8BITMIME")
		if dot := transactional.finish(raw, "<"+to+">"); !m.taken.MatchString(dot) {
			t.Fatalf("%q", dot)
		}
		got := m.arrival(t, "utf8", to)
		untouched(t, raw, got)
		if p := strings.Join(got.Params, " "); !strings.Contains(p, "SMTPUTF8") {
			t.Errorf("parameters of MAIL: %q", p)
		}
	})
	t.Run("delivery status notifications", func(t *testing.T) {
		raw := plainMail(to, "dsn")
		transactional.say("250", "MAIL FROM:<bounces+4711@acme.example> RET=HDRS ENVID=campaign-7")
		if dot := transactional.finish(raw, "<"+to+"> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@spedition.example"); !m.taken.MatchString(dot) {
			t.Fatalf("%q", dot)
		}
		got := m.arrival(t, "dsn", to)
		untouched(t, raw, got)
		said := strings.Join(append(got.Params, got.To[0].Params...), " ")
		for _, want := range []string{"RET=HDRS", "ENVID=campaign-7", "NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first@spedition.example"} {
			if !strings.Contains(said, want) || got.From != "bounces+4711@acme.example" {
				t.Errorf("from %s %s, want %s", got.From, said, want)
			}
		}
	})
	t.Run("refused recipient", func(t *testing.T) {
		if _, dot := marketing.send(plainMail(to, "gone"), "gone@spedition.example"); dot != m.refusal {
			t.Errorf("%q, want the server's own %q", dot, m.refusal)
		}
		take(t, marketing, plainMail(to, "after gone"), to) // and the connection goes on
		m.arrival(t, "after.gone", to)
	})
	t.Run("greylisted", func(t *testing.T) {
		raw := plainMail("grey@spedition.example", "grey")
		if _, dot := marketing.send(raw, "grey@spedition.example"); !strings.HasPrefix(dot, "250 2.0.0 queued as ") {
			t.Fatalf("%q", dot)
		}
		m.open()
		wantCopy(t, []byte(raw), m.arrival(t, "grey", "grey@spedition.example"), "grey@spedition.example")
	})
	t.Run("many", func(t *testing.T) { m.many(t, g) })
	t.Run("tls", func(t *testing.T) { m.secured(t, to) })
	seen := map[string]int{}
	for _, got := range m.sink.Messages() {
		p := split(got.Data)
		seen[p.value("Message-ID")+" "+got.To[0].Address]++
	}
	for what, n := range seen {
		if n != 1 {
			t.Errorf("%s arrived %d times", what, n)
		}
	}
	if len(seen) != m.arrived {
		t.Errorf("%d messages arrived, %d were awaited", len(seen), m.arrived)
	}
}

// finish ends a transaction that MAIL has begun; path has its brackets, and parameters.
func (m *tool) finish(raw, path string) (dot string) {
	m.t.Helper()
	m.say("250", "RCPT TO:%s", path)
	m.say("354", "DATA")
	w := m.conn.DotWriter()
	if _, err := w.Write([]byte(raw)); err != nil {
		m.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	return m.hear("")
}

const (
	manyTools   = 8
	manyLetters = 15
)

// many sends over several connections at once.
func (m *mta) many(t *testing.T, g *gateway) {
	t.Run("at once", func(t *testing.T) {
		for c := range manyTools {
			t.Run(fmt.Sprintf("tool %d", c), func(t *testing.T) {
				t.Parallel()
				from := g.tool(t, "shop")
				for i := range manyLetters {
					to := fmt.Sprintf("p%d@spedition.example", c*manyLetters+i)
					if _, dot := from.send(eightBit(to, "many"), to); !m.taken.MatchString(dot) {
						t.Fatalf("%d: %q", i, dot)
					}
				}
			})
		}
	})
	for i := range manyTools * manyLetters {
		to := fmt.Sprintf("p%d@spedition.example", i)
		untouched(t, eightBit(to, "many"), m.arrival(t, "many", to))
	}
}

// secured goes over STARTTLS, verified, and logs in where the server knows how.
func (m *mta) secured(t *testing.T, to string) {
	_, port, _ := net.SplitHostPort(m.address)
	g := newGateway(t, setting{"UPSTREAM", "localhost:" + port})
	login := ""
	if m.login {
		login = `, username: gw, password: secret`
	}
	g.edit(`"smtp://localhost:`+port+`"`, `"smtp+starttls://localhost:`+port+`"`+login)
	g.env = []string{"SSL_CERT_FILE=" + m.ca}
	g.start()
	raw := eightBit(to, "tls")
	if _, dot := g.tool(t, "shop").send(raw, to); !m.taken.MatchString(dot) {
		t.Fatalf("%q", dot)
	}
	untouched(t, raw, m.arrival(t, "tls", to))
	with := map[bool]string{false: "ESMTPS", true: "esmtpsa"}[m.login]
	for _, got := range m.sink.Messages() {
		if top, _ := topField(got.Data); bytes.Contains(got.Data, []byte("<tls@acme.example>")) && !strings.Contains(top, "with "+with+" ") {
			t.Errorf("%q, want it to say %s", top, with)
		}
	}
}

// TestPostfix: a private instance of Postfix as upstream.
func TestPostfix(t *testing.T) {
	t.Parallel()
	startPostfix(t).behind(t)
}

// TestExim: a private instance of Exim as upstream.
func TestExim(t *testing.T) {
	t.Parallel()
	startExim(t).behind(t)
}
