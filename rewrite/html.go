package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// place is where a notice goes into an HTML body: an offset, and the end tags that have to stand before it because
// elements that hide their content were never closed.
type place struct {
	at     int
	closes string
}

// open is an element on the stack.
type open struct {
	tag   *tag
	hides bool
}

// stack follows the open elements as mail readers that are no browsers do: an end tag closes up to its start tag.
type stack struct {
	open  []open
	count map[string]int
}

func (s *stack) cut(n int) {
	for _, e := range s.open[n:] {
		s.count[e.tag.name]--
	}
	s.open = s.open[:n]
}

// lowest is the index of the outermost open element of those names, searched from the innermost: what it passes is
// taken off the stack or was never above another, so that the whole stays linear.
func (s *stack) lowest(names ...string) int {
	left := 0
	for _, n := range names {
		left += s.count[n]
	}
	i := len(s.open)
	for left > 0 {
		i--
		if slices.Contains(names, s.open[i].tag.name) {
			left--
		}
	}
	return i
}

// leaveHead takes the head off the stack and leaves what is open inside it, as text in it would be read.
func (s *stack) leaveHead() {
	if s.count["head"] > 0 {
		at := s.lowest("head")
		kept := slices.DeleteFunc(s.open[at:], func(e open) bool { return e.tag.name == "head" })
		s.open = s.open[:at+len(kept)]
		s.count["head"] = 0
	}
}

// isRoot tells whether an element is one that cannot be closed before the end of the document.
func isRoot(name string) bool { return name == "body" || name == "html" }

func (s *stack) start(t *tag) {
	if !inHead[t.name] {
		s.leaveHead()
	}
	foreign := s.count["svg"]+s.count["math"] > 0
	if foreign && breakout[t.name] {
		s.cut(s.lowest("svg", "math"))
	}
	if void[t.name] || t.empty && foreign {
		return
	}
	s.open = append(s.open, open{t, t.style.hides(isRoot(t.name)) || hiding[t.name]})
	s.count[t.name]++
}

func (s *stack) end(name string) {
	if s.count[name] == 0 {
		return
	}
	for i := len(s.open) - 1; i >= 0; i-- {
		if s.open[i].tag.name == name {
			s.cut(i)
			return
		}
	}
}

// maxOpen is how many open elements are held against the style sheets; an HTML5 parser gives up earlier.
const maxOpen = 2000

// hidden is the outermost open element that hides what follows, or nil.
func (s *stack) hidden(doc []byte, rules *sheet) *open {
	var chain []element
	for i := range s.open {
		e := &s.open[i]
		if e.hides {
			return e
		}
		if rules.hides && i < maxOpen {
			chain = append(chain, elementAt(doc, e.tag))
			if st := e.tag.style | rules.of(chain); st.hides(isRoot(e.tag.name)) {
				return e
			}
		}
	}
	return nil
}

// elementAt reads a start tag once more, with all its attributes.
func elementAt(doc []byte, t *tag) element {
	z := html.NewTokenizer(bytes.NewReader(doc[t.at : t.at+t.size]))
	z.Next()
	return newElement(t.name, z.Token().Attr)
}

// lies tells whether an element of the document may lie over a notice.
func (o *outline) lies(doc []byte) bool {
	if o.covered || !o.sheet.covers {
		return o.covered
	}
	for i := range o.tags {
		t := &o.tags[i]
		if t.kind != html.StartTagToken && t.kind != html.SelfClosingTagToken {
			continue
		}
		if st := t.style | o.sheet.last(elementAt(doc, t)); st.covers() {
			return true
		}
	}
	return false
}

// at runs the stack to an offset.
func (o *outline) at(offset int) *stack {
	s := &stack{count: map[string]int{}}
	for i := range o.tags {
		t := &o.tags[i]
		if t.at >= offset {
			break
		}
		switch t.kind {
		case html.TextToken:
			if n := len(s.open); n > 0 && s.open[n-1].tag.name == "head" {
				s.cut(n - 1)
			}
		case html.EndTagToken:
			s.end(t.name)
		default:
			s.start(t)
		}
	}
	return s
}

var (
	errHidden  = errors.New("no place in it is visible")
	errCovered = fmt.Errorf("an element with a position and a z-index of %d or more may cover a notice", noticeLayer)
	errSheet   = errors.New("its style sheets are too long to tell what they hide")
)

