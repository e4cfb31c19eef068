package rewrite

import (
	"bytes"
	"slices"
	"strings"
)

// part is a node of the MIME tree, by offsets into the message.
type part struct {
	head       header
	start, end int // end: before the CRLF that belongs to the next delimiter (RFC 2046 section 5.1.1)
	typ        string
	number     string // once counted: 1.2 is the second part of the first
	malformed  bool   // its Content-Type is none (RFC 2045 section 5.2 makes it text/plain)
	closed     bool   // of a multipart: its last delimiter was found
	params     []param
	children   []*part
	glue       [][2]int // of a multipart: preamble and delimiter lines, the last one with the epilogue
	fields     []field  // Content-* fields only
}

func (p *part) param(name string) string {
	for _, q := range p.params {
		if q.name == name {
			return q.value
		}
	}
	return ""
}

func (p *part) has(name string) bool {
	for _, q := range p.params {
		if q.name == name || strings.HasPrefix(q.name, name+"*") {
			return true
		}
	}
	return false
}

// field is the first field of that name, as nearly all readers take it, or nil.
func (p *part) field(name string) *field {
	for i := range p.fields {
		if p.fields[i].is(name) {
			return &p.fields[i]
		}
	}
	return nil
}

func (p *part) multipart() bool { return len(p.children) > 0 }

// disposition is the first word of Content-Disposition in lower case; named, whether the part has a file name.
func (p *part) disposition(b []byte) (d string, named bool) {
	named = p.has("name")
	f := p.field("Content-Disposition")
	if f == nil {
		return "", named
	}
	d, params := parseParams(f.value(b))
	for _, q := range params {
		named = named || q.name == "filename" || strings.HasPrefix(q.name, "filename*")
	}
	return strings.ToLower(d), named
}

// pkcs7 tells whether the part is S/MIME: by its type, or by its file name where a tool does not know the type (RFC 8551
// section 3.9).
func (p *part) pkcs7(b []byte) bool {
	if p.typ == "application/pkcs7-mime" || p.typ == "application/x-pkcs7-mime" {
		return true
	}
	params := p.params
	if f := p.field("Content-Disposition"); f != nil {
		_, more := parseParams(f.value(b))
		params = append(slices.Clip(params), more...)
	}
	return strings.HasPrefix(p.typ, "application/") && slices.ContainsFunc(params, func(q param) bool {
		name, _, _ := strings.Cut(q.name, "*")
		return (name == "name" || name == "filename") && strings.HasSuffix(strings.ToLower(q.value), ".p7m")
	})
}

// walker reads the tree. Delimiter candidates, the lines that start with "--", are found once for the whole message.
type walker struct {
	b     []byte
	lines []int
	parts int
	work  int      // candidates looked at, over all levels
	outer []string // boundaries of the multiparts that are being read
}

const maxWork = 10_000_000

func readParts(b []byte, h header) (*part, error) {
	w := &walker{b: b}
	for at := h.body; ; {
		if bytes.HasPrefix(b[at:], []byte("--")) {
			w.lines = append(w.lines, at)
		}
		i := bytes.Index(b[at:], []byte("\n--"))
		if i < 0 {
			break
		}
		at += i + 1
	}
	return w.read(h, len(b), w.lines, "text/plain", 0)
}

func (w *walker) read(h header, end int, lines []int, fallback string, depth int) (*part, error) {
	p := &part{head: h, start: h.start, end: end}
	if w.parts++; w.parts > maxParts {
		return nil, refuse("more than %d MIME parts", maxParts)
	}
	for _, f := range h.fields {
		if f.describes() {
			p.fields = append(p.fields, f)
		}
	}
	p.head.fields = nil
	p.typ = fallback
	if f := p.field("Content-Type"); f != nil {
		var t string
		t, p.params = parseParams(f.value(w.b))
		p.typ = strings.ToLower(t)
		if strings.Count(t, "/") != 1 {
			p.typ, p.malformed = "text/plain", true
		}
		if err := w.agree(p, f); err != nil {
			return nil, err
		}
	}
	if !strings.HasPrefix(p.typ, "multipart/") {
		return p, nil
	}
	if depth == maxDepth {
		return nil, refuse("MIME parts are nested more than %d deep", maxDepth)
	}
	return p, w.children(p, lines, depth)
}

