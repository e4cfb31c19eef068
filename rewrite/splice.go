package rewrite

import (
	"bytes"
	"sync"
)

// splice keeps the part's encodings: only the spots change.
func (b *body) splice(m *Mail, c *change) {
	start := b.part.head.body
	if b.cte == base64ed {
		c.edits = []edit{b.spliceBase64(c)}
	} else {
		c.edits = make([]edit, len(b.spots))
		for i := range b.spots {
			s := &b.spots[i]
			if b.cte == quoted {
				c.edits[i] = edit{off: start + s.raw, del: s.rawTo - s.raw, ins: b.quote(s, c.fills[i])}
			} else {
				c.edits[i] = edit{off: start + s.at, del: s.del, ins: c.fills[i]}
			}
		}
	}
	b.blankLine(m, &c.edits[0])
}

// spliceBase64 encodes anew from the first spot on: what stands before it keeps its lines.
func (b *body) spliceBase64(c *change) edit {
	n := b.spots[0].at / 3
	cut, last := cutBase64(b.raw, n)
	e := edit{off: b.part.head.body + cut, del: max(last, cut) - cut}
	if cut > 0 && b.raw[cut-1] != '\n' {
		e.ins = []byte("\r\n")
	}
	for i, gap := range c.gaps {
		if i == 0 {
			gap = gap[3*n:]
		}
		e.data = append(e.data, gap)
		if i < len(c.fills) {
			e.data = append(e.data, c.fills[i])
		}
	}
	return e
}

// quote is a fill in quoted-printable, with the soft line breaks that set it apart from what stands around it.
func (b *body) quote(s *spot, fill []byte) []byte {
	binary := b.cs.width() == 2
	start, end := s.raw == 0 || b.raw[s.raw-1] == '\n', s.rawTo == len(b.raw)
	if len(fill) == 0 {
		if !start && !end && bytes.IndexByte(b.raw[s.raw:s.rawTo], '\n') >= 0 {
			return []byte("=\r\n") // two lines do not become one that is too long
		}
		return nil
	}
	text := make([]byte, 0, len(fill)+len(fill)/6+16)
	switch {
	case start:
	case s.raw == len(b.raw) && (!binary || b.raw[s.raw-1] == '='):
		text = append(text, "\r\n"...) // ends a dangling soft break
	default:
		text = append(text, "=\r\n"...) // keeps blanks before it, which a hard break would drop
	}
	text = appendQuoted(text, fill, binary)
	switch rest := b.raw[s.rawTo:]; {
	case binary && !end:
		text = append(text, "=\r\n"...)
	case end || rest[0] == '\r' || rest[0] == '\n' || text[len(text)-1] == '\n':
	case rest[0] == '-' || rest[0] == '.' || rest[0] == 'F': // no delimiter, no lone dot, no mbox line
		text = softBefore(text)
	default:
		text = append(text, "=\r\n"...)
	}
	return text
}

// softBefore puts a soft line break before the last octet of text.
func softBefore(text []byte) []byte {
	n := len(text) - 1
	last := text[n:]
	if n >= 2 && text[n-2] == '=' {
		n -= 2
		last = text[n:]
	} else {
		last = []byte{'=', upperHex[last[0]>>4], upperHex[last[0]&15]}
	}
	return append(append(bytes.Clone(text[:n]), "=\r\n"...), last...)
}

// recoded is what stays of a body that is encoded anew, made once for all copies.
type recoded struct {
	once    sync.Once
	gaps    [][]byte // decoded, in the charset of the copy
	encoded [][]byte // likewise, in quoted-printable
}

// reencode encodes the whole part anew: base64 stays base64, all else becomes quoted-printable. label "" keeps the
// charset.
func (b *body) reencode(m *Mail, c *change, label string) {
	r := &b.same
	if label != "" {
		r = &b.inUTF8
	}
	r.once.Do(func() {
		for _, gap := range b.gaps() {
			if label != "" {
				text, _ := b.cs.decode(gap)
				gap = []byte(text)
			}
			r.gaps = append(r.gaps, gap)
			if b.cte != base64ed {
				r.encoded = append(r.encoded, encodeQuoted(gap, false))
			}
		}
	})
	c.gaps = r.gaps
	start, end := b.part.head.body, b.part.head.body+len(b.raw)
	if b.cte == base64ed {
		e := edit{off: start, del: len(b.raw)}
		for i, gap := range r.gaps {
			e.data = append(e.data, gap)
			if i < len(c.fills) {
				e.data = append(e.data, c.fills[i])
			}
		}
		c.edits = append(m.relabel(b, label, "base64"), e, edit{off: end, ins: []byte("\r\n")})
		b.blankLine(m, &c.edits[len(c.edits)-2])
		return
	}
	c.edits = append(m.relabel(b, label, "quoted-printable"), edit{off: start, del: len(b.raw), ins: r.encoded[0]})
	b.blankLine(m, &c.edits[len(c.edits)-1])
	for i, f := range c.fills {
		ins := encodeQuoted(f, false)
		if g := r.gaps[i]; len(ins) > 0 && len(g) > 0 && g[len(g)-1] != '\n' {
			ins = append([]byte("=\r\n"), ins...)
		}
		if g := r.gaps[i+1]; len(ins) > 0 && ins[len(ins)-1] != '\n' && (len(g) > 0 && g[0] != '\r' || len(g) == 0 && i+1 < len(c.fills)) {
			ins = append(ins, "=\r\n"...)
		}
		c.edits = append(c.edits, edit{off: end, ins: ins}, edit{off: end, ins: r.encoded[i+1]})
	}
}

// blankLine ends the header of a message that has no body at all.
func (b *body) blankLine(m *Mail, first *edit) {
	if h := b.part.head; h.broken && h.body == len(m.raw) {
		first.ins = append([]byte("\r\n"), first.ins...)
	}
}
