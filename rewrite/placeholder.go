package rewrite

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// The characters of a placeholder as editors and mail tools write them: as they are, as a character reference, or
// percent-encoded, also more than once.
const (
	braceOpen  = `(?:\{|&#0*123;|&#x0*7b;|&l(?:brace|cub);|%(?:25)*7b)`
	braceClose = `(?:\}|&#0*125;|&#x0*7d;|&r(?:brace|cub);|%(?:25)*7d)`
	blanks     = `(?:[ \t\r\n\x{a0}\x{fffd}]|&nbsp;|&#0*(?:32|160);|&#x0*(?:20|a0);|%(?:25)*20)*`
	dot        = `(?:\.|&#0*46;|&#x0*2e;|&period;|%(?:25)*2e)`
	underscore = `(?:_|&#0*95;|&#x0*5f;|&lowbar;|%(?:25)*5f)`
	colon      = `(?::|&#0*58;|&#x0*3a;|&colon;|%(?:25)*3a)`
	slash      = `(?:/|&#0*47;|&#x0*2f;|&sol;|%(?:25)*2f)`

	braced = braceOpen + braceOpen + blanks + `heed` + dot + `(?:(notice)|unsubscribe` + underscore + `url)` + blanks + braceClose + braceClose
	scheme = `https?` + colon + slash + slash
)

var (
	// placeholders: group 1 is "notice" where it is that. QUIRK: editors put http:// before a link that has no scheme.
	placeholders = regexp.MustCompile(`(?i)` + braced + `|` + scheme + `(?:` + braced + `|heed` + dot + `invalid` + slash + `unsubscribe)`)
	// leftovers look like placeholders: one that is not understood would be sent as a dead link.
	leftovers = regexp.MustCompile(`(?i)` + braceOpen + braceOpen + blanks + `heed` + dot + `[^}&%<\r\n]{0,40}(?:\}\})?|heed` + dot + `invalid[^\s"'<>]{0,40}|heed(?:_|` + dot + `)(?:unsubscribe` + underscore + `url|notice\b)`)
	inUTF7    = regexp.MustCompile(`[x-]heed\.(?:notice|unsubscribe)`) // masked braces
	escapes   = regexp.MustCompile(`(?i)%((?:25)*)[2-7][0-9a-f]`)
	unquoted  = regexp.MustCompile(`(?i)\s(?:href|src|action)\s*=$`)
)

// mentions is a quick look for what placeholders have in common.
func mentions(view []byte) bool {
	return bytes.Contains(bytes.ToLower(view), []byte("heed"))
}

// mark is a placeholder, or the tool's own opt-out link, in the view of a body.
type mark struct {
	at, to  int
	notice  bool
	escapes int
}

