package rewrite

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"

	"heed/policy"
)

var loadOnce = sync.OnceValues(LoadNotices)

func notices(t testing.TB) *Notices {
	t.Helper()
	n, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Every language that a country of the guide reads first, and no other.
func TestEveryLanguage(t *testing.T) {
	n := notices(t)
	var want []string
	for _, languages := range n.byCountry {
		for _, l := range languages {
			if !slices.Contains(want, l) {
				want = append(want, l)
			}
		}
	}
	slices.Sort(want)
	if len(want) != 24 {
		t.Errorf("countries.tsv names %d languages: %v", len(want), want)
	}
	for _, l := range want {
		if n.byLanguage[l] == nil {
			t.Errorf("no notices in %s", l)
		}
	}
	if got := n.Languages(); len(got) != len(want) {
		t.Errorf("languages: %v", got)
	}
}

// What is built in says in every language what it says in English, date, place and authority included.
func TestLanguagesSayTheSame(t *testing.T) {
	n := notices(t)
	for key, english := range n.byLanguage["en"].texts() {
		want, _ := english.placeholders()
		slices.Sort(want)
		for tag, w := range n.byLanguage {
			got, _ := w.byKey()[key].placeholders()
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s: %s asks for %v, English for %v", tag, key, got, want)
			}
		}
	}
}

// What the law wants said in the words of one country stands in every language.
func TestCountryLabels(t *testing.T) {
	for tag, w := range notices(t).byLanguage {
		if !strings.Contains(w.LabelCZ.raw, "Obchodní sdělení") {
			t.Errorf("%s: label_cz: %s", tag, w.LabelCZ.raw)
		}
		if !strings.Contains(w.LabelBG.raw, "Непоискано търговско съобщение") {
			t.Errorf("%s: label_bg: %s", tag, w.LabelBG.raw)
		}
	}
}

func input(due ...string) NoticeInput {
	in := NoticeInput{Sender: policy.Sender{Name: "Acme Ltd"}, UnsubscribeURL: "https://opt.acme.example/u/T", Language: "en"}
	in.Decision.Notices = due
	return in
}

