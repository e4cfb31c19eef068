package policy

import (
	"slices"
	"testing"
	"time"
)

// lawful is a question that is allowed: a first-party German contact with a confirmed consent. Tests bend it.
func lawful() Question {
	at := day("2026-06-01")
	return Question{
		Account: &Account{Name: "crm", Category: Marketing, Topic: "news", Product: "crm", Sender: &Sender{
			ID: "acme", Name: "Acme Ltd", PostalAddress: "1 High Street", Country: "GB", Domains: []string{"acme.example"},
			Families: map[string][]string{"logistics": {"crm", "routing"}},
		}},
		Recipient: "anna.huber@firma.example", Topic: "news", Product: "crm", At: at,
		Facts: Facts{Contact: Contact{
			Country:   Dated[[]string]{Value: []string{"DE"}},
			Relations: map[string]Relation{"acme": {CollectedBy: Dated[string]{Value: "acme"}}},
			Consents:  []Consent{{Sender: "acme", Method: Double, At: at.AddDate(0, -1, 0)}},
		}},
	}
}

func (q *Question) relate(change func(*Relation)) {
	r := q.Facts.Contact.Relations["acme"]
	change(&r)
	q.Facts.Contact.Relations = map[string]Relation{"acme": r}
}

// customer meets all conditions of the soft opt-in and has consented to nothing.
func (q *Question) customer() {
	q.Facts.Contact.Consents = nil
	q.relate(func(r *Relation) {
		r.Relationship.Value, r.Products.Value, r.ObjectionOffered.Value = "sale", []string{"routing"}, "yes"
	})
}

func (q *Question) country(c string) { q.Facts.Contact.Country.Value = []string{c} }

func (q *Question) assessed() {
	p := Test{Passed: true}
	q.Account.Assessment = &Assessment{ID: "LIA-1", Sender: "acme", Purpose: p, Necessity: p, Balancing: p, AssessedOn: q.At.AddDate(-1, 0, 0), ExpiresOn: q.At.AddDate(0, 0, 1)}
}

