package rewrite

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"heed/policy"
)

//go:embed notices
var noticeFiles embed.FS

// Notices are the texts of all languages. It does not change and may be used concurrently.
type Notices struct {
	byLanguage map[string]*wording
	byCountry  map[string][]string
}

// LoadNotices reads the texts that are built in.
func LoadNotices() (*Notices, error) {
	countries, err := noticeFiles.ReadFile("notices/countries.tsv")
	if err != nil {
		return nil, err
	}
	n := &Notices{byLanguage: map[string]*wording{}, byCountry: parseCountries(string(countries))}
	files, err := fs.Sub(noticeFiles, "notices")
	if err != nil {
		return nil, err
	}
	english := &wording{Language: "en"}
	r := &textReader{dir: "notices", files: files}
	if r.file("en.yaml", english, nil); len(r.mistakes) > 0 {
		return nil, r.mistakes
	}
	n.byLanguage["en"] = english
	return n.read(r)
}

// NoticeInput is everything a notice says.
type NoticeInput struct {
	Decision       policy.Decision // Notices names the blocks, Grounds what they quote
	Sender         policy.Sender
	Topic          string
	UnsubscribeURL string
	Mailto         string // mailto: URL, "" for none
	TextSwitch     string // after a bare link in plain text, as Treatment has it
	Language       string // from Language
}

// Compose writes the blocks that the decision names, as plain text of at most 76 columns and as an HTML fragment. It
// fails where the opt-out link or the sender's name is missing, or the language.
func (n *Notices) Compose(in NoticeInput) (Notice, error) {
	w := n.byLanguage[in.Language]
	if w == nil {
		return Notice{}, fmt.Errorf("no notices in %q", in.Language)
	}
	if in.UnsubscribeURL == "" || in.Sender.Name == "" {
		return Notice{}, fmt.Errorf("a notice needs the sender's name and an opt-out link")
	}
	c := &composer{w: w, in: in}
	c.fillIn()
	c.write()
	return Notice{Text: renderText(c.blocks, c.in.TextSwitch), HTML: renderHTML(c.blocks, w)}, nil
}

// fillIn takes the placeholders' values from what is known, on one line each.
func (c *composer) fillIn() {
	s, g, v := &c.in.Sender, &c.in.Decision.Grounds, &c.values
	v[legalName], v[postalAddress], v[register] = oneLine(s.Name), oneLine(s.PostalAddress), sentence(s.Register)
	v[contacts] = joined(s.Contact, s.Phone, s.Website)
	v[contact] = oneLine(cmp.Or(s.Contact, s.Phone, s.Website))
	v[privacyURL], v[retention], v[authority] = oneLine(s.PrivacyURL), sentence(s.Retention), sentence(s.Authority)
	v[topic], v[unsubscribeURL] = oneLine(c.in.Topic), oneLine(c.in.UnsubscribeURL)
	v[source], v[collectedBy] = sentence(g.Source), sentence(g.CollectedBy)
	if g.Consent != nil {
		v[consentDate], v[consentPlace] = c.w.date(g.Consent.At), oneLine(g.Consent.Place)
	}
	if g.Assessment != nil {
		v[interest] = sentence(g.Assessment.Interest)
	}
	if c.in.Mailto != "" {
		address, subject := mailtoParts(c.in.Mailto)
		v[mailtoAddress], v[mailtoSubject] = oneLine(address), oneLine(subject)
	}
}

// joined is a list of what there is.
func joined(items ...string) string {
	var room [3]string
	found := room[:0]
	for _, s := range items {
		if s = oneLine(s); s != "" {
			found = append(found, s)
		}
	}
	return strings.Join(found, ", ")
}

// sentence is a value that a full stop follows: it has none of its own.
func sentence(s string) string { return strings.TrimRight(oneLine(s), ".") }

// mailtoParts takes a mailto: URL (RFC 6068) apart for people without a mail program.
func mailtoParts(mailto string) (address, subject string) {
	u, err := url.Parse(mailto)
	if mailto == "" || err != nil {
		return "", ""
	}
	address, err = url.PathUnescape(u.Opaque)
	if err != nil {
		return "", ""
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") { // "+" is no blank here
		if k, x, _ := strings.Cut(pair, "="); strings.EqualFold(k, "subject") {
			subject, _ = url.PathUnescape(x)
		}
	}
	return address, subject
}

// oneLine joins lines by commas and drops what would not be seen or would turn the text around.
func oneLine(s string) string {
	if isOneLine(s) {
		return s
	}
	var lines []string
	for l := range strings.SplitSeq(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		l = strings.Map(func(r rune) rune {
			switch {
			case r == '\t' || r == '\r':
				return ' '
			case unseen(r):
				return -1
			}
			return r
		}, l)
		if l = strings.TrimRight(strings.Join(strings.Fields(l), " "), ","); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, ", ")
}

// isOneLine tells, without looking twice, that a value of ASCII is one already.
func isOneLine(s string) bool {
	before := byte(' ')
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ' ' && before == ' ' {
			return false
		}
		before = s[i]
	}
	return s == "" || before != ' ' && before != ','
}
