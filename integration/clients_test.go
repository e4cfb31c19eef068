package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// order is what a mail tool is told to send.
type order struct {
	Host       string   `json:"host"`
	Port       int      `json:"port"`
	TLS        string   `json:"tls"` // "", starttls or tls
	CA         string   `json:"ca"`
	User       string   `json:"user"`
	Password   string   `json:"password"`
	Mechanism  string   `json:"mechanism"` // PLAIN or LOGIN
	From       string   `json:"from"`
	To         []string `json:"to"`
	File       string   `json:"file"`
	Save       string   `json:"save"`
	UTF8       bool     `json:"utf8"`
	Compose    bool     `json:"compose"` // by the tool's own library
	HeaderFrom string   `json:"header_from"`
	Subject    string   `json:"subject"`
	MessageID  string   `json:"message_id"`
	Text       string   `json:"text"`
	HTML       string   `json:"html"`
	Attachment string   `json:"attachment"`
}

// said is what the tool heard: replies as code and text.
type said struct {
	Refused map[string][]any `json:"refused"`
	Reply   []any            `json:"reply"`
	Error   string           `json:"error"`
	All     string           // everything the tool printed
	Sent    []byte           // the message as it went to the wire, as far as the tool tells
}

// client drives one mail tool.
type client func(*testing.T, order) said

func clients(t *testing.T, name string) client {
	switch name {
	case "smtplib":
		python := program(t, "python3")
		return func(t *testing.T, o order) said { return scripted(t, o, python, "clients/send.py") }
	case "nodemailer":
		js := node(t, "nodemailer")
		return func(t *testing.T, o order) said { return scripted(t, o, js, "clients/send.js") }
	case "swaks":
		path := program(t, "swaks")
		return func(t *testing.T, o order) said { return swaks(t, o, path) }
	}
	path := program(t, "msmtp")
	return func(t *testing.T, o order) said { return msmtp(t, o, path) }
}

// scripted runs a script that takes its orders and answers in JSON.
func scripted(t *testing.T, o order, command ...string) said {
	t.Helper()
	o.Save = filepath.Join(t.TempDir(), "sent.eml")
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, stderr.String())
	}
	var s said
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	s.All = string(out)
	s.Sent, _ = os.ReadFile(o.Save) // not there where nothing was sent
	return s
}

func swaks(t *testing.T, o order, path string) said {
	t.Helper()
	args := []string{"--server", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), "--helo", "swaks.example", "--suppress-data", "--from", o.From, "--to", strings.Join(o.To, ","), "--data", "@" + o.File}
	if o.User != "" {
		args = append(args, "--auth", o.Mechanism, "--auth-user", o.User, "--auth-password", o.Password)
	}
	if o.TLS != "" {
		args = append(args, map[string]string{"starttls": "--tls", "tls": "--tlsc"}[o.TLS], "--tls-verify", "--tls-ca-path", o.CA)
	}
	return heard(exec.Command(path, args...))
}

func msmtp(t *testing.T, o order, path string) said {
	t.Helper()
	lines := []string{"account default", "host " + o.Host, "port " + strconv.Itoa(o.Port), "domain msmtp.example"}
	if o.User != "" {
		lines = append(lines, "auth "+strings.ToLower(o.Mechanism), "user "+o.User, "password "+o.Password)
	}
	switch o.TLS {
	case "starttls":
		lines = append(lines, "tls on", "tls_starttls on", "tls_trust_file "+o.CA)
	case "tls":
		lines = append(lines, "tls on", "tls_starttls off", "tls_trust_file "+o.CA)
	}
	config := filepath.Join(t.TempDir(), "msmtprc")
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"--file=" + config, "--debug", "-f", o.From}, o.To...)...)
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))) // a local file's line ends
	return heard(cmd)
}

// heard runs a tool that prints the dialogue.
func heard(cmd *exec.Cmd) said {
	out, err := cmd.CombinedOutput()
	s := said{All: string(out), Refused: map[string][]any{}}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

// letterFile writes a message as a file with CRLF line ends and returns both.
func letterFile(t *testing.T, raw string) (file string, sent []byte) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "letter.eml")
	if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, []byte(raw)
}

// eightBit has a text of 8-bit bytes, odd but lawful header folding, and lines that begin with dots.
func eightBit(to, id string) string {
	return "From: =?utf-8?q?Acme_f=C3=BCr_Sie?= <news@acme.example>\r\nTo: <" + to + ">\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n" +
		"Date: Mon, 05 Jan 2026 10:00:00 +0000\r\nMessage-ID: <" + id + "@acme.example>\r\nX-Tool:  two  blanks\r\n\tand a fold \r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
		"Grüße aus Köln,\r\n.ein Punkt am Anfang\r\n..zwei Punkte\r\n.\tund Tab\r\n\r\nIhre Acme\r\n"
}