func TestDecide(t *testing.T) {
	consent := func(change func(*Consent)) func(*Question) {
		return func(q *Question) { change(&q.Facts.Contact.Consents[0]) }
	}
	optOut := func(o OptOut) func(*Question) { return func(q *Question) { q.Facts.OptOuts = []OptOut{o} } }
	tests := []struct {
		name string
		bend func(*Question)
		code string // "" is allowed
	}{
		{"confirmed consent", func(*Question) {}, ""},
		{"opted out of everything", optOut(OptOut{Scope: ScopeAll}), "optout.all"},
		{"opted out of the sender", optOut(OptOut{Scope: ScopeSender, Sender: "acme"}), "optout.sender"},
		{"opted out of another sender", optOut(OptOut{Scope: ScopeSender, Sender: "beta"}), ""},
		{"opted out of the topic", optOut(OptOut{Scope: ScopeTopic, Sender: "acme", Topic: "news"}), "optout.topic"},
		{"opted out of the topic in another case", optOut(OptOut{Scope: ScopeTopic, Sender: "acme", Topic: "News"}), "optout.topic"},
		{"opted out of another topic", optOut(OptOut{Scope: ScopeTopic, Sender: "acme", Topic: "events"}), ""},
		{"opted out of a topic, mail without one", func(q *Question) {
			q.Topic = ""
			optOut(OptOut{Scope: ScopeTopic, Sender: "acme", Topic: "events"})(q)
		}, "optout.topic"},
		{"sender without name", func(q *Question) { q.Account.Sender.Name = " " }, "sender.incomplete"},
		{"sender without postal address", func(q *Question) { q.Account.Sender.PostalAddress = "" }, "sender.incomplete"},
		{"From: of another domain", func(q *Question) { q.FromDomains = []string{"acme.example", "evil.example"} }, "sender.domain"},
		{"From: of a subdomain", func(q *Question) { q.FromDomains = []string{"news.acme.example"} }, ""},
		{"From: of a look-alike", func(q *Question) { q.FromDomains = []string{"notacme.example"} }, "sender.domain"},
		{"no From:, any will do", func(q *Question) { q.FromDomains = []string{}; q.Account.Sender.Domains = []string{"*"} }, ""},
		{"no From:", func(q *Question) { q.FromDomains = []string{} }, "sender.domain"},
		{"no consent", func(q *Question) { q.Facts.Contact.Consents = nil }, "consent.missing"},
		{"consent none", consent(func(c *Consent) { c.Method = NoConsent }), "consent.missing"},
		{"single where double is asked", consent(func(c *Consent) { c.Method = Single }), "consent.unconfirmed"},
		{"single where single is asked", func(q *Question) { q.country("AT"); q.Facts.Contact.Consents[0].Method = Single }, ""},
		{"expired", consent(func(c *Consent) { c.ExpiresAt = day("2026-06-01") }), "consent.expired"},
		{"expires tomorrow", consent(func(c *Consent) { c.ExpiresAt = day("2026-06-02") }), ""},
		{"withdrawn", consent(func(c *Consent) { c.WithdrawnAt = day("2026-05-20") }), "consent.withdrawn"},
		{"withdrawn on the day it was given, whose hour is known", consent(func(c *Consent) {
			c.At, c.WithdrawnAt = day("2026-05-20").Add(9*time.Hour), day("2026-05-20")
		}), "consent.withdrawn"},
		{"withdrawal of that day recorded apart", func(q *Question) {
			q.Facts.Contact.Consents[0].At = day("2026-05-20").Add(9 * time.Hour)
			q.Facts.Contact.Consents = append(q.Facts.Contact.Consents, Consent{Sender: "acme", Method: NoConsent, WithdrawnAt: day("2026-05-20")})
		}, "consent.withdrawn"},
		{"withdrawn at nine, given again at ten", func(q *Question) {
			nine := day("2026-05-20").Add(9 * time.Hour)
			q.Facts.Contact.Consents = []Consent{{Sender: "acme", Method: Double, At: day("2026-01-01"), WithdrawnAt: nine}, {Sender: "acme", Method: Double, At: nine.Add(time.Hour)}}
		}, ""},
		{"withdrawal recorded apart", func(q *Question) {
			q.Facts.Contact.Consents = append(q.Facts.Contact.Consents, Consent{Sender: "acme", Method: NoConsent, WithdrawnAt: day("2026-05-20")})
		}, "consent.withdrawn"},
		{"withdrawn for the topic in another case", func(q *Question) {
			q.Facts.Contact.Consents = append(q.Facts.Contact.Consents, Consent{Sender: "acme", Method: NoConsent, Topics: []string{"NEWS"}, WithdrawnAt: day("2026-05-20")})
		}, "consent.withdrawn"},
		{"withdrawn, then given again", func(q *Question) {
			q.Facts.Contact.Consents = []Consent{{Sender: "acme", Method: Double, At: day("2026-01-01"), WithdrawnAt: day("2026-02-01")}, {Sender: "acme", Method: Double, At: day("2026-03-01")}}
		}, ""},
		{"given to another sender", consent(func(c *Consent) { c.Sender = "beta" }), "consent.other_sender"},
		{"for another topic", consent(func(c *Consent) { c.Topics = []string{"events"} }), "consent.missing"},
		{"for this topic", consent(func(c *Consent) { c.Topics = []string{"events", "news"} }), ""},
		{"dated tomorrow", consent(func(c *Consent) { c.At = day("2026-06-02") }), "consent.missing"},
		{"soft opt-in without a basis", func(q *Question) { q.customer() }, "basis.missing"},
		{"soft opt-in and assessment", func(q *Question) { q.customer(); q.assessed() }, ""},
		{"single consent, complete soft opt-in, assessment", func(q *Question) {
			c := q.Facts.Contact.Consents
			c[0].Method = Single
			q.customer()
			q.Facts.Contact.Consents = c
			q.assessed()
		}, ""},
		{"customer where there is no soft opt-in", func(q *Question) { q.customer(); q.assessed(); q.country("IT") }, "softoptin.not_permitted"},
		{"customer of a sister company", func(q *Question) {
			q.customer()
			q.assessed()
			q.relate(func(r *Relation) { r.CollectedBy.Value = "Acme GmbH" })
		}, "softoptin.entity"},
		{"customer, the collector's name instead of its id", func(q *Question) {
			q.customer()
			q.assessed()
			q.relate(func(r *Relation) { r.CollectedBy.Value = "ACME Ltd" })
		}, ""},
		{"customer, collector unknown", func(q *Question) {
			q.customer()
			q.assessed()
			q.relate(func(r *Relation) { r.CollectedBy.Value = "" })
		}, "softoptin.entity"},
		{"inquiry only", func(q *Question) {
			q.customer()
			q.relate(func(r *Relation) { r.Relationship.Value = "inquiry" })
		}, "softoptin.origin"},
		{"other products", func(q *Question) {
			q.customer()
			q.relate(func(r *Relation) { r.Products.Value = []string{"hardware"} })
		}, "softoptin.products"},
		{"no product named", func(q *Question) { q.customer(); q.Product = "" }, "softoptin.products"},
		{"objection not offered", func(q *Question) {
			q.customer()
			q.relate(func(r *Relation) { r.ObjectionOffered.Value = "no" })
		}, "softoptin.objection_not_offered"},
		{"opt-out regime without basis", func(q *Question) { q.country("GB"); q.Facts.Contact.Consents = nil }, "basis.missing"},
		{"opt-out regime with assessment", func(q *Question) { q.country("GB"); q.Facts.Contact.Consents = nil; q.assessed() }, ""},
		{"assessment failed", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Account.Assessment.Balancing.Passed = false
		}, "basis.failed"},
		{"assessment expired", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Account.Assessment.ExpiresOn = q.At
		}, "basis.expired"},
		{"assessment of other countries", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Account.Assessment.Countries = []string{"FR"}
		}, "basis.missing"},
		{"generic address, opt-out regime", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.Recipient = "info+uk@firma.example"
		}, ""},
		{"consumer in an opt-out country", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Recipient = "anna@gmail.com"
		}, "consent.missing"},
		{"consumer who is a customer", func(q *Question) { q.country("GB"); q.customer(); q.assessed(); q.Recipient = "anna@gmail.com" }, ""},
		{"ccTLD stricter than the contact", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Recipient = "anna@firma.de"
		}, "consent.missing"},
		{"header stricter than the contact", func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Country = "AT"
		}, "consent.missing"},
		{"stranger", func(q *Question) { q.Facts = Facts{} }, "consent.missing"},
		{"unlisted country with consent", func(q *Question) { q.country("CH") }, ""},
		{"Irish third party, assessment", func(q *Question) {
			q.country("IE")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.relate(func(r *Relation) { r.CollectedBy.Value = "ListCo" })
		}, ""},
		{"Irish, collector unknown: both parties' rows", func(q *Question) {
			q.country("IE")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.relate(func(r *Relation) { r.CollectedBy.Value = "" })
		}, "consent.missing"},
		{"US sender to US individual", func(q *Question) {
			q.country("US")
			q.Account.Sender.Country = "US"
			q.Facts.Contact.Consents = nil
		}, ""},
		{"sender of unknown country to US individual", func(q *Question) {
			q.country("US")
			q.Account.Sender.Country = ""
			q.Facts.Contact.Consents = nil
		}, "basis.missing"},
		{"UK sender to US individual", func(q *Question) { q.country("US"); q.Facts.Contact.Consents = nil }, "basis.missing"},
		{"malformed address", func(q *Question) { q.Recipient = "nobody" }, "consent.missing"},
	}
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := lawful()
			tt.bend(&q)
			d := rules.Decide(q)
			want := Allow
			if tt.code != "" {
				want = Block
			}
			if d.Code != tt.code || d.Action != want {
				t.Errorf("%s %q, want %s %q; checks %+v", d.Action, d.Code, want, tt.code, d.Checks)
			}
			if i := slices.IndexFunc(d.Checks, func(c Check) bool { return !c.Passed }); (i >= 0) != (tt.code != "") || i >= 0 && d.Checks[i].Code != tt.code {
				t.Errorf("the first failed check does not name the decision: %+v", d.Checks)
			}
			for _, c := range d.Checks {
				if c.Code == "" || c.Text == "" || c.Citation == "" && tt.name != "malformed address" {
					t.Errorf("check without code, text or citation: %+v", c)
				}
			}
		})
	}
}

