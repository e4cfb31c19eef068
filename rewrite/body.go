package rewrite

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
)

// body is a text part in which something is the recipient's own: the notice, a link.
type body struct {
	part    *part
	root    bool
	html    bool
	amp     bool // HTML as AMP has it
	cte     transfer
	cs      charset
	raw     []byte // as it stands in the message
	decoded []byte // transfer encoding undone, still in its charset
	spots   []spot // in decoded; at least one
	text    string // decoded as UTF-8
	valid   bool   // text is faithful

	same, inUTF8 recoded
}

// Rewritable tells whether marketing copies can be made: nil, or a *Refusal. A notice that no encoding of the message
// can hold is found only by Copy.
func (m *Mail) Rewritable() error {
	m.once.Do(m.plan)
	return m.fault
}

// plan finds the bodies and the places in them, once for all recipients. What is signed or encrypted has none: it is
// wrapped or refused.
func (m *Mail) plan() {
	var closed *sealed
	if m.fault = m.place(); errors.As(m.fault, &closed) {
		m.bodies = nil
		m.fault = refuse("%s: send it unsigned and unencrypted, or have the gateway's operator set policy.signed_mail: wrap", closed.what)
		if m.WrapSigned {
			m.wrap, m.fault = m.wrapping()
		}
	}
	if m.fault == nil && !slices.ContainsFunc(m.bodies, func(b *body) bool { return b.part.head.broken }) { // else readers disagree where it ends
		m.seen, _ = witness(m.raw[m.head.start:])
	}
}

func (m *Mail) place() error {
	tree, err := readParts(m.raw, m.head)
	if err != nil {
		return err
	}
	m.tree = tree
	tree.count("")
	c := chooser{raw: m.raw, root: tree}
	c.visit(tree, true)
	if c.no != nil {
		return c.no
	}
	if len(c.chosen) == 0 {
		return bodiless(tree)
	}
	if len(c.chosen) > maxBodies {
		return refuse("more than %d text bodies", maxBodies)
	}
	if err := m.collect(tree, &c, m.unsubscribeURLs()); err != nil {
		return err
	}
	spots := 0
	for _, b := range m.bodies {
		spots += len(b.spots)
	}
	if len(m.bodies) > maxBodies || spots > maxSpots {
		return refuse("more than %d text bodies, or %d placeholders and links of the tool's own", maxBodies, maxSpots)
	}
	return nil
}

// bodiless says why there is no body.
func bodiless(tree *part) error {
	if strings.HasPrefix(tree.typ, "multipart/") && !tree.multipart() {
		return refuse("it is a multipart, and its boundary stands nowhere in it")
	}
	return refuse("it has no text or HTML body that could carry the notice: add a text/plain or text/html part that is not an attachment")
}

// chooser picks the bodies: what a mail reader shows as the message, in each of its alternatives.
type chooser struct {
	raw    []byte
	root   *part
	chosen []*part
	no     error // the message must be refused
}

// visit tells whether p holds text that is shown inline; main, whether p is part of the message proper.
func (c *chooser) visit(p *part, main bool) bool {
	if !main || c.no != nil {
		return false
	}
	switch p.typ {
	case "multipart/signed":
		return c.block(&sealed{"it is signed, and a notice would break the signature"})
	case "multipart/encrypted":
		return c.block(&sealed{"it is encrypted, and no notice can be put into it"})
	}
	if !p.multipart() {
		return c.leaf(p)
	}
	switch p.typ {
	case "multipart/digest", "multipart/appledouble", "multipart/form-data", "multipart/x-mixed-replace", "multipart/byteranges":
		return false
	case "multipart/alternative":
		got := false
		switch last := p.children[len(p.children)-1]; last.typ { // the one that is shown where it is understood
		case "text/enriched", "text/richtext", "application/xhtml+xml":
			return c.block(refuse("its last alternative of type %s cannot carry the notice: send text/plain and text/html", last.typ))
		}
		shown := false // the last one, which readers prefer, has text that carries the notice
		for _, child := range p.children {
			shown = c.visit(child, true)
			got = shown || got
		}
		if last := p.children[len(p.children)-1]; got && !shown && c.prefers(last) {
			return c.block(refuse("its last alternative of type %s cannot carry the notice: send text/plain and text/html", last.typ))
		}
		return got
	case "multipart/related":
		start, first := c.start(p), p.children[0]
		if start != first && (first.multipart() || strings.HasPrefix(first.typ, "text/")) {
			return c.block(refuse("its start is not its first part, and readers disagree which of the two they show")) // RFC 2387 section 3.2
		}
		return c.visit(start, true)
	case "multipart/report":
		return c.visit(p.children[0], true) // the part for people (RFC 6522 section 3)
	}
	for _, child := range p.children { // mixed, and what is unknown is read as mixed (RFC 2046 section 5.1.3)
		if !c.file(child) && c.visit(child, true) {
			return true
		}
	}
	return c.file(p.children[0]) && c.visit(p.children[0], true) // QUIRK: tools that name the body
}

