package policy

import "time"

// Allow and Block are the two actions.
const (
	Allow = "allow"
	Block = "block"
)

// Codes are the stable reason codes of a block.
const (
	CodeOptOutAll      = "optout.all"
	CodeOptOutSender   = "optout.sender"
	CodeOptOutTopic    = "optout.topic"
	CodeSenderDomain   = "sender.domain"
	CodeSenderIncompl  = "sender.incomplete"
	CodeUnlisted       = "country.unlisted"
	CodeConsentMissing = "consent.missing"
	CodeUnconfirmed    = "consent.unconfirmed"
	CodeConsentExpired = "consent.expired"
	CodeWithdrawn      = "consent.withdrawn"
	CodeOtherSender    = "consent.other_sender"
	CodeSoftNotAllowed = "softoptin.not_permitted"
	CodeSoftEntity     = "softoptin.entity"
	CodeSoftOrigin     = "softoptin.origin"
	CodeSoftProducts   = "softoptin.products"
	CodeSoftNotOffered = "softoptin.objection_not_offered"
	CodeBasisMissing   = "basis.missing"
	CodeBasisFailed    = "basis.failed"
	CodeBasisExpired   = "basis.expired"
	CodeUnrewritable   = "content.unrewritable"
	CodeESPRecipients  = "esp.recipients"
	CodeESPBypass      = "esp.bypass"
)

// Question is everything a decision depends on.
type Question struct {
	Account     *Account
	Recipient   string   // the address as given
	Topic       string   // of this message: the account's, else the Heed-Topic field
	Product     string   // likewise
	Country     string   // of the Heed-Country field, "" if none
	FromDomains []string // A-labels of every address in From:; nil before the content is known: not checked
	Facts       Facts
	At          time.Time
}

// Check is one thing that was looked at.
type Check struct {
	Code     string `json:"code"` // the reason code where it failed, else the name of the check
	Passed   bool   `json:"passed"`
	Text     string `json:"text"`
	Citation string `json:"citation"`
}

// CountrySignal is a country and what named it: contact, header, cctld or none.
type CountrySignal struct {
	Code string `json:"code"`
	From string `json:"from"`
}

// Decision is the answer for one recipient, with every reason. Its JSON is the API's.
type Decision struct {
	Recipient   string        `json:"recipient"`
	Action      string        `json:"action"`
	Enforced    bool          `json:"enforced"`
	Code        string        `json:"code"`
	Text        string        `json:"text"`
	Checks      []Check       `json:"checks"`
	Country     CountrySignal `json:"country"`
	AddressKind Kind          `json:"address_kind"`
	Party       Party         `json:"party"`
	Regime      Regime        `json:"regime"`
	SoftOptIn   string        `json:"soft_opt_in"` // not_permitted | permitted | met
	LegalBasis  string        `json:"legal_basis"` // consent | legitimate_interest | soft_opt_in | not_required | none
	Notices     []string      `json:"notices"`     // of identity, label, reason, objection, art14, unsubscribe, country
	Law         string        `json:"law"`
	Rules       string        `json:"rules"` // pack@version

	Grounds Grounds `json:"-"`
}

// Grounds is what an allowed message rests on; the notices quote it.
type Grounds struct {
	Consent      *Consent    // the consent that satisfied the regime or is the legal basis
	Assessment   *Assessment // where the legal basis is a legitimate interest
	SoftOptIn    bool        // the regime was satisfied by soft opt-in
	Relationship string      // sale | negotiation, where SoftOptIn
	CollectedBy  string      // who collected the address, where not the sender
	Source       string      // where the address came from
	Language     string      // the contact's
	Countries    []string    // every one that is signalled: each may ask for words of its own
}

// Stops tells whether the message must not be sent: it is blocked and the account does not merely observe that rule.
func (d Decision) Stops() bool { return d.Action == Block && d.Enforced }

// MaxInquiry is how many recipients one inquiry may name.
const MaxInquiry = 10_000

// Inquiry is a question from outside: what would be decided for these recipients?
type Inquiry struct {
	Account    string
	Recipients []string
	Topic      string
	Product    string
	Country    string
	At         time.Time // zero: now
}

// BadInquiry is why an inquiry cannot be answered as it was put, in words for whoever asked.
type BadInquiry string

func (e BadInquiry) Error() string { return string(e) }