func TestObserve(t *testing.T) {
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := lawful()
	q.Account.Observe = true
	q.Facts.Contact.Consents = nil
	if d := rules.Decide(q); d.Action != Block || d.Enforced || d.Stops() {
		t.Errorf("a missing consent is only reported: %+v", d)
	}
	q.Facts.OptOuts = []OptOut{{Scope: ScopeAll, At: time.Time{}}}
	if d := rules.Decide(q); d.Action != Block || !d.Stops() {
		t.Errorf("an opt-out always blocks: %+v", d)
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		bend    func(*Question)
		code    string
		basis   string
	}{
		{"soft opt-in as basis", Options{SoftOptInIsBasis: true}, func(q *Question) { q.customer() }, "", "soft_opt_in"},
		{"unlisted country blocked", Options{BlockUnlisted: true}, func(q *Question) { q.country("CH") }, "country.unlisted", "none"},
		{"freemail as business", Options{FreemailBusiness: true}, func(q *Question) {
			q.country("GB")
			q.Facts.Contact.Consents = nil
			q.assessed()
			q.Recipient = "anna@gmail.com"
		}, "", "legitimate_interest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := Guide(tt.options)
			if err != nil {
				t.Fatal(err)
			}
			q := lawful()
			tt.bend(&q)
			if d := rules.Decide(q); d.Code != tt.code || d.LegalBasis != tt.basis {
				t.Errorf("%q basis %s, want %q %s", d.Code, d.LegalBasis, tt.code, tt.basis)
			}
		})
	}
}