// marks are the placeholders in order.
func (b *body) marks(view []byte) ([]mark, error) {
	if !mentions(view) {
		return nil, nil
	}
	if b.cs.family == utf7 && inUTF7.Match(view) {
		return nil, refuse("a placeholder is encoded in UTF-7: use another charset")
	}
	text, offset := b.unflowed(view)
	var out []mark
	for _, g := range placeholders.FindAllSubmatchIndex(text, -1) {
		word := g[1] < len(text) && (isWord(text[g[1]]) || text[g[1]] == '-')
		if word && text[g[1]-1]|0x20 == 'e' { // https://heed.invalid/unsubscribed is none
			continue
		}
		k := mark{at: offset(g[0]), to: offset(g[1]-1) + 1, notice: g[2] >= 0 || g[4] >= 0}
		if second := g[0] > 1 && text[g[0]-2] >= 0x80; g[0] > 0 && text[g[0]-1] == '{' && !second || g[1] < len(text) && text[g[1]] == '}' {
			return nil, refuse("%q has more than two braces", shorten(string(text[max(g[0]-1, 0):min(g[1]+1, len(text))])))
		}
		if !beginsURL(text[:g[0]]) {
			for _, e := range escapes.FindAllSubmatch(text[g[0]:g[1]], -1) {
				k.escapes = max(k.escapes, len(e[1])/2+1)
			}
		}
		out = append(out, k)
	}
	next := 0
	for _, g := range leftovers.FindAllIndex(text, -1) {
		at := offset(g[0])
		for next < len(out) && out[next].to <= at {
			next++
		}
		if next == len(out) || at < out[next].at {
			return nil, refuse("%q is no placeholder: there are {{heed.notice}}, {{heed.unsubscribe_url}} and https://heed.invalid/unsubscribe", shorten(string(text[g[0]:g[1]])))
		}
	}
	return out, nil
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// beginsURL tells that no URL is under way where before ends.
func beginsURL(before []byte) bool {
	if len(before) == 0 {
		return true
	}
	switch c := before[len(before)-1]; c {
	case '"', '\'', '<', '>', '(', '[', ' ', '\t', '\r', '\n':
		return true
	case '=': // of an attribute without quotes, not of a query
		return unquoted.Match(before[max(0, len(before)-20):])
	}
	return false
}

func shorten(s string) string {
	if len(s) > 60 {
		s = s[:60]
	}
	return strings.ToValidUTF8(s, "?")
}

// unflowed is a view without the soft breaks of format=flowed with DelSp=yes (RFC 3676 section 4.1), and where its
// octets stand in the view.
func (b *body) unflowed(view []byte) ([]byte, func(int) int) {
	if b.html || !strings.EqualFold(b.part.param("format"), "flowed") || !strings.EqualFold(b.part.param("delsp"), "yes") {
		return view, func(i int) int { return i }
	}
	var at []int
	text := make([]byte, 0, len(view))
	for i := 0; i < len(view); i++ {
		if bytes.HasPrefix(view[i:], []byte(" \r\n")) {
			i += 2
			continue
		}
		text, at = append(text, view[i]), append(at, i)
	}
	return text, func(i int) int { return at[i] }
}

// links are where the tool's own opt-out links stand: the same URL as in its List-Unsubscribe.
func (b *body) links(view []byte, urls []string) (out []mark) {
	for _, u := range urls {
		spellings := []string{u}
		if b.html && strings.Contains(u, "&") {
			spellings = append(spellings, strings.ReplaceAll(u, "&", "&amp;"), strings.ReplaceAll(u, "&", "&#38;"), strings.ReplaceAll(u, "&", "&#x26;"))
		}
		for _, s := range spellings {
			for at := 0; ; at++ {
				i := bytes.Index(view[at:], []byte(s))
				if i < 0 {
					break
				}
				at += i
				if beginsURL(view[:at]) && endsURL(view[at+len(s):]) {
					out = append(out, mark{at: at, to: at + len(s)})
				}
			}
		}
	}
	return out
}

// endsURL tells that the URL before rest is not a longer one.
func endsURL(rest []byte) bool {
	more := func(i int) bool {
		return i < len(rest) && (isWord(rest[i]) || strings.IndexByte("-/?=%#+~@:&", rest[i]) >= 0 || rest[i] >= 0x80)
	}
	if len(rest) > 0 && strings.IndexByte(".,;!", rest[0]) >= 0 {
		return !more(1)
	}
	for _, e := range []string{"&quot;", "&gt;", "&lt;", "&nbsp;", "&#39;", "&apos;"} {
		if bytes.HasPrefix(rest, []byte(e)) {
			return true
		}
	}
	return !more(0)
}

// maxTries is for how many {{heed.notice}} it is found out whether a reader sees them.
const maxTries = 8

// spotsFor turns marks into spots: the first {{heed.notice}} that a reader sees is where the notice goes.
func (b *body) spotsFor(view []byte, marks []mark, wanted bool) (out []spot, placed bool, err error) {
	slices.SortStableFunc(marks, func(x, y mark) int { return x.at - y.at })
	var tokens []token
	if b.html && len(marks) > 0 {
		tokens = tokensAt(view, marks)
	}
	switched, tries := -1, 0
	for i, k := range marks {
		s := spot{at: k.at, del: k.to - k.at, content: theLink, escapes: k.escapes}
		var in token
		if b.html {
			in = tokens[i]
			s.inHTML = in.kind != html.TextToken || in.raw == ""
		}
		switch {
		case k.notice && in.kind == html.StartTagToken && b.html:
			return nil, false, refuse("{{heed.notice}} stands in an attribute of <%s>, and it is a block of text: put it between tags, or use {{heed.unsubscribe_url}}", in.name)
		case k.notice && !placed && wanted && tries < maxTries && b.seen(view, k, in, &tries):
			s.content, placed = theNotice, true
		case k.notice:
			s.content = nothing
			for rest := view[k.to:]; s.at > 0 && (view[s.at-1] == ' ' || view[s.at-1] == '\t') && (len(rest) == 0 || rest[0] == '\r'); {
				s.at, s.del = s.at-1, s.del+1 // a blank at the end of a line is lost, or joins it to the next
			}
		case in.name == "a" && in.kind == html.StartTagToken && in.at != switched && !b.amp:
			switched = in.at // SendGrid reads its switch only before href
			out = append(out, spot{at: in.at + 2, content: theSwitches})
		}
		out = append(out, s)
	}
	return out, placed, nil
}

// seen tells whether a reader would see text in the place of a mark.
func (b *body) seen(view []byte, k mark, in token, tries *int) bool {
	if !b.html {
		return true
	}
	if in.kind != html.TextToken || in.raw != "" {
		return false
	}
	if b.amp {
		return true // its style sheet hides all until its script runs
	}
	*tries++ // each reads the whole document
	visible, _ := look(view, place{at: k.at})
	return visible
}

// token is where in HTML a mark stands.
type token struct {
	kind html.TokenType
	at   int
	name string // of a tag
	raw  string // of text: the element whose content is not markup
}

// tokensAt finds the tokens that hold the marks, which are in order.
func tokensAt(doc []byte, marks []mark) []token {
	out := make([]token, 0, len(marks))
	z := html.NewTokenizer(bytes.NewReader(doc))
	at, raw := 0, ""
	for len(out) < len(marks) {
		kind := z.Next()
		size := len(z.Raw())
		if kind == html.ErrorToken && size == 0 {
			break
		}
		t := token{kind: kind, at: at, raw: raw}
		raw = ""
		if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			name, _ := z.TagName()
			t.name = string(name)
			if rawText[t.name] {
				raw = t.name
			}
			if t.name == "noscript" {
				z.NextIsNotRawText()
			}
			t.kind = html.StartTagToken
		}
		for len(out) < len(marks) && marks[len(out)].at < at+size {
			out = append(out, t)
		}
		at += size
		if kind == html.ErrorToken {
			break
		}
	}
	for len(out) < len(marks) { // in a tag or comment that never ends
		out = append(out, token{kind: html.ErrorToken, at: at})
	}
	return out
}

