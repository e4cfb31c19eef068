package relay

import (
	"context"
	"errors"
	"slices"

	"heed/smtp"
)

// offer hands m to the account's upstreams in their order. The next one is tried only where one gave no answer and
// cannot have the message; what an upstream answered to the message itself is the answer.
func (r *Relay) offer(ctx context.Context, t *transaction, m smtp.Message) (o smtp.Outcome) {
	for _, name := range t.account.Upstreams {
		upstream := r.Upstreams[name]
		if upstream == nil {
			o = smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault.With("upstream %s is not configured", name), Upstream: name}
			continue
		}
		reply, err := r.sendFit(ctx, t, upstream, m)
		o = smtp.OutcomeOf(reply, err)
		if o.Upstream = name; err == nil {
			return o
		}
		r.Log.Warn("no answer from the upstream", "message", m.ID, "upstream", name, "error", err)
		if o.Fate == smtp.InDoubt || errors.Is(err, smtp.ErrBusy) || ctx.Err() != nil || m.Late() { // one with much to do is not away
			return o
		}
	}
	return o
}

// Ready tells that mail of accounts whose first upstream that is would be tried now, there or at a later one of theirs.
func (r *Relay) Ready(upstream string) bool {
	if r.ready(upstream) {
		return true
	}
	for _, a := range r.book.Load().Accounts {
		if len(a.Upstreams) > 1 && a.Upstreams[0] == upstream && slices.ContainsFunc(a.Upstreams[1:], r.ready) {
			return true
		}
	}
	return false
}

func (r *Relay) ready(upstream string) bool {
	u, ok := r.Upstreams[upstream].(interface{ Ready() bool })
	return !ok || u.Ready()
}