// agree refuses what readers take differently: a second Content-Type or boundary that says something else.
func (w *walker) agree(p *part, first *field) error {
	for _, f := range p.fields {
		if f.is("Content-Type") && f.start != first.start && f.value(w.b) != first.value(w.b) {
			return refuse("two Content-Type fields that differ")
		}
	}
	_, unfolded := parseParams(string(w.b[first.colon+1 : first.end]))
	for _, q := range unfolded {
		if q.name == "boundary" && strings.Contains(strings.TrimSpace(q.value), "\n") {
			return refuse("a boundary is folded in its middle")
		}
	}
	boundary := p.param("boundary")
	for _, q := range p.params {
		switch {
		case q.name == "boundary" && q.value != boundary:
			return refuse("two boundaries in one Content-Type")
		case q.name == "boundary" && strings.TrimRight(q.value, " \t") != q.value: // RFC 2046 section 5.1.1
			return refuse("a boundary ends in a blank")
		case strings.HasPrefix(q.name, "boundary*"):
			return refuse("a boundary in RFC 2231 encoding")
		}
	}
	return nil
}

// children splits a multipart at its delimiter lines. An outer delimiter ends inner parts that were not closed.
func (w *walker) children(p *part, lines []int, depth int) error {
	boundary := strings.TrimRight(p.param("boundary"), " \t\r\n")
	if boundary == "" {
		return nil
	}
	if w.work += len(lines) + 1; w.work > maxWork {
		return refuse("MIME parts are nested too deep for their number")
	}
	if slices.Contains(w.outer, boundary) { // readers disagree whose delimiters they are
		return refuse("a multipart has the boundary of the one around it")
	}
	w.outer = append(w.outer, boundary)
	defer func() { w.outer = w.outer[:len(w.outer)-1] }()
	type mark struct{ at, end, line int }
	var marks []mark
	closed := false
	for i := 0; i < len(lines) && !closed; i++ {
		end := lineEnd(w.b, lines[i], p.end)
		rest, ok := bytes.CutPrefix(w.b[lines[i]+2:end], []byte(boundary))
		tail := string(bytes.TrimRight(bytes.TrimRight(rest, "\r\n"), " \t"))
		if !ok || tail != "" && tail != "--" {
			continue
		}
		closed = tail == "--"
		marks = append(marks, mark{lines[i], end, i})
	}
	p.closed = closed
	opens := len(marks)
	if closed {
		opens--
	}
	prev := p.head.body
	for i := 0; i < opens; i++ {
		end, last := p.end, len(lines)
		if i+1 < len(marks) {
			end, last = marks[i+1].at, marks[i+1].line
			end = beforeCRLF(w.b, marks[i].end, end)
		}
		h, err := readHeader(w.b, marks[i].end, end)
		if err != nil {
			return err
		}
		h.start = marks[i].end
		fallback := "text/plain"
		if p.typ == "multipart/digest" {
			fallback = "message/rfc822" // RFC 2046 section 5.1.5
		}
		c, err := w.read(h, end, lines[marks[i].line+1:last], fallback, depth+1)
		if err != nil {
			return err
		}
		p.glue = append(p.glue, [2]int{prev, marks[i].end})
		p.children = append(p.children, c)
		prev = end
	}
	if opens > 0 {
		p.glue = append(p.glue, [2]int{prev, p.end})
	}
	return nil
}

// beforeCRLF is end without the line end before it, not below start.
func beforeCRLF(b []byte, start, end int) int {
	if end > start && b[end-1] == '\n' {
		end--
		if end > start && b[end-1] == '\r' {
			end--
		}
	}
	return end
}