// file tells whether p has a file name: many readers list such a text as an attachment and do not show it.
func (c *chooser) file(p *part) bool {
	_, named := p.disposition(c.raw)
	return named && !p.multipart()
}

func (c *chooser) block(why error) bool {
	if c.no == nil {
		c.no = why
	}
	return false
}

func (c *chooser) leaf(p *part) bool {
	disposition, _ := p.disposition(c.raw)
	switch p.typ {
	case "text/plain", "text/html":
		if disposition == "attachment" {
			return false
		}
		if p != c.root && p.head.broken && p.head.body >= p.end {
			return false // a part of header fields alone shows nothing
		}
		c.chosen = append(c.chosen, p)
		return true
	case "application/pgp", "application/pgp-encrypted":
		return c.block(&sealed{"it is signed or encrypted with OpenPGP"})
	case "text/x-amp-html":
		if disposition != "attachment" {
			c.chosen = append(c.chosen, p)
		}
		return false
	}
	if p.pkcs7(c.raw) && (disposition != "attachment" || p == c.root) {
		return c.block(&sealed{"it is signed or encrypted with S/MIME"})
	}
	if t, rest, ok := strings.Cut(p.typ, "/"); ok && t == "text" && strings.ContainsAny(rest, " \t()\"=,") {
		return c.block(refuse("the Content-Type of a text part is malformed"))
	}
	return false
}

// prefers tells whether a reader may show p, the last alternative, in the place of the texts before it.
func (c *chooser) prefers(p *part) bool {
	kind, _, _ := strings.Cut(p.typ, "/")
	d, named := p.disposition(c.raw)
	return d != "attachment" && !named && (kind == "multipart" || kind == "image" || kind == "message" || p.typ == "text/markdown")
}

// start is the root of multipart/related (RFC 2387 section 3.2).
func (c *chooser) start(p *part) *part {
	if id := strings.Trim(strings.TrimSpace(p.param("start")), "<>"); id != "" {
		for _, child := range p.children {
			if f := child.field("Content-Id"); f != nil && strings.Trim(f.value(c.raw), "<>") == id {
				return child
			}
		}
	}
	return p.children[0]
}

// collect opens the parts that differ from copy to copy, in their order: the chosen ones, which carry the notice, and
// other text that is shown and holds a placeholder or the tool's own opt-out link.
func (m *Mail) collect(p *part, c *chooser, own []string) error {
	for _, child := range p.children {
		if err := m.collect(child, c, own); err != nil {
			return err
		}
	}
	carries := slices.Contains(c.chosen, p)
	if p.multipart() || !carries && !strings.HasPrefix(p.typ, "text/") {
		return nil
	}
	if d, named := p.disposition(m.raw); (d == "attachment" || named) && !carries {
		return nil // a file
	}
	b, err := m.open(p)
	var no *Refusal
	var closed *sealed
	switch {
	case carries && err != nil:
		return err
	case errors.As(err, &no), errors.As(err, &closed): // not ours to read, and it is sent as it is
		return nil
	case err != nil:
		return err
	}
	view := b.cs.view(b.decoded)
	marks, err := b.marks(view)
	if err != nil {
		return err
	}
	if !carries && len(marks) > 0 && p.typ != "text/plain" && p.typ != "text/html" {
		return refuse("a placeholder in a part of type %s is not replaced", p.typ)
	}
	return m.fillable(b, view, append(marks, b.links(view, own)...), carries)
}

// fillable finds the spots of a body.
func (m *Mail) fillable(b *body, view []byte, marks []mark, carries bool) error {
	spots, placed, err := b.spotsFor(view, marks, carries)
	if err != nil {
		return err
	}
	if carries && !placed {
		switch {
		case b.amp:
			return refuse("its AMP alternative, which some readers show instead of the HTML, does not say where the notice goes: put {{heed.notice}} into it, or send the message without it")
		case b.html:
			where, err := findPlace(view)
			if err != nil {
				return refuse("no place for the notice in the HTML: %v", err)
			}
			spots = append(spots, spot{at: where.at, closes: where.closes})
		default:
			spots = append(spots, spot{at: len(view)})
		}
	}
	if len(spots) == 0 {
		return nil
	}
	unit := b.cs.width()
	for i := range spots {
		spots[i].at, spots[i].del = spots[i].at*unit, spots[i].del*unit
	}
	if first := spots[0]; b.part.head.broken && first.del > 0 && bytes.IndexByte(view[:first.at], '\n') < 0 {
		return refuse("a placeholder or a link stands where the header should end")
	}
	b.spots = spots
	m.bodies = append(m.bodies, b)
	return b.settle()
}

