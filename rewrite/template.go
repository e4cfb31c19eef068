package rewrite

import (
	"slices"
	"strings"
)

// value is what a placeholder of the texts stands for.
type value int

const (
	legalName value = iota
	postalAddress
	contact
	contacts
	register
	topic
	unsubscribeURL
	privacyURL
	retention
	authority
	source
	collectedBy
	consentDate
	consentPlace
	interest
	mailtoAddress
	mailtoSubject
	dateDay
	dateMonth
	dateYear
	valueCount
)

// valueNames are the placeholders, as the texts write them between braces.
var valueNames = [valueCount]string{
	"legal_name", "postal_address", "contact", "contacts", "register", "topic", "unsubscribe_url", "privacy_url", "retention",
	"authority", "source", "collected_by", "consent_date", "consent_place", "interest", "mailto_address", "mailto_subject",
	"day", "month", "year",
}

// values are what the placeholders stand for in one notice; "" is missing.
type values [valueCount]string

// template is a text, parsed: {name} is a value, [in brackets] is left out where a value in it is missing.
type template struct {
	raw    string
	chunks []chunk
}

// chunk is literal text, a value, or a group in brackets.
type chunk struct {
	text  string
	value value   // where text is "" and group nil
	group []chunk // of texts and values only
}

// piece is literal text, or the value of a placeholder.
type piece struct{ name, text string }

// parseTemplate returns what is wrong with a text, in words, and its remedy; "" where nothing is.
func parseTemplate(raw string) (t template, wrong, remedy string) {
	t.raw = raw
	t.chunks, _, wrong, remedy = parseChunks(raw, false)
	return t, wrong, remedy
}

const balance = "write [ and ] in pairs, { and } around a placeholder's name"

func parseChunks(s string, inGroup bool) (out []chunk, rest, wrong, remedy string) {
	for s != "" {
		i := strings.IndexAny(s, "[]{}")
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			out = append(out, chunk{text: s[:i]})
			s = s[i:]
			continue
		}
		switch s[0] {
		case '[':
			if inGroup {
				return nil, "", "has brackets within brackets", "close the first before the second opens"
			}
			var group []chunk
			if group, s, wrong, remedy = parseChunks(s[1:], true); wrong != "" {
				return nil, "", wrong, remedy
			}
			if !slices.ContainsFunc(group, chunk.isValue) {
				return nil, "", "has brackets without a placeholder in them", "brackets are left out where a value in them is missing: put one in, or take them away"
			}
			out = append(out, chunk{group: group})
		case ']':
			if !inGroup {
				return nil, "", "has a ] without its [", balance
			}
			return out, s[1:], "", ""
		case '{':
			name, after, closed := strings.Cut(s[1:], "}")
			if !closed {
				return nil, "", "has a { without its }", balance
			}
			v := slices.Index(valueNames[:], name)
			if v < 0 {
				return nil, "", "has the placeholder {" + cut(name, 40) + "}, which there is not", "use those of docs/notices.md"
			}
			out, s = append(out, chunk{value: value(v)}), after
		default:
			return nil, "", "has a } without its {", balance
		}
	}
	if inGroup {
		return nil, "", "has a [ without its ]", balance
	}
	return out, "", "", ""
}

func (c chunk) isValue() bool { return c.text == "" && c.group == nil }

// cut shortens what a message quotes.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// placeholders are the values asked for: all, and those outside brackets, which the text cannot do without.
func (t template) placeholders() (all, bare []value) {
	for _, c := range t.chunks {
		switch {
		case c.isValue():
			all, bare = append(all, c.value), append(bare, c.value)
		case c.group != nil:
			for _, g := range c.group {
				if g.isValue() {
					all = append(all, g.value)
				}
			}
		}
	}
	return all, bare
}

// fill appends the text's pieces; a text with a value missing outside brackets falls away as a whole.
func fill(out []piece, chunks []chunk, v *values) ([]piece, bool) {
	start := len(out)
	for i := range chunks {
		switch c := &chunks[i]; {
		case c.text != "":
			text := c.text
			if n := len(out); n > 0 && strings.HasSuffix(out[n-1].text, ".") && out[n-1].name != "" { // "Acme Inc." ends a sentence
				text = strings.TrimPrefix(text, ".")
			}
			out = append(out, piece{text: text})
		case c.group != nil:
			out, _ = fill(out, c.group, v)
		case v[c.value] == "":
			return out[:start], false
		default:
			out = append(out, piece{valueNames[c.value], v[c.value]})
		}
	}
	return out, true
}