// findPlace looks for the visible place nearest the end of an HTML body: before the last real </body>, after closing
// what hides it, or before what hides it.
func findPlace(doc []byte) (place, error) {
	o := readOutline(doc)
	if o.tokens > maxTokens {
		return place{}, fmt.Errorf("it has more than %d tags and attributes", maxTokens)
	}
	end := o.end
	switch {
	case o.body >= 0:
		end = o.body
	case o.html >= 0:
		end = o.html
	}
	if end < o.firstBody || o.frameset {
		return place{}, errHidden
	}
	if o.lies(doc) {
		return place{}, errCovered
	}
	end = o.unconditional(end)
	p, err := o.visible(doc, end)
	if o.sheet.full() {
		return place{}, errSheet
	}
	return p, err
}

// unconditional is end, or where the conditional comment begins that hides it from Outlook.
func (o *outline) unconditional(end int) int {
	for _, c := range o.conditions {
		if c.at < end && (c.end >= end || c.end < 0) {
			if c.at > o.firstBody {
				return c.at
			}
		}
	}
	return end
}

// visible is the place at end, or nearest before it, where a notice is seen.
func (o *outline) visible(doc []byte, end int) (place, error) {
	notice := tag{kind: html.StartTagToken, name: "div"}
	s := o.at(end)
	s.start(&notice)
	s.cut(len(s.open) - 1)
	tries := []place{{at: end}}
	if e := s.hidden(doc, &o.sheet); e != nil {
		tries = nil
		if !isRoot(e.tag.name) {
			tries = append(tries, place{end, s.closers(e)})
		}
		if e.tag.at > o.firstBody {
			tries = append(tries, place{at: e.tag.at})
		}
	}
	if !o.hides && !o.sheet.hides {
		return tries[0], nil
	}
	for i := 0; i < len(tries); i++ {
		seen, closes := o.look(doc, tries[i])
		if seen {
			return tries[i], nil
		}
		if closes != "" && tries[i].closes == "" && tries[i].at == end && !strings.Contains(closes, "</body>") {
			tries = append(tries, place{end, closes})
		}
	}
	return place{}, errHidden
}

// inTable are the elements outside of which, but in the table, no text may stand.
var inTable = names("td th tr tbody thead tfoot caption colgroup")

// closers are the end tags from the innermost open element out to e, and of the table that e is a part of.
func (s *stack) closers(e *open) string {
	var b strings.Builder
	passed := false
	for i := len(s.open) - 1; i >= 0; i-- {
		n := s.open[i].tag.name
		if !isRoot(n) {
			b.WriteString("</" + n + ">")
		}
		if passed = passed || &s.open[i] == e; passed && !inTable[n] {
			break
		}
	}
	return b.String()
}

const marker = "heed-notice-marker"

// look tells whether text at p is seen by all readers.
func look(doc []byte, p place) (seen bool, closes string) {
	o := readOutline(doc)
	if o.tokens > maxTokens || o.unconditional(p.at) != p.at || o.lies(doc) {
		return false, ""
	}
	seen, closes = o.look(doc, p)
	return seen && !o.sheet.full(), closes
}

// look asks an HTML5 parser, which repairs bad nesting as browsers do, whether text at p is seen. Where it is not,
// closes are the end tags out to what hides it.
func (o *outline) look(doc []byte, p place) (seen bool, closes string) {
	var b bytes.Buffer
	b.Write(doc[:p.at])
	b.WriteString(p.closes + `<div id="` + marker + `">` + marker + `</div>`)
	b.Write(doc[p.at:])
	root, err := html.ParseWithOptions(&b, html.ParseOptionEnableScripting(false))
	if err != nil {
		return false, ""
	}
	for n := range root.Descendants() {
		if n.Type == html.TextNode && strings.Contains(n.Data, marker) {
			return shown(n, &o.sheet)
		}
	}
	return false, ""
}

// shown tells whether no ancestor hides a node, else the end tags out to the outermost that does.
func shown(n *html.Node, rules *sheet) (seen bool, closes string) {
	var line []*html.Node // from the notice outwards
	for n = n.Parent; n != nil; n = n.Parent {
		if n.Type == html.ElementNode && !isMarker(n) {
			line = append(line, n)
		}
	}
	chain := make([]element, 0, len(line))
	hidden := -1
	for i, n := range slices.Backward(line) {
		var st style
		for _, a := range n.Attr {
			st.attribute(a.Key, a.Val)
		}
		chain = append(chain, newElement(n.Data, n.Attr))
		if st |= rules.of(chain); st.hides(isRoot(n.Data)) || hiding[n.Data] {
			hidden = i
			break
		}
	}
	for _, n := range line[:hidden+1] {
		closes += "</" + n.Data + ">"
	}
	return closes == "", closes
}

func isMarker(n *html.Node) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "id" && a.Val == marker })
}
