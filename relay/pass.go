package relay

import (
	"context"
	"sync"
	"time"

	"heed/policy"
	"heed/smtp"
)

// oneEach is the answer to a marketing message's second recipient where clients log in at the upstream: each gets a
// copy of its own, and what the upstream did not take of several could not be kept. The client sends it again, alone.
var oneEach = smtp.TooManyRcpts.With("one recipient at a time: each gets a copy of its own, and nothing is spooled for a login at the upstream")

// passes tells whether the message goes over its client's own login at the upstream.
func (t *transaction) passes() bool { return t.account.Pass && t.m.Login != nil }

// unpassable is why a message cannot go over its client's login; nil: it can, or goes another way.
func (r *Relay) unpassable(t *transaction) *smtp.Reply {
	var no smtp.Reply
	switch {
	case !t.account.Pass:
		return nil
	case t.m.Login == nil: // a reload came in between
		no = smtp.OurFault.With("the account has changed: log in and send again (%s)", t.m.ID)
	case t.said.Category == policy.Marketing && len(t.jobs) > 1: // only the header said that it is marketing
		no = oneEach
	default:
		return nil
	}
	r.Log.Info("message refused", "message", t.m.ID, "account", t.m.Account, "reply", no.String())
	return &no
}

// deliverByLogin hands the message to the upstream over its client's own login, to all recipients at once: several have the
// same transactional message. Nothing is kept: the client waits for the upstream's answer as long as the upstream may
// take for it, and hears it as it is, or that there was none.
func (r *Relay) deliverByLogin(ctx context.Context, t *transaction, lawful []*job) smtp.Reply {
	start := time.Now()
	o := r.handOver(ctx, t, lawful[0])
	took := time.Since(start)
	// The answer is about all of them and may name any.
	addresses := make([]string, len(lawful))
	for i, j := range lawful {
		addresses[i] = j.to.Address
	}
	hidden := o
	hidden.Reply = o.Reply.Hiding(addresses...)
	work := make(chan *job, len(lawful))
	for _, j := range lawful {
		work <- j
	}
	close(work)
	var recording sync.WaitGroup
	for range min(workers, len(lawful)) {
		recording.Go(func() {
			for j := range work {
				r.outcome(context.WithoutCancel(ctx), t, j, j.id, hidden, took)
				t.ward.leave(context.WithoutCancel(ctx), j, hidden)
			}
		})
	}
	recording.Wait()
	return o.Reply
}

// sendByLogin sends the message's copy to all its recipients, as the client would have.
func (r *Relay) sendByLogin(ctx context.Context, t *transaction, data []byte) smtp.Outcome {
	m := t.m
	m.To, m.Data = nil, data
	for _, j := range t.lawful() {
		m.To = append(m.To, j.to)
	}
	name := t.account.Upstreams[0]
	reply, err := r.sendFit(ctx, t, m.Login, m)
	if err != nil {
		r.Log.Warn("no answer from the upstream", "message", m.ID, "upstream", name, "account", m.Account, "error", err)
	}
	o := smtp.OutcomeOf(reply, err)
	o.Upstream = name
	return o
}