// mixed has a text, its HTML and an attachment of so many random bytes.
func mixed(t *testing.T, to, id string, size int) string {
	t.Helper()
	blob := make([]byte, size)
	if _, err := rand.Read(blob); err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(blob)
	var b strings.Builder
	b.WriteString("From: Acme <news@acme.example>\r\nTo: <" + to + ">\r\nSubject: catalogue\r\nDate: Mon, 05 Jan 2026 10:00:00 +0000\r\nMessage-ID: <" + id + "@acme.example>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"outer\"\r\n\r\nA preamble nobody reads.\r\n--outer\r\n" +
		"Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n" +
		"--inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<html><body><p>Grüße</p></body></html>\r\n--inner--\r\n" +
		"--outer\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=catalogue.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(encoded) > 76 {
		b.WriteString(encoded[:76] + "\r\n")
		encoded = encoded[76:]
	}
	b.WriteString(encoded + "\r\n--outer--\r\nAn epilogue.\r\n")
	return b.String()
}

// mailTool is a client and what it can do beyond the common.
type mailTool struct {
	name   string
	wraps  bool // prints the dialogue instead of answering in JSON
	routes []route
}

// route is a way in.
type route struct{ tls, mechanism string }

var mailTools = []mailTool{
	{"smtplib", false, []route{{"", "PLAIN"}, {"", "LOGIN"}, {"starttls", "PLAIN"}, {"starttls", "LOGIN"}, {"tls", "PLAIN"}, {"tls", "LOGIN"}}},
	{"swaks", true, []route{{"", "LOGIN"}, {"starttls", "PLAIN"}, {"tls", "PLAIN"}}},
	{"msmtp", true, []route{{"", "PLAIN"}, {"starttls", "LOGIN"}, {"tls", "PLAIN"}}},
	{"nodemailer", false, []route{{"", "PLAIN"}, {"starttls", "PLAIN"}, {"tls", "LOGIN"}}},
}

// to is an order by a route to this gateway.
func (g *gateway) to(r route, recipients ...string) order {
	address := g.smtp
	if r.tls == "tls" {
		address = g.smtps
	}
	host, port, _ := net.SplitHostPort(address)
	o := order{Host: host, TLS: r.tls, Mechanism: r.mechanism, From: "news@acme.example", To: recipients}
	o.Port, _ = strconv.Atoi(port)
	if r.tls != "" {
		o.CA = g.ca
	}
	if r.mechanism != "" {
		o.User, o.Password = "crm", "secret"
	}
	return o
}

// taken wants the upstream's own 250, passed on word for word.
func (s said) taken(t *testing.T, upstream string) {
	t.Helper()
	told := s.All
	if s.Reply != nil {
		told = fmt.Sprintf("%v %v", s.Reply...)
	}
	if s.Error != "" || !strings.Contains(told, upstream) {
		t.Fatalf("error %q, heard %s, want %s", s.Error, told, upstream)
	}
}

// TestClients: every tool by every way in, with 8-bit text; the copy at the upstream is the message, with what is due.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, c := range mailTools {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			send := clients(t, c.name)
			up := smtptest.New(t, smtptest.Script{})
			g := newSecureGateway(t, setting{"UPSTREAM", up.Addr()}).start()
			to := c.name + "@spedition.example"
			g.consented(to)
			for i, r := range c.routes {
				t.Run(strings.TrimPrefix(r.tls+" "+r.mechanism, " "), func(t *testing.T) {
					o := g.to(r, to)
					var raw []byte
					o.File, raw = letterFile(t, eightBit(to, fmt.Sprintf("%s.%d", c.name, i)))
					s := send(t, o)
					s.taken(t, fmt.Sprintf("250 2.0.0 ok: queued as %d", i+1))
					got := up.Await(t, i+1)[i]
					if c.name == "swaks" {
						raw = append(raw, "\r\n"...) // its own
					}
					wantCopy(t, raw, got, to)
					with := "ESMTPA"
					if r.tls != "" {
						with = "ESMTPSA"
					}
					if v := split(got.Data).value("Received"); !strings.Contains(v, "with "+with+" id") {
						t.Errorf("Received: %s, want %s", v, with)
					}
				})
			}
			t.Run("blocked at RCPT", func(t *testing.T) {
				stranger := "max.weber@spediteur.de"
				o := g.to(c.routes[0], stranger)
				o.File, _ = letterFile(t, eightBit(stranger, "blocked"))
				s := send(t, o)
				want := "5.7.1 <" + stranger + "> blocked [consent.missing]"
				if c.wraps {
					if s.Error == "" || !strings.Contains(s.All, "550 "+want) {
						t.Errorf("%s: %s", s.Error, s.All)
					}
				} else if r := s.Refused[stranger]; len(r) != 2 || r[0] != 550.0 || !strings.HasPrefix(r[1].(string), want) {
					t.Errorf("refused %v, want 550 %s", s.Refused, want)
				}
				if n := len(up.Seen()); n != len(c.routes) {
					t.Errorf("the upstream saw %d messages, want %d", n, len(c.routes))
				}
			})
			t.Run("one of two blocked", func(t *testing.T) {
				if c.name == "msmtp" { // all or nothing
					t.Skip("msmtp gives up where any recipient is refused")
				}
				stranger := "max.weber@spediteur.de"
				o := g.to(c.routes[0], to, stranger)
				o.File, _ = letterFile(t, eightBit(to, "partly"))
				s := send(t, o)
				if !c.wraps && len(s.Refused[stranger]) == 0 || !strings.Contains(s.All, "blocked [consent.missing]") {
					t.Errorf("refused %v\n%s", s.Refused, s.All)
				}
				got := up.Await(t, len(c.routes)+1)
				if len(got) != len(c.routes)+1 || len(got[len(c.routes)].To) != 1 || got[len(c.routes)].To[0].Address != to {
					t.Errorf("%d messages, the last to %v", len(got), got[len(got)-1].To)
				}
			})
			t.Run("wrong password", func(t *testing.T) {
				o := g.to(c.routes[0], to)
				o.Password = "wrong"
				o.File, _ = letterFile(t, eightBit(to, "wrong"))
				if s := send(t, o); s.Error == "" || !strings.Contains(s.All+s.Error, "535") {
					t.Errorf("error %q, heard %s, want 535", s.Error, s.All)
				}
			})
		})
	}
}