func TestCompose(t *testing.T) {
	day := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name       string
		due        string
		change     func(*NoticeInput)
		have, lack []string
	}{
		{
			"identity in full", "identity", func(in *NoticeInput) { in.Sender = acme("Acme Ltd"); in.Sender.Register = "HRB 1." },
			[]string{"advertising from Acme Ltd, 1 High Street, London EC1A 1AA. Contact: privacy@acme.example, +44 20 0000 0000, https://acme.example. HRB 1."},
			[]string{"Unsubscribe", "HRB 1..", "object"},
		},
		{"identity, bare", "identity", nil, []string{"This is advertising from Acme Ltd."}, []string{"Contact", ", ."}},
		{"label", "label", nil, []string{"Advertisement"}, nil},
		{"Czech label", "label country", func(in *NoticeInput) { in.Decision.Grounds.Countries = []string{"DE", "CZ"} }, []string{"Obchodní sdělení"}, []string{"Advertisement"}},
		{"Bulgarian label", "country", func(in *NoticeInput) { in.Decision.Grounds.Countries = []string{"BG"} }, []string{"Unsolicited commercial communication"}, nil},
		{"Bulgaria with consent", "label country", func(in *NoticeInput) {
			in.Decision.Grounds.Countries = []string{"BG"}
			in.Decision.Grounds.Consent = &policy.Consent{}
		}, []string{"Advertisement"}, []string{"Unsolicited"}},
		{"consent, date and place", "reason", func(in *NoticeInput) {
			in.Decision.Grounds.Consent = &policy.Consent{At: day, Place: "https://acme.example/signup"}
			in.Topic = "events"
		}, []string{"agreed on 9 March 2026 at https://acme.example/signup to get email from Acme Ltd.", "withdraw your consent", "Topic: events."}, nil},
		{
			"consent, date only", "reason", func(in *NoticeInput) { in.Decision.Grounds.Consent = &policy.Consent{At: day} },
			[]string{"agreed on 9 March 2026 to get"},
			[]string{"Topic"},
		},
		{"consent, nothing known", "reason", func(in *NoticeInput) { in.Decision.Grounds.Consent = &policy.Consent{} }, []string{"because you agreed to get email"}, nil},
		{"consent beside a soft opt-in", "reason country", func(in *NoticeInput) {
			in.Decision.Grounds = policy.Grounds{Consent: &policy.Consent{At: day}, SoftOptIn: true, Relationship: "sale", Countries: []string{"DE"}}
		}, []string{"you agreed on 9 March 2026", "basic rates"}, []string{"bought"}},
		{"privacy notice", "reason", func(in *NoticeInput) {
			in.Sender.PrivacyURL = "https://acme.example/privacy"
			in.Decision.Grounds.Consent = &policy.Consent{}
		}, []string{"Details: https://acme.example/privacy"}, nil},
		{"no privacy notice for a generic address", "reason", func(in *NoticeInput) {
			in.Sender.PrivacyURL = "https://acme.example/privacy"
			in.Decision.AddressKind = policy.Generic
		}, []string{"general business contact"}, []string{"Details"}},
		{"soft opt-in, sale", "reason country", func(in *NoticeInput) {
			in.Decision.Country.Code = "DE"
			in.Decision.Grounds = policy.Grounds{SoftOptIn: true, Relationship: "sale"}
		}, []string{"bought from us", "basic rates"}, []string{"discussed"}},
		{"soft opt-in, negotiation and assessment", "reason", func(in *NoticeInput) {
			in.Decision.Grounds = policy.Grounds{SoftOptIn: true, Relationship: "negotiation", Assessment: &policy.Assessment{Interest: "selling carts."}}
		}, []string{"discussed a purchase", "legitimate interest in selling carts.", "basic rates"}, []string{"carts.."}},
		{"Germany, base rate alone", "country", func(in *NoticeInput) {
			in.Decision.Country.Code = "DE"
			in.Decision.Grounds.SoftOptIn = true
		}, []string{"basic rates"}, []string{"bought"}},
		{"legitimate interest", "reason", func(in *NoticeInput) {
			in.Decision.Grounds.Assessment = &policy.Assessment{Interest: "offering <software>"}
		}, []string{"business address", "offering <software>."}, []string{"basic rates"}},
		{"generic address", "reason", func(in *NoticeInput) { in.Decision.AddressKind = policy.Generic }, []string{"general business contact"}, nil},
		{"no reason known", "reason", nil, nil, []string{"Why"}},
		{"objection", "objection", nil, []string{"Your right to object", "direct marketing", "https://opt.acme.example/u/T"}, nil},
		{"Art. 14", "art14", func(in *NoticeInput) {
			in.Sender = acme("Acme Ltd")
			in.Sender.Authority, in.Sender.Retention = "the ICO", "two years"
			in.Decision.Grounds = policy.Grounds{Source: "trade fair", CollectedBy: "Lists Inc", Assessment: &policy.Assessment{Interest: "selling carts"}}
		}, []string{"About your data", "Controller: Acme Ltd", "Art. 6(1)(f)", "selling carts", "Source: trade fair. We received your data from Lists Inc.", "keep it: two years.", "such as the ICO", "https://acme.example/privacy?a=1&b=2"}, []string{"6(1)(a)", "Source: our", "Why you"}},
		{"Art. 14, the source is the collector", "art14", func(in *NoticeInput) {
			in.Decision.Grounds = policy.Grounds{Source: "Lists Inc.", CollectedBy: "Lists Inc."}
		}, []string{"Source: Lists Inc. Recipients"}, []string{"received your data"}},
		{"Art. 14, nothing is known", "art14", func(in *NoticeInput) { in.Sender.Phone = "+44 20 0000 0000" }, []string{"Acme Ltd, +44 20 0000 0000.", "our records name no single source", "as long as the purpose"}, []string{"keep it:"}},
		{
			"Art. 14, source unknown", "art14", func(in *NoticeInput) { in.Decision.Grounds.CollectedBy = "Lists Inc" },
			[]string{"received your data from Lists Inc."},
			[]string{"Source", "Details", "such as", "keep it:"},
		},
		{
			"unsubscribe by mail", "unsubscribe", func(in *NoticeInput) { in.Mailto = "mailto:out@opt.acme.example?subject=unsubscribe%20T+1" },
			[]string{"https://opt.acme.example/u/T\n", "out@opt.acme.example with the subject \"unsubscribe T+1\""},
			nil,
		},
		{"several countries' words", "label unsubscribe country", func(in *NoticeInput) {
			in.Sender = acme("Acme Ltd")
			in.Decision.Grounds.Countries = []string{"BG", "ES", "CZ", "CA"}
		}, []string{"Obchodní sdělení", "Непоискано търговско съобщение", "by a simple procedure", "sent by Acme Ltd, 1 High Street, London EC1A 1AA (privacy@acme.example"}, []string{"Advertisement", "decline"}},
		{"a country's words without the address they ask for", "unsubscribe country", func(in *NoticeInput) {
			in.Decision.Grounds.Countries = []string{"US"}
		}, []string{"Unsubscribe https://opt.acme.example/u/T"}, []string{"decline"}},
		{"unsubscribe by link", "unsubscribe", nil, []string{"takes effect at once"}, []string{"send an email"}},
		{"values cannot be placeholders or markup", "identity", func(in *NoticeInput) { in.Sender.Name = "{contacts}[<b>]\u202e\x00" }, []string{"from {contacts}[<b>]."}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := input(strings.Fields(tt.due)...)
			if tt.change != nil {
				tt.change(&in)
			}
			for _, lang := range []string{"en", "de"} {
				in.Language = lang
				got, err := notices(t).Compose(in)
				if err != nil {
					t.Fatal(err)
				}
				checkNotice(t, got)
				if lang == "en" {
					checkTexts(t, got, tt.have, tt.lack)
				}
			}
		})
	}
}

