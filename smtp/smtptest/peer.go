package smtptest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// peer is one connection of the upstream.
type peer struct {
	up     *Upstream
	conn   net.Conn
	out    *gather // below TLS
	in     *bufio.Reader
	number int
	tls    bool
	helo   string
	login  string
	m      *Message // the open transaction
	mailed bool     // MAIL came since the last message or RSET, whatever its answer
}

// gather holds back what is written until it is flushed, so that it arrives together.
type gather struct {
	net.Conn
	holding bool
	held    []byte
}

func (g *gather) Write(b []byte) (int, error) {
	if !g.holding {
		return g.Conn.Write(b)
	}
	g.held = append(g.held, b...)
	return len(b), nil
}

func (g *gather) flush() {
	if g.holding {
		g.Conn.Write(g.held)
	}
	g.holding, g.held = false, nil
}

// say gives the script's answer to a step, else normal. It returns what was said, and false where the connection ends.
func (p *peer) say(step, normal string) (string, bool) {
	a := p.up.answer(step)
	if a == "" {
		a = normal
	}
	return p.send(a)
}

func (p *peer) send(answer string) (string, bool) {
	said, end := strings.CutSuffix(answer, Close)
	said, silent := strings.CutSuffix(said, Silence)
	if said != "" {
		p.out.holding = strings.Contains(said, Apart) // never a handshake
		for part := range strings.SplitSeq(said, Apart) {
			io.WriteString(p.conn, strings.TrimSuffix(part, "\r\n")+"\r\n")
		}
		p.out.flush()
	}
	if silent {
		io.Copy(io.Discard, p.in)
		return said, false
	}
	return said, !end && !strings.HasPrefix(said, "421")
}

func (p *peer) secure() {
	p.conn = tls.Server(p.conn, p.up.tls)
	p.in = bufio.NewReader(p.conn)
	p.tls = true
}

func (p *peer) serve() {
	if _, on := p.say("connect", "220 upstream.test ESMTP"); !on {
		return
	}
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		if verb == "AUTH" {
			mechanism, _, _ := strings.Cut(rest, " ")
			p.up.record("AUTH " + mechanism + " ***")
		} else {
			p.up.record(line)
		}
		if p.up.script.Flushes {
			_, _ = p.in.Discard(p.in.Buffered())
		}
		if !p.obey(verb, rest) {
			return
		}
	}
}

// obey carries out one command; false ends the connection.
func (p *peer) obey(verb, rest string) bool {
	switch verb {
	case "EHLO", "HELO":
		p.helo, p.m, p.mailed = rest, nil, false
		normal := "250 upstream.test"
		if verb == "EHLO" {
			normal = p.extensions()
		}
		_, on := p.say(verb, normal)
		return on
	case "STARTTLS":
		said, on := p.say(verb, "220 2.0.0 go ahead")
		if on && strings.HasPrefix(said, "220") {
			p.secure()
			p.helo = ""
		}
		return on
	case "AUTH":
		return p.auth(rest)
	case "MAIL":
		return p.mail(rest)
	case "RCPT":
		return p.rcpt(rest)
	case "DATA":
		return p.data()
	case "BDAT":
		if p.up.script.Chunks != Unknown {
			return p.bdat(rest)
		}
	case "RSET":
		p.m, p.mailed = nil, false
		_, on := p.say(verb, "250 2.0.0 reset")
		return on
	case "NOOP":
		_, on := p.say(verb, "250 2.0.0 ok")
		return on
	case "QUIT":
		p.say(verb, "221 2.0.0 bye")
		return false
	}
	_, on := p.say(verb, "500 5.5.1 what?")
	return on
}

func (p *peer) extensions() string {
	s := p.up.script
	lines := append([]string{"upstream.test"}, s.Extensions...)
	if s.TLS == "starttls" && !p.tls {
		lines = append(lines, "STARTTLS")
	}
	if s.Login != "" {
		m := s.Mechanisms
		if m == "" {
			m = "PLAIN LOGIN"
		}
		lines = append(lines, "AUTH "+m)
	}
	last := len(lines) - 1
	for i := range lines[:last] {
		lines[i] = "250-" + lines[i]
	}
	lines[last] = "250 " + lines[last]
	return strings.Join(lines, "\r\n")
}

func (p *peer) auth(rest string) bool {
	var given string
	switch mechanism, initial, _ := strings.Cut(rest, " "); mechanism {
	case "PLAIN":
		b, _ := base64.StdEncoding.DecodeString(initial)
		given = string(b)
	case "LOGIN":
		asks := []string{"334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"}
		if initial != "" { // QUIRK: Python sends the user at once
			b, _ := base64.StdEncoding.DecodeString(initial)
			given, asks = "\x00"+string(b), asks[1:]
		}
		for _, ask := range asks {
			io.WriteString(p.conn, ask)
			line, err := p.in.ReadString('\n')
			if err != nil {
				return false
			}
			b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
			given += "\x00" + string(b)
		}
	}
	normal := "535 5.7.8 wrong"
	user := ""
	for _, login := range append([]string{p.up.script.Login}, p.up.script.Logins...) {
		if name, password, _ := strings.Cut(login, ":"); given == "\x00"+name+"\x00"+password {
			user, normal = name, "235 2.7.0 welcome"
		}
	}
	said, on := p.say("AUTH", normal)
	if strings.HasPrefix(said, "235") {
		p.login = user
	}
	return on
}

