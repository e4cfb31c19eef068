package rewrite

import (
	"bytes"
	"slices"
	"strings"
)

// maxMessages is how deep messages inside messages are entered.
const maxMessages = 10

// SevenBit is the message in 7-bit form, for a server without 8BITMIME (RFC 6152 section 3); raw itself where it has
// that form. Each part with 8-bit bytes becomes quoted-printable or base64, all else stays byte for byte. Charsets stay
// as they are labelled, or not labelled. A *Refusal says why there is no such form; every other error is ours.
func SevenBit(raw []byte) ([]byte, error) {
	if isASCII(raw) {
		return raw, nil
	}
	s := sevenBit{b: raw}
	if err := s.message(0, len(raw), 0); err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.edits, inOrder)
	out, err := apply(0, raw, s.edits)
	if err != nil {
		return nil, err
	}
	if err := sameInSevenBit(raw, out); err != nil {
		return nil, err
	}
	return out, nil
}

// sevenBit collects what is to be changed in b.
type sevenBit struct {
	b     []byte
	edits []edit
}

// message enters the whole message or one inside it.
func (s *sevenBit) message(start, end, depth int) error {
	if depth > maxMessages {
		return refuse("messages are nested more than %d deep", maxMessages)
	}
	b := s.b[:end]
	h, err := readHeader(b, start, end)
	if err != nil {
		return err
	}
	if err := h.ambiguous(b); err != nil {
		return err
	}
	if !isASCII(b[start:h.start]) {
		return refuse("8-bit bytes stand before the header")
	}
	tree, err := readParts(b, h)
	if err != nil {
		return err
	}
	if err := s.part(tree, depth); err != nil {
		return err
	}
	// Without it no transfer encoding means anything (RFC 2045 section 4), in a message inside another, too.
	if !isASCII(b[start:end]) && !slices.ContainsFunc(h.fields, func(f field) bool { return f.is("MIME-Version") }) {
		s.edits = append(s.edits, edit{off: h.sep, del: 0, ins: []byte("MIME-Version: 1.0\r\n")})
	}
	return nil
}

func (s *sevenBit) part(p *part, depth int) error {
	if isASCII(s.b[p.start:p.end]) {
		return nil
	}
	if name := eightBitField(s.b, p); name != "" {
		return refuse("the header field %s has 8-bit bytes", name) // that needs SMTPUTF8 (RFC 6531), not an encoding
	}
	if p.head.broken {
		return refuse("no blank line ends the header of a part with 8-bit bytes")
	}
	cte, err := s.encoding(p)
	if err != nil {
		return err
	}
	kind, _, _ := strings.Cut(p.typ, "/")
	switch composite := kind == "multipart" || kind == "message" && !strings.HasPrefix(p.typ, "message/global"); {
	case p.typ == "multipart/signed": // RFC 1847 section 2.1
		return refuse("it is signed, and another transfer encoding would break the signature")
	case composite && cte != identity: // RFC 2045 section 6.4; RFC 6532 section 3.7 allows it for message/global
		return refuse("a part of type %s has a transfer encoding, and 8-bit bytes all the same", p.typ)
	case p.multipart():
		s.relabel(p, "7bit")
		return s.inside(p, depth)
	case p.typ == "message/rfc822" || p.typ == "message/news":
		s.relabel(p, "7bit")
		return s.message(p.head.body, p.end, depth+1)
	case composite:
		return refuse("a part of type %s with 8-bit bytes may not be encoded", p.typ)
	}
	return s.leaf(p, cte)
}

// inside goes through a multipart. What stands before and behind its parts is shown by no reader (RFC 2046 section
// 5.1.1) and cannot be encoded: its 8-bit bytes are masked.
func (s *sevenBit) inside(p *part, depth int) error {
	for _, g := range p.glue {
		if old := s.b[g[0]:g[1]]; !isASCII(old) {
			s.edits = append(s.edits, edit{off: g[0], del: len(old), ins: masked(old)})
		}
	}
	for _, child := range p.children {
		if err := s.part(child, depth); err != nil {
			return err
		}
	}
	return nil
}

