package relay

import (
	"cmp"
	"context"
	"time"

	"heed/policy"
	"heed/smtp"
)

// record writes the decision on every recipient, before anything is sent. stage is rcpt, data or retry.
func (r *Relay) record(ctx context.Context, t *transaction, stage string) error {
	return r.write(ctx, t.decisions(r.Now(), stage))
}

func (r *Relay) write(ctx context.Context, entries []policy.Entry) error {
	if err := r.Journal.Record(ctx, entries); err != nil {
		return err
	}
	r.decided(entries)
	return nil
}

// decided counts the decisions that were recorded.
func (r *Relay) decided(entries []policy.Entry) {
	for _, e := range entries {
		if e.Event == policy.EventDecision {
			r.Meter.Decided(e.Account, e.Action, e.Code)
		}
	}
}

// decisions are the entries of those recipients that were not answered before.
func (t *transaction) decisions(now time.Time, stage string) []policy.Entry {
	entries := make([]policy.Entry, 0, len(t.jobs))
	for _, j := range t.jobs {
		if j.told == nil {
			e := t.decisionEntry(j, now)
			e.Stage = stage
			entries = append(entries, e)
		}
	}
	return entries
}

func (t *transaction) decisionEntry(j *job, now time.Time) policy.Entry {
	e := policy.Entry{
		ID: j.id, At: now, Event: policy.EventDecision, Message: t.m.ID, MessageID: t.said.MessageID, Account: t.account.Name,
		Sender: t.account.Sender.ID, Category: t.said.Category, Topic: t.said.Topic, Product: t.said.Product,
		Person: j.person, Recipient: j.to.Address, Action: policy.Allow, Code: j.code,
	}
	if j.refusal != nil {
		e.Action = policy.Block
	} else {
		e.Changes = j.changes
	}
	if j.decision != nil {
		verdict := *j.decision
		verdict.Recipient = "" // the entry has it, apart, so that erasure can remove it
		e.Verdict = &verdict
		e.Action, e.Code = verdict.Action, verdict.Code
	}
	return e
}

// outcome records how an attempt ended. The mail has gone its way by then, so a failure here is logged, not returned.
func (r *Relay) outcome(ctx context.Context, t *transaction, j *job, decision string, o smtp.Outcome, took time.Duration) {
	r.Meter.Delivered(cmp.Or(o.Upstream, t.account.Upstreams[0]), o.Fate.String(), took.Seconds())
	e := t.outcomeEntry(j, decision, o.Fate.String(), o.Reply.Without(j.to.Address), r.Now())
	e.Upstream = o.Upstream
	if o.Fate == smtp.Sent && j.decision != nil { // in doubt it may not have come: the next message says it again
		e.Informed = j.decision.Informs(t.m.ID, e.At)
	}
	if err := r.recordOutcome(ctx, t, j, o, e); err != nil {
		r.Log.Error("outcome not journaled", "message", t.m.ID, "decision", decision, "fate", e.Fate, "error", err)
	}
}

func (t *transaction) outcomeEntry(j *job, decision, fate, reply string, now time.Time) policy.Entry {
	return policy.Entry{
		ID: smtp.NewID(), At: now, Event: policy.EventOutcome, Decision: decision, Message: t.m.ID, MessageID: t.said.MessageID,
		Account: t.account.Name, Sender: t.account.Sender.ID, Category: t.said.Category, Topic: t.said.Topic,
		Person: j.person, Recipient: j.to.Address, Fate: fate, Reply: reply,
	}
}

// repeated is the entry of a recipient that was answered before, under the decision of then: nothing is sent.
func (t *transaction) repeated(j *job, now time.Time) policy.Entry {
	return t.outcomeEntry(j, j.told.Decision, smtp.Repeated.String(), j.told.Reply.String(), now)
}

// OutcomeEntry is the entry on a kept copy that ended otherwise than by an attempt of the relay's: given up, dropped, or
// a bounce. What is not known of a copy that cannot be read is left out.
func (r *Relay) OutcomeEntry(c smtp.Copy, o smtp.Outcome, fate string, bounce bool) policy.Entry {
	e := policy.Entry{ID: smtp.NewID(), At: r.Now(), Event: policy.EventOutcome, Message: c.Message.ID, Account: c.Message.Account, Upstream: o.Upstream, Fate: fate, Reply: o.Reply.String()}
	if bounce {
		e.Event = policy.EventBounce
	} else if n, err := readNote(c); err == nil {
		e.Decision, e.MessageID, e.Category, e.Topic = n.Decision, n.MessageID, n.Category, n.Topic
		if a := r.book.Load().Accounts[c.Message.Account]; a != nil {
			e.Sender = a.Sender.ID
		}
	}
	if len(c.Message.To) == 1 {
		to := c.Message.To[0].Address
		e.Reply = o.Reply.Without(to)
		if address, err := policy.Normalise(to); err == nil {
			e.Person, e.Recipient = r.Key.Person(address), address
		}
	}
	return e
}
