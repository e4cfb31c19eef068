package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"heed/policy"
	"heed/smtp"
)

// Guard remembers, on all nodes, what is on its way and what clients were told: a message that is submitted again
// because its reply was lost hears that, and no second copy leaves. Entries are recorded in the same write.
type Guard interface {
	// GuardBegin marks the keys of mark that are free as token's until until; those of look are only looked up. It returns
	// the keys that are not free with the answer that stands, empty while another has them, and records where there is none.
	GuardBegin(ctx context.Context, token string, mark, look []string, now, until time.Time, entries []policy.Entry) (map[string][]byte, error)
	// GuardRenew extends token's marks.
	GuardRenew(ctx context.Context, token string, keys []string, now, until time.Time) error
	// GuardEnd stores each answer until until unless one stands; an empty one gives up token's mark.
	GuardEnd(ctx context.Context, token string, answers map[string][]byte, now, until time.Time, entries []policy.Entry) error
}

// told is what the client was told of one recipient, without the address: the state names persons by key.
type told struct {
	Message  string     `json:"message"`  // the transaction
	Decision string     `json:"decision"` // its decision, and the copy
	Fate     smtp.Fate  `json:"fate"`     // Sent or Deferred, which is queued
	Reply    smtp.Reply `json:"reply"`    // as in smtp.Outcome
	Upstream string     `json:"upstream,omitempty"`
}

func (a *told) outcome() smtp.Outcome {
	return smtp.Outcome{Fate: a.Fate, Reply: a.Reply, Upstream: a.Upstream}
}

func (a told) encode() []byte {
	b, err := json.Marshal(a)
	if err != nil { // of numbers and text: it cannot fail
		panic(err)
	}
	return b
}

// guardKeys names what is submitted: account, Message-ID, person and body. The body alone is hashed, since a tool's
// local MTA adds a Received field at each try. Without a Message-ID there is no guard.
func (r *Relay) guardKeys(t *transaction) {
	if r.Guard == nil {
		return
	}
	ids := t.mail.Fields("Message-ID")
	if len(ids) == 0 || strings.TrimSpace(ids[0]) == "" {
		return
	}
	_, content, _ := bytes.Cut(t.m.Data, []byte("\r\n\r\n"))
	body := sha256.Sum256(content)
	for _, j := range t.jobs {
		sum := sha256.Sum256([]byte(j.person + "\x00" + t.account.Name + "\x00" + string(body[:]) + strings.TrimSpace(ids[0])))
		j.guard = j.person + "/" + base64.RawURLEncoding.EncodeToString(sum[:16])
	}
}

// begin asks the guard and records the decisions, in one write where nothing stands. After it the message may be
// sent; else the reply says why not.
func (r *Relay) begin(ctx context.Context, t *transaction) (reply smtp.Reply, ok bool) {
	r.guardKeys(t)
	entries := t.decisions(r.Now(), "data")
	if len(t.jobs) == 0 || t.jobs[0].guard == "" {
		if err := r.write(ctx, entries); err != nil {
			return r.fault(t, "journal", err), false
		}
		return smtp.Reply{}, true
	}
	var mark, look []string
	for _, j := range t.jobs {
		if j.refusal == nil {
			mark = append(mark, j.guard)
		} else {
			look = append(look, j.guard)
		}
	}
	now := r.Now()
	found, err := r.Guard.GuardBegin(ctx, t.m.ID, mark, look, now, now.Add(guardLease), entries)
	if err != nil {
		go r.unmark(context.WithoutCancel(ctx), t.m.ID, mark)
		return r.fault(t, "journal", err), false
	}
	t.ward = r.newWard(t.m.ID, slices.DeleteFunc(mark, func(key string) bool { _, stands := found[key]; return stands }))
	if len(found) == 0 {
		r.decided(entries)
		return smtp.Reply{}, true
	}
	return r.heard(ctx, t, found)
}