// A country that is only the second to be signalled asks for its own words too.
func TestCountryNoticeOfASecondCountry(t *testing.T) {
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := lawful()
	q.Recipient = "anna@firma.cz"
	d := rules.Decide(q)
	if d.Action != Allow || d.Country.Code != "DE" || !slices.Contains(d.Notices, NoticeCountry) || !slices.Contains(d.Grounds.Countries, "CZ") {
		t.Errorf("%+v", d)
	}
}

func TestSignals(t *testing.T) {
	tests := []struct {
		recipient, contact, header, code, from string
	}{
		{"a@firma.de", "", "", "DE", "cctld"},
		{"a@firma.co.uk", "", "", "GB", "cctld"},
		{"a@startup.io", "", "", "", "none"},
		{"a@firma.eu", "", "", "", "none"},
		{"a@firma.com", "FR", "", "FR", "contact"},
		{"a@firma.com", "", "FR", "FR", "header"},
		{"a@firma.fr", "FR", "FR", "FR", "contact"},
		{"a@εταιρεία.ελ", "", "", "GR", "cctld"},
	}
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		q := lawful()
		q.Recipient, q.Country, q.Facts.Contact.Country.Value = tt.recipient, tt.header, nil
		if tt.contact != "" {
			q.country(tt.contact)
		}
		if d := rules.Decide(q); d.Country != (CountrySignal{tt.code, tt.from}) {
			t.Errorf("%s: %+v, want %s from %s", tt.recipient, d.Country, tt.code, tt.from)
		}
	}
}