func checkTexts(t *testing.T, n Notice, have, lack []string) {
	t.Helper()
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	seen := flat(htmlText(t, n.HTML))
	for _, h := range have {
		if !strings.Contains(flat(n.Text), flat(h)) {
			t.Errorf("the text lacks %q:\n%s", h, n.Text)
		}
		if !strings.Contains(h, "/u/T") && !strings.Contains(seen, flat(h)) {
			t.Errorf("the HTML lacks %q:\n%s", h, n.HTML)
		}
	}
	for _, l := range lack {
		if strings.Contains(n.Text, l) || strings.Contains(seen, l) {
			t.Errorf("%q should not be there:\n%s", l, n.Text)
		}
	}
}

var unfilled = regexp.MustCompile(`\{[a-z0-9_]+\}`)

// checkNotice holds what is true of every notice.
func checkNotice(t *testing.T, n Notice) {
	t.Helper()
	for l := range strings.Lines(n.Text) {
		if l = strings.TrimRight(l, "\n"); utf8.RuneCountInString(l) > 77 || strings.HasSuffix(l, " ") {
			t.Errorf("line %q", l)
		}
	}
	if p := unfilled.FindString(n.Text + n.HTML); p != "" && p != "{contacts}" {
		t.Errorf("unfilled placeholder %s", p)
	}
	if strings.Count(n.HTML, "<p ") != strings.Count(n.HTML, "</p>") || !strings.HasPrefix(n.HTML, "<div ") || !strings.HasSuffix(n.HTML, "</div>") {
		t.Errorf("HTML is not balanced: %s", n.HTML)
	}
}

func htmlText(t *testing.T, fragment string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(fragment))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
	}
	return b.String()
}

func TestComposeLinksInHTML(t *testing.T) {
	in := input("unsubscribe", "objection")
	in.UnsubscribeURL = `https://opt.acme.example/u/T?a=1&b="2"`
	n, err := notices(t).Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	if c := strings.Count(n.HTML, `href="https://opt.acme.example/u/T?a=1&amp;b=&#34;2&#34;"`); c != 2 {
		t.Errorf("%d links: %s", c, n.HTML)
	}
}

// An ESP's tracker is told to leave the bare link alone; the HTML has its own way.
func TestComposeTextSwitch(t *testing.T) {
	in := input("unsubscribe", "objection")
	in.TextSwitch = `[[data-msys-clicktrack="0"]]`
	n, err := notices(t).Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	if c := strings.Count(n.Text, in.UnsubscribeURL+in.TextSwitch+"\n"); c != 2 || strings.Contains(n.HTML, "[[") {
		t.Errorf("%d links: %s%s", c, n.Text, n.HTML)
	}
}

func TestComposeFails(t *testing.T) {
	for name, spoil := range map[string]func(*NoticeInput){
		"no link":        func(in *NoticeInput) { in.UnsubscribeURL = "" },
		"no name":        func(in *NoticeInput) { in.Sender.Name = "" },
		"other language": func(in *NoticeInput) { in.Language = "tlh" },
	} {
		in := input("identity")
		spoil(&in)
		if n, err := notices(t).Compose(in); err == nil {
			t.Errorf("%s: got %v", name, n)
		}
	}
}

// Regression: a source without a blank made a line that no copy may have, and nobody got the message.
func TestLongWords(t *testing.T) {
	for _, source := range []string{"https://lists.example/" + strings.Repeat("x", 5000), strings.Repeat("業", 700)} {
		in := input("art14", "unsubscribe")
		in.Sender = acme("Acme Ltd")
		in.Decision.Grounds.Source = source
		n, err := notices(t).Compose(in)
		if err != nil {
			t.Fatal(err)
		}
		tr := sample(t, "en", "Acme Ltd")
		tr.Notice = n
		if _, err := rewriteOnce([]byte(plain+"\r\nx\r\n"), tr); err != nil {
			t.Errorf("%.30s: %v", source, err)
		}
		if !utf8.ValidString(n.Text) || !strings.Contains(strings.ReplaceAll(n.Text, "\n", ""), source) {
			t.Errorf("%.30s is not there in whole", source)
		}
	}
}
