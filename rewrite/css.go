package rewrite

import (
	"strconv"
	"strings"
)

// style is what CSS says of an element that can keep a reader from seeing what stands in it. Font sizes and colours do
// not matter: a notice sets its own. What single declarations say adds up.
type style uint16

const (
	gone    style = 1 << iota // hides all that is in it
	low                       // has a height that its content does not change
	lowish                    // has a height relative to what is around it
	cuts                      // cuts off what is larger
	scrolls                   // shows what is larger after scrolling
	lifted                    // is taken out of the flow, or moves
	fixed                     // position: fixed
	above                     // lies above a notice
)

// noticeLayer is the z-index of a notice.
const noticeLayer = 9999

// hides tells whether what stands in the element may be unseen. Of html and body, which cannot be closed, less is
// assumed than of others.
func (s style) hides(root bool) bool {
	if s&gone != 0 || s&low != 0 && s&cuts != 0 {
		return true
	}
	return !root && (s&lifted != 0 || s&(low|lowish) != 0 && s&(cuts|scrolls) != 0)
}

// covers tells whether the element may lie over a notice.
func (s style) covers() bool { return s&above != 0 && s&(lifted|fixed) != 0 }

// mayHide tells whether anything in it could keep a notice from being seen: a height alone does not, nor does a layer.
func (s style) mayHide() bool { return s&^(low|lowish|fixed|above) != 0 }

// attribute takes in an attribute of an element.
func (s *style) attribute(name, value string) {
	switch name {
	case "style":
		s.read(value)
	case "hidden":
		*s |= gone
	}
}

// read takes in declarations as a style attribute or a rule has them.
func (s *style) read(css string) {
	for d := range strings.SplitSeq(cleanCSS(css), ";") {
		s.declare(d)
	}
}

func (s *style) declare(d string) {
	k, v, ok := strings.Cut(d, ":")
	if !ok {
		return
	}
	v, _, _ = strings.Cut(v, "!") // !important, with blanks anywhere
	v = strings.TrimSpace(v)
	k = strings.TrimSpace(k)
	for _, vendor := range []string{"-webkit-", "-moz-", "-ms-", "-o-"} {
		k = strings.TrimPrefix(k, vendor)
	}
	switch k {
	case "display":
		s.set(gone, strings.HasPrefix(v, "none"))
	case "visibility", "content-visibility":
		s.set(gone, strings.HasPrefix(v, "hidden") || strings.HasPrefix(v, "collapse"))
	case "mso-hide":
		s.set(gone, strings.HasPrefix(v, "all"))
	case "opacity", "zoom":
		s.set(gone, faint(v))
	case "clip", "clip-path", "filter", "mask", "mask-image", "mix-blend-mode", "transform", "scale", "rotate", "translate":
		s.set(gone, !neutral(v))
	case "animation", "animation-name":
		s.set(lifted, !neutral(v))
	case "position":
		s.set(lifted, v == "absolute" || v == "fixed")
		s.set(fixed, v == "fixed")
	case "z-index":
		n, err := strconv.ParseFloat(v, 64)
		s.set(above, err == nil && n >= noticeLayer)
	case "left", "right", "top", "bottom", "inset", "margin", "margin-left", "margin-right", "margin-top", "margin-bottom", "padding", "padding-left", "padding-right", "padding-top":
		for _, l := range lengths(v) {
			s.set(gone, l.px <= -100 || l.px >= 1000)
		}
	default:
		s.size(k, v)
	}
}

// size reads what says how large the element is.
func (s *style) size(k, v string) {
	switch k {
	case "height", "max-height", "block-size", "max-block-size", "line-clamp":
		for _, l := range lengths(v) {
			s.set(gone, l.px == 0 && strings.HasPrefix(k, "max-"))
			s.set(low, !l.relative && l.px < 5000)
			s.set(lowish, l.relative)
		}
	case "width", "max-width", "inline-size", "max-inline-size":
		for _, l := range lengths(v) {
			s.set(gone, (l.px == 0 || !l.relative && l.px < 50) && !strings.Contains(v, "("))
		}
	case "overflow", "overflow-y", "overflow-block":
		v = v[strings.LastIndexByte(v, ' ')+1:] // of two values the second is the vertical one
		s.set(cuts, v == "hidden" || v == "clip")
		s.set(scrolls, v == "auto" || v == "scroll" || v == "overlay")
	}
}

