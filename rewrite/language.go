package rewrite

import (
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// Language chooses the language of a notice: the first of tags that there are texts for, else a language of the first
// country that has one, else English. Tags are BCP 47, and each may be a list of them (RFC 3282): the operator's fixed
// one, or the contact's, Heed-Language and the message's own.
func (n *Notices) Language(tags, countries []string) string {
	for _, list := range tags {
		for tag := range strings.SplitSeq(list, ",") {
			if l := n.spoken(tag); l != "" {
				return l
			}
		}
	}
	for _, c := range countries {
		for _, l := range n.byCountry[strings.ToUpper(c)] {
			if n.byLanguage[l] != nil {
				return l
			}
		}
	}
	return "en"
}

// written are the languages whose readers get another's texts: "no" is either Norwegian, and Bokmål is what most write.
var written = map[string]string{"no": "nb", "nn": "nb", "mo": "ro"}

// spoken is the language of a tag that there are texts for, "" for none. Regions and scripts are not told apart.
func (n *Notices) spoken(tag string) string {
	tag = strings.TrimSpace(tag)
	if i := strings.IndexAny(tag, "-_;"); i >= 0 {
		tag = strings.TrimSpace(tag[:i])
	}
	if len(tag) < 2 || len(tag) > 3 {
		return ""
	}
	tag = strings.ToLower(tag)
	if n.byLanguage[tag] != nil {
		return tag
	}
	if l := written[tag]; n.byLanguage[l] != nil {
		return l
	}
	if len(tag) == 3 { // deu, as ISO 639-3 has it
		if b, err := language.ParseBase(tag); err == nil && n.byLanguage[b.String()] != nil {
			return b.String()
		}
	}
	return ""
}

// Languages are the tags there are notices for, sorted.
func (n *Notices) Languages() []string {
	var out []string
	for l := range n.byLanguage {
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// parseCountries reads countries.tsv: a country, and its languages in the order of choice.
func parseCountries(src string) map[string][]string {
	found := map[string][]string{}
	for line := range strings.Lines(src) {
		if c, l, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && !strings.HasPrefix(c, "#") {
			found[c] = strings.Fields(l)
		}
	}
	return found
}
