package rewrite

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// family says how a charset lays ASCII out, which is what finding the place for a notice depends on.
type family int

const (
	asciiBased family = iota // ASCII stands for itself
	shifted                  // ISO-2022-*, HZ: ASCII bytes mean other things between escapes
	utf7
	utf16LE
	utf16BE
	foreign // nothing can be put into it
)

// charset is a label of a part and what is known of it.
type charset struct {
	label  string // lower case, "us-ascii" where the part has none
	family family
	enc    encoding.Encoding // nil: only ASCII can be written, nothing read
	ascii  bool
	utf8   bool
}

func charsetOf(label string, body []byte) charset {
	label = strings.ToLower(strings.TrimSpace(label))
	if i := strings.IndexByte(label, '('); i > 0 { // QUIRK: charset=us-ascii (Plain text)
		label = strings.TrimSpace(label[:i])
	}
	c := charset{label: label}
	switch {
	case label == "" || label == "us-ascii" || label == "ascii" || label == "ansi_x3.4-1968":
		c.ascii, c.label = true, "us-ascii"
	case label == "utf-8" || label == "utf8":
		c.utf8 = true
	case strings.Contains(label, "utf-7"):
		c.family = utf7
	case strings.HasPrefix(label, "utf-16"):
		c.family = utf16Order(label, body)
	case strings.HasPrefix(label, "iso-2022-"), strings.HasPrefix(label, "hz"), strings.HasPrefix(label, "csiso2022"):
		c.family, c.enc = shifted, lookup(label)
	case strings.HasPrefix(label, "utf-32"), strings.HasPrefix(label, "ucs-"), strings.Contains(label, "ucs"),
		strings.HasPrefix(label, "ibm0"), strings.HasPrefix(label, "cp0"), strings.Contains(label, "ebcdic"),
		strings.HasPrefix(label, "utf-ebcdic"), strings.HasPrefix(label, "cp1047"), strings.HasPrefix(label, "cp500"):
		c.family = foreign
	default:
		c.enc = lookup(label)
	}
	return c
}

// utf16Order goes by the label, else by the byte order mark. Without either, readers disagree.
func utf16Order(label string, body []byte) family {
	switch {
	case len(body)%2 != 0:
		return foreign
	case strings.HasPrefix(label, "utf-16le"):
		return utf16LE
	case strings.HasPrefix(label, "utf-16be"):
		return utf16BE
	case bytes.HasPrefix(body, []byte{0xff, 0xfe}):
		return utf16LE
	case bytes.HasPrefix(body, []byte{0xfe, 0xff}):
		return utf16BE
	}
	return foreign
}

// iso8859 are ways to write these labels that the register does not know.
var iso8859 = regexp.MustCompile(`^iso[-_ ]?8859[-_ ]?(\d)`)

// lookup prefers the register's meaning over the browsers', for whom ISO-8859-1 is Windows-1252.
func lookup(label string) encoding.Encoding {
	label = iso8859.ReplaceAllString(label, "iso-8859-$1")
	if e, err := ianaindex.MIME.Encoding(label); err == nil && e != nil {
		return e
	}
	if e, err := htmlindex.Get(label); err == nil && e != encoding.Replacement {
		return e
	}
	return nil
}

func readerFor(label string, r io.Reader) (io.Reader, error) {
	e := lookup(label)
	if e == nil {
		return nil, errors.New("unknown charset")
	}
	return e.NewDecoder().Reader(r), nil
}

// width is the number of bytes of one unit of the view.
func (c charset) width() int {
	if c.family == utf16LE || c.family == utf16BE {
		return 2
	}
	return 1
}