// path splits "FROM:<a> P=1 Q" into a and the parameters. A ">" in a quoted local part does not end the path.
func path(rest string) (string, []string) {
	_, rest, _ = strings.Cut(rest, "<")
	quoted := false
	for i := 0; i < len(rest); i++ {
		switch {
		case quoted && rest[i] == '\\':
			i++
		case rest[i] == '"':
			quoted = !quoted
		case rest[i] == '>' && !quoted:
			return rest[:i], strings.Fields(rest[i+1:])
		}
	}
	return rest, nil
}

func (p *peer) mail(rest string) bool {
	normal := "250 2.1.0 sender ok"
	switch {
	case p.helo == "":
		normal = "503 5.5.1 EHLO first"
	case p.up.script.Login != "" && p.login == "":
		normal = "530 5.7.0 authentication required"
	case p.m != nil:
		normal = "503 5.5.1 nested MAIL"
	}
	p.mailed = true
	said, on := p.say("MAIL", normal)
	if strings.HasPrefix(said, "2") {
		p.m = &Message{Conn: p.number, Helo: p.helo, TLS: p.tls, Login: p.login}
		p.m.From, p.m.Params = path(rest)
	}
	return on
}

func (p *peer) rcpt(rest string) bool {
	normal := "250 2.1.5 recipient ok"
	if p.m == nil {
		normal = "503 5.5.1 MAIL first"
	}
	said, on := p.say("RCPT", normal)
	if strings.HasPrefix(said, "2") && p.m != nil {
		address, params := path(rest)
		p.m.To = append(p.m.To, Recipient{Address: address, Params: params})
	}
	return on
}

func (p *peer) data() bool {
	normal := "354 go ahead"
	switch {
	case p.m == nil:
		normal = "503 5.5.1 MAIL first"
	case len(p.m.To) == 0:
		normal = "554 5.5.1 no valid recipients"
	}
	said, on := p.say("DATA", normal)
	if !on || !strings.HasPrefix(said, "354") {
		return on
	}
	m := p.m
	if m == nil { // scripted to say 354 all the same
		m = &Message{Conn: p.number}
	}
	p.m, p.mailed = nil, false
	if !p.content(m) {
		return false
	}
	answer := p.up.answer(".")
	switch {
	case answer != "":
	case len(m.To) == 0:
		answer = "554 5.5.1 no valid recipients"
	default:
		answer = p.queued()
	}
	return p.finish(m, answer)
}

func (p *peer) queued() string { return fmt.Sprintf("250 2.0.0 ok: queued as %d", p.up.ended()+1) }

// finish keeps a message before it is answered: whoever got the answer finds it.
func (p *peer) finish(m *Message, answer string) bool {
	m.Answer, _, _ = strings.Cut(answer, "\x00")
	p.up.keep(*m)
	_, on := p.send(answer)
	return on
}

// bdat takes a chunk (RFC 3030 section 2), also where it is refused.
func (p *peer) bdat(rest string) bool {
	size, last, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(size, 10, 31)
	if err != nil || last != "" && !strings.EqualFold(last, "LAST") {
		_, on := p.say("BDAT", "501 5.5.4 syntax: BDAT size [LAST]")
		return on
	}
	open := p.m != nil && len(p.m.To) > 0
	m := p.m
	if m == nil {
		m = &Message{Conn: p.number}
	}
	if (open || p.up.script.Chunks != Unread) && !p.chunk(m, int(n)) {
		return false
	}
	step, normal := "BDAT", "503 5.5.1 RCPT first"
	if !p.mailed {
		step = "probe"
	}
	switch {
	case open && last == "":
		normal = "250 2.0.0 chunk taken"
	case open:
		normal = p.queued()
	}
	answer := p.up.answer(step)
	if answer == "" {
		answer = normal
	}
	if last == "" || !open && !strings.HasPrefix(answer, "2") {
		_, on := p.send(answer)
		return on
	}
	p.m, p.mailed = nil, false
	return p.finish(m, answer)
}

// chunk reads n bytes into m, as far as the first line ends and then the rest.
func (p *peer) chunk(m *Message, n int) bool {
	in := bufio.NewReader(io.LimitReader(p.in, int64(n)))
	line, err := in.ReadBytes('\n')
	if err == nil && p.mailed {
		if _, on := p.say("body", ""); !on {
			return false
		}
	}
	rest, _ := io.ReadAll(in)
	chunk := append(line, rest...)
	m.Data, m.Wire = append(m.Data, chunk...), append(m.Wire, chunk...)
	return len(chunk) == n
}

// content reads up to the final dot, which must stand between two CRLFs.
func (p *peer) content(m *Message) bool {
	for first, begins := true, true; ; first = false {
		line, err := p.in.ReadBytes('\n')
		if err != nil {
			return false
		}
		m.Wire = append(m.Wire, line...)
		if begins && string(line) == ".\r\n" {
			return true
		}
		if begins {
			line = bytes.TrimPrefix(line, []byte("."))
		}
		m.Data = append(m.Data, line...)
		begins = bytes.HasSuffix(line, []byte("\r\n"))
		if first {
			if _, on := p.say("body", ""); !on {
				return false
			}
		}
	}
}