func TestKindOf(t *testing.T) {
	tests := map[string]Kind{
		"info@x.de": Generic, "kontakt+web@x.de": Generic, "biuro@x.pl": Generic, "ventas@x.es": Generic, "geral@x.pt": Generic,
		"post@x.no": Generic, "enquiry@x.co.uk": Generic, "james.isilay@x.com": Individual, "james@x.com": Individual,
		"ceo@x.com": Individual, "anna@gmail.com": Consumer, "anna@gmx.de": Consumer, "Büro@x.at": Generic,
	}
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range tests {
		q := lawful()
		q.Recipient = address
		if d := rules.Decide(q); d.AddressKind != want {
			t.Errorf("%s is %s, want %s", address, d.AddressKind, want)
		}
	}
}

func TestNormalise(t *testing.T) {
	tests := []struct{ in, want string }{
		{"Anna.Huber+News@Firma.DE", "anna.huber+news@firma.de"},
		{"a@Bücher.example.", "a@xn--bcher-kva.example"},
		{"a@firma.de\u3002", "a@firma.de"}, // UTS 46 maps the ideographic full stop to a dot
		{"a@firma\uff0ede\uff0e", "a@firma.de"},
		{"a@firma.de..", ""},
		{`"a b"@x.de`, `"a b"@x.de`},
		{`"Anna"@x.de`, "anna@x.de"},
		{`"a\b\"c"@x.de`, `"ab\"c"@x.de`},
		{"a..b@x.de", `"a..b"@x.de`},
		{"a@under_score.example", "a@under_score.example"},
		{"a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"x@m\xfcller.de", ""},
		{"m\ufffdller@x.de", ""},
		{"rene\u0301@x.fr", "ren\u00e9@x.fr"},
		{"nobody", ""},
		{"@x.de", ""},
		{"a@", ""},
		{"a b@x.de", ""},
		{"a@x..de", ""},
		{"a@x de", ""},
		{`"a@x.de`, ""},
	}
	for _, tt := range tests {
		got, err := Normalise(tt.in)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("Normalise(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
		if again, _ := Normalise(got); tt.want != "" && again != got {
			t.Errorf("Normalise(%q) is not stable: %q", got, again)
		}
	}
}

func TestGuideIsWhole(t *testing.T) {
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := rules.Find("", "", "")
	if len(all) != 31*4 {
		t.Errorf("%d rules, want 31 countries x 2 parties x 2 kinds", len(all))
	}
	if de := rules.Find("DE", First, Individual); len(de) != 1 || de[0].Regime != DoubleOptIn || !de[0].SoftOptIn {
		t.Errorf("DE: %+v", de)
	}
}

// Where two countries are signalled, what the GDPR asks for in one of them is asked for.
func TestNoticesOfEverySignalledCountry(t *testing.T) {
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := lawful()
	q.Account.Sender.Country, q.Recipient = "US", "anna.huber@firma.at"
	q.country("CH")
	d := rules.Decide(q)
	if d.Action != Allow || d.Country.Code != "CH" || d.LegalBasis != "consent" || !slices.Contains(d.Notices, NoticeObjection) {
		t.Errorf("%s %s in %s, %s, %v", d.Action, d.Code, d.Country.Code, d.LegalBasis, d.Notices)
	}
	q.country("AT")
	q.Recipient = "anna.huber@firma.ch"
	if d = rules.Decide(q); d.Action != Allow || d.LegalBasis != "consent" || !slices.Contains(d.Notices, NoticeObjection) {
		t.Errorf("%s %s in %s, %s, %v", d.Action, d.Code, d.Country.Code, d.LegalBasis, d.Notices)
	}
	q.country("CH")
	if d = rules.Decide(q); d.Action != Allow || d.LegalBasis != "not_required" || slices.Contains(d.Notices, NoticeObjection) {
		t.Errorf("CH alone: %s %s, %s, %v", d.Action, d.Code, d.LegalBasis, d.Notices)
	}
}
