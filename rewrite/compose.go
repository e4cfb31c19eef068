package rewrite

import (
	"slices"
	"strings"
	"unicode/utf8"

	"heed/policy"
)

// block is one paragraph of a notice.
type block struct {
	heading string
	texts   []string  // templates
	pieces  [][]piece // the texts filled in
	label   bool      // the heading alone
}

// piece is literal text, or the value of a placeholder.
type piece struct{ name, text string }

// blocks are the paragraphs due, in the order in which they are read.
func (w *wording) blocks(in NoticeInput) []block {
	due := func(name string) bool { return slices.Contains(in.Decision.Notices, name) }
	var out []block
	if l := w.labelFor(in, due("label"), due("country")); l != "" {
		out = append(out, block{heading: l, label: true})
	}
	if due("identity") {
		out = append(out, block{texts: []string{w.Identity}})
	}
	reason := w.reason(in, due("reason"), due("country"))
	if len(reason) > 0 {
		out = append(out, block{heading: w.ReasonHeading, texts: reason})
	}
	if due("objection") {
		out = append(out, block{heading: w.ObjectionHeading, texts: []string{w.Objection}})
	}
	if due("art14") {
		out = append(out, block{heading: w.Art14Heading, texts: w.art14(in)})
	}
	if due("unsubscribe") {
		out = append(out, block{heading: w.UnsubscribeHeading, texts: []string{w.Unsubscribe, w.UnsubscribeMail, w.UnsubscribeTerms}})
	}
	return out
}

// labelFor is the country's own label where it asks for one, else the general one.
func (w *wording) labelFor(in NoticeInput, label, country bool) string {
	switch {
	case country && slices.Contains(in.Decision.Grounds.Countries, "CZ"):
		return w.LabelCZ // Act 480/2004, section 7(4)(a)
	case country && slices.Contains(in.Decision.Grounds.Countries, "BG") && in.Decision.Grounds.Consent == nil:
		return w.LabelBG // Electronic Commerce Act, Art. 6(1)
	case label:
		return w.Label
	}
	return ""
}

func (w *wording) reason(in NoticeInput, due, country bool) (out []string) {
	g := in.Decision.Grounds
	soft := g.Consent == nil && g.SoftOptIn
	switch {
	case due && g.Consent != nil:
		out = append(out, w.ReasonConsent)
	case due && soft && g.Relationship == "negotiation":
		out = append(out, w.ReasonNegotiation, w.ReasonInterest)
	case due && soft:
		out = append(out, w.ReasonSale, w.ReasonInterest)
	case due && g.Assessment != nil:
		out = append(out, w.ReasonBusiness, w.ReasonInterest)
	case due && in.Decision.AddressKind == policy.Generic:
		out = append(out, w.ReasonGeneric)
	}
	if due && len(out) > 0 {
		out = append(out, w.ReasonTopic)
	}
	if soft && (due || country) {
		out = append(out, w.BaseRate) // UWG section 7(3) no. 4, in every message; good everywhere
	}
	return out
}

func (w *wording) art14(in NoticeInput) []string {
	g := in.Decision.Grounds
	basis := w.Art14Interest
	if g.Consent != nil && in.Decision.LegalBasis == "consent" {
		basis = w.Art14Consent
	}
	source := w.Art14Source
	if g.Source == "" {
		source = w.Art14CollectedBy
	}
	return []string{w.Art14Controller, w.Art14Purpose, basis, source, w.Art14Recipients, w.Art14Retention, w.Art14Blocked, w.Art14Rights, w.Art14Details}
}

// fill replaces the placeholders; texts with a value missing outside brackets fall away.
func (b block) fill(values map[string]string) block {
	for _, t := range b.texts {
		if p, ok := fill(t, values); ok {
			b.pieces = append(b.pieces, p)
		}
	}
	return b
}