// view is b with everything that is not ASCII text masked, one byte for each unit.
func (c charset) view(b []byte) []byte {
	switch c.family {
	case shifted:
		return maskShifted(b, strings.HasPrefix(c.label, "hz"))
	case utf7:
		return maskUTF7(b)
	case utf16LE, utf16BE:
		v := make([]byte, len(b)/2)
		for i := range v {
			lo, hi := b[2*i], b[2*i+1]
			if c.family == utf16BE {
				lo, hi = hi, lo
			}
			v[i] = 'x'
			if hi == 0 && lo < 0x80 {
				v[i] = lo
			}
		}
		return v
	}
	return b
}

// maskShifted masks what stands outside the ASCII state of ISO 2022 (RFC 1468) or HZ (RFC 1843).
func maskShifted(b []byte, hz bool) []byte {
	v := bytes.Clone(b)
	out := false // of the ASCII state
	for i := 0; i < len(b); i++ {
		switch {
		case !hz && b[i] == 0x1b:
			j := i + 1
			for j < len(b) && b[j] >= 0x20 && b[j] <= 0x2f {
				j++
			}
			if j < len(b) && b[j-1] != ')' { // ESC $ ) C only designates
				out = b[i+1] != '(' || b[j] != 'B' && b[j] != 'J'
			}
			for ; i < j && i < len(b); i++ {
				v[i] = 'x'
			}
			if i < len(b) {
				v[i] = 'x'
			}
			continue
		case !hz && (b[i] == 0x0e || b[i] == 0x0f):
			out = b[i] == 0x0e
		case hz && b[i] == '~' && i+1 < len(b) && (b[i+1] == '{' || b[i+1] == '}'):
			out = b[i+1] == '{'
			v[i], v[i+1] = 'x', 'x'
			i++
			continue
		case b[i] == '\n':
			if hz {
				out = false
			}
		case out && b[i] != '\r':
			v[i] = 'x'
		}
	}
	return v
}

func maskUTF7(b []byte) []byte {
	v := bytes.Clone(b)
	for i := 0; i < len(v); i++ {
		if v[i] != '+' {
			continue
		}
		for v[i] = 'x'; i+1 < len(v) && (sextets[b[i+1]] < 64); i++ {
			v[i+1] = 'x'
		}
	}
	return v
}

// append is encode behind dst.
func (c charset) append(dst []byte, s string) ([]byte, bool) {
	if c.family == asciiBased && (c.utf8 || isASCII([]byte(s))) {
		return append(dst, s...), true
	}
	out, ok := c.encode(s)
	return append(dst, out...), ok
}

// encode writes s in the charset; false where it cannot.
func (c charset) encode(s string) ([]byte, bool) {
	ascii := isASCII([]byte(s))
	switch {
	case c.family == foreign:
		return nil, false
	case c.family == utf16LE, c.family == utf16BE:
		return encodeUTF16(s, c.family == utf16BE), true
	case c.family == utf7:
		return encodeUTF7(s), true
	case c.family == shifted && strings.HasPrefix(c.label, "hz"):
		return []byte(strings.ReplaceAll(s, "~", "~~")), ascii
	case ascii || c.utf8:
		return []byte(s), true
	case c.enc == nil:
		return nil, false
	}
	out, err := c.enc.NewEncoder().Bytes([]byte(s))
	return append(out, c.neutral(out)...), err == nil && c.portable(out, s) && !(c.standard() && holdsC1(out))
}

// decode reads b as UTF-8; false where any of it is not valid in the charset.
func (c charset) decode(b []byte) (string, bool) {
	switch {
	case c.ascii:
		return string(b), isASCII(b)
	case c.utf8:
		return string(b), utf8.Valid(b)
	case c.width() == 2:
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
			if c.family == utf16BE {
				units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
			}
		}
		s := string(utf16.Decode(units))
		return s, !strings.ContainsRune(s, utf8.RuneError)
	case c.enc == nil:
		return "", false
	}
	if c.standard() && holdsC1(b) {
		return "", false // QUIRK: Windows-1252 under another label; readers disagree on what it says
	}
	out, err := c.enc.NewDecoder().Bytes(b)
	return string(out), err == nil && !bytes.Contains(out, []byte("\uFFFD"))
}

