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
	entries := make([]policy.Entry, len(t.jobs))
	now := r.Now()
	for i, j := range t.jobs {
		entries[i] = t.entry(j, now)
		entries[i].Stage = stage
	}
	if err := r.Journal.Record(ctx, entries); err != nil {
		return err
	}
	for _, e := range entries {
		r.Meter.Decided(e.Account, e.Action, e.Code)
	}
	return nil
}

func (t *transaction) entry(j *job, now time.Time) policy.Entry {
	e := policy.Entry{
		ID: j.id, At: now, Event: policy.EventDecision, Message: t.m.ID, MessageID: t.said.MessageID, Account: t.account.Name,
		Sender: t.account.Sender.ID, Category: t.said.Category, Topic: t.said.Topic, Product: t.said.Product,
		Person: j.person, Recipient: j.to.Address, Action: policy.Allow, Code: j.code,
	}
	if j.refusal != nil {
		e.Action = policy.Block
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
	e := policy.Entry{
		ID: smtp.NewID(), At: r.Now(), Event: policy.EventOutcome, Decision: decision, Message: t.m.ID, MessageID: t.said.MessageID,
		Account: t.account.Name, Sender: t.account.Sender.ID, Category: t.said.Category, Topic: t.said.Topic,
		Person: j.person, Recipient: j.to.Address, Upstream: o.Upstream, Fate: o.Fate.String(), Reply: o.Reply.Without(j.to.Address),
	}
	if err := r.Journal.Record(ctx, []policy.Entry{e}); err != nil {
		r.Log.Error("outcome not journaled", "message", t.m.ID, "decision", decision, "fate", e.Fate, "error", err)
	}
}
