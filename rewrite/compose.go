package rewrite

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"heed/policy"
)

// block is one paragraph of a notice.
type block struct {
	heading string
	pieces  [][]piece // its sentences, the placeholders filled in
	label   bool      // the heading alone
}

// composer writes one notice's blocks.
type composer struct {
	w      *wording
	in     NoticeInput
	values values
	blocks []block

	pieces []piece   // of all blocks
	filled [][]piece // their sentences
}

func (c *composer) due(name string) bool { return slices.Contains(c.in.Decision.Notices, name) }

// write makes the paragraphs due, in the order in which they are read.
func (c *composer) write() {
	c.blocks, c.pieces, c.filled = make([]block, 0, 8), make([]piece, 0, 64), make([][]piece, 0, 24)
	w := c.w
	c.label()
	if c.due(policy.NoticeIdentity) {
		c.add("", &w.Identity)
	}
	var room [8]*template
	c.add(w.ReasonHeading.raw, c.reason(room[:0])...)
	if c.due(policy.NoticeObjection) { // GDPR Art. 21(4): nothing else stands in this paragraph
		c.add(w.ObjectionHeading.raw, &w.Objection)
	}
	if c.due(policy.NoticeArt14) {
		c.art14()
	}
	if c.due(policy.NoticeUnsubscribe) {
		c.unsubscribe(room[:0])
	}
}

// add makes a paragraph of those of the texts whose values are known; of none, no paragraph.
func (c *composer) add(heading string, texts ...*template) bool {
	start := len(c.filled)
	for _, t := range texts {
		from := len(c.pieces)
		var ok bool
		if c.pieces, ok = fill(c.pieces, t.chunks, &c.values); ok {
			c.filled = append(c.filled, c.pieces[from:])
		}
	}
	if len(c.filled) == start {
		return false
	}
	c.blocks = append(c.blocks, block{heading: heading, pieces: c.filled[start:]})
	return true
}

// label says that it is advertising: in the words that each country asks for, else in general ones.
func (c *composer) label() {
	g := &c.in.Decision.Grounds
	own := false
	say := func(t *template) {
		c.blocks = append(c.blocks, block{heading: t.raw, label: true})
		own = true
	}
	if c.due(policy.NoticeCountry) && slices.Contains(g.Countries, "CZ") {
		say(&c.w.LabelCZ) // Act 480/2004 s. 7(4)(a)
	}
	if c.due(policy.NoticeCountry) && slices.Contains(g.Countries, "BG") && g.Consent == nil {
		say(&c.w.LabelBG) // E-Commerce Act Art. 6(1)
	}
	if c.due(policy.NoticeLabel) && !own {
		say(&c.w.Label)
	}
}

// reason says why the recipient gets it, and where all about the data is written. It appends to texts.
func (c *composer) reason(texts []*template) []*template {
	w, g := c.w, &c.in.Decision.Grounds
	due, art14 := c.due(policy.NoticeReason), c.due(policy.NoticeArt14)
	if due {
		switch {
		case g.Consent != nil: // GDPR Art. 7(3): that it can be withdrawn
			texts = append(texts, &w.ReasonConsent)
		case g.SoftOptIn && g.Relationship == "negotiation":
			texts = append(texts, &w.ReasonNegotiation)
		case g.SoftOptIn:
			texts = append(texts, &w.ReasonSale)
		case g.Assessment != nil:
			texts = append(texts, &w.ReasonBusiness)
		case c.in.Decision.AddressKind == policy.Generic:
			texts = append(texts, &w.ReasonGeneric)
		}
		if g.Assessment != nil && g.Consent == nil && !art14 {
			texts = append(texts, &w.ReasonInterest) // GDPR Art. 13(1)(d); Art. 14's notice names it too
		}
	}
	if g.SoftOptIn && (due || c.due(policy.NoticeCountry)) {
		texts = append(texts, &w.BaseRate) // UWG s. 7(3) no. 4, in every message; good everywhere
	}
	if !due || len(texts) == 0 {
		return texts
	}
	texts = append(texts, &w.ReasonTopic)
	if c.in.Decision.AddressKind != policy.Generic && !art14 {
		texts = append(texts, &w.Art14Details) // GDPR Art. 13: the rest, complaint to the authority included
	}
	return texts
}