// unmark gives up what a call of unknown effect may have marked, lest it keep the retry away. Once: marks end by
// themselves, and a state that is down gets no more calls than it has clients.
func (r *Relay) unmark(ctx context.Context, token string, keys []string) {
	if err := r.Guard.GuardEnd(ctx, token, givenUp(keys), r.Now(), r.Now(), nil); err != nil {
		r.Log.Warn("guard not freed", "message", token, "error", err)
	}
}

// heard takes in what earlier submissions of the message came to; the rest of its recipients is decided on now.
func (r *Relay) heard(ctx context.Context, t *transaction, found map[string][]byte) (reply smtp.Reply, ok bool) {
	for _, j := range t.jobs {
		answer, stands := found[j.guard]
		switch {
		case !stands:
			continue
		case len(answer) == 0: // it may end either way
			t.ward.free(ctx, t.jobs)
			r.Log.Info("message is on its way already", "message", t.m.ID, "account", t.m.Account)
			return smtp.OurFault.With("this message is on its way already and its outcome not known yet: try again later (%s)", t.m.ID), false
		}
		j.told = new(told)
		if err := json.Unmarshal(answer, j.told); err != nil {
			t.ward.free(ctx, t.jobs)
			return r.fault(t, "guard", err), false
		}
		j.refusal = nil // its copy is gone, whatever has changed since
	}
	entries := t.decisions(r.Now(), "data")
	rest := len(entries)
	for _, j := range t.jobs {
		if j.told != nil {
			entries = append(entries, t.repeated(j, r.Now()))
		}
	}
	if err := r.write(ctx, entries); err != nil && rest > 0 {
		t.ward.free(ctx, t.jobs)
		return r.fault(t, "journal", err), false
	} else if err != nil {
		r.Log.Error("repeated message not journaled", "message", t.m.ID, "error", err)
	}
	return smtp.Reply{}, true
}

// repetition is the reply to a message of which every recipient was answered before.
func (t *transaction) repetition() smtp.Reply {
	first := t.jobs[0].told
	id := first.Message
	outcomes := make([]smtp.Outcome, len(t.jobs))
	for i, j := range t.jobs {
		outcomes[i] = j.told.outcome()
		if j.told.Message != first.Message {
			id = t.m.ID
		}
	}
	if len(t.jobs) == 1 {
		id = first.Decision
	}
	return merge(id, outcomes)
}

// countTold counts the recipients that were answered before.
func (t *transaction) countTold() (n int) {
	for _, j := range t.jobs {
		if j.told != nil {
			n++
		}
	}
	return n
}

// takeOver makes sure of a copy whose client may never have heard of it, since the node that kept it died: where the
// client brought the message again and that one was taken up, or where this one was sent and its node died before it
// could note that, this one must not go out as well. instead says what did.
func (r *Relay) takeOver(ctx context.Context, t *transaction, j *job, c smtp.Copy) (instead string, err error) {
	r.guardKeys(t)
	key := j.guard
	j.guard = "" // what becomes of a kept copy changes no answer
	if key == "" || c.Attempts > 0 {
		return "", nil
	}
	now := r.Now()
	found, err := r.Guard.GuardBegin(ctx, t.m.ID, []string{key}, nil, now, now.Add(guardLease), nil)
	if err != nil {
		return "", err
	}
	if answer, stands := found[key]; stands {
		var first told
		switch ours := len(answer) > 0 && json.Unmarshal(answer, &first) == nil && first.Message == t.m.ID; {
		case !ours:
			return "submitted again after its node was lost: that copy goes, not this one", nil
		case first.Fate == smtp.Sent:
			return "sent before its node was lost", nil
		}
		return "", nil
	}
	answer := told{Message: t.m.ID, Decision: c.ID, Fate: smtp.Deferred, Reply: r.unanswered(t).Reply, Upstream: t.account.Upstreams[0]}
	return "", r.Guard.GuardEnd(ctx, t.m.ID, map[string][]byte{key: answer.encode()}, now, now.Add(r.Remember), nil)
}