func fill(t string, values map[string]string) (out []piece, ok bool) {
	for t != "" {
		i := strings.IndexAny(t, "[{")
		if i < 0 {
			return append(out, piece{text: t}), true
		}
		if i > 0 {
			out = append(out, piece{text: t[:i]})
		}
		if t[i] == '[' {
			group, rest, _ := strings.Cut(t[i+1:], "]")
			if p, ok := fill(group, values); ok {
				out = append(out, p...)
			}
			t = rest
			continue
		}
		name, rest, _ := strings.Cut(t[i+1:], "}")
		if values[name] == "" {
			return nil, false
		}
		out = append(out, piece{name, values[name]})
		t = rest
	}
	return out, true
}

// renderText writes paragraphs of at most 76 columns, longer only where a URL is.
func renderText(blocks []block) string {
	var b strings.Builder
	b.WriteString(strings.Repeat("_", 60) + "\n")
	for i, bl := range blocks {
		if i > 0 {
			b.WriteString("\n")
		}
		if bl.label {
			b.WriteString(bl.heading + "\n")
			continue
		}
		if bl.heading != "" {
			b.WriteString(bl.heading + "\n")
		}
		var words []string
		for _, t := range bl.pieces {
			var s strings.Builder
			for _, p := range t {
				s.WriteString(p.text)
			}
			words = append(words, strings.Fields(s.String())...)
			if strings.HasSuffix(t[len(t)-1].name, "_url") { // a link ends its line, so that no reader swallows what follows
				wrap(&b, words)
				words = nil
			}
		}
		if len(words) > 0 {
			wrap(&b, words)
		}
	}
	return b.String()
}

func wrap(b *strings.Builder, words []string) {
	col := 0
	for i, w := range words {
		n := utf8.RuneCountInString(w)
		if i > 0 {
			if col+1+n > 76 {
				b.WriteString("\n")
				col = 0
			} else {
				b.WriteString(" ")
				col++
			}
		}
		b.WriteString(w)
		col += n
	}
	b.WriteString("\n")
}

// Colour and background are set together, so that dark mode turns both or neither.
const (
	boxStyle  = "max-width:600px;margin:24px auto 0;padding:12px;border-top:1px solid #888888;color:#333333;background-color:#ffffff;font-family:Arial,Helvetica,sans-serif;font-size:13px;line-height:1.5;text-align:left"
	lineStyle = "margin:0 0 10px;color:#333333;font-size:13px;line-height:1.5"
	linkStyle = "color:#0b57d0;text-decoration:underline"
)

// renderHTML writes a balanced fragment, one paragraph a block.
func renderHTML(blocks []block, link string) string {
	var b strings.Builder
	b.WriteString(`<div style="` + boxStyle + `">` + "\n")
	for _, bl := range blocks {
		b.WriteString(`<p style="` + lineStyle + `">`)
		switch {
		case bl.label:
			b.WriteString("<strong>" + escape(bl.heading) + "</strong>")
		case bl.heading != "":
			b.WriteString("<strong>" + escape(bl.heading) + ":</strong>\n")
		}
		for i, t := range bl.pieces {
			if i > 0 {
				if before := bl.pieces[i-1]; before[len(before)-1].name == "unsubscribe_url" {
					b.WriteString(".") // behind words that are a link; a bare URL in plain text ends in no full stop
				}
				b.WriteString("\n")
			}
			for _, p := range t {
				b.WriteString(p.html(link))
			}
		}
		b.WriteString("</p>\n")
	}
	b.WriteString("</div>")
	return b.String()
}

func (p piece) html(link string) string {
	switch {
	case p.name == "unsubscribe_url":
		return `<a style="` + linkStyle + `" href="` + escape(p.text) + `">` + escape(link) + `</a>`
	case p.name == "privacy_url" && (strings.HasPrefix(p.text, "https://") || strings.HasPrefix(p.text, "http://")):
		return `<a style="` + linkStyle + `" href="` + escape(p.text) + `">` + escape(p.text) + `</a>`
	}
	return escape(p.text)
}