func (s *style) set(bit style, on bool) {
	if on {
		*s |= bit
	}
}

// neutral tells whether a value is one that changes nothing.
func neutral(v string) bool {
	switch v {
	case "", "none", "auto", "normal", "initial", "unset", "revert", "inherit", "1", "0", "0deg":
		return true
	}
	return false
}

// faint tells whether dark grey on white drops under the contrast that a reader needs (WCAG 2.1, 1.4.3).
func faint(v string) bool {
	n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(v, "%")), 64)
	if strings.HasSuffix(v, "%") {
		n /= 100
	}
	return err == nil && n < 0.75
}

// length is one of a value, roughly in CSS pixels.
type length struct {
	px       float64
	relative bool // to the element around it or to the window
}

var units = []struct {
	name     string
	px       float64
	relative bool
}{
	{"px", 1, false},
	{"pt", 1.33, false},
	{"rem", 16, false},
	{"em", 16, false},
	{"ex", 8, false},
	{"ch", 8, false},
	{"pc", 16, false},
	{"cm", 38, false},
	{"mm", 3.8, false},
	{"in", 96, false},
	{"%", 10, true},
	{"v", 10, true},
	{"sv", 10, true},
	{"dv", 10, true},
	{"lv", 10, true},
}

// lengths are the lengths that stand in a value, inside calc() and the like too.
func lengths(v string) (out []length) {
	digit := func(i int) bool { return i < len(v) && (v[i] >= '0' && v[i] <= '9' || v[i] == '.') }
	for i := 0; i < len(v); i++ {
		if !digit(i) {
			if v[i] >= 'a' && v[i] <= 'z' || v[i] == '#' { // a word, which may hold digits
				for i+1 < len(v) && (digit(i+1) || v[i+1] >= 'a' && v[i+1] <= 'z' || v[i+1] == '-') {
					i++
				}
			}
			continue
		}
		from := i
		for digit(i) {
			i++
		}
		n, err := strconv.ParseFloat(v[from:i], 64)
		if err != nil {
			continue
		}
		if from > 0 && v[from-1] == '-' {
			n = -n
		}
		l := length{px: n}
		for _, u := range units {
			if strings.HasPrefix(v[i:], u.name) {
				l = length{n * u.px, u.relative}
				break
			}
		}
		out = append(out, l)
	}
	return out
}

// cleanCSS lower-cases, takes out comments, undoes escapes and blanks what in strings would look like syntax.
func cleanCSS(css string) string {
	if !strings.ContainsAny(css, "\\/\"'<->") {
		return strings.ToLower(css)
	}
	var b strings.Builder
	b.Grow(len(css))
	quote := byte(0)
	for i := 0; i < len(css); i++ {
		c, rest := css[i], css[i:]
		switch {
		case c == '\\':
			r, n := unescape(rest)
			b.WriteByte(r)
			i += n - 1
		case quote != 0:
			if c == quote || c == '\n' { // a string does not go over the end of its line
				quote = 0
			} else if strings.IndexByte("{};,", c) >= 0 {
				c = ' '
			}
			b.WriteByte(c)
		case c == '"' || c == '\'':
			quote = c
			b.WriteByte(c)
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return strings.ToLower(b.String())
			}
			i += end + 3
			b.WriteByte(' ')
		case strings.HasPrefix(rest, "<!--"):
			i += 3
		case strings.HasPrefix(rest, "-->"):
			i += 2
		default:
			b.WriteByte(c)
		}
	}
	return strings.ToLower(b.String())
}

// unescape reads one escape (CSS Syntax section 4.3.7). What is no letter, digit or dash is written as "_".
func unescape(s string) (c byte, n int) {
	hex := 1
	for hex < len(s) && hex < 7 && strings.IndexByte("0123456789abcdefABCDEF", s[hex]) >= 0 {
		hex++
	}
	if hex == 1 {
		if len(s) < 2 {
			return '_', 1
		}
		return plainByte(rune(s[1])), 2
	}
	v, _ := strconv.ParseUint(s[1:hex], 16, 32)
	if hex < len(s) && strings.IndexByte(" \t\n\r\f", s[hex]) >= 0 {
		return plainByte(rune(v)), hex + 1
	}
	return plainByte(rune(v)), hex
}

func plainByte(r rune) byte {
	if r == '-' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z' {
		return byte(r)
	}
	return '_'
}
