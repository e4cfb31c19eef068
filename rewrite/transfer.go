package rewrite

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
)

// transfer is a content transfer encoding (RFC 2045 section 6).
type transfer int

const (
	identity transfer = iota // 7bit, 8bit, binary
	quoted
	base64ed
	unknownTransfer
)

var comment = regexp.MustCompile(`\([^)]*\)`)

// transferOf reads the field leniently: comments, quotes and parameters are dropped.
func transferOf(value string) (transfer, string) {
	if len(value) > 200 {
		return unknownTransfer, value[:200]
	}
	value = comment.ReplaceAllString(value, "")
	value, _, _ = strings.Cut(strings.Trim(strings.TrimSpace(value), `"`), ";")
	switch v := strings.ToLower(strings.TrimSpace(value)); v {
	case "", "7bit", "8bit", "binary":
		return identity, v
	case "quoted-printable":
		return quoted, v
	case "base64":
		return base64ed, v
	default:
		return unknownTransfer, v
	}
}

// decode gives the decoded bytes; false where raw is not decodable.
func (t transfer) decode(raw []byte) ([]byte, bool) {
	switch t {
	case identity:
		return raw, true
	case quoted:
		out, _ := decodeQuoted(raw)
		return out, true
	case base64ed:
		out, ok := decodeBase64(raw)
		if _, last := cutBase64(raw, 0); ok && bytes.ContainsFunc(raw[last:], func(r rune) bool { return r < 0x80 && sextets[r] < 64 }) {
			return nil, false // more after the padding: readers disagree whether it counts
		}
		return out, ok
	default:
		return nil, false
	}
}

// decodeQuoted decodes as readers do: blanks at line ends dropped, broken escapes kept. offsets are where in raw the
// decoded octets of stops begin, which are in order.
func decodeQuoted(raw []byte, stops ...int) (out []byte, offsets []int) {
	out = make([]byte, 0, len(raw))
	note := func(at int) {
		for len(offsets) < len(stops) && stops[len(offsets)] <= len(out) {
			offsets = append(offsets, at)
		}
	}
	for at := 0; at < len(raw); {
		next := lineEnd(raw, at, len(raw))
		text := bytes.TrimRight(raw[at:next], "\r\n")
		brk := raw[at+len(text) : next]
		text = bytes.TrimRight(text, " \t")
		soft := len(text) > 0 && text[len(text)-1] == '='
		if soft {
			text = text[:len(text)-1]
		}
		for i := 0; i < len(text); i++ {
			if len(stops) > 0 {
				note(at + i)
			}
			if text[i] == '=' && i+2 < len(text) {
				if v, ok := hexByte(text[i+1], text[i+2]); ok {
					out = append(out, v)
					i += 2
					continue
				}
			}
			out = append(out, text[i])
		}
		if !soft {
			note(at + len(text))
			out = append(out, brk...)
		}
		at = next
	}
	for len(offsets) < len(stops) {
		offsets = append(offsets, len(raw))
	}
	return out, offsets
}

func hexByte(a, b byte) (byte, bool) {
	h, l := hexDigit(a), hexDigit(b)
	return h<<4 | l, h < 16 && l < 16
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

const upperHex = "0123456789ABCDEF"

// encodeQuoted encodes text whose CRLFs are line breaks, in lines of at most 76 columns; binary escapes CR and LF too.
func encodeQuoted(b []byte, binary bool) []byte {
	return appendQuoted(make([]byte, 0, len(b)+len(b)/8), b, binary)
}

// appendQuoted is encodeQuoted behind out, which ends a line.
func appendQuoted(out, b []byte, binary bool) []byte {
	col := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		if !binary && c == '\r' && i+1 < len(b) && b[i+1] == '\n' {
			out = append(out, "\r\n"...)
			i, col = i+1, 0
			continue
		}
		last := i+1 == len(b) || b[i+1] == '\r' || b[i+1] == '\n'
		plain := c > ' ' && c < 0x7f && c != '=' || (c == ' ' || c == '\t') && !last
		width := 1
		if !plain {
			width = 3
		}
		if col+width > 75 {
			out = append(out, "=\r\n"...)
			col = 0
		}
		if col == 0 && (c == '.' || c == '-' || c == 'F') && plain {
			plain, width = c == 'F' && !bytes.HasPrefix(b[i:], []byte("From ")), 3 // no mbox line, no delimiter, no lone dot
		}
		if plain {
			out = append(out, c)
			col++
		} else {
			out = append(out, '=', upperHex[c>>4], upperHex[c&15])
			col += width
		}
	}
	return out
}

