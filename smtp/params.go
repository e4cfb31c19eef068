package smtp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// unfit refuses what must not reach any wire, whoever made it.
func unfit(m Message) (Reply, bool) {
	if len(m.To) == 0 {
		return Reply{554, [3]int{5, 5, 1}, "no recipients"}, true
	}
	if !pathSafe(m.From) {
		return Reply{553, [3]int{5, 1, 7}, "the sender's address cannot be sent"}, true
	}
	for _, to := range m.To {
		if to.Address == "" || !pathSafe(to.Address) {
			return BadAddress.With("the recipient's address cannot be sent"), true
		}
	}
	if !strictLines(m.Data) {
		return BadLineEnding, true
	}
	return Reply{}, false
}

// pathSafe tells that a stays within < and >: no control characters, and "<", ">" and blanks only in a quoted string.
func pathSafe(a string) bool {
	quoted := false
	for i := 0; i < len(a); i++ {
		switch c := a[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case quoted && c == '\\':
			if i++; i == len(a) || a[i] < ' ' || a[i] == 0x7f {
				return false
			}
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '<' || c == '>' || c == ' '):
			return false
		}
	}
	return !quoted
}

// strictLines tells that every CR is followed by an LF and every LF preceded by a CR: anything else may end the
// message early on some server (RFC 5321 section 2.3.8).
func strictLines(data []byte) bool {
	if bytes.Count(data, []byte{'\r'}) != bytes.Count(data, []byte{'\n'}) {
		return false
	}
	for rest := data; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return true
		}
		if i == 0 || rest[i-1] != '\r' {
			return false
		}
		rest = rest[i+1:]
	}
}

// parameters follow the paths of MAIL and of each RCPT.
type parameters struct {
	mail     string
	optional bool // some of mail's can be left out: SIZE, RET, ENVID. All of rcpt's can
	rcpt     []string
}

// parameters says how m goes over this connection; false, and the reply, if the server lacks what m needs.
func (l *link) parameters(m Message) (p parameters, refusal Reply, ok bool) {
	var b strings.Builder
	if l.offered("SIZE") {
		if limit := l.sizeLimit(); limit > 0 && int64(len(m.Data)) > limit {
			return p, TooBig.With("message is too big for the upstream, which takes %d bytes", limit), false
		}
		if !l.bare {
			fmt.Fprintf(&b, " SIZE=%d", len(m.Data))
			p.optional = true
		}
	}
	header, _, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
	utf8 := m.UTF8 && eightBit(header) || nonASCII(m.From) ||
		slices.ContainsFunc(m.To, func(r Recipient) bool { return nonASCII(r.Address) })
	if utf8 && !l.offered("SMTPUTF8") {
		return p, NoSMTPUTF8, false
	}
	if eightBit(m.Data) {
		if !l.offered("8BITMIME") {
			return p, No8BitMIME, false
		}
		b.WriteString(" BODY=8BITMIME")
	}
	if utf8 {
		b.WriteString(" SMTPUTF8")
	}
	dsn := l.offered("DSN") && !l.bare
	if dsn {
		s := mailDSN(m.Envelope)
		b.WriteString(s)
		p.optional = p.optional || s != ""
	}
	p.mail, p.rcpt = b.String(), make([]string, len(m.To))
	for i := range m.To {
		if dsn {
			p.rcpt[i] = rcptDSN(m.To[i], utf8)
		}
	}
	return p, Reply{}, true
}

// mailDSN is RET and ENVID (RFC 3461 sections 4.3, 4.4).
func mailDSN(e Envelope) string {
	s := ""
	if e.Return == "FULL" || e.Return == "HDRS" {
		s = " RET=" + e.Return
	}
	if id := xtextOf(e.EnvID); id != "" && len(id) <= 100 && !nonASCII(e.EnvID) {
		s += " ENVID=" + id
	}
	return s
}

// rcptDSN is NOTIFY and ORCPT (RFC 3461 sections 4.1, 4.2). What is malformed is left out.
func rcptDSN(r Recipient, utf8 bool) string {
	s := ""
	known := func(n string) bool { return slices.Contains([]string{"NEVER", "SUCCESS", "FAILURE", "DELAY"}, n) }
	if len(r.Notify) > 0 && !slices.ContainsFunc(r.Notify, func(n string) bool { return !known(n) }) &&
		(len(r.Notify) == 1 || !slices.Contains(r.Notify, "NEVER")) {
		s = " NOTIFY=" + strings.Join(r.Notify, ",")
	}
	kind, address, found := strings.Cut(r.ORcpt, ";")
	if !found || address == "" {
		return s
	}
	switch kind = strings.ToLower(kind); {
	case kind == "rfc822" && !nonASCII(address):
		address = xtextOf(address)
	case kind == "utf-8":
		address = UTF8Address(address, utf8)
	default:
		return s
	}
	if len(address) <= 500 { // RFC 3461 section 4.2
		s += " ORCPT=" + kind + ";" + address
	}
	return s
}

// xtextOf encodes as RFC 3461 section 4 says.
func xtextOf(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// UTF8Address encodes an address of type utf-8 (RFC 6533 section 3): in ASCII, or raw where SMTPUTF8 is in use.
func UTF8Address(s string, raw bool) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c > '~' && raw && c > 0x9f:
			b.WriteRune(c)
		case c < '!' || c > '~' || c == '\\' || c == '+' || c == '=':
			b.WriteString(`\x{` + strings.ToUpper(strconv.FormatInt(int64(c), 16)) + "}")
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func nonASCII(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// eightBit tells that a byte has its high bit set, eight bytes at a time.
func eightBit(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
