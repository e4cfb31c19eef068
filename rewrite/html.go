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

// rawText are the elements whose content a tokenizer does not read as markup.
var rawText = names("script style title textarea xmp iframe noembed noframes plaintext")

var (
	hiding   = names("script style title textarea xmp iframe noembed noframes plaintext head template select datalist svg math audio video canvas object dialog details progress meter")
	void     = names("area base br col embed hr img input link meta param source track wbr")
	inHead   = names("base basefont bgsound link meta title style script noscript template head html")
	breakout = names("b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var")
)

func names(s string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(s) {
		m[n] = true
	}
	return m
}

// tag is what the search needs of one token.
type tag struct {
	kind  html.TokenType
	name  string
	at    int
	style style
	empty bool // self-closing
	text  bool // of a text token: it is not all white space
}

// outline is a document as the tokenizer saw it.
type outline struct {
	tags            []tag
	body, html      int  // offsets of the last real </body> and </html>, -1 if none
	end             int  // after the last token that is whole: an unclosed comment, tag or <style> begins here
	hides, frameset bool // something in it hides its content: look twice
	tokens          int  // and attributes
	firstBody       int  // offset of the first <body>, -1 if none
}

// readOutline tokenizes (WHATWG HTML section 13.2.5) without building a tree.
func readOutline(doc []byte) outline {
	o := outline{body: -1, html: -1, firstBody: -1}
	z := html.NewTokenizer(bytes.NewReader(doc))
	at, raw, rawAt := 0, "", 0
	for {
		kind := z.Next()
		size := len(z.Raw())
		if o.tokens++; kind == html.ErrorToken || o.tokens > maxTokens {
			break
		}
		t := tag{kind: kind, at: at}
		switch kind {
		case html.TextToken:
			if raw != "" && at+size == len(doc) {
				o.end = rawAt // <style> and the like, never closed
				return o
			}
			t.text = raw == "" && len(bytes.TrimSpace(z.Raw())) > 0
		case html.CommentToken:
			if r := z.Raw(); at+size == len(doc) && !closed(r) {
				o.end = at
				return o
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			o.note(&t, z)
		}
		raw = ""
		if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			if rawText[t.name] {
				raw, rawAt = t.name, at
			}
			if t.name == "noscript" {
				z.NextIsNotRawText() // no mail reader runs scripts
			}
		}
		if kind != html.CommentToken && (kind != html.TextToken || t.text) {
			o.tags = append(o.tags, t)
		}
		at += size
		o.end = at
	}
	if raw != "" {
		o.end = rawAt
	}
	return o
}

func (o *outline) note(t *tag, z *html.Tokenizer) {
	name, attrs := z.TagName()
	t.name = string(name)
	t.empty = t.kind == html.SelfClosingTagToken
	if t.kind == html.EndTagToken {
		switch t.name {
		case "body":
			o.body = t.at
		case "html":
			o.html = t.at
		}
		return
	}
	for attrs {
		var k, v []byte
		k, v, attrs = z.TagAttr()
		o.tokens++
		switch string(k) {
		case "style":
			t.style.read(string(v))
		case "hidden":
			t.style.hides = true
		}
	}
	if t.name == "body" && o.firstBody < 0 {
		o.firstBody = t.at
	}
	o.frameset = o.frameset || t.name == "frameset"
	o.hides = o.hides || t.style.hides || t.name == "frameset" || t.name == "plaintext" ||
		hiding[t.name] && t.name != "head" && t.name != "title" && t.name != "style" && t.name != "script"
}

// style is what inline CSS says of being seen. Font sizes do not matter: a notice sets its own.
type style struct{ hides bool }

func (s *style) read(css string) {
	for d := range strings.SplitSeq(strings.ToLower(css), ";") {
		k, v, _ := strings.Cut(d, ":")
		v, _, _ = strings.Cut(v, "!") // !important, with blanks anywhere
		v = strings.TrimSpace(v)
		switch k = strings.TrimSpace(k); {
		case k == "display" && strings.HasPrefix(v, "none"),
			k == "visibility" && (strings.HasPrefix(v, "hidden") || strings.HasPrefix(v, "collapse")),
			k == "mso-hide" && strings.HasPrefix(v, "all"),
			k == "opacity" && none(v), k == "max-height" && none(v):
			s.hides = true
		}
	}
}

// none tells whether a CSS length is zero.
func none(v string) bool {
	v = strings.TrimRight(v, "abcdefghijklmnopqrstuvwxyz% ")
	return v != "" && strings.Trim(v, "0.") == "" && strings.Contains(v, "0")
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
	s.open = append(s.open, open{t, t.style.hides || hiding[t.name]})
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

// hidden is the outermost open element that hides what follows, or nil.
func (s *stack) hidden() *open {
	for i := range s.open {
		if s.open[i].hides {
			return &s.open[i]
		}
	}
	return nil
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

var errHidden = errors.New("no place in it is visible")

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
	notice := tag{kind: html.StartTagToken, name: "div"}
	s := o.at(end)
	s.start(&notice)
	s.cut(len(s.open) - 1)
	tries := []place{{at: end}}
	if e := s.hidden(); e != nil {
		tries = nil
		if e.tag.name != "body" && e.tag.name != "html" {
			tries = append(tries, place{end, s.closers(e)})
		}
		if e.tag.at > o.firstBody {
			tries = append(tries, place{at: e.tag.at})
		}
	}
	if !o.hides {
		return tries[0], nil
	}
	for i := 0; i < len(tries); i++ {
		seen, closes := look(doc, tries[i])
		if seen {
			return tries[i], nil
		}
		if closes != "" && tries[i].closes == "" && tries[i].at == end && !strings.Contains(closes, "</body>") {
			tries = append(tries, place{end, closes})
		}
	}
	return place{}, errHidden
}

// closers are the end tags from the innermost open element out to e.
func (s *stack) closers(e *open) string {
	var b strings.Builder
	for i := len(s.open) - 1; i >= 0; i-- {
		if n := s.open[i].tag.name; n != "body" && n != "html" {
			b.WriteString("</" + n + ">")
		}
		if &s.open[i] == e {
			break
		}
	}
	return b.String()
}

const marker = "heed-notice-marker"

// closed tells whether a comment ended before the document did.
func closed(comment []byte) bool {
	if !bytes.HasPrefix(comment, []byte("<!--")) {
		return bytes.HasSuffix(comment, []byte(">"))
	}
	return bytes.HasSuffix(comment, []byte("-->")) || bytes.HasSuffix(comment, []byte("--!>")) && len(comment) > 7
}

// look asks an HTML5 parser, which repairs bad nesting as browsers do, whether text at p is seen. Where it is not,
// closes are the end tags out to what hides it.
func look(doc []byte, p place) (seen bool, closes string) {
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
			return shown(n)
		}
	}
	return false, ""
}

// shown tells whether no ancestor hides a node, else the end tags out to the outermost that does.
func shown(n *html.Node) (seen bool, closes string) {
	tags := ""
	for n = n.Parent; n != nil; n = n.Parent {
		var s style
		own := n.Type != html.ElementNode
		for _, a := range n.Attr {
			switch a.Key {
			case "style":
				s.read(a.Val)
			case "hidden":
				s.hides = true
			case "id":
				own = own || a.Val == marker
			}
		}
		if !own {
			tags += "</" + n.Data + ">"
		}
		if s.hides || hiding[n.Data] {
			closes = tags
		}
	}
	return closes == "", closes
}
