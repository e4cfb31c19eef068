package rewrite

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

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
	size  int
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
	sheet           sheet
	conditions      []condition
	opened          []int // those of them that are not closed yet
	covered         bool  // something in it may lie over a notice
}

// condition is a downlevel-revealed conditional comment: what stands in it is seen by all readers but Outlook.
type condition struct{ at, end int }

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
		t := tag{kind: kind, at: at, size: size}
		switch kind {
		case html.TextToken:
			if raw != "" && at+size == len(doc) {
				o.end = rawAt // <style> and the like, never closed
				return o
			}
			if raw == "style" {
				o.sheet.read(string(z.Raw()))
			}
			t.text = raw == "" && len(bytes.TrimSpace(z.Raw())) > 0
		case html.CommentToken:
			if r := z.Raw(); at+size == len(doc) && !closed(r) {
				o.end = at
				return o
			}
			o.comment(z.Raw(), at)
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
		t.style.attribute(string(k), string(v))
	}
	o.covered = o.covered || t.style.covers()
	o.sheet.covers = o.sheet.covers || t.style&above != 0
	if t.name == "body" && o.firstBody < 0 {
		o.firstBody = t.at
	}
	o.frameset = o.frameset || t.name == "frameset"
	o.hides = o.hides || t.style.mayHide() || t.name == "frameset" || t.name == "plaintext" ||
		hiding[t.name] && t.name != "head" && t.name != "title" && t.name != "style" && t.name != "script"
}

// comment reads the conditional comments of Microsoft.
func (o *outline) comment(raw []byte, at int) {
	begins := bytes.HasPrefix(raw, []byte("<![if")) || bytes.HasPrefix(raw, []byte("<!--[if"))
	ends := bytes.Contains(raw, []byte("<![endif]"))
	switch n := len(o.opened); {
	case begins && ends: // Outlook alone reads what is in it
		if head, _, _ := bytes.Cut(raw, []byte("]>")); bytes.Contains(head, []byte("mso")) && !bytes.Contains(head, []byte("!mso")) {
			o.outlookStyles(raw)
		}
	case begins:
		o.opened = append(o.opened, len(o.conditions))
		o.conditions = append(o.conditions, condition{at, -1})
	case ends && n > 0:
		o.conditions[o.opened[n-1]].end = at
		o.opened = o.opened[:n-1]
	}
}

func (o *outline) outlookStyles(raw []byte) {
	for {
		_, rest, ok := bytes.Cut(raw, []byte("<style"))
		if !ok {
			return
		}
		css, after, _ := bytes.Cut(rest, []byte("</style"))
		if _, css, ok = bytes.Cut(css, []byte(">")); ok {
			o.sheet.read(string(css))
		}
		raw = after
	}
}

// closed tells whether a comment ended before the document did.
func closed(comment []byte) bool {
	if !bytes.HasPrefix(comment, []byte("<!--")) {
		return bytes.HasSuffix(comment, []byte(">"))
	}
	return bytes.HasSuffix(comment, []byte("-->")) || bytes.HasSuffix(comment, []byte("--!>")) && len(comment) > 7
}
