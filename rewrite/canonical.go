package rewrite

import (
	"bytes"
	"hash"
)

// relaxedBody writes a body into h in the relaxed form (RFC 6376 section 3.4.4): white space at line ends and empty
// lines at the end are ignored, other white space is one blank. Lines end in CRLF, as the door has seen to.
func relaxedBody(h hash.Hash, b []byte) {
	b = b[:contentEnd(b)]
	if len(b) == 0 {
		return
	}
	// What needs no change is hashed where it lies; what lies between changes is gathered, since hashes are slow at crumbs.
	var gathered [512]byte
	n := 0
	put := func(p []byte) {
		if n+len(p) > len(gathered) {
			h.Write(gathered[:n])
			if n = 0; len(p) > len(gathered)/2 {
				h.Write(p)
				return
			}
		}
		n += copy(gathered[n:], p)
	}
	at := 0
	for f := newOddBlanks(b); ; {
		i := f.next(at)
		put(b[at:i])
		if i == len(b) {
			break
		}
		for at = i; b[at] == ' ' || b[at] == '\t'; at++ { // ends: the last byte of b is no blank
		}
		if b[at] != '\r' {
			put([]byte{' '})
		}
	}
	put([]byte("\r\n"))
	h.Write(gathered[:n])
}

// contentEnd is where the last line that is not empty ends, without its blanks and line end.
func contentEnd(b []byte) int {
	end := len(b)
	for end > 0 && (b[end-1] == ' ' || b[end-1] == '\t' || b[end-1] == '\n' && end > 1 && b[end-2] == '\r') {
		if end--; b[end] == '\n' {
			end--
		}
	}
	return end
}

// oddBlanks finds the white space that is more than one blank between words. Each kind is searched for by itself, which
// the processor does by the vector; what was found is kept until it is passed.
type oddBlanks struct {
	b     []byte
	tab   int
	pair  int // two blanks
	ahead int // a blank before a CR
}

func newOddBlanks(b []byte) *oddBlanks { return &oddBlanks{b: b, tab: -1, pair: -1, ahead: -1} }

func (f *oddBlanks) next(at int) int {
	if f.tab < at {
		if f.tab = bytes.IndexByte(f.b[at:], '\t'); f.tab < 0 {
			f.tab = len(f.b)
		} else {
			f.tab += at
		}
	}
	if f.pair < at {
		f.pair = f.search(at, "  ")
	}
	if f.ahead < at {
		f.ahead = f.search(at, " \r")
	}
	i := min(f.tab, f.pair, f.ahead)
	if i > at && i < len(f.b) && f.b[i-1] == ' ' { // a blank before a tab
		i--
	}
	return i
}

func (f *oddBlanks) search(at int, s string) int {
	if i := bytes.Index(f.b[at:], []byte(s)); i >= 0 {
		return at + i
	}
	return len(f.b)
}

// relaxedField appends a header field in the relaxed form (RFC 6376 section 3.4.2): the name in lower case, the value on
// one line, white space as one blank and none at its ends.
func relaxedField(dst, field []byte, colon int) []byte {
	for _, c := range bytes.TrimRight(field[:colon], " \t") {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	blank, begun := false, false
	for _, c := range field[colon+1:] {
		switch c {
		case ' ', '\t', '\r', '\n':
			blank = begun
			continue
		}
		if blank {
			dst = append(dst, ' ')
		}
		dst, blank, begun = append(dst, c), false, true
	}
	return append(dst, "\r\n"...)
}
