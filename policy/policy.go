// Package policy answers one question: may this message be sent to this recipient? It is pure: values in, values
// out, no I/O and no clock. The law is data, in rules/; the words are those of docs/rules.md.
package policy

import "time"

// Party tells who collected the address. It is derived, never claimed.
type Party string

// The parties. Unknown: nobody said who collected the address, so both parties' rules must pass.
const (
	First   Party = "first"
	Third   Party = "third"
	Unknown Party = "unknown"
)

// Kind is what an address says of a person.
type Kind string

// The address kinds. Only a generic address is not personal data (B2B guide, glossary).
const (
	Individual Kind = "individual"
	Generic    Kind = "generic"
	Consumer   Kind = "consumer"
)

// Regime is what a country asks for.
type Regime string

// The regimes, from the laxest to the strictest.
const (
	OptOutRegime Regime = "opt-out"
	OptIn        Regime = "opt-in"
	DoubleOptIn  Regime = "double-opt-in"
)

// Method is how a consent was given.
type Method string

// The methods. Double is confirmed by a click in a mail (double opt-in).
const (
	NoConsent Method = "none"
	Single    Method = "single"
	Double    Method = "double"
)

// Scope is how far an opt-out reaches.
type Scope string

// The scopes, from the narrowest: one topic of one sender, all of one sender, everything this gateway sends.
const (
	ScopeTopic  Scope = "topic"
	ScopeSender Scope = "sender"
	ScopeAll    Scope = "all"
)

// Category is the kind of mail.
type Category string

// The categories. ByHeader leaves it to the Heed-Category field of each message; missing means marketing.
const (
	Marketing     Category = "marketing"
	Transactional Category = "transactional"
	ByHeader      Category = "header"
)

// MaxNames is how many bytes a sender's id and a topic may have together: both are sealed into each opt-out link.
const MaxNames = 32

// Sender is the legal entity that markets: the controller of GDPR Art. 4(7).
type Sender struct {
	ID, Name, PostalAddress string
	Country                 string // ISO 3166-1 alpha-2
	Contact, Phone, Website string
	Register                string
	PrivacyURL, Retention   string
	Authority               string
	Domains                 []string            // From: domains it may use, subdomains included; "*" for any
	Families                map[string][]string // family name to products that are similar to each other
}

// Account is what a mail tool logs in as.
type Account struct {
	Name       string
	Sender     *Sender
	Category   Category
	Topic      string // "" leaves it to the Heed-Topic field
	Product    string // "" leaves it to the Heed-Product field
	Assessment *Assessment
	Observe    bool // country.*, consent.*, softoptin.* and basis.* are reported and do not block
}

// Test is one of the three tests of an assessment.
type Test struct {
	Passed  bool
	Finding string
}

// Assessment is a documented legitimate-interest assessment (GDPR Art. 6(1)(f)); all three tests must pass.
type Assessment struct {
	ID, Sender, Interest          string
	Purpose, Necessity, Balancing Test
	Risks                         []string // Recital 75 risks found
	Countries, Topics             []string // what it covers; empty: all
	AssessedBy                    string
	AssessedOn, ExpiresOn         time.Time
}

// Dated is a value and the day from which it holds. Of two, the later wins; at a tie, the stricter.
type Dated[T any] struct {
	Value T         `json:"value"`
	At    time.Time `json:"at,omitzero"`
}

// Contact is what is known of one e-mail address: facts of the address itself, relations to senders, consents.
type Contact struct {
	Address          string              `json:"address"`          // normalised
	Country          Dated[[]string]     `json:"country,omitzero"` // ISO 3166-1 alpha-2; several where sources of one day disagree
	AddressKind      Dated[Kind]         `json:"address_kind,omitzero"`
	SubscriberType   Dated[string]       `json:"subscriber_type,omitzero"`   // corporate | individual
	AddressPublished Dated[string]       `json:"address_published,omitzero"` // yes | no
	Language         Dated[string]       `json:"language,omitzero"`          // BCP 47
	Relations        map[string]Relation `json:"relations,omitempty"`        // by sender id
	Consents         []Consent           `json:"consents,omitempty"`
}

// Relation is what connects a contact with one sender.
type Relation struct {
	CollectedBy      Dated[string]   `json:"collected_by,omitzero"` // a sender id, or any other entity's name; At: collected_at
	Source           Dated[string]   `json:"source,omitzero"`
	Relationship     Dated[string]   `json:"relationship,omitzero"` // none | inquiry | negotiation | sale
	Products         Dated[[]string] `json:"products,omitzero"`
	ObjectionOffered Dated[string]   `json:"objection_offered,omitzero"` // yes | no
}

// Consent is permission given to one sender, or its withdrawal. Topics empty: all of the sender's.
type Consent struct {
	Sender      string    `json:"sender"`
	Method      Method    `json:"method"`
	Topics      []string  `json:"topics,omitempty"`
	At          time.Time `json:"at,omitzero"`
	Place       string    `json:"place,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	WithdrawnAt time.Time `json:"withdrawn_at,omitzero"`
	Evidence    string    `json:"evidence,omitempty"`
}

// OptOut is an objection (GDPR Art. 21(2)). It always wins and never expires.
type OptOut struct {
	Scope  Scope     `json:"scope"`
	Sender string    `json:"sender,omitempty"` // "" for ScopeAll
	Topic  string    `json:"topic,omitempty"`  // "" unless ScopeTopic
	At     time.Time `json:"at"`
	Via    string    `json:"via"`           // one-click | page | cli | import | api
	Ref    string    `json:"ref,omitempty"` // what it came by: the token's reference; an undo must name it
}

// Facts is all that the state knows of one person. The zero value is a stranger.
type Facts struct {
	Contact  Contact
	OptOuts  []OptOut
	Informed map[string]Informed // by sender id
}
