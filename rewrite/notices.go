package rewrite

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"heed/policy"
)

//go:embed notices
var noticeFiles embed.FS

// wording is one language: notices/en.yaml says what stands where.
type wording struct {
	Language            string   `yaml:"language"`
	NativeReview        string   `yaml:"native_review"` // who read it as a native speaker, or "none"
	Date                string   `yaml:"date"`
	Months              []string `yaml:"months"`
	Label               string   `yaml:"label"`
	LabelCZ             string   `yaml:"label_cz"`
	LabelBG             string   `yaml:"label_bg"`
	Identity            string   `yaml:"identity"`
	ReasonHeading       string   `yaml:"reason_heading"`
	ReasonConsent       string   `yaml:"reason_consent"`
	ReasonSale          string   `yaml:"reason_sale"`
	ReasonNegotiation   string   `yaml:"reason_negotiation"`
	ReasonBusiness      string   `yaml:"reason_business"`
	ReasonInterest      string   `yaml:"reason_interest"`
	ReasonGeneric       string   `yaml:"reason_generic"`
	ReasonTopic         string   `yaml:"reason_topic"`
	BaseRate            string   `yaml:"base_rate"`
	ObjectionHeading    string   `yaml:"objection_heading"`
	Objection           string   `yaml:"objection"`
	Art14Heading        string   `yaml:"art14_heading"`
	Art14Controller     string   `yaml:"art14_controller"`
	Art14Purpose        string   `yaml:"art14_purpose"`
	Art14Interest       string   `yaml:"art14_basis_interest"`
	Art14Consent        string   `yaml:"art14_basis_consent"`
	Art14Source         string   `yaml:"art14_source"`
	Art14CollectedBy    string   `yaml:"art14_collected_by"`
	Art14SourceUnknown  string   `yaml:"art14_source_unknown"`
	Art14Recipients     string   `yaml:"art14_recipients"`
	Art14Retention      string   `yaml:"art14_retention"`
	Art14RetentionUnset string   `yaml:"art14_retention_unset"`
	Art14Blocked        string   `yaml:"art14_blocked"`
	Art14Rights         string   `yaml:"art14_rights"`
	Art14Details        string   `yaml:"art14_details"`
	CountryES           string   `yaml:"country_es"`
	CountryFR           string   `yaml:"country_fr"`
	CountryUS           string   `yaml:"country_us"`
	CountryCA           string   `yaml:"country_ca"`
	UnsubscribeHeading  string   `yaml:"unsubscribe_heading"`
	Unsubscribe         string   `yaml:"unsubscribe"`
	UnsubscribeMail     string   `yaml:"unsubscribe_mail"`
	UnsubscribeTerms    string   `yaml:"unsubscribe_terms"`
	UnsubscribeLink     string   `yaml:"unsubscribe_link"`
}

// Notices are the texts of all languages. It does not change and may be used concurrently.
type Notices struct {
	byLanguage map[string]*wording
	byCountry  map[string]string
}

// LoadNotices reads the texts that are built in.
func LoadNotices() (*Notices, error) {
	n := &Notices{byLanguage: map[string]*wording{}, byCountry: map[string]string{}}
	files, err := fs.Glob(noticeFiles, "notices/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		b, err := noticeFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		w := &wording{}
		if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(w); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		n.byLanguage[w.Language] = w
	}
	countries, err := noticeFiles.ReadFile("notices/countries.tsv")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(countries)) {
		if c, l, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && !strings.HasPrefix(c, "#") {
			n.byCountry[c] = l
		}
	}
	return n, nil
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

// Language chooses the language of a notice: the fixed one, else the contact's, the message's, the country's first, as
// far as there are texts for it, else English. Tags are BCP 47; "auto" fixes none.
func (n *Notices) Language(fixed, contact, message, country string) string {
	for _, tag := range []string{fixed, contact, message, n.byCountry[strings.ToUpper(country)]} {
		base, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(strings.ReplaceAll(tag, "_", "-"))), "-")
		if n.byLanguage[base] != nil {
			return base
		}
	}
	return "en"
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
	values := w.values(in)
	var blocks []block
	for _, b := range w.blocks(in) {
		if b = b.fill(values); len(b.pieces) > 0 || b.label {
			blocks = append(blocks, b)
		}
	}
	return Notice{Text: renderText(blocks), HTML: renderHTML(blocks, w.UnsubscribeLink)}, nil
}

// values are the placeholders' values, on one line each.
func (w *wording) values(in NoticeInput) map[string]string {
	s, g := in.Sender, in.Decision.Grounds
	v := map[string]string{
		"legal_name": s.Name, "postal_address": s.PostalAddress, "contact": s.Contact, "register": strings.TrimRight(strings.TrimSpace(s.Register), "."),
		"topic": in.Topic, "unsubscribe_url": in.UnsubscribeURL, "privacy_url": s.PrivacyURL, "retention": s.Retention,
		"authority": s.Authority, "source": g.Source, "collected_by": g.CollectedBy,
	}
	var contacts []string
	for _, c := range []string{s.Contact, s.Phone, s.Website} {
		if c != "" {
			contacts = append(contacts, c)
		}
	}
	v["contacts"] = strings.Join(contacts, ", ")
	if c := g.Consent; c != nil {
		v["consent_date"], v["consent_place"] = w.date(c.At), c.Place
	}
	if a := g.Assessment; a != nil {
		v["interest"] = strings.TrimRight(strings.TrimSpace(a.Interest), ".")
	}
	v["mailto_address"], v["mailto_subject"] = mailtoParts(in.Mailto)
	for k, x := range v {
		v[k] = oneLine(x)
	}
	return v
}

func (w *wording) date(t time.Time) string {
	if t.IsZero() || len(w.Months) != 12 {
		return ""
	}
	return strings.NewReplacer("{day}", strconv.Itoa(t.Day()), "{month}", w.Months[t.Month()-1], "{year}", strconv.Itoa(t.Year())).Replace(w.Date)
}

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
	var lines []string
	for l := range strings.SplitSeq(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		l = strings.Map(func(r rune) rune {
			switch {
			case r == '\t' || r == '\r':
				return ' '
			case r < ' ' || r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfffd:
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
