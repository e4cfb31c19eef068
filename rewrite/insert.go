package rewrite

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// edit replaces del octets at off by ins.
type edit struct {
	off, del int
	ins      []byte
}

// change is one body with the notice in it: the edits, and what must be read back.
type change struct {
	body  *body
	edits []edit // offsets into the message
	old   []byte // the text before, decoded, in the charset that it has afterwards
	at    int    // of the notice in old
	core  []byte // the notice, in that charset
}

// insert puts the notice into the body: in the part's own charset and transfer encoding where they can hold it, else
// with the part converted.
func (b *body) insert(m *Mail, n Notice) (*change, error) {
	text := n.Text
	if b.html {
		text = foldHTML(n.HTML)
	}
	lines := plainLines(text)
	if !b.html && strings.EqualFold(b.part.param("format"), "flowed") {
		stuff(lines)
	}
	text = strings.Join(lines, "\r\n")
	if len(b.decoded) == 0 && !b.cs.ascii && !b.cs.utf8 && b.labelled(m) {
		return b.convert(m, "", text), nil // whatever the charset was, nothing is in it
	}
	if c := b.own(m, text); c != nil {
		return c, nil
	}
	if b.valid && b.cs.certain() && b.labelled(m) {
		return b.convert(m, b.text, text), nil
	}
	if folded := foldASCII(text); isASCII([]byte(folded)) {
		if c := b.own(m, folded); c != nil {
			return c, nil
		}
	}
	return nil, refuse("neither the charset %q of a body nor ASCII can hold the notice, and the body cannot be converted", b.cs.label)
}

// own puts the notice in by the part's own charset, or returns nil.
func (b *body) own(m *Mail, text string) *change {
	core, ok := b.cs.encode(text)
	switch ascii := isASCII([]byte(text)); {
	case !ok || !ascii && !b.valid && b.cs.family != utf7: // broken text is shown by guesses, which spoil what is not ASCII
		return nil
	case b.cte != identity || (isASCII(core) || !isASCII(b.raw)) && longest(core) < 990: // RFC 5322 section 2.1.1
		return b.splice(m, core)
	case b.labelled(m) && b.cs.family == asciiBased: // fits the charset, but not the transfer encoding
		return b.reencode(m, b.decoded, core, "")
	}
	return nil
}

func longest(b []byte) (n int) {
	for l := range bytes.Lines(b) {
		n = max(n, len(l))
	}
	return n
}

// convert turns the part into UTF-8.
func (b *body) convert(m *Mail, old, text string) *change {
	u := *b
	u.cs = charset{label: "utf-8", utf8: true}
	u.decoded = []byte(old)
	if !b.html {
		u.place.at = len(old)
	}
	return u.reencode(m, u.decoded, []byte(text), "utf-8")
}

// labelled tells whether the header of the part can be corrected: it must not run into the body.
func (b *body) labelled(m *Mail) bool {
	if b.part.head.broken && (!b.root || len(b.raw) > 0) || b.part.malformed {
		return false
	}
	for _, q := range b.part.params {
		if q.name == "charset*" || q.name == "charset" && (q.start < 0 || strings.Contains(q.value, "(")) {
			return false
		}
	}
	f := b.part.field("Content-Type")
	return f == nil || !strings.HasSuffix(f.value(m.raw), ";")
}

// around is what separates the notice from the text on both sides.
func (b *body) around() (lead, tail string) {
	unit := b.cs.width()
	newline := func(x []byte, n int) bool {
		return n < unit || b.cs.view(x[n-unit : n])[0] == '\n'
	}
	atLine := newline(b.decoded, b.place.at)
	ownLine := b.cte == quoted && len(b.raw) > 0 && b.raw[len(b.raw)-1] != '\n' && b.place.at == len(b.decoded)
	if !atLine && !ownLine {
		lead = "\r\n"
	}
	if b.html {
		return lead + b.place.closes, "\r\n"
	}
	end := b.decoded
	if b.cte == quoted {
		end, unit = b.raw, 1
	}
	if len(end) == 0 || end[len(end)-1] == '\n' || unit == 2 && newline(end, len(end)) {
		tail = "\r\n"
	}
	if len(b.decoded) > 0 {
		lead += "\r\n"
	}
	return lead, tail
}

