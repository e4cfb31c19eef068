package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

func bad(format string, args ...any) error { return policy.BadInquiry(fmt.Sprintf(format, args...)) }

// Check answers what would be decided now, or at another time, without sending or recording anything. A
// policy.BadInquiry is the asker's mistake.
func (r *Relay) Check(ctx context.Context, q policy.Inquiry) ([]policy.Decision, error) {
	book := r.book.Load()
	account := book.Accounts[q.Account]
	switch {
	case account == nil:
		return nil, bad("account: %q is not configured", q.Account)
	case len(q.Recipients) == 0:
		return nil, bad("recipients: name at least one")
	case len(q.Recipients) > policy.MaxInquiry:
		return nil, bad("recipients: %d, at most %d", len(q.Recipients), policy.MaxInquiry)
	}
	if q.Country != "" {
		code, err := policy.ParseCountry(q.Country)
		if err != nil {
			return nil, bad("country: %v", err)
		}
		q.Country = code
	}
	if account.Topic != "" {
		q.Topic = account.Topic
	}
	if account.Product != "" {
		q.Product = account.Product
	}
	if q.At.IsZero() {
		q.At = r.Now()
	}
	return r.answer(ctx, book, account, account.Category, q, nil)
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
}

// Preview treats a message as if account had submitted it to the inquiry's one recipient, and sends and records nothing.
// What the inquiry names goes before what the message says.
func (r *Relay) Preview(ctx context.Context, q policy.Inquiry, raw []byte) (*Preview, error) {
	if len(q.Recipients) != 1 {
		return nil, bad("recipients: a message is checked for one at a time")
	}
	if q.At.IsZero() {
		q.At = r.Now()
	}
	m := smtp.Message{Envelope: smtp.Envelope{ID: smtp.NewID(), Account: q.Account, Helo: "check"}, To: []smtp.Recipient{{Address: q.Recipients[0]}}, Data: raw}
	t, reply := r.open(m)
	if t == nil {
		return nil, bad("%s", reply)
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
	p := &Preview{Decision: decisions[0], Findings: t.mail.Findings()}
	if c := t.forbidden(); c != nil {
		p.Decision.Forbid(c.Code, c.Text, c.Citation)
	}
	if p.Decision.Stops() {
		return p, nil
	}
	if t.said.Category == policy.Marketing {
		t.jobs[0].decision = &p.Decision
	}
	p.Rewritten, err = r.rewrite(t, t.jobs[0])
	var no *rewrite.Refusal
	if errors.As(err, &no) {
		p.Decision.Forbid(policy.CodeUnrewritable, no.Why, unrewritableCitation)
		return p, nil
	}
	return p, err
}