// TestClientsWithoutLogin: a trusted network names the account; the upstream's refusal is handed through.
func TestClientsWithoutLogin(t *testing.T) {
	t.Parallel()
	const no = "554 5.7.1 this content is not wanted here"
	for _, c := range mailTools {
		t.Run(c.name, func(t *testing.T) {
			send := clients(t, c.name)
			up := smtptest.New(t, smtptest.Script{Answers: map[string][]string{".": {"", no}}})
			g := newGateway(t, setting{"UPSTREAM", up.Addr()},
				setting{"ACCOUNTS", "  - {name: trusted, sender: acme, topic: newsletter, product: crm, networks: [127.0.0.0/8]}"}).start()
			to := c.name + "@spedition.example"
			g.consented(to)
			for i, want := range []string{"250 2.0.0 ok: queued as 1", no} {
				o := g.to(route{}, to)
				var raw []byte
				o.File, raw = letterFile(t, eightBit(to, fmt.Sprintf("%s.%d", c.name, i)))
				s := send(t, o)
				if i == 0 {
					s.taken(t, want)
					if c.name == "swaks" {
						raw = append(raw, "\r\n"...)
					}
					wantCopy(t, raw, up.Await(t, 1)[0], to)
					continue
				}
				if s.Error == "" || !strings.Contains(strings.ReplaceAll(s.All, "] [", " "), strings.TrimPrefix(want, "554 ")) || !strings.Contains(s.All, "554") {
					t.Errorf("error %q, heard %s, want %s", s.Error, s.All, want)
				}
			}
		})
	}
}

// TestAttachment: 10 MiB by every tool; the bytes arrive as they were.
func TestAttachment(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newSecureGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "lager@spedition.example"
	g.consented(to)
	n := 0
	for _, c := range mailTools {
		t.Run(c.name, func(t *testing.T) {
			send := clients(t, c.name)
			o := g.to(route{"starttls", "PLAIN"}, to)
			var raw []byte
			o.File, raw = letterFile(t, mixed(t, to, c.name, 10<<20))
			send(t, o).taken(t, "250 2.0.0 ok: queued as")
			n++
			if c.name == "swaks" {
				raw = append(raw, "\r\n"...)
			}
			wantCopy(t, raw, up.Await(t, n)[n-1], to)
		})
	}
}

// TestComposed: messages as the tools' own libraries make them, with their own encodings.
func TestComposed(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newSecureGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "lager@spedition.example"
	g.consented(to)
	blob := make([]byte, 100_003)
	if _, err := rand.Read(blob); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "prospekt.pdf")
	if err := os.WriteFile(file, blob, 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range []string{"smtplib", "nodemailer"} {
		t.Run(name, func(t *testing.T) {
			send := clients(t, name)
			o := g.to(route{"tls", "PLAIN"}, to)
			o.Compose, o.HeaderFrom, o.Subject, o.MessageID = true, "Acme für Sie <news@acme.example>", "Neues für Köln – günstig", "<"+name+".composed@acme.example>"
			o.Text, o.HTML, o.Attachment = "Grüße aus Köln\n", "<!doctype html><html><body><p>Grüße aus Köln, "+strings.Repeat("sehr ", 300)+"herzlich</p></body></html>\n", file
			s := send(t, o)
			s.taken(t, "250 2.0.0 ok: queued as")
			n++
			got := up.Await(t, n)[n-1]
			wantCopy(t, s.Sent, got, to)
			parts, _ := split(got.Data).parts()
			if len(parts) != 2 || parts[1].text(t) != string(blob) {
				t.Errorf("%d parts, and the attachment is not what was attached", len(parts))
			}
		})
	}
}