// certain tells whether all readers decode b, which is s, alike, so that a conversion to UTF-8 changes nothing.
func (c charset) certain(b []byte, s string) bool {
	switch name := c.name(); {
	case c.ascii, c.utf8:
		return true
	case name == "iso-8859-8" || name == "iso-8859-6": // readers disagree on the order of its characters (RFC 1556)
		return false
	case c.multibyte() != "":
		yen := c.multibyte() != "gb2312" && c.multibyte() != "gbk" && c.multibyte() != "gb18030" && c.multibyte() != "big5"
		return c.portable(b, s) && !(yen && strings.Contains(s, `\`)) // a backslash, a yen or a won
	default:
		return strings.HasPrefix(name, "iso-8859-") || strings.HasPrefix(name, "windows-125") || strings.HasPrefix(name, "koi8-") || name == "windows-874" || name == "tis-620"
	}
}

// standard tells whether the label names a charset that has control codes where Windows has letters (0x80 to 0x9f).
func (c charset) standard() bool {
	name := c.name()
	return strings.HasPrefix(name, "iso-8859-") || name == "windows-874" && !strings.Contains(c.label, "874")
}

func holdsC1(b []byte) bool {
	return slices.ContainsFunc(b, func(x byte) bool { return x >= 0x80 && x < 0xa0 })
}

// name is the register's for the encoding that was found for the label, in lower case.
func (c charset) name() string {
	if c.enc == nil {
		return ""
	}
	name, err := ianaindex.MIME.Name(c.enc)
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
}

// mislabelled tells whether b is UTF-8 under the label of a charset of single bytes. Readers that guess would guess anew
// after a letter of the labelled charset.
func (c charset) mislabelled(b []byte) bool {
	return c.family == asciiBased && c.enc != nil && c.multibyte() == "" && !isASCII(b) && utf8.Valid(b)
}

// neutral returns what brings a stateful charset back to ASCII at the end of b.
func (c charset) neutral(b []byte) []byte {
	if c.family != shifted {
		return nil
	}
	if strings.HasPrefix(c.label, "hz") {
		if i := bytes.LastIndex(b, []byte("~{")); i >= 0 && !bytes.Contains(b[i:], []byte("~}")) && bytes.IndexByte(b[i:], '\n') < 0 {
			return []byte("~}")
		}
		return nil
	}
	var out []byte
	if bytes.LastIndexByte(b, 0x0e) > bytes.LastIndexByte(b, 0x0f) {
		out = append(out, 0x0f)
	}
	if i := bytes.LastIndexByte(b, 0x1b); i >= 0 && !bytes.HasPrefix(b[i:], []byte("\x1b(B")) && !bytes.HasPrefix(b[i:], []byte("\x1b$)")) {
		out = append(out, "\x1b(B"...)
	}
	return out
}

func encodeUTF16(s string, big bool) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			out = append(out, byte(u>>8), byte(u))
		} else {
			out = append(out, byte(u), byte(u>>8))
		}
	}
	return out
}

// encodeUTF7 writes the direct characters of RFC 2152 as they are and the rest in modified base64.
func encodeUTF7(s string) []byte {
	direct := func(r rune) bool {
		return r < 0x80 && (strings.ContainsRune("\r\n\t !\"#$%&'(),-./:;<=>?@[]^_`{|}*", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}
	var out []byte
	for rs := []rune(s); len(rs) > 0; {
		n := 0
		for n < len(rs) && !direct(rs[n]) {
			n++
		}
		if n == 0 {
			out = append(out, byte(rs[0]))
			rs = rs[1:]
			continue
		}
		out = append(out, '+')
		out = base64.RawStdEncoding.AppendEncode(out, encodeUTF16(string(rs[:n]), true))
		out = append(out, '-')
		rs = rs[n:]
	}
	return out
}

// isASCII tells that no byte has its high bit set, eight bytes at a time.
func isASCII(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