// maxOwn is how many links of its own a tool may name.
const maxOwn = 10

// unsubscribeURLs are the http and https URLs of the tool's own List-Unsubscribe fields.
func (m *Mail) unsubscribeURLs() (out []string) {
	for _, v := range m.values("List-Unsubscribe") {
		for _, part := range strings.Split(v, "<")[1:] {
			u, _, ok := strings.Cut(part, ">")
			u = strings.Map(func(r rune) rune {
				if r == ' ' || r == '\t' {
					return -1
				}
				return r
			}, u)
			low := strings.ToLower(u)
			if ok && len(u) < 2000 && page(low) && (strings.HasPrefix(low, "https://") || strings.HasPrefix(low, "http://")) && !slices.Contains(out, u) && !mentions([]byte(u)) && len(out) < maxOwn {
				out = append(out, u)
			}
		}
	}
	return out
}

// page tells that a URL names more than a site, whose other links must not become opt-outs.
func page(u string) bool {
	_, rest, _ := strings.Cut(u, "://")
	_, path, _ := strings.Cut(rest, "/")
	return path != "" || strings.Contains(rest, "?")
}

// bare is an HTML fragment without attributes but for links, as AMP wants it: it allows neither !important nor
// attributes that it does not know.
func bare(fragment string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(fragment))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			b.Write(z.Raw())
		case html.StartTagToken:
			t := z.Token()
			b.WriteString("<" + t.Data)
			for _, a := range t.Attr {
				if a.Key == "href" || a.Key == "lang" || a.Key == "dir" {
					fmt.Fprintf(&b, ` %s="%s"`, a.Key, escape(a.Val))
				}
			}
			b.WriteString(">")
		case html.EndTagToken:
			t := z.Token()
			b.WriteString("</" + t.Data + ">")
		}
	}
}
