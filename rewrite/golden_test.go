package rewrite

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/policy"
)

var updateNotices = flag.Bool("update-notices", false, "write testdata/notices anew")

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// asked is a question about one recipient of Acme Ltd's, a British sender; cases bend it.
func asked() policy.Question {
	s := acme("Acme Ltd")
	s.PrivacyURL, s.Register = "https://acme.example/privacy", "Companies House no. 01234567, VAT GB 123 4567 89"
	s.Families = map[string][]string{"logistics": {"crm", "routing"}}
	return policy.Question{
		Account:   &policy.Account{Name: "crm", Category: policy.Marketing, Topic: "newsletter", Product: "crm", Sender: &s},
		Recipient: "anna.huber@firma.example", Topic: "newsletter", Product: "crm", At: day("2026-06-01"),
		Facts: policy.Facts{Contact: policy.Contact{Relations: map[string]policy.Relation{"acme": {CollectedBy: policy.Dated[string]{Value: "acme"}}}}},
	}
}

type bend func(*policy.Question)

func in(countries ...string) bend {
	return func(q *policy.Question) { q.Facts.Contact.Country.Value = countries }
}

func consented(m policy.Method) bend {
	return func(q *policy.Question) {
		q.Facts.Contact.Consents = []policy.Consent{{Sender: "acme", Method: m, At: day("2026-03-09"), Place: "https://acme.example/signup"}}
	}
}

func relate(q *policy.Question, change func(*policy.Relation)) {
	r := q.Facts.Contact.Relations["acme"]
	change(&r)
	q.Facts.Contact.Relations["acme"] = r
}

func customer(relationship string) bend {
	return func(q *policy.Question) {
		relate(q, func(r *policy.Relation) {
			r.Relationship.Value, r.Products.Value, r.ObjectionOffered.Value = relationship, []string{"routing"}, "yes"
		})
	}
}

func assessed(q *policy.Question) {
	p := policy.Test{Passed: true}
	q.Account.Assessment = &policy.Assessment{
		ID: "LIA-1", Sender: "acme", Interest: "offering logistics software to haulage companies",
		Purpose: p, Necessity: p, Balancing: p, AssessedOn: day("2026-01-10"), ExpiresOn: day("2027-01-10"),
	}
}

func collected(by, source string) bend {
	return func(q *policy.Question) {
		relate(q, func(r *policy.Relation) { r.CollectedBy.Value, r.Source.Value = by, source })
	}
}

func generic(q *policy.Question) { q.Recipient = "info@firma.example" }

func american(q *policy.Question) {
	s := q.Account.Sender
	s.Name, s.PostalAddress, s.Country = "Acme Inc.", "1 Main Street, Springfield, IL 62701", "US"
	s.Phone, s.Register = "+1 217 555 0100", ""
}

// noticeCases are what a lawyer may want to read: testdata/notices/NAME.LANGUAGE.txt is the notice, as decided by the
// guide's rules.
var noticeCases = []struct {
	name string
	due  string // of the notices, those that depend on the case
	bend []bend
}{
	{"at-double-opt-in", "label objection", []bend{in("AT"), consented(policy.Double)}},
	{"bg-consent", "label objection", []bend{in("BG"), consented(policy.Double)}},
	{"bg-soft-opt-in", "label objection country", []bend{in("BG"), customer("sale"), assessed}},
	{"ca-consent", "label objection country", []bend{in("CA"), consented(policy.Single)}},
	{"cz-soft-opt-in", "label objection country", []bend{in("CZ"), customer("sale"), assessed}},
	{"de-consent", "label objection", []bend{in("DE"), consented(policy.Double)}},
	{"de-soft-opt-in", "label objection country", []bend{in("DE"), customer("sale"), assessed}},
	{"de-soft-opt-in-negotiation", "label objection country", []bend{in("DE"), customer("negotiation"), assessed}},
	{"es-consent", "label objection country", []bend{in("ES"), consented(policy.Single)}},
	{"fr-legitimate-interest", "label objection country", []bend{in("FR"), assessed}},
	{"gb-generic", "label", []bend{in("GB"), generic}},
	{"gb-opt-out-art14", "label objection art14", []bend{in("GB"), assessed, collected("Lists Inc", "trade fair Logistica 2026"), func(q *policy.Question) {
		q.Account.Sender.Retention, q.Account.Sender.Authority = "two years after the last contact", "the Information Commissioner's Office"
	}}},
	{"gb-opt-out-art14-source-unknown", "label objection art14", []bend{in("GB"), assessed, collected("", "")}},
	{"no-country-consent", "label objection", []bend{consented(policy.Double)}},
	{"two-countries-us-ca", "label objection country", []bend{in("US", "CA"), consented(policy.Single)}},
	{"two-countries-cz-bg", "label country", []bend{in("CZ", "BG"), generic, consented(policy.Double)}},
	{"us-british-sender", "label objection art14 country", []bend{in("US"), assessed, collected("Lists Inc", "")}},
	{"us-opt-out", "label country", []bend{in("US"), american}},
	{"us-consent", "country", []bend{in("US"), american, consented(policy.Single)}},
}

func TestNoticesAsDecided(t *testing.T) {
	rules, err := policy.Guide(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := notices(t)
	for _, tt := range noticeCases {
		t.Run(tt.name, func(t *testing.T) {
			q := asked()
			for _, b := range tt.bend {
				b(&q)
			}
			d := rules.Decide(q)
			if d.Action != policy.Allow {
				t.Fatalf("blocked: %s %s", d.Code, d.Text)
			}
			got := slices.DeleteFunc(slices.Clone(d.Notices), func(n string) bool { return n == "identity" || n == "reason" || n == "unsubscribe" })
			if strings.Join(got, " ") != tt.due || len(got) != len(d.Notices)-3 {
				t.Errorf("due are %v, want %s beside identity, reason and unsubscribe", d.Notices, tt.due)
			}
			for _, lang := range []string{"en", "de"} {
				n, err := all.Compose(NoticeInput{Decision: d, Sender: *q.Account.Sender, Topic: q.Topic, UnsubscribeURL: "https://opt.acme.example/u/TOKEN", Mailto: "mailto:unsubscribe@opt.acme.example?subject=unsubscribe%20TOKEN", Language: lang})
				if err != nil {
					t.Fatal(err)
				}
				checkNotice(t, n)
				golden(t, filepath.Join("testdata/notices", tt.name+"."+lang+".txt"), n.Text)
				if tt.name == "de-consent" || tt.name == "gb-opt-out-art14" {
					golden(t, filepath.Join("testdata/notices", tt.name+"."+lang+".html"), n.HTML+"\n")
				}
			}
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *updateNotices {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (written anew by -update-notices): got\n%s\nwant\n%s", file, got, want)
	}
}

func BenchmarkLoadNotices(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := LoadNotices(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompose(b *testing.B) {
	rules, err := policy.Guide(policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	all := notices(b)
	for _, name := range []string{"de-consent", "gb-opt-out-art14"} {
		i := slices.IndexFunc(noticeCases, func(c struct {
			name string
			due  string
			bend []bend
		},
		) bool {
			return c.name == name
		})
		q := asked()
		for _, bend := range noticeCases[i].bend {
			bend(&q)
		}
		in := NoticeInput{Decision: rules.Decide(q), Sender: *q.Account.Sender, Topic: q.Topic, UnsubscribeURL: "https://opt.acme.example/u/TOKEN", Language: "en"}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := all.Compose(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
