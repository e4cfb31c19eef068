package relay

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

// keepCopies bounds the rewritten copies of one transaction that wait in memory; the others are made again when sent.
const keepCopies = 32 << 20

// rewriteAll makes every copy before any is sent, so that a message that cannot be made lawful is refused as a whole
// and nothing leaves unmodified.
func (r *Relay) rewriteAll(ctx context.Context, t *transaction) error {
	held := 0
	var data []byte
	var changes policy.Changes
	var err error
	for i, j := range t.lawful() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i == 0 || !t.passes() { // else all get the same
			data, changes, err = r.rewrite(t, j)
		}
		var no *rewrite.Refusal
		switch {
		case errors.As(err, &no):
			if no.ReadBack {
				r.Log.Error("copy does not read back", "message", t.m.ID, "decision", j.id, "error", no.Why)
			}
			if j.decision != nil {
				j.decision.Forbid(policy.CodeUnrewritable, no.Why, unrewritableCitation)
			}
			j.refuse(policy.CodeUnrewritable, no.Why)
			continue
		case err != nil:
			return err
		}
		own := changes
		j.changes = &own
		if held += len(data); held <= keepCopies {
			j.data = data
		}
	}
	return nil
}

// rewrite makes the recipient's own copy: its link, its notice.
func (r *Relay) rewrite(t *transaction, j *job) ([]byte, policy.Changes, error) {
	treatment := rewrite.Treatment{Received: r.received(t)}
	if d := j.decision; d != nil {
		link, err := r.Links.Link(j.person, t.account.Sender.ID, t.said.Topic, t.book.scope(t, d), t.m.ID)
		if err != nil {
			return nil, policy.Changes{}, err
		}
		notice, err := t.book.Notices.Compose(rewrite.NoticeInput{
			Decision: *d, Sender: *t.account.Sender, Topic: t.said.Topic, UnsubscribeURL: link, TextSwitch: t.account.TextSwitch,
			Language: t.language(d),
		})
		if err != nil {
			return nil, policy.Changes{}, err
		}
		treatment.Marketing, treatment.Unsubscribe, treatment.Notice = true, link, notice
		treatment.TextSwitch = t.account.TextSwitch
		treatment.Sign, treatment.Now = t.signer(), r.Now()
		domain := "" // a From: without one is let through only where the sender may use any
		if len(t.from) > 0 {
			domain = t.from[0]
		}
		treatment.ListID = rewrite.ListID(t.said.Topic, t.account.Sender.ID, domain)
	}
	return t.mail.Copy(treatment)
}

// signer has the keys that the message's copies are signed with; nil: none. Transactional mail goes as its tool signed it.
func (t *transaction) signer() *rewrite.Signer {
	if t.said.Category != policy.Marketing {
		return nil
	}
	return t.account.Signer.For(t.from)
}

// language is that of the recipient's notice.
func (t *transaction) language(d *policy.Decision) string {
	if l := t.book.Language; l != "" && l != "auto" {
		return t.book.Notices.Language([]string{l}, nil)
	}
	tags := []string{d.Grounds.Language, t.said.Language, t.mail.Language()}
	return t.book.Notices.Language(tags, append([]string{d.Country.Code}, d.Grounds.Countries...))
}

// scope is how far a one-click opt-out by this message's link reaches.
func (b *Book) scope(t *transaction, d *policy.Decision) policy.Scope {
	topic := t.said.Topic != ""
	switch b.OneClick {
	case "all":
		return policy.ScopeAll
	case "topic":
		if topic {
			return policy.ScopeTopic
		}
	case "auto": // the topic where the mail rests on consent for it
		if c := d.Grounds.Consent; topic && c != nil && len(c.Topics) > 0 {
			return policy.ScopeTopic
		}
	}
	return policy.ScopeSender
}

// received is this hop's trace field (RFC 5321 section 4.4; the protocol's name: RFC 3848).
func (r *Relay) received(t *transaction) string {
	e := t.m.Envelope
	with := "ESMTP"
	if e.UTF8 {
		with = "UTF8SMTP" // RFC 6531 section 3.7.3
	}
	if e.TLS {
		with += "S"
	}
	if e.Auth {
		with += "A"
	}
	peer := e.Peer.Unmap().String()
	if e.Peer.Unmap().Is6() {
		peer = "IPv6:" + peer
	}
	return fmt.Sprintf("from %s ([%s]) by %s with %s id %s; %s", hostText(e.Helo), peer, r.Hostname, with, e.ID, r.Now().Format(time.RFC1123Z))
}