// base64 alphabet by byte; 64 for every other.
var sextets = func() (t [256]byte) {
	for i := range t {
		t[i] = 64
	}
	for i, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = byte(i)
	}
	return t
}()

// decodeBase64 skips what is outside the alphabet and stops at the first complete padding (RFC 2045 section 6.8).
// Missing padding is supplied; a single leftover character is an error.
func decodeBase64(raw []byte) ([]byte, bool) {
	out := make([]byte, 0, len(raw)/4*3+3)
	var acc uint32
	quad, pads, all := 0, 0, 0
	for _, c := range raw {
		if c == '=' {
			all++
			if quad >= 2 {
				if pads++; quad+pads >= 4 {
					return flush64(out, acc, quad), true
				}
			}
			continue
		}
		v := sextets[c]
		if v == 64 {
			continue
		}
		all++
		pads = 0
		acc = acc<<6 | uint32(v)
		if quad++; quad == 4 {
			out = append(out, byte(acc>>16), byte(acc>>8), byte(acc))
			acc, quad = 0, 0
		}
	}
	if quad == 0 {
		return out, true
	}
	if quad == 1 || quad+pads+(4-all%4)%4 < 4 {
		return nil, false
	}
	return flush64(out, acc, quad), true
}

func flush64(out []byte, acc uint32, quad int) []byte {
	switch quad {
	case 2:
		out = append(out, byte(acc>>4))
	case 3:
		out = append(out, byte(acc>>10), byte(acc>>2))
	}
	return out
}

// cutBase64 is the offset in raw after n whole quanta of four characters, and the offset after the last character
// that belongs to the data.
func cutBase64(raw []byte, n int) (cut, last int) {
	seen, quad, pads := 0, 0, 0
	for i, c := range raw {
		if c == '=' {
			last = i + 1
			if quad >= 2 {
				if pads++; quad+pads >= 4 {
					return cut, last
				}
			}
			continue
		}
		if sextets[c] == 64 {
			continue
		}
		pads = 0
		last = i + 1
		seen++
		quad = (quad + 1) % 4
		if seen == 4*n {
			cut = i + 1
		}
	}
	return cut, last
}

// base64Size is how long n octets are in lines of base64, without a line end after the last.
func base64Size(n int) int {
	if n == 0 {
		return 0
	}
	return (n+2)/3*4 + (n-1)/base64Line*2
}

// base64Line is how many octets a line of 76 characters holds.
const base64Line = 57

// appendBase64 writes one text, in pieces, in lines of 76 characters, without a line end after the last.
func appendBase64(dst []byte, pieces [][]byte) []byte {
	var line [base64Line]byte
	n, first := 0, true
	flush := func(b []byte) {
		if !first {
			dst = append(dst, "\r\n"...)
		}
		first = false
		dst = base64.StdEncoding.AppendEncode(dst, b)
	}
	for _, p := range pieces {
		for len(p) > 0 {
			if n == 0 && len(p) >= base64Line {
				flush(p[:base64Line])
				p = p[base64Line:]
				continue
			}
			k := copy(line[n:], p)
			n, p = n+k, p[k:]
			if n == base64Line {
				flush(line[:])
				n = 0
			}
		}
	}
	if n > 0 {
		flush(line[:n])
	}
	return dst
}