// splice keeps the part's encodings.
func (b *body) splice(m *Mail, core []byte) *change {
	lead, tail := b.around()
	pre, _ := b.cs.encode(lead)
	post, _ := b.cs.encode(tail)
	ins := append(b.cs.neutral(b.decoded[:b.place.at]), pre...)
	ins = append(append(ins, core...), post...)
	c := &change{body: b, old: b.decoded, at: b.place.at, core: core}
	for _, e := range b.cte.splice(b.raw, b.decoded, b.place.at, ins, b.cs.width() == 2) {
		e.off += b.part.head.body
		c.edits = append(c.edits, e)
	}
	b.blankLine(m, c)
	return c
}

// reencode encodes the whole part anew: base64 stays base64, all else becomes quoted-printable. label "" keeps the
// charset.
func (b *body) reencode(m *Mail, old, core []byte, label string) *change {
	lead, tail := b.around()
	text := append(bytes.Clone(old[:b.place.at]), lead...)
	text = append(append(append(text, core...), tail...), old[b.place.at:]...)
	c := &change{body: b, old: old, at: b.place.at, core: core}
	cte := "quoted-printable"
	raw := encodeQuoted(text, false)
	if b.cte == base64ed {
		cte, raw = "base64", append(encodeBase64(text), "\r\n"...)
	}
	c.edits = append(m.relabel(b, label, cte), edit{b.part.head.body, len(b.raw), raw})
	b.blankLine(m, c)
	return c
}

// blankLine ends the header of a message that has no body at all.
func (b *body) blankLine(m *Mail, c *change) {
	if h := b.part.head; h.broken && h.body == len(m.raw) {
		last := &c.edits[len(c.edits)-1]
		last.ins = append([]byte("\r\n"), last.ins...)
	}
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
			edits = append(edits, edit{f.start, f.end - f.start, []byte("Content-Transfer-Encoding: " + cte + "\r\n")})
		case f.is("Content-Transfer-Encoding"), f.is("Content-MD5"), f.is("Content-Length"):
			edits = append(edits, edit{f.start, f.end - f.start, nil})
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
		edits = append(edits, edit{at, 0, []byte(fresh)})
	}
	return edits
}

// relabelField sets the charset in a Content-Type.
func (m *Mail) relabelField(f field, label string) edit {
	v := m.raw[f.colon+1 : f.end]
	_, params := parseParams(string(v))
	for _, q := range params {
		if q.name == "charset" {
			return edit{f.colon + 1 + q.start, q.end - q.start, []byte(label)}
		}
	}
	at := f.colon + 1 + len(bytes.TrimRight(v, " \t\r\n;"))
	return edit{at, f.end - at, []byte(";\r\n charset=" + label + "\r\n")}
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

// foldHTML writes a fragment in ASCII, with character references, on lines that no transfer encoding has to break.
func foldHTML(fragment string) string {
	fragment = strings.Trim(strings.ReplaceAll(fragment, "\r\n", "\n"), "\n")
	b := make([]byte, 0, len(fragment)+len(fragment)/4)
	inTag, col := false, 0
	for _, r := range fragment {
		switch r {
		case '<':
			inTag = true
		case '>':
			inTag = false
		case '\n':
			col = -1
		case ' ':
			if !inTag && col > 100 {
				r, col = '\n', -1
			}
		}
		col++
		if r < 0x80 {
			b = append(b, byte(r))
		} else {
			b = fmt.Appendf(b, "&#%d;", r)
		}
	}
	return string(b)
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