func (p *part) charset() string {
	for _, q := range p.params {
		if q.name == "charset" {
			return q.value
		}
		if q.name == "charset*" { // RFC 2231 section 4
			return q.value[strings.LastIndexByte(q.value, '\'')+1:]
		}
	}
	return ""
}

func (m *Mail) body(p *part) *body {
	amp := p.typ == "text/x-amp-html"
	b := &body{part: p, root: p == m.tree, html: amp || p.typ == "text/html", amp: amp, raw: m.raw[p.head.body:p.end]}
	if f := p.field("Content-Transfer-Encoding"); f != nil {
		b.cte, _ = transferOf(f.value(m.raw))
	}
	return b
}

// pgp is an armour header line (RFC 9580 section 6.2), of a part of a message too, and as HTML has it.
var pgp = regexp.MustCompile(`-----BEGIN(?:\W|&nbsp;|&#160;){1,9}PGP(?:\W|&nbsp;|&#160;){1,9}(?:SIGNED(?:\W|&nbsp;|&#160;){1,9})?MESSAGE`)

// encodings refuses a body that readers decode differently.
func (m *Mail) encodings(b *body) error {
	for _, f := range b.part.fields {
		if f.is("Content-Transfer-Encoding") {
			if cte, _ := transferOf(f.value(m.raw)); cte != b.cte {
				return refuse("two Content-Transfer-Encoding fields that differ")
			}
		}
	}
	charset := b.part.param("charset")
	for _, q := range b.part.params {
		switch {
		case q.name == "charset" && !strings.EqualFold(q.value, charset):
			return refuse("two charsets in one Content-Type")
		case strings.HasPrefix(q.name, "charset*") && q.name != "charset*":
			return refuse("a charset in pieces (RFC 2231)")
		}
	}
	return nil
}

// open decodes a body.
func (m *Mail) open(p *part) (*body, error) {
	b := m.body(p)
	if err := m.encodings(b); err != nil {
		return nil, err
	}
	var ok bool
	if b.decoded, ok = b.cte.decode(b.raw); !ok || b.cte == base64ed && p.head.broken && len(b.raw) > 0 {
		return nil, undecodable(m.raw, p, b.cte)
	}
	b.cs = charsetOf(p.charset(), b.decoded)
	if b.cs.family == foreign {
		return nil, refuse("no notice can be put into the charset %q", b.cs.label)
	}
	if b.cs.width() == 2 && b.cte == identity {
		return nil, refuse("a UTF-16 body without transfer encoding")
	}
	if b.html && b.cs.width() == 1 && (bytes.HasPrefix(b.decoded, []byte{0xff, 0xfe}) || bytes.HasPrefix(b.decoded, []byte{0xfe, 0xff})) {
		return nil, refuse("a byte order mark of UTF-16 in the charset %q", b.cs.label) // browsers believe the mark
	}
	view := b.cs.view(b.decoded)
	if pgp.Match(view) {
		return nil, &sealed{"it is signed or encrypted with inline OpenPGP"}
	}
	b.text, b.valid = b.cs.decode(b.decoded)
	if b.cs.mislabelled(b.decoded) {
		b.valid = false
	}
	return b, nil
}

func undecodable(raw []byte, p *part, cte transfer) error {
	switch {
	case cte == unknownTransfer:
		_, name := transferOf(p.field("Content-Transfer-Encoding").value(raw))
		return refuse("the transfer encoding %q of a body is unknown: use 7bit, 8bit, quoted-printable or base64 (RFC 2045 section 6)", name)
	case p.head.broken:
		return refuse("a line that is no header field stands before a base64 body, and readers disagree where that begins")
	}
	return refuse("a base64 body does not decode cleanly: it was cut, or text stands behind its end")
}

var htmlLang = regexp.MustCompile(`(?i)<html\b[^>]*\slang\s*=\s*["']?([a-z]{2,3}(?:-[a-z0-9-]{1,20})?)`)

// Language is what the message says of its languages (a list of BCP 47 tags): those of Content-Language (RFC 3282), then
// the lang attribute of its HTML; "" where it says nothing.
func (m *Mail) Language() string {
	var tags []string
	for _, v := range m.values("Content-Language") {
		for tag := range strings.SplitSeq(v, ",") {
			if tag = strings.TrimSpace(tag); tag != "" && len(tag) < 36 && len(tags) < maxLanguages && fieldText(tag) {
				tags = append(tags, tag)
			}
		}
	}
	if tag := m.htmlLanguage(); tag != "" {
		tags = append(tags, tag)
	}
	return strings.Join(tags, ", ")
}

// maxLanguages bounds the tags that are looked at.
const maxLanguages = 20

func (m *Mail) htmlLanguage() string {
	if m.Rewritable() != nil {
		return ""
	}
	for _, b := range m.bodies {
		if b.html {
			if g := htmlLang.FindSubmatch(b.cs.view(b.decoded[:min(len(b.decoded), 8192)])); g != nil {
				return string(g[1])
			}
		}
	}
	return ""
}
