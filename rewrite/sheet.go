package rewrite

import (
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// Bounds on style sheets, which keep the search linear.
const (
	maxRules   = 10_000  // that can hide something
	maxNesting = 32      // blocks in blocks
	maxMatches = 500_000 // comparisons of an element with a part of a selector
)

// element is what selectors see of one.
type element struct {
	tag, id string
	classes []string
	attrs   []html.Attribute
}

func newElement(tag string, attrs []html.Attribute) element {
	e := element{tag: tag, attrs: attrs}
	for _, a := range attrs {
		switch a.Key {
		case "id":
			e.id = ident(a.Val)
		case "class":
			for c := range strings.FieldsSeq(a.Val) {
				e.classes = append(e.classes, ident(c))
			}
		}
	}
	return e
}

// keys are those of the rules that may apply to the element.
func (e *element) keys() []string {
	keys := append(make([]string, 0, 3+len(e.classes)), "", e.tag)
	if e.id != "" {
		keys = append(keys, "#"+e.id)
	}
	for _, c := range e.classes {
		keys = append(keys, "."+c)
	}
	return keys
}

// ident is a name as cleanCSS leaves it in a style sheet.
func ident(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '_' || r >= 0x80 || plainByte(r) != '_' {
			return r
		}
		return '_'
	}, s))
}

// compound is a selector without combinators. What it cannot tell is taken to match.
type compound struct {
	tag, id string
	classes []string
	attrs   []html.Attribute // Val "" asks for the attribute alone
}

func (c *compound) matches(e *element) bool {
	if c.tag != "" && c.tag != e.tag || c.id != "" && c.id != e.id {
		return false
	}
	for _, name := range c.classes {
		if !slices.Contains(e.classes, name) {
			return false
		}
	}
	for _, want := range c.attrs {
		if !slices.ContainsFunc(e.attrs, func(a html.Attribute) bool {
			return a.Key == want.Key && strings.Contains(strings.ToLower(a.Val), want.Val)
		}) {
			return false
		}
	}
	return true
}

// cssRule is a selector, outermost compound first, with what it hides. Combinators are read as "inside of".
type cssRule struct {
	selector []compound
	style    style
}

// sheet holds the rules of a document's style sheets that can hide something, in any window, colour scheme or mail
// reader, by the id, class or tag of what they apply to.
type sheet struct {
	rules   map[string][]cssRule
	count   int
	matched int  // comparisons made
	hides   bool // some rule may hide
	covers  bool // some rule may lay something over a notice
}

func (s *sheet) full() bool { return s.count > maxRules || s.matched > maxMatches }

// cssBlock is an open { of a style sheet.
type cssBlock struct {
	selectors []string
	style     style
	skip      bool
}

// read adds the rules of one style sheet.
func (s *sheet) read(css string) {
	css = cleanCSS(css)
	open := []cssBlock{{}}
	deep, from := 0, 0
	for i := 0; i <= len(css); i++ {
		end := i == len(css) // which closes all blocks
		if !end && strings.IndexByte("{};", css[i]) < 0 {
			continue
		}
		text := strings.TrimSpace(css[from:i])
		from = i + 1
		top := &open[len(open)-1]
		switch {
		case !end && css[i] == '{' && (deep > 0 || len(open) > maxNesting):
			deep++
		case !end && css[i] == '}' && deep > 0:
			deep--
		case deep > 0:
		case !end && css[i] == '{':
			open = append(open, top.inside(text))
		default:
			if !top.skip && len(top.selectors) > 0 {
				top.style.declare(text)
			}
			if !end && css[i] == '}' && len(open) > 1 {
				s.add(*top)
				open = open[:len(open)-1]
			}
		}
	}
	for _, b := range open {
		s.add(b)
	}
}

// inside is the block that a prelude opens.
func (b *cssBlock) inside(prelude string) cssBlock {
	if i := strings.LastIndexByte(prelude, ';'); i >= 0 {
		prelude = prelude[i+1:]
	}
	if !strings.HasPrefix(prelude, "@") {
		return cssBlock{selectors: strings.Split(prelude, ","), skip: b.skip}
	}
	name, query, _ := strings.Cut(prelude, " ")
	switch {
	case strings.HasPrefix(name, "@media"):
		paper := strings.HasPrefix(strings.TrimSpace(query), "print") && !strings.Contains(query, ",")
		return cssBlock{selectors: b.selectors, skip: b.skip || paper}
	case strings.HasPrefix(name, "@supports"), strings.HasPrefix(name, "@layer"), strings.HasPrefix(name, "@container"),
		strings.HasPrefix(name, "@scope"), strings.HasPrefix(name, "@-moz-document"), strings.HasPrefix(name, "@starting-style"):
		return cssBlock{selectors: b.selectors, skip: b.skip}
	}
	return cssBlock{skip: true} // key frames, fonts, pages
}