// art14 is the notice of GDPR Art. 14(1), (2).
func (c *composer) art14() {
	w, g := c.w, &c.in.Decision.Grounds
	basis := &w.Art14Interest
	if g.Consent != nil && c.in.Decision.LegalBasis == "consent" {
		basis = &w.Art14Consent
	}
	var room [16]*template
	texts := append(room[:0], &w.Art14Controller, &w.Art14Purpose, basis)
	origin := len(texts) // Art. 14(2)(f): from which source the data come
	if c.values[source] != "" {
		texts = append(texts, &w.Art14Source)
	}
	if from := c.values[collectedBy]; from != "" && from != c.values[source] {
		texts = append(texts, &w.Art14CollectedBy)
	}
	if len(texts) == origin {
		texts = append(texts, &w.Art14SourceUnknown) // Recital 61: general information where there is no telling
	}
	kept := &w.Art14Retention
	if c.values[retention] == "" {
		kept = &w.Art14RetentionUnset // Art. 14(2)(a): the criteria, where there is no period
	}
	texts = append(texts, &w.Art14Recipients, kept, &w.Art14Blocked, &w.Art14Rights, &w.Art14Details)
	c.add(w.Art14Heading.raw, texts...)
}

// unsubscribe is the opt-out, offered in the words of each country that has some, else by the bare link.
func (c *composer) unsubscribe(texts []*template) {
	w := c.w
	if c.due(policy.NoticeCountry) {
		for _, country := range c.in.Decision.Grounds.Countries {
			switch country {
			case "ES": // LSSI Art. 21(2), 22(1)
				texts = append(texts, &w.CountryES)
			case "FR": // CPCE Art. L34-5
				texts = append(texts, &w.CountryFR)
			case "US": // 15 USC 7704(a)(5)(A)(ii), (iii)
				texts = append(texts, &w.CountryUS)
			case "CA": // CASL s. 6(2), 11(1)
				texts = append(texts, &w.CountryCA)
			}
		}
	}
	if len(texts) == 0 || c.values[postalAddress] == "" { // without it, the words of US and CA would fall away
		texts = append(texts[:0], &w.Unsubscribe)
	}
	c.add(w.UnsubscribeHeading.raw, append(texts, &w.UnsubscribeMail, &w.UnsubscribeTerms)...)
}

// renderText writes paragraphs of at most 76 columns, longer only where a URL is. linkSwitch follows the opt-out link.
func renderText(blocks []block, linkSwitch string) string {
	var b strings.Builder
	b.Grow(2048)
	b.WriteString(rule)
	line := make([]byte, 0, 1024)
	for i, bl := range blocks {
		if i > 0 {
			b.WriteByte('\n')
		}
		if bl.heading != "" {
			b.WriteString(bl.heading)
			b.WriteByte('\n')
		}
		line = line[:0]
		for _, t := range bl.pieces {
			for _, p := range t {
				line = append(line, p.text...)
				if p.name == valueNames[unsubscribeURL] {
					line = append(line, linkSwitch...)
				}
			}
			line = append(line, ' ')
			if strings.HasSuffix(t[len(t)-1].name, "_url") { // a link ends its line, so that no reader swallows what follows
				wrap(&b, line)
				line = line[:0]
			}
		}
		wrap(&b, line)
	}
	return b.String()
}

var rule = strings.Repeat("_", 60) + "\n"

// maxWord is how long a word may be, in octets; opt-out links are shorter.
const maxWord = 890

// wrap breaks lines at blanks, not at no-break spaces.
func wrap(b *strings.Builder, s []byte) {
	col := 0
	for len(s) > 0 {
		end := bytes.IndexByte(s, ' ')
		if end < 0 {
			end = len(s)
		}
		if word := s[:end]; len(word) > 0 {
			n := utf8.RuneCount(word)
			switch {
			case col == 0:
			case col+1+n > 76 && (n > 1 || !strings.Contains(":;?!»", string(word))): // French sets a blank before them
				b.WriteByte('\n')
				col = 0
			default:
				b.WriteByte(' ')
				col++
			}
			for len(word) > maxWord { // no line gets too long, whatever a source or a place is called
				cut := maxWord
				for cut > 0 && !utf8.RuneStart(word[cut]) {
					cut--
				}
				b.Write(word[:cut])
				b.WriteByte('\n')
				word = word[cut:]
			}
			b.Write(word)
			col += n
		}
		s = s[min(end+1, len(s)):]
	}
	if col > 0 {
		b.WriteByte('\n')
	}
}

