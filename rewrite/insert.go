package rewrite

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// edit replaces del octets at off by ins, and by data in base64 after it.
type edit struct {
	off, del int
	ins      []byte
	data     [][]byte // pieces of one text
}

func (e *edit) size() int {
	n := 0
	for _, d := range e.data {
		n += len(d)
	}
	return len(e.ins) + base64Size(n)
}

// way is how the spots of a body are filled.
type way byte

const (
	asItIs    way = iota // in the part's own charset and transfer encoding
	inASCII              // likewise, with the notice written in ASCII
	encoded              // in its own charset, the whole part encoded anew
	converted            // turned into UTF-8
)

// change is one body with its spots filled: the edits, and what must be read back.
type change struct {
	body  *body
	way   way
	edits []edit   // offsets into the message
	cs    charset  // that it has afterwards
	gaps  [][]byte // in cs, the transfer encoding undone
	fills [][]byte // likewise
	core  []byte   // the notice in cs; nil: this body gets none
}

// insert fills the spots of the body: in the part's own charset and transfer encoding where they can hold the notice,
// else with the part converted.
func (b *body) insert(m *Mail, t *Treatment) (*change, error) {
	fills := b.fills(t)
	if len(b.decoded) == 0 && !b.cs.ascii && !b.cs.utf8 && b.labelled(m) {
		return b.convert(m, fills), nil // whatever the charset was, nothing is in it
	}
	if c := b.own(m, fills, asItIs); c != nil {
		return c, nil
	}
	if b.valid && b.cs.certain(b.decoded, b.text) && b.labelled(m) {
		return b.convert(m, fills), nil
	}
	ascii := true
	for i := range fills {
		fills[i].core = foldASCII(fills[i].core)
		ascii = ascii && isASCII([]byte(fills[i].core))
	}
	if ascii {
		if c := b.own(m, fills, inASCII); c != nil {
			return c, nil
		}
	}
	return nil, refuse("neither the charset %q of a body nor ASCII can hold the notice, and what the body says in UTF-8 is not certain: send it as UTF-8, and labelled so", b.cs.label)
}

// own fills the spots by the part's own charset, or returns nil.
func (b *body) own(m *Mail, fills []filling, w way) *change {
	c := &change{body: b, way: w, cs: b.cs, fills: make([][]byte, len(fills))}
	ascii := true
	for i, f := range fills {
		ascii = ascii && isASCII([]byte(f.core))
		out := make([]byte, 0, len(f.pre)+len(f.core)+len(f.post)+8)
		if b.spots[i].content == theNotice {
			out = append(out, b.spots[i].neutral...)
		}
		out, _ = b.cs.append(out, f.pre)
		start := len(out)
		out, ok := b.cs.append(out, f.core)
		if !ok {
			return nil
		}
		if b.spots[i].content == theNotice {
			c.core = out[start:]
		}
		out, _ = b.cs.append(out, f.post)
		c.fills[i] = out
	}
	switch {
	case !ascii && !b.valid && b.cs.family != utf7: // broken text is shown by guesses, which spoil what is not ASCII
		return nil
	case b.cte != identity || b.fits(c.fills):
		c.gaps = b.gaps()
		b.splice(m, c)
		return c
	case b.headed() && b.cs.family == asciiBased: // fits the charset, but not the transfer encoding
		c.way = encoded
		b.reencode(m, c, "")
		return c
	}
	return nil
}

// maxLine is how long a line may be without its CRLF (RFC 5322 section 2.1.1).
const maxLine = 998

// fits tells whether a body without transfer encoding can hold the fills.
func (b *body) fits(fills [][]byte) bool {
	eight := !isASCII(b.raw)
	from, end, grown := 0, -1, 0 // of the line that the last spot stood in: where it begins and ends, and how much it grew
	for i, f := range fills {
		s := &b.spots[i]
		if !eight && !isASCII(f) || longest(f) > maxLine-8 {
			return false
		}
		if s.content == theNotice {
			end = -1 // it has lines of its own
			continue
		}
		if s.at >= end {
			from = bytes.LastIndexByte(b.raw[:s.at], '\n') + 1
			end, grown = lineEnd(b.raw, s.at+s.del, len(b.raw)), 0
		}
		grown += len(f) - s.del
		if n := len(bytes.TrimRight(b.raw[from:end], "\r\n")); n+grown > maxLine && n <= maxLine {
			return false
		}
	}
	return true
}

func longest(b []byte) (n int) {
	for l := range bytes.Lines(b) {
		n = max(n, len(l))
	}
	return n
}

// convert turns the part into UTF-8.
func (b *body) convert(m *Mail, fills []filling) *change {
	c := &change{body: b, way: converted, cs: charset{label: "utf-8", utf8: true}}
	for i, f := range fills {
		c.fills = append(c.fills, []byte(f.text()))
		if b.spots[i].content == theNotice {
			c.core = []byte(f.core)
		}
	}
	b.reencode(m, c, "utf-8")
	return c
}

// headed tells whether the header of the part can be corrected: it must not run into the body.
func (b *body) headed() bool {
	return !b.part.head.broken || b.root && len(b.raw) == 0
}