// masked has a question mark for each 8-bit byte.
func masked(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 0x80 {
			out[i] = '?'
		}
	}
	return out
}

// leaf encodes a body. What is quoted-printable with stray 8-bit bytes is read as all readers do, and written properly.
func (s *sevenBit) leaf(p *part, cte transfer) error {
	raw := s.b[p.head.body:p.end]
	if cte == base64ed {
		return refuse("a base64 part has 8-bit bytes")
	}
	decoded, _ := cte.decode(raw)
	name := "quoted-printable"
	var out []byte
	if cte == quoted || s.quotable(p, decoded) {
		out = encodeQuoted(decoded, false)
		if endsLine(raw) && !endsLine(out) { // a soft break was its end
			out = append(out, "=\r\n"...)
		}
	} else {
		name, out = "base64", appendBase64(nil, [][]byte{decoded})
		if endsLine(raw) {
			out = append(out, "\r\n"...)
		}
	}
	s.relabel(p, name)
	s.edits = append(s.edits, edit{off: p.head.body, del: len(raw), ins: out})
	return nil
}

func endsLine(b []byte) bool { return bytes.HasSuffix(b, []byte("\r\n")) }

// quotable prefers quoted-printable for text in which people can still read something, and where it is the smaller.
func (s *sevenBit) quotable(p *part, decoded []byte) bool {
	if f := p.field("Content-Transfer-Encoding"); f != nil {
		if _, name := transferOf(f.value(s.b)); name == "binary" && !strings.HasPrefix(p.typ, "text/") {
			return false
		}
	}
	escaped := 0
	for _, c := range decoded {
		if c >= 0x7f || c == '=' || c < ' ' && c != '\t' && c != '\r' && c != '\n' {
			escaped++
		}
	}
	if strings.HasPrefix(p.typ, "text/") {
		return escaped <= len(decoded)/3
	}
	return escaped <= len(decoded)/6 // three characters for each, where base64 has four for any three
}

// encoding is the part's transfer encoding; a Refusal where it is unknown, or readers differ.
func (s *sevenBit) encoding(p *part) (transfer, error) {
	cte, seen := identity, false
	for _, f := range p.fields {
		if !f.is("Content-Transfer-Encoding") {
			continue
		}
		t, name := transferOf(f.value(s.b))
		switch {
		case t == unknownTransfer:
			return t, refuse("the transfer encoding %q is unknown", name)
		case seen && t != cte:
			return t, refuse("two Content-Transfer-Encoding fields that differ")
		}
		cte, seen = t, true
	}
	return cte, nil
}

// relabel sets the transfer encoding in a part's header; a composite part without one needs none. A count of the old
// bytes is dropped; Content-MD5 is of the decoded ones (RFC 1864 section 2).
func (s *sevenBit) relabel(p *part, cte string) {
	label := []byte("Content-Transfer-Encoding: " + cte + "\r\n")
	had := cte == "7bit"
	for _, f := range p.fields {
		switch {
		case f.is("Content-Length"):
			s.edits = append(s.edits, edit{off: f.start, del: f.end - f.start, ins: nil})
		case f.is("Content-Transfer-Encoding"):
			if _, name := transferOf(f.value(s.b)); cte != "7bit" || name == "8bit" || name == "binary" {
				s.edits = append(s.edits, edit{off: f.start, del: f.end - f.start, ins: label})
				label = nil // once
			}
			had = true
		}
	}
	if !had {
		s.edits = append(s.edits, edit{off: p.head.sep, del: 0, ins: label})
	}
}

// eightBitField names a field of the part with 8-bit bytes, "" where there is none.
func eightBitField(b []byte, p *part) string {
	if isASCII(b[p.start:p.head.body]) {
		return ""
	}
	h, err := readHeader(b, p.start, p.end)
	if err == nil {
		for _, f := range h.fields {
			if !isASCII(b[f.start:f.end]) {
				return f.name
			}
		}
	}
	return "(none)"
}