// What is said twice is said to Outlook first, whose Word engine reads no inline declaration with !important, and then
// to all who do: inline and !important wins over every rule of the message's own style sheets. "all" clears what is not
// listed; it is no help in readers that filter styles, so that what matters most is listed. Colour and background are
// set together, so that dark mode turns both or neither. The blank before !important is for Outlook and Orange.
const (
	fontStyle = "font:13px/1.5 Arial,Helvetica,sans-serif"
	visible   = "visibility:visible !important;opacity:1 !important;" + fontStyle + " !important;color:#333 !important;background:#fff !important;"
	wordStyle = "color:#333333;background-color:#ffffff;" + fontStyle + ";"

	boxStyle = wordStyle + "margin:24px auto;padding:16px;text-align:left;all:initial !important;display:block !important;" + visible +
		"height:auto !important;max-height:none !important;overflow:visible !important;text-indent:0 !important;" +
		"position:relative !important;z-index:9999 !important;clear:both !important;width:auto !important;max-width:600px !important;min-width:240px !important;" +
		"margin:24px auto !important;padding:16px !important;border-top:1px solid #cccccc !important;box-sizing:border-box !important;" +
		"text-align:left !important;white-space:normal !important;overflow-wrap:break-word !important"
	lineStyle   = "color:#333333;" + fontStyle + ";margin:0 0 10px;all:unset !important;display:block !important;" + visible + "margin:0 0 10px !important"
	strongStyle = "all:unset !important;display:inline !important;color:#333 !important;font-weight:bold !important"
	linkStyle   = "color:#0b57d0;text-decoration:underline;all:unset !important;display:inline !important;visibility:visible !important;opacity:1 !important;" +
		"color:#0b57d0 !important;text-decoration:underline !important;cursor:pointer !important"

	// The Word engine knows no max-width.
	outlookTable    = `<!--[if mso]><table role="presentation" align="center" width="600" cellpadding="0" cellspacing="0" border="0"><tr><td><![endif]-->`
	outlookTableEnd = `<!--[if mso]></td></tr></table><![endif]-->`
)

// renderHTML writes a balanced fragment, one paragraph a block. It says its language and direction, since it may stand
// in a text of others.
func renderHTML(blocks []block, w *wording) string {
	var b strings.Builder
	b.Grow(8 << 10)
	b.WriteString(`<div lang="` + escape(w.Language) + `" dir="ltr" style="` + boxStyle + `">` + "\n" + outlookTable + "\n")
	for _, bl := range blocks {
		b.WriteString(`<p style="` + lineStyle + `">` + "\n")
		switch {
		case bl.label:
			b.WriteString(strong(bl.heading))
		case bl.heading != "":
			b.WriteString(strong(bl.heading+":") + "\n")
		}
		for i, t := range bl.pieces {
			if i > 0 {
				if before := bl.pieces[i-1]; before[len(before)-1].name == "unsubscribe_url" {
					b.WriteString(".") // behind words that are a link; a bare URL in plain text ends in no full stop
				}
				b.WriteString("\n")
			}
			for _, p := range t {
				b.WriteString(p.html(w.UnsubscribeLink.raw))
			}
		}
		b.WriteString("</p>\n")
	}
	b.WriteString(outlookTableEnd + "\n</div>")
	return b.String()
}

func strong(s string) string { return `<strong style="` + strongStyle + `">` + escape(s) + `</strong>` }

// anchor is a link, on lines of which none gets too long.
func anchor(url, text, switches string) string {
	return `<a` + switches + "\n" + `style="` + linkStyle + `"` + "\n" + `href="` + escape(url) + `">` + escape(text) + `</a>`
}

func (p piece) html(link string) string {
	switch {
	case p.name == "unsubscribe_url":
		return anchor(p.text, link, linkSwitches) // SendGrid reads its switch only before href
	case p.name == "privacy_url" && (strings.HasPrefix(p.text, "https://") || strings.HasPrefix(p.text, "http://")):
		return anchor(p.text, p.text, "")
	}
	return escape(p.text)
}