func (s *sheet) add(b cssBlock) {
	if b.skip || b.style == 0 {
		return
	}
	for _, text := range b.selectors {
		sel, ok := parseSelector(text)
		if s.count++; !ok || s.count > maxRules {
			continue
		}
		if s.rules == nil {
			s.rules = map[string][]cssRule{}
		}
		last := sel[len(sel)-1]
		key := last.tag
		switch {
		case last.id != "":
			key = "#" + last.id
		case len(last.classes) > 0:
			key = "." + last.classes[0]
		}
		s.rules[key] = append(s.rules[key], cssRule{sel, b.style})
		s.hides = s.hides || b.style.mayHide()
		s.covers = s.covers || b.style&above != 0
	}
}

// of is what the rules say of the last element of a chain of elements in each other.
func (s *sheet) of(chain []element) (out style) {
	if len(s.rules) == 0 {
		return 0
	}
	for _, key := range chain[len(chain)-1].keys() {
		for _, r := range s.rules[key] {
			if s.full() || r.style|out != out && s.matches(r.selector, chain) {
				out |= r.style
			}
		}
	}
	return out
}

// last is what the rules may say of an element, wherever it stands.
func (s *sheet) last(e element) (out style) {
	for _, key := range e.keys() {
		for _, r := range s.rules[key] {
			if s.matched++; s.full() || r.selector[len(r.selector)-1].matches(&e) {
				out |= r.style
			}
		}
	}
	return out
}

func (s *sheet) matches(selector []compound, chain []element) bool {
	at := len(chain) - 1
	k := len(selector) - 1
	if s.matched++; !selector[k].matches(&chain[at]) {
		return false
	}
	for k--; k >= 0; k-- {
		for at--; at >= 0; at-- {
			if s.matched++; selector[k].matches(&chain[at]) {
				break
			}
		}
		if at < 0 {
			return false
		}
	}
	return true
}

// never are pseudo-classes and elements that no element has which a reader has not touched, or that are none.
var never = names("before after first-line first-letter marker placeholder selection backdrop hover focus active visited target focus-within focus-visible empty")

// parseSelector reads a selector; not ok means that it applies to nothing of ours.
func parseSelector(text string) (out []compound, ok bool) {
	c := compound{}
	some := false // there is a compound in c
	next := func() {
		if some {
			out = append(out, c)
		}
		c, some = compound{}, false
	}
	for i := 0; i < len(text); {
		from := i
		i++
		switch ch := text[from]; {
		case ch == '+' || ch == '~':
			if next(); len(out) > 0 {
				out = out[:len(out)-1] // it stands beside, not around
			}
		case ch == '>' || strings.IndexByte(" \t\r\n\f", ch) >= 0:
			next()
		case ch == '[':
			end := strings.IndexByte(text[i:], ']')
			if end < 0 {
				return nil, false
			}
			c.attribute(text[i : i+end])
			some, i = true, i+end+1
		case ch == ':':
			for i < len(text) && text[i] == ':' {
				i++
			}
			name := word(text[i:])
			if i += len(name); never[name] {
				return nil, false
			}
			if name == "root" {
				c.tag = "html"
			}
			if i < len(text) && text[i] == '(' {
				i = afterParens(text, i)
			}
			some = true
		default:
			if ch != '.' && ch != '#' {
				i = from
			}
			name := word(text[i:])
			i += max(len(name), 1)
			switch {
			case name == "":
			case ch == '.':
				c.classes = append(c.classes, name)
			case ch == '#':
				c.id = name
			default:
				c.tag = name
			}
			some = true // also "*" and "&"
		}
	}
	next()
	return out, len(out) > 0
}

// attribute adds the test of [name op value]. What only a mail reader sets is taken to be there.
func (c *compound) attribute(test string) {
	name, value, _ := strings.Cut(test, "=")
	name = strings.TrimRight(strings.TrimSpace(name), "~|^$* ")
	if name == "owa" || strings.HasPrefix(name, "data-og") {
		return
	}
	value = strings.TrimSpace(value)
	if i := strings.IndexAny(value[min(1, len(value)):], "\"'"); i >= 0 {
		value = value[:i+1]
	}
	c.attrs = append(c.attrs, html.Attribute{Key: name, Val: strings.Trim(value, "\"' ")})
}

func word(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x80 && s[i] != '_' && plainByte(rune(s[i])) == '_' {
			return s[:i]
		}
	}
	return s
}

// afterParens is the offset behind the parenthesis that closes the one at i.
func afterParens(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}