// labelled tells whether the charset in it can be.
func (b *body) labelled(m *Mail) bool {
	if !b.headed() || b.part.malformed {
		return false
	}
	had := false
	for _, q := range b.part.params {
		if q.name == "charset*" || q.name == "charset" && (q.start < 0 || strings.Contains(q.value, "(")) {
			return false
		}
		had = had || q.name == "charset"
	}
	f := b.part.field("Content-Type")
	if f == nil {
		return true
	}
	v := f.value(m.raw)
	_, params := parseParams(v + "; charset=x") // a quote left open would swallow it
	return (had || !strings.HasSuffix(v, ";")) && params[len(params)-1].name == "charset"
}

// relabel corrects charset and transfer encoding in the header of a part, and drops what counted or hashed the old body.
func (m *Mail) relabel(b *body, label, cte string) []edit {
	p := b.part
	var edits []edit
	fresh := ""
	if p.field("Content-Type") == nil {
		if label == "" {
			label = b.cs.label
		}
		fresh = "Content-Type: " + p.typ + "; charset=" + label + "\r\n"
	}
	had := false
	for _, f := range p.fields {
		switch {
		case f.is("Content-Type") && label != "":
			edits = append(edits, m.relabelField(f, label)) // all that there are say the same
		case f.is("Content-Transfer-Encoding") && !had:
			had = true
			edits = append(edits, edit{off: f.start, del: f.end - f.start, ins: []byte("Content-Transfer-Encoding: " + cte + "\r\n")})
		case f.is("Content-Transfer-Encoding"), f.is("Content-MD5"), f.is("Content-Length"):
			edits = append(edits, edit{off: f.start, del: f.end - f.start, ins: nil})
		}
	}
	if !had {
		fresh += "Content-Transfer-Encoding: " + cte + "\r\n"
	}
	if b.root && len(m.values("MIME-Version")) == 0 {
		fresh = "MIME-Version: 1.0\r\n" + fresh
	}
	if fresh != "" {
		at := p.head.sep
		if b.root {
			at = p.head.start
		}
		edits = append(edits, edit{off: at, del: 0, ins: []byte(fresh)})
	}
	return edits
}

// relabelField sets the charset in a Content-Type.
func (m *Mail) relabelField(f field, label string) edit {
	v := m.raw[f.colon+1 : f.end]
	_, params := parseParams(string(v))
	for _, q := range params {
		if q.name == "charset" {
			return edit{off: f.colon + 1 + q.start, del: q.end - q.start, ins: []byte(label)}
		}
	}
	at := f.colon + 1 + len(bytes.TrimRight(v, " \t\r\n;"))
	return edit{off: at, del: f.end - at, ins: []byte(";\r\n charset=" + label + "\r\n")}
}

// plainLines are the lines of a text without blanks at their ends.
func plainLines(text string) []string {
	lines := strings.Split(strings.Trim(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	return lines
}

// stuff protects lines in format=flowed (RFC 3676 section 4.4).
func stuff(lines []string) {
	for i, l := range lines {
		if strings.HasPrefix(l, " ") || strings.HasPrefix(l, ">") || strings.HasPrefix(l, "From ") {
			lines[i] = " " + l
		}
	}
}

// foldHTML writes a fragment in ASCII, with character references, on lines without blanks at their ends that no transfer
// encoding has to break.
func foldHTML(fragment string) string {
	fragment = strings.Trim(fragment, "\r\n")
	b := make([]byte, 0, len(fragment)+len(fragment)/8)
	inTag, col := false, 0
	for i, r := range fragment {
		switch {
		case r == '<':
			inTag = true
		case r == '>':
			inTag = false
		case r == '\r' && strings.HasPrefix(fragment[i:], "\r\n"):
			continue
		case r == '\n' || r == ' ' && !inTag && col > 100:
			b, col = append(bytes.TrimRight(b, " \t\r"), "\r\n"...), 0
			continue
		}
		col++
		if r < 0x80 {
			b = append(b, byte(r))
		} else {
			b = fmt.Appendf(b, "&#%d;", r)
		}
	}
	return string(bytes.TrimRight(b, " \t\r"))
}

// latin is how letters are written where there is only ASCII.
var latin = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "Ä", "Ae", "Ö", "Oe", "Ü", "Ue", "ß", "ss", "æ", "ae", "Æ", "Ae",
	"ø", "oe", "Ø", "Oe", "å", "aa", "Å", "Aa", "œ", "oe", "Œ", "Oe", "ł", "l", "Ł", "L", "đ", "d", "Đ", "D", "ð", "d", "Ð", "D",
	"þ", "th", "Þ", "Th", "ı", "i", "„", `"`, "“", `"`, "”", `"`, "‘", "'", "’", "'", "‚", "'", "«", `"`, "»", `"`, "–", "-", "—", "-",
	"·", "-", "•", "-", "…", "...", "\u00a0", " ", "§", "Sec. ", "€", "EUR ", "№", "No. ")

// foldASCII writes Latin text in ASCII; other scripts stay, for the caller to find.
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(latin.Replace(norm.NFC.String(s))))
}

// escape is html.EscapeString, here so that one place decides it.
func escape(s string) string { return html.EscapeString(s) }
