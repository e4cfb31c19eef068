package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

// decide answers for every recipient, after one fetch for all of them.
func (r *Relay) decide(ctx context.Context, t *transaction) error {
	content := t.forbidden()
	if t.said.Category == policy.Transactional { // no rule of marketing binds it; whose name it bears and whom it reaches does
		for _, j := range t.jobs {
			if len(content) > 0 {
				j.refuse(content[0].Code, content[0].Text)
			}
		}
		return nil
	}
	facts, err := r.facts(ctx, t)
	if err != nil {
		return err
	}
	at := r.Now()
	for _, j := range t.jobs {
		d := t.book.Rules.Decide(t.question(j, facts[j.person], at))
		for _, c := range content {
			d.Forbid(c.Code, c.Text, c.Citation)
		}
		j.decision = &d
		if d.Stops() {
			j.refuse(d.Code, d.Text)
		}
	}
	return nil
}

// facts are what RCPT fetched a moment ago, else one read for all.
func (r *Relay) facts(ctx context.Context, t *transaction) (map[string]policy.Facts, error) {
	persons := make([]string, len(t.jobs))
	for i, j := range t.jobs {
		persons[i] = j.person
	}
	if facts, ok := r.recent.take(t.m.ID, persons, r.Now()); ok {
		return facts, nil
	}
	return r.Contacts.Facts(ctx, persons)
}

func (t *transaction) question(j *job, f policy.Facts, at time.Time) policy.Question {
	return policy.Question{
		Account: &t.account.Account, Recipient: j.to.Address, Topic: t.said.Topic, Product: t.said.Product,
		Country: t.said.Country, FromDomains: t.from, Facts: f, At: at,
	}
}

// unrewritableCitation: what cannot carry its opt-out and notices must not be sent.
const unrewritableCitation = "RFC 8058 section 3.1; Directive 2002/58/EC Art. 13(4)"

// forbidden is what the message itself forbids, whoever gets it. A marketing message's From: is the decision's to
// check.
func (t *transaction) forbidden() []policy.Check {
	var no []policy.Check
	for _, f := range t.findings() {
		no = append(no, policy.Check{Code: f.Code, Text: f.Text, Citation: controlCitation(f.Code)})
	}
	if t.said.Category == policy.Transactional {
		if c := policy.CheckFrom(t.account.Sender, t.from); !c.Passed {
			no = append(no, c)
		}
		return no
	}
	var why *rewrite.Refusal
	if err := t.mail.Rewritable(); errors.As(err, &why) {
		no = append(no, policy.Check{Code: policy.CodeUnrewritable, Text: why.Why, Citation: unrewritableCitation})
	}
	return no
}

// controlCitation: nobody is written to undecided, and opt-out and notices bind what arrives.
func controlCitation(code string) string {
	if code == policy.CodeESPRecipients {
		return "every recipient is decided on: GDPR Art. 5(2)"
	}
	return "GDPR Art. 21(3); Directive 2002/58/EC Art. 13(4); RFC 8058 section 3.1"
}

// findings are the ESP control fields that bind this category of mail: transactional mail may go past an ESP's
// suppression list, but to nobody else.
func (t *transaction) findings() []rewrite.Finding {
	found := t.mail.Findings()
	if t.said.Category == policy.Transactional {
		found = slices.DeleteFunc(found, func(f rewrite.Finding) bool { return f.Code != policy.CodeESPRecipients })
	}
	return found
}

// refuse says what the client hears: permanent, so that a mail tool's own bounce handling works.
func (j *job) refuse(code, text string) {
	j.code = code
	reply := blocked(j.to.Address, code, text, j.id)
	if code == policy.CodeUnrewritable {
		reply = smtp.Unrewritable.With("[%s] %s (decision %s)", code, text, j.id)
	}
	j.refusal = &reply
}

func blocked(to, code, text, id string) smtp.Reply {
	return smtp.Refused.With("<%s> blocked [%s] %s (decision %s)", to, code, text, id)
}