// TestInternationalAddress: non-ASCII local parts and fields (RFC 6531), through an upstream that can and one that cannot.
func TestInternationalAddress(t *testing.T) {
	t.Parallel()
	const to = "jörg@spedition.example"
	for _, tt := range []struct {
		name       string
		extensions []string
	}{{"upstream with SMTPUTF8", nil}, {"upstream without", []string{"8BITMIME", "ENHANCEDSTATUSCODES"}}} {
		t.Run(tt.name, func(t *testing.T) {
			up := smtptest.New(t, smtptest.Script{Extensions: tt.extensions})
			g := newSecureGateway(t, setting{"UPSTREAM", up.Addr()}).start()
			g.consented(to)
			for i, name := range []string{"smtplib", "nodemailer"} {
				t.Run(name, func(t *testing.T) {
					send := clients(t, name)
					o := g.to(route{"starttls", "PLAIN"}, to)
					o.UTF8 = true
					var raw []byte
					o.File, raw = letterFile(t, strings.Replace(eightBit(to, name), "=?utf-8?b?R3LDvMOfZQ==?=", "Grüße für jörg@spedition.example", 1))
					s := send(t, o)
					if tt.extensions != nil {
						if !strings.Contains(s.All, "550") || !strings.Contains(s.All, "5.6.7") || len(up.Seen()) > 0 {
							t.Errorf("heard %s, want 550 5.6.7", s.All)
						}
						return
					}
					s.taken(t, "250 2.0.0 ok: queued as")
					got := up.Await(t, i+1)[i]
					wantCopy(t, raw, got, to)
					if !strings.Contains(strings.Join(got.Params, " "), "SMTPUTF8") {
						t.Errorf("MAIL parameters %v", got.Params)
					}
					if v := split(got.Data).value("Received"); !strings.Contains(v, "with UTF8SMTPSA id") {
						t.Errorf("Received: %s", v)
					}
				})
			}
		})
	}
}

// TestTwoHundredRecipients in one transaction: a copy each, with a link of its own; the answer sums up.
func TestTwoHundredRecipients(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"smtplib", "nodemailer", "swaks"} {
		t.Run(name, func(t *testing.T) {
			send := clients(t, name)
			up := smtptest.New(t, smtptest.Script{})
			g := newSecureGateway(t, setting{"UPSTREAM", up.Addr()}).start()
			var known, all []string
			for i := range 197 {
				known = append(known, fmt.Sprintf("p%d@spedition.example", i))
			}
			g.consented(known...)
			all = append(append(all, known...), "a@strange.de", "b@strange.de", "c@strange.de")
			o := g.to(route{"", "PLAIN"}, all...)
			o.User = "open" // its topic stands in the message: nobody is refused before DATA
			raw := plainMail("list@acme.example", "to all", "Heed-Topic: newsletter")
			o.File, _ = letterFile(t, raw)
			s := send(t, o)
			told := s.All
			if s.Reply != nil {
				told = fmt.Sprintf("%v %v", s.Reply...)
			}
			if s.Error != "" || !regexp.MustCompile(`250 2\.0\.0 \S+: 197 sent, 3 blocked`).MatchString(told) {
				t.Fatalf("error %q, heard %.300s", s.Error, told)
			}
			got := up.Await(t, 198) // and the bounce
			links, reached, bounces := map[string]bool{}, map[string]bool{}, 0
			raw = strings.Replace(raw, "Heed-Topic: newsletter\r\n", "", 1)
			if name == "swaks" {
				raw += "\r\n"
			}
			for _, m := range got {
				if m.From == "" {
					bounces++
					if text := string(m.Data); m.To[0].Address != o.From || !strings.Contains(text, "a@strange.de") || !strings.Contains(text, "c@strange.de") || strings.Contains(text, known[0]) {
						t.Errorf("bounce to %v:\n%s", m.To, text)
					}
					continue
				}
				to := m.To[0].Address
				reached[to], links[wantCopy(t, []byte(raw), m, to)] = true, true
			}
			if len(reached) != 197 || len(links) != 197 || bounces != 1 || len(got) != 198 {
				t.Errorf("%d recipients, %d links, %d bounces, %d messages", len(reached), len(links), bounces, len(got))
			}
		})
	}
}

// unquote decodes quoted-printable.
func unquote(t *testing.T, b []byte) string {
	t.Helper()
	out, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Errorf("quoted-printable: %v", err)
	}
	return string(out)
}
