package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

func bad(format string, args ...any) error { return policy.BadInquiry(fmt.Sprintf(format, args...)) }

// Check answers what would be decided now, or at another time, without sending or recording anything. A
// policy.BadInquiry is the asker's mistake.
func (r *Relay) Check(ctx context.Context, q policy.Inquiry) ([]policy.Decision, error) {
	if len(q.Recipients) > policy.MaxInquiry {
		return nil, bad("recipients: %d, at most %d", len(q.Recipients), policy.MaxInquiry)
	}
	book := r.book.Load()
	account, q, err := r.understand(book, q)
	if err != nil {
		return nil, err
	}
	return r.answer(ctx, book, account, account.Category, q, nil)
}

// understand fills in what the inquiry leaves open; what the account fixes, no inquiry changes.
func (r *Relay) understand(book *Book, q policy.Inquiry) (*Account, policy.Inquiry, error) {
	account := book.Accounts[q.Account]
	if account == nil {
		return nil, q, bad("account: %q is not configured", q.Account)
	}
	if len(q.Recipients) == 0 {
		return nil, q, bad("recipients: name at least one")
	}
	if q.Country != "" {
		code, err := policy.ParseCountry(q.Country)
		if err != nil {
			return nil, q, bad("country: %v", err)
		}
		q.Country = code
	}
	q.Topic = cmp.Or(account.Topic, q.Topic)
	q.Product = cmp.Or(account.Product, q.Product)
	if q.At.IsZero() {
		q.At = r.Now()
	}
	return account, q, nil
}

func (r *Relay) answer(ctx context.Context, book *Book, account *Account, category policy.Category, q policy.Inquiry, from []string) ([]policy.Decision, error) {
	persons := make([]string, len(q.Recipients))
	for i, to := range q.Recipients {
		address, err := policy.Normalise(to)
		if err != nil {
			return nil, bad("recipients[%d]: %v", i, err)
		}
		persons[i] = r.Key.Person(address)
	}
	facts, err := r.Contacts.Facts(ctx, persons)
	if err != nil {
		return nil, err
	}
	decisions := make([]policy.Decision, len(persons))
	for i, to := range q.Recipients {
		d := book.Rules.Decide(policy.Question{
			Account: &account.Account, Recipient: to, Topic: q.Topic, Product: q.Product, Country: q.Country,
			FromDomains: from, Facts: facts[persons[i]], At: q.At,
		})
		if category == policy.Transactional {
			d.Exempt("transactional mail: the rules of marketing do not bind it")
		}
		decisions[i] = d
	}
	return decisions, nil
}

// Preview is what would become of a message to one recipient.
type Preview struct {
	Decision  policy.Decision
	Findings  []rewrite.Finding // ESP control fields
	Rewritten []byte            // what would be sent; nil where it would not
	Changes   *policy.Changes   // what it changes
}

// Preview treats a message as if account had submitted it to the inquiry's one recipient, and sends and records nothing.
// What the inquiry names goes before what the message says. An error that is no policy.BadInquiry may be the reply that
// refuses the message as a whole.
func (r *Relay) Preview(ctx context.Context, q policy.Inquiry, raw []byte) (*Preview, error) {
	if len(q.Recipients) != 1 {
		return nil, bad("recipients: a message is checked for one at a time")
	}
	_, q, err := r.understand(r.book.Load(), q)
	if err != nil {
		return nil, err
	}
	if _, err := policy.Normalise(q.Recipients[0]); err != nil {
		return nil, bad("recipients[0]: %v", err)
	}
	m := smtp.Message{Envelope: smtp.Envelope{ID: smtp.NewID(), Account: q.Account, Helo: "check", Peer: netip.IPv6Loopback()}, To: []smtp.Recipient{{Address: q.Recipients[0]}}, Data: raw}
	t, reply := r.open(m)
	if t == nil {
		return nil, refusal{reply}
	}
	t.said.Topic = cmp.Or(q.Topic, t.said.Topic)
	t.said.Product = cmp.Or(q.Product, t.said.Product)
	t.said.Country = cmp.Or(q.Country, t.said.Country)
	decisions, err := r.answer(ctx, t.book, t.account, t.said.Category, policy.Inquiry{
		Recipients: q.Recipients, Topic: t.said.Topic, Product: t.said.Product, Country: t.said.Country, At: q.At,
	}, t.from)
	if err != nil {
		return nil, err
	}
	p := &Preview{Decision: decisions[0], Findings: append([]rewrite.Finding{}, t.findings()...)}
	for _, c := range t.forbidden() {
		p.Decision.Forbid(c.Code, c.Text, c.Citation)
	}
	if p.Decision.Stops() {
		return p, nil
	}
	if t.said.Category == policy.Marketing {
		t.jobs[0].decision = &p.Decision
	}
	var changes policy.Changes
	p.Rewritten, changes, err = r.rewrite(t, t.jobs[0])
	var no *rewrite.Refusal
	if errors.As(err, &no) {
		p.Decision.Forbid(policy.CodeUnrewritable, no.Why, unrewritableCitation)
		return p, nil
	}
	p.Changes = &changes
	return p, err
}
