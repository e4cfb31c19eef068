// Package smtptest is a scripted upstream for tests: an SMTP server on 127.0.0.1 that answers each step as it is told,
// misbehaves on demand and records what it was given, to the byte.
package smtptest

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Close as an answer closes the connection; at the end of an answer it closes after that answer.
// Silence as an answer says nothing more until the client leaves or the test ends.
// Apart divides an answer in two that arrive together, over TLS in a record each.
const (
	Close   = "\x00close"
	Silence = "\x00silence"
	Apart   = "\x00apart"
)

// Ways of taking BDAT wrongly: it is no command that the server knows; or the chunk is left in the stream where the
// command is refused, as some servers do. Either way the chunk is then read as commands.
const (
	Unknown = "unknown"
	Unread  = "unread"
)

// DefaultExtensions are offered where a Script names none.
func DefaultExtensions() []string {
	return []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "DSN", "ENHANCEDSTATUSCODES"}
}

// Chunking are the DefaultExtensions and CHUNKING.
func Chunking() []string { return append(DefaultExtensions(), "CHUNKING") }

// Script says how the upstream behaves. The zero Script takes every message.
type Script struct {
	Address    string   // host:port to listen on; "": a free port of 127.0.0.1
	Extensions []string // EHLO keywords; nil: DefaultExtensions, []string{} none. STARTTLS and AUTH are added as needed
	TLS        string   // "", "starttls" or "tls", with a self-signed certificate: see Upstream.Roots
	Login      string   // "user:password" that AUTH must give; "" offers no AUTH
	Logins     []string // further ones
	Mechanisms string   // of AUTH; "": PLAIN LOGIN
	Chunks     string   // how BDAT is taken, whatever Extensions say: "" by RFC 3030, Unknown or Unread
	Flushes    bool     // what was pipelined behind a command is thrown away (RFC 2920 section 3.2 forbids it)

	// Answers by step: connect, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, body (once the first line of the content
	// was read), "." (the final dot), BDAT (a chunk was read), probe (as BDAT, where no MAIL came before it), RSET, QUIT.
	// The n-th time a step is reached in the life of the upstream its n-th
	// answer is given, the last one again and again; "" is the normal answer. An answer is sent as it stands, lines
	// separated by "\r\n", the last CRLF added. After a 421 the connection is closed.
	Answers map[string][]string

	// Before is called before each step is answered, with its name; a test may block in it.
	Before func(step string)
}

// Recipient is a RCPT that was accepted.
type Recipient struct {
	Address string   // between < and >
	Params  []string // as they came
}

// Message is a transaction that reached its final dot, or the end of its last chunk.
type Message struct {
	Conn   int    // number of the connection, from 1
	Helo   string // the client's name
	TLS    bool
	Login  string // who AUTH said, "" if nobody
	From   string // between < and >
	Params []string
	To     []Recipient
	Data   []byte // without dot-stuffing and final dot
	Wire   []byte // as it came, with both; of BDAT the chunks alone
	Answer string // to the final dot or the last chunk, "" if none was given
}

// Upstream is a running scripted peer.
type Upstream struct {
	script   Script
	listener net.Listener
	tls      *tls.Config
	roots    *x509.CertPool

	mu       sync.Mutex
	changed  *sync.Cond
	reached  map[string]int
	conns    map[net.Conn]struct{}
	accepted int
	closed   bool
	seen     []Message
	commands []string
}

// New starts an upstream that ends with the test.
func New(t testing.TB, s Script) *Upstream {
	t.Helper()
	l, err := net.Listen("tcp", cmp.Or(s.Address, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	u := &Upstream{script: s, listener: l, reached: map[string]int{}, conns: map[net.Conn]struct{}{}}
	u.changed = sync.NewCond(&u.mu)
	if s.TLS != "" {
		u.tls, u.roots = certificate(t)
	}
	if s.Extensions == nil {
		u.script.Extensions = DefaultExtensions()
	}
	go u.accept()
	t.Cleanup(u.Close)
	return u
}

// Addr is host:port.
func (u *Upstream) Addr() string { return u.listener.Addr().String() }

// Roots holds the certificate's authority; nil without TLS.
func (u *Upstream) Roots() *x509.CertPool { return u.roots }

// Close stops listening and cuts every connection. The test's end does it as well.
func (u *Upstream) Close() {
	u.listener.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.cut()
}

// Cut closes every connection that is open now, as a restarting or timing out server does.
func (u *Upstream) Cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cut()
}

func (u *Upstream) cut() {
	for c := range u.conns {
		c.Close()
	}
}

// Stray writes s to every connection that is open now, asked or not.
func (u *Upstream) Stray(s string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		c.Write([]byte(s))
	}
}

// Messages are those that were taken (the final dot answered 2yz), in order.
func (u *Upstream) Messages() []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.taken()
}

// Seen are all that reached their final dot or the end of their last chunk, whatever was answered.
func (u *Upstream) Seen() []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

// Commands are all command lines as they came, in the order they were read; logins' secrets stand as "***".
func (u *Upstream) Commands() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.commands)
}

// Connections is how many were accepted.
func (u *Upstream) Connections() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.accepted
}

// Await waits until n messages were taken and returns all; the test fails after 20 seconds.
func (u *Upstream) Await(t testing.TB, n int) []Message {
	t.Helper()
	u.until(t, func() bool { return len(u.taken()) >= n })
	return u.Messages()
}

// AwaitCommands waits until n command lines begin with prefix; the test fails after 20 seconds.
func (u *Upstream) AwaitCommands(t testing.TB, prefix string, n int) {
	t.Helper()
	u.until(t, func() bool {
		found := 0
		for _, c := range u.commands {
			if strings.HasPrefix(c, prefix) {
				found++
			}
		}
		return found >= n
	})
}

func (u *Upstream) until(t testing.TB, met func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(20*time.Second, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		late = true
		u.changed.Broadcast()
	})
	defer timer.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for !met() {
		if late {
			t.Fatalf("the upstream waited in vain; it saw %q", u.commands)
		}
		u.changed.Wait()
	}
}

func (u *Upstream) taken() []Message {
	return slices.DeleteFunc(slices.Clone(u.seen), func(m Message) bool { return !strings.HasPrefix(m.Answer, "2") })
}

func (u *Upstream) accept() {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		if u.closed {
			conn.Close()
		}
		u.accepted++
		u.conns[conn] = struct{}{}
		out := &gather{Conn: conn}
		p := &peer{up: u, conn: out, out: out, number: u.accepted}
		u.mu.Unlock()
		go func() {
			defer func() {
				conn.Close()
				u.mu.Lock()
				defer u.mu.Unlock()
				delete(u.conns, conn)
			}()
			if u.script.TLS == "tls" {
				p.secure()
			}
			p.in = bufio.NewReader(p.conn)
			p.serve()
		}()
	}
}

// answer is what the script says for a step now, "" for the normal answer.
func (u *Upstream) answer(step string) string {
	if u.script.Before != nil {
		u.script.Before(step)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.reached[step]
	u.reached[step]++
	answers := u.script.Answers[step]
	if len(answers) == 0 {
		return ""
	}
	return answers[min(n, len(answers)-1)]
}

func (u *Upstream) record(command string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.commands = append(u.commands, command)
	u.changed.Broadcast()
}

func (u *Upstream) keep(m Message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, m)
	u.changed.Broadcast()
}

// ended is how many messages reached their end, by a final dot or a last chunk.
func (u *Upstream) ended() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.seen)
}