// hostText keeps what a host name may have, so that a client's HELO cannot write into the trace.
func hostText(helo string) string {
	b := []byte(helo)
	for i, c := range b {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '-' || c == '[' || c == ']' || c == ':') {
			b[i] = '?'
		}
	}
	if len(b) == 0 || len(b) > 255 {
		return "unknown"
	}
	return string(b)
}

// send hands one copy to its upstream and journals the outcome. decision is the ID of the decision it rests on.
func (r *Relay) send(ctx context.Context, t *transaction, j *job, decision string) smtp.Outcome {
	start := time.Now()
	o := r.handOver(ctx, t, j)
	// How it ended is journaled also where ctx has ended by now: the lease was lost, or we are shutting down.
	r.outcome(context.WithoutCancel(ctx), t, j, decision, o, time.Since(start))
	return o
}

// handOver makes the copy and sends it to j; over a login of its client's own to all recipients, whichever j is. It
// survives its own panics: it runs where nobody else would, and nobody knows how far the message came.
func (r *Relay) handOver(ctx context.Context, t *transaction, j *job) (o smtp.Outcome) {
	defer func() {
		if p := recover(); p != nil { // its text may hold an address
			r.Log.Error("panic", "message", t.m.ID, "decision", j.id, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			o = smtp.Outcome{Fate: smtp.InDoubt, Reply: smtp.OurFault.With("the gateway failed while it sent (%s)", t.m.ID)}
		}
	}()
	data := j.data
	if data == nil {
		var err error
		if data, _, err = r.rewrite(t, j); err != nil {
			r.Log.Error("copy not made", "message", t.m.ID, "decision", j.id, "error", err)
			return smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault.With("the copy could not be made (%s)", t.m.ID)}
		}
	}
	if t.passes() {
		return r.sendByLogin(ctx, t, data)
	}
	m := t.m
	m.To, m.Data = []smtp.Recipient{j.to}, data
	return r.offer(ctx, t, m)
}

// Attempt sends a kept copy after deciding again: an opt-out clicked while mail waits stops that mail.
func (r *Relay) Attempt(ctx context.Context, c smtp.Copy) smtp.Outcome {
	t, j, err := r.again(c)
	if err != nil {
		return r.notNow(c, err)
	}
	if !slices.ContainsFunc(t.account.Upstreams, r.ready) { // all of them count as dead: nothing to decide or to record
		return smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.NoAnswer, Upstream: t.account.Upstreams[0], Untried: true}
	}
	if instead, err := r.takeOver(ctx, t, j, c); err != nil {
		return r.notNow(c, err)
	} else if instead != "" {
		o := smtp.Outcome{Fate: smtp.Repeated, Reply: smtp.Refused.With("%s", instead)}
		r.outcome(context.WithoutCancel(ctx), t, j, c.ID, o, 0)
		return o
	}
	if err := r.decide(ctx, t); err != nil {
		return r.notNow(c, err)
	}
	t.m.StartBy = time.Now().Add(r.Budget) // an opt-out that comes while it waits for its turn is to be heard
	if err := r.rewriteAll(ctx, t); err != nil {
		return r.notNow(c, err)
	}
	if err := r.record(ctx, t, "retry"); err != nil {
		return r.notNow(c, err)
	}
	if j.refusal != nil {
		o := smtp.Outcome{Fate: smtp.Blocked, Reply: *j.refusal}
		r.outcome(context.WithoutCancel(ctx), t, j, j.id, o, 0)
		return o
	}
	return r.send(ctx, t, j, j.id)
}

// notNow leaves the copy where it is: unknown trouble is temporary.
func (r *Relay) notNow(c smtp.Copy, err error) smtp.Outcome {
	r.Log.Error("kept copy not attempted", "message", c.Message.ID, "copy", c.ID, "error", err)
	reply := smtp.OurFault.With("not attempted (%s)", c.ID)
	var no refusal
	if errors.As(err, &no) {
		reply = smtp.OurFault.With("not attempted: %s", no.Text)
	}
	return smtp.Outcome{Fate: smtp.Deferred, Reply: reply, Untried: true}
}
