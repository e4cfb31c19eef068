package relay

import (
	"encoding/json"
	"time"

	"heed/policy"
	"heed/smtp"
)

// note is what a kept copy carries so that any node can decide about it again.
type note struct {
	said
	Decision string `json:"decision"` // the ID of the first decision
}

// copyOf is the job as the spool keeps it: the message as the client gave it, so that each attempt decides and rewrites
// anew.
func (t *transaction) copyOf(j *job, now time.Time, budget time.Duration) (smtp.Copy, error) {
	b, err := json.Marshal(note{t.said, j.id})
	if err != nil {
		return smtp.Copy{}, err
	}
	m := t.m
	m.To = []smtp.Recipient{j.to}
	return smtp.Copy{ID: j.id, Message: m, Upstream: t.account.Upstreams[0], Note: b, Accepted: now, Due: now.Add(budget + unheld)}, nil
}

// again is the transaction of a kept copy, as far as it can be told from the copy and today's book.
func (r *Relay) again(c smtp.Copy) (*transaction, *job, error) {
	t := &transaction{m: c.Message, book: r.book.Load()}
	if t.book.Accounts[c.Message.Account] == nil { // it may come back, and another node may have it already
		return nil, nil, refusal{smtp.OurFault.With("account %s is not configured any more", c.Message.Account)}
	}
	if err := r.read(t); err != nil {
		return nil, nil, err
	}
	n, err := readNote(c)
	if err != nil {
		return nil, nil, err
	}
	if t.said.Category != policy.Marketing || n.Category == policy.Marketing {
		t.said = n.said // else the account was made a marketing one since, and that binds
	}
	address, err := policy.Normalise(c.Message.To[0].Address)
	if err != nil {
		return nil, nil, err
	}
	j := &job{to: c.Message.To[0], person: r.Key.Person(address), id: smtp.NewID()}
	t.jobs = []*job{j}
	return t, j, nil
}

func readNote(c smtp.Copy) (n note, err error) {
	err = json.Unmarshal(c.Note, &n)
	return n, err
}
