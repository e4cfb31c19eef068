package relay

import (
	"errors"
	"slices"
	"strings"
	"unicode"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

// maxReceived is how many hops a message may have made: more is a loop (RFC 5321 section 6.3).
const maxReceived = 50

// transaction is one message on its way through the gateway.
type transaction struct {
	m       smtp.Message
	book    *Book
	account *Account
	mail    *rewrite.Mail
	said    said
	from    []string // domains of From:, normalised
	jobs    []*job   // one for each person
	ward    *ward    // nil: nothing guards it
}

// said is what the message itself says of how it is to be treated.
type said struct {
	Category  policy.Category `json:"category"`
	Topic     string          `json:"topic,omitempty"`
	Product   string          `json:"product,omitempty"`
	Country   string          `json:"country,omitempty"`
	Language  string          `json:"language,omitempty"`
	MessageID string          `json:"message_id,omitempty"`
}

// job is one recipient of the transaction.
type job struct {
	to       smtp.Recipient
	person   string
	id       string           // of the decision and of the copy
	decision *policy.Decision // nil for transactional mail
	code     string           // why it is not sent: the reason code
	refusal  *smtp.Reply      // the same as the client hears it; nil: it is sent
	changes  *policy.Changes  // of its copy, once there is one
	data     []byte           // the rewritten copy; nil: to be made again when it is sent
	guard    string           // its key there; "": none
	told     *told            // what its client was told of it before; nil: nothing
	kept     bool             // the spool has it already when it is sent
}

// refusal is an answer found while reading the message.
type refusal struct{ smtp.Reply }

func (r refusal) Error() string { return r.String() }

// open reads the message; without a transaction the reply says why not.
func (r *Relay) open(m smtp.Message) (*transaction, smtp.Reply) {
	t := &transaction{m: m, book: r.book.Load()}
	if err := r.read(t); err != nil {
		var no refusal
		if errors.As(err, &no) {
			r.Log.Info("message refused", "message", m.ID, "account", m.Account, "reply", no.String())
			return nil, no.Reply
		}
		return nil, r.fault(t, "read", err)
	}
	seen := map[string]bool{}
	for _, to := range m.To {
		address, err := policy.Normalise(to.Address)
		if err != nil {
			return nil, smtp.BadAddress.With("%v", err)
		}
		person := r.Key.Person(address)
		if seen[person] { // the same mailbox twice gets one copy
			continue
		}
		seen[person] = true
		t.jobs = append(t.jobs, &job{to: to, person: person, id: smtp.NewID()})
	}
	return t, smtp.Reply{}
}

func (r *Relay) read(t *transaction) error {
	t.account = t.book.Accounts[t.m.Account]
	if t.account == nil {
		return refusal{smtp.NoAccount}
	}
	mail, err := rewrite.Read(t.m.Data)
	if err != nil {
		var no *rewrite.Refusal
		if errors.As(err, &no) {
			return refusal{smtp.Unrewritable.With("[%s] %s", policy.CodeUnrewritable, no.Why)}
		}
		return err
	}
	mail.WrapSigned = t.book.WrapSigned
	t.mail = mail
	if n := mail.Received(); n > maxReceived {
		return refusal{smtp.MailLoop}
	}
	t.said, err = sayings(mail, t.account)
	if err != nil {
		return err
	}
	// A From: that cannot be read has no domain that could be the sender's.
	tooLong := func(domain string) bool { return len(domain) > maxSaid } // as no domain is (RFC 1035 section 2.3.4)
	if t.from, err = mail.From(); err != nil || t.from == nil || slices.ContainsFunc(t.from, tooLong) {
		t.from = []string{}
	}
	return nil
}

// What a message says of itself stands in each recipient's decision, entry and copy: maxSaid bounds a Heed-* field,
// maxMessageID what is kept of the Message-ID, a line of it (RFC 5322 section 2.1.1).
const (
	maxSaid      = 255
	maxMessageID = 998
)

// sayings reads the Heed-* fields: a field that is not understood is refused, never ignored.
func sayings(mail *rewrite.Mail, a *Account) (said, error) {
	var s said
	for _, field := range []struct {
		name string
		to   *string
	}{{"Heed-Category", (*string)(&s.Category)}, {"Heed-Topic", &s.Topic}, {"Heed-Product", &s.Product}, {"Heed-Country", &s.Country}, {"Heed-Language", &s.Language}} {
		values := mail.Fields(field.name)
		if len(values) > 1 {
			return s, refusal{smtp.Refused.With("%s stands %d times, it may stand once", field.name, len(values))}
		}
		if len(values) == 1 {
			*field.to = strings.TrimSpace(values[0])
		}
		if len(*field.to) > maxSaid {
			return s, refusal{smtp.Refused.With("%s is longer than %d bytes", field.name, maxSaid)}
		}
	}
	if ids := mail.Fields("Message-ID"); len(ids) > 0 {
		s.MessageID = strings.ToValidUTF8(ids[0][:min(len(ids[0]), maxMessageID)], "")
	}
	if err := s.category(a); err != nil {
		return s, err
	}
	if a.Topic != "" {
		s.Topic = a.Topic
	}
	if a.Product != "" {
		s.Product = a.Product
	}
	if strings.ContainsFunc(s.Topic+s.Product, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s, refusal{smtp.Refused.With("Heed-Topic and Heed-Product may have printable characters only")}
	}
	if n := len(a.Sender.ID) + len(s.Topic); n > policy.MaxNames {
		return s, refusal{smtp.Refused.With("Heed-Topic is too long: with the sender's id it may have %d bytes", policy.MaxNames)}
	}
	if s.Country != "" {
		code, err := policy.ParseCountry(s.Country)
		if err != nil {
			return s, refusal{smtp.Refused.With("Heed-Country: %v", err)}
		}
		s.Country = code
	}
	return s, nil
}

func (s *said) category(a *Account) error {
	switch a.Category {
	case policy.Marketing, policy.Transactional:
		s.Category = a.Category
		return nil
	}
	switch c := policy.Category(strings.ToLower(string(s.Category))); c {
	case "", policy.Marketing:
		s.Category = policy.Marketing
	case policy.Transactional:
		s.Category = c
	default:
		return refusal{smtp.Refused.With("Heed-Category is %q: use marketing or transactional", string(s.Category))}
	}
	return nil
}

// lawful are the jobs that are to be sent.
func (t *transaction) lawful() []*job {
	var found []*job
	for _, j := range t.jobs {
		if j.refusal == nil && j.told == nil {
			found = append(found, j)
		}
	}
	return found
}

func (t *transaction) firstRefusal() smtp.Reply {
	for _, j := range t.jobs {
		if j.refusal != nil {
			return *j.refusal
		}
	}
	return smtp.OurFault
}
