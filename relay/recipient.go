package relay

import (
	"context"
	"strings"

	"heed/policy"
	"heed/smtp"
)

// Recipient answers RCPT TO: what the envelope and the account decide is decided now, so that the mail tool's own
// bounce handling works. What only the content can tell is left to Message.
func (r *Relay) Recipient(ctx context.Context, e smtp.Envelope, to string) smtp.Reply {
	book := r.book.Load()
	account := book.Accounts[e.Account]
	if account == nil {
		return smtp.NoAccount
	}
	address, err := policy.Normalise(to)
	if err != nil {
		return smtp.BadAddress.With("%v", err)
	}
	switch {
	case account.Pass && e.Login == nil:
		return smtp.NoAccount
	case account.Pass && e.Taken > 0 && account.Category == policy.Marketing:
		return oneEach
	case !account.Pass && r.Spool == nil && e.Taken > 0:
		return smtp.TooManyRcpts.With("one recipient at a time while the spool is off") // copies could not be made durable
	}
	if account.Category != policy.Marketing {
		return smtp.OK
	}
	person := r.Key.Person(address)
	facts, err := r.Contacts.Facts(ctx, []string{person})
	if err != nil {
		r.Log.Error("recipient not decided", "message", e.ID, "account", e.Account, "error", err)
		return smtp.OurFault.With("temporary failure in the gateway (%s)", e.ID)
	}
	now := r.Now()
	q := policy.Question{Account: &account.Account, Recipient: to, Topic: account.Topic, Product: account.Product, Facts: facts[person], At: now}
	d := book.Rules.Decide(q)
	if !d.Stops() || !decidedByEnvelope(account, &d) {
		r.recent.put(e.ID, person, facts[person], now)
		return smtp.OK
	}
	j := &job{to: smtp.Recipient{Address: to}, person: person, id: smtp.NewID(), decision: &d}
	j.refuse(d.Code, d.Text)
	t := &transaction{m: smtp.Message{Envelope: e}, book: book, account: account, said: said{Category: policy.Marketing, Topic: account.Topic, Product: account.Product}, jobs: []*job{j}}
	if err := r.record(ctx, t, "rcpt"); err != nil {
		return r.fault(t, "journal", err)
	}
	return *j.refusal
}

// decidedByEnvelope tells whether nothing the message may still say could turn the block into allow. A field may name
// the topic or product where the account leaves it open, and the country where neither contact nor ccTLD names one.
func decidedByEnvelope(a *Account, d *policy.Decision) bool {
	switch {
	case d.Code == policy.CodeOptOutAll, d.Code == policy.CodeOptOutSender, d.Code == policy.CodeSenderIncompl, strings.HasPrefix(d.Code, "list."):
		return true
	case a.Topic == "" || a.Product == "":
		return false
	}
	return d.Code == policy.CodeOptOutTopic || d.Country.From != "none"
}
