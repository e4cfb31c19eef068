package rewrite

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// wording is one language: notices/en.yaml says what stands where.
type wording struct {
	Language            string   `yaml:"language"`
	NativeReview        string   `yaml:"native_review"` // who read it as a native speaker, or "none"
	Months              []string `yaml:"months"`
	Date                template `yaml:"date"`
	Label               template `yaml:"label"`
	LabelCZ             template `yaml:"label_cz"`
	LabelBG             template `yaml:"label_bg"`
	Identity            template `yaml:"identity"`
	ReasonHeading       template `yaml:"reason_heading"`
	ReasonConsent       template `yaml:"reason_consent"`
	ReasonSale          template `yaml:"reason_sale"`
	ReasonNegotiation   template `yaml:"reason_negotiation"`
	ReasonBusiness      template `yaml:"reason_business"`
	ReasonInterest      template `yaml:"reason_interest"`
	ReasonGeneric       template `yaml:"reason_generic"`
	ReasonTopic         template `yaml:"reason_topic"`
	BaseRate            template `yaml:"base_rate"`
	ObjectionHeading    template `yaml:"objection_heading"`
	Objection           template `yaml:"objection"`
	Art14Heading        template `yaml:"art14_heading"`
	Art14Controller     template `yaml:"art14_controller"`
	Art14Purpose        template `yaml:"art14_purpose"`
	Art14Interest       template `yaml:"art14_basis_interest"`
	Art14Consent        template `yaml:"art14_basis_consent"`
	Art14Source         template `yaml:"art14_source"`
	Art14CollectedBy    template `yaml:"art14_collected_by"`
	Art14SourceUnknown  template `yaml:"art14_source_unknown"`
	Art14Recipients     template `yaml:"art14_recipients"`
	Art14Retention      template `yaml:"art14_retention"`
	Art14RetentionUnset template `yaml:"art14_retention_unset"`
	Art14Blocked        template `yaml:"art14_blocked"`
	Art14Rights         template `yaml:"art14_rights"`
	Art14Details        template `yaml:"art14_details"`
	CountryES           template `yaml:"country_es"`
	CountryFR           template `yaml:"country_fr"`
	CountryUS           template `yaml:"country_us"`
	CountryCA           template `yaml:"country_ca"`
	UnsubscribeHeading  template `yaml:"unsubscribe_heading"`
	Unsubscribe         template `yaml:"unsubscribe"`
	UnsubscribeMail     template `yaml:"unsubscribe_mail"`
	UnsubscribeTerms    template `yaml:"unsubscribe_terms"`
	UnsubscribeLink     template `yaml:"unsubscribe_link"`
}

// texts are the keys and the texts, in the order of en.yaml; the texts may be set.
func (w *wording) texts() iter.Seq2[string, *template] {
	return func(yield func(string, *template) bool) {
		v := reflect.ValueOf(w).Elem()
		for i := range v.NumField() {
			if t, ok := v.Field(i).Addr().Interface().(*template); ok && !yield(v.Type().Field(i).Tag.Get("yaml"), t) {
				return
			}
		}
	}
}

// byKey are the texts by their keys.
func (w *wording) byKey() map[string]*template { return maps.Collect(w.texts()) }

// maxText bounds one text, in characters.
const maxText = 2000

// mayBeDropped are the placeholders of the English texts that the law does not ask for.
var mayBeDropped = []value{consentDate, consentPlace, authority}

// always are the values that no notice lacks: mail without them is not sent.
var always = []value{legalName, postalAddress, unsubscribeURL}

// checkText tells what is wrong with the text for a key: it must read on screen as written, and say what the English one
// says of the sender, the recipient and the opt-out.
func checkText(key, raw string, english *template) (t template, wrong, remedy string) {
	switch {
	case strings.TrimSpace(raw) == "":
		return t, "is empty", "write a text, or leave the key out"
	case utf8.RuneCountInString(raw) > maxText:
		return t, "is longer than " + strconv.Itoa(maxText) + " characters", "shorten it"
	case !utf8.ValidString(raw) || strings.ContainsFunc(raw, unseen):
		return t, "has a control character or one that turns the direction of the text around", "remove it"
	}
	if t, wrong, remedy = parseTemplate(raw); wrong != "" {
		return t, wrong, remedy
	}
	all, bare := t.placeholders()
	asked, askedBare := english.placeholders()
	if strings.HasSuffix(key, "_heading") || strings.HasPrefix(key, "label") || key == "unsubscribe_link" {
		if len(all) > 0 {
			return t, "has a placeholder, and is shown as it stands", "write words only"
		}
	}
	for _, v := range all {
		if isDate := v >= dateDay && v <= dateYear; isDate != (key == "date") {
			return t, "has the placeholder {" + valueNames[v] + "}, which it cannot have", "use those of docs/notices.md"
		}
	}
	for _, v := range asked {
		if !slices.Contains(all, v) && !slices.Contains(mayBeDropped, v) {
			return t, "lacks {" + valueNames[v] + "}", "put it in: the English text has it, and a notice must not be without"
		}
	}
	for _, v := range bare {
		if !slices.Contains(always, v) && !slices.Contains(askedBare, v) {
			return t, "would be left out as a whole where {" + valueNames[v] + "} is not known", "put that part of the text into [brackets]"
		}
	}
	for _, c := range t.chunks {
		if needed, other := within(c.group, asked); needed >= 0 && other >= 0 {
			return t, "would lose {" + valueNames[needed] + "} where {" + valueNames[other] + "} is not known", "put the two into [brackets] of their own"
		}
	}
	return t, "", ""
}

// within finds a value that must be shown in one group with another that may be missing; -1: none.
func within(group []chunk, asked []value) (needed, other value) {
	needed, other = -1, -1
	for _, c := range group {
		switch {
		case !c.isValue():
		case needed < 0 && slices.Contains(asked, c.value) && !slices.Contains(mayBeDropped, c.value):
			needed = c.value
		case !slices.Contains(always, c.value) && c.value != needed:
			other = c.value
		}
	}
	return needed, other
}

// unseen are characters that would not be seen or would turn the text around.
func unseen(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == utf8.RuneError
}

func (w *wording) date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	var v values
	v[dateDay], v[dateMonth], v[dateYear] = strconv.Itoa(t.Day()), w.Months[t.Month()-1], strconv.Itoa(t.Year())
	var room [8]piece
	pieces, _ := fill(room[:0], w.Date.chunks, &v)
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.text)
	}
	return b.String()
}
