package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"heed/smtp"
)

const (
	// workers bounds the upstream transactions that one message has open at once.
	workers = 8
	// unheld is how long beyond the budget a kept copy is this node's without being held: after a crash another takes over.
	unheld = 2 * time.Minute
	// lateBytes bounds the messages and copies held for upstreams after their clients were answered, beside those that
	// are on their way already: the door counts them no more. What is beyond it waits in the spool.
	lateBytes = 128 << 20
)

// handThrough sends a message to its one recipient while the client waits, so that the tool hears the upstream's own
// answer. Without a final answer within the budget the copy is kept and the client hears that.
func (r *Relay) handThrough(waiting context.Context, t *transaction, j *job) smtp.Reply {
	c, err := t.copyOf(j, r.Now(), r.Budget)
	if err != nil {
		t.ward.free(waiting, t.jobs)
		return r.fault(t, "copy", err)
	}
	ctx := context.WithoutCancel(waiting)
	attempt, withdraw := context.WithCancelCause(ctx)
	done := make(chan smtp.Outcome, 1)
	go func() {
		defer withdraw(nil)
		done <- r.send(attempt, t, j, j.id)
	}()
	timer := time.NewTimer(r.Budget)
	defer timer.Stop()
	select {
	case o := <-done:
		if o.Fate.Final() {
			return o.Reply
		}
		if reply, ok := r.keep(ctx, t, []smtp.Copy{c}); !ok {
			t.ward.leave(ctx, j, o)
			return deferral(reply, o)
		}
		t.ward.queued(ctx, map[*job]smtp.Outcome{j: o})
		r.settle(ctx, c, o)
		return merge(c.ID, []smtp.Outcome{o})
	case <-timer.C:
	}
	reply, ok := r.keep(ctx, t, []smtp.Copy{c})
	if !ok {
		withdraw(smtp.ErrWithdrawn)
		return r.lastAnswer(waiting, t, j, withdraw, done, reply)
	}
	t.ward.queued(ctx, map[*job]smtp.Outcome{j: r.unanswered(t)})
	held, release := r.Spool.Hold(ctx, c)
	context.AfterFunc(held, func() { withdraw(smtp.ErrWithdrawn) }) // another node has it
	r.outlast(2*len(t.m.Data), withdraw, func() {
		defer release()
		r.settle(ctx, c, <-done)
	})
	return merge(c.ID, []smtp.Outcome{r.unanswered(t)})
}

// lastAnswer is the client's where its message could not be kept and was withdrawn. If it was too late for that, the
// message is on its way, and the client's retry would be a second copy, or be kept away by the guard: it waits on for
// the upstream's answer, as long as upstream and door bear it.
func (r *Relay) lastAnswer(waiting context.Context, t *transaction, j *job, withdraw context.CancelCauseFunc, done <-chan smtp.Outcome, reply smtp.Reply) smtp.Reply {
	ctx := context.WithoutCancel(waiting)
	select {
	case o := <-done:
		t.ward.leave(ctx, j, o)
		if o.Fate.Final() {
			return o.Reply
		}
		return deferral(reply, o)
	case <-waiting.Done():
		r.outlast(2*len(t.m.Data), withdraw, func() { t.ward.leave(ctx, j, <-done) })
		return reply
	}
}

// outlast settles attempts that outlast their client. Where too many bytes are held for such, these attempts are
// withdrawn, but for messages that are on their way: the spool has them all.
func (r *Relay) outlast(bytes int, withdraw context.CancelCauseFunc, settle func()) {
	if r.lateHeld.Add(int64(bytes)) > cmp.Or(r.lateMax, lateBytes) {
		withdraw(smtp.ErrWithdrawn)
	}
	r.late.Go(func() {
		defer r.lateHeld.Add(-int64(bytes))
		settle()
	})
}

// deferral is the answer where the upstream deferred the message and there is no room for it here either: the
// upstream's own temporary answer, if it gave one.
func deferral(reply smtp.Reply, o smtp.Outcome) smtp.Reply {
	if o.Fate == smtp.Deferred && o.Reply.Temporary() && o.Reply != smtp.NoAnswer {
		return o.Reply
	}
	return reply
}

// deliverAll makes every lawful copy durable first, then attempts them until the budget; what is unanswered then
// belongs to the spool, which keeps the open transactions.
func (r *Relay) deliverAll(ctx context.Context, t *transaction, lawful []*job) smtp.Reply {
	ctx = context.WithoutCancel(ctx)
	copies := make([]smtp.Copy, len(lawful))
	for i, j := range lawful {
		c, err := t.copyOf(j, r.Now(), r.Budget)
		if err != nil {
			t.ward.free(ctx, lawful)
			return r.fault(t, "copy", err)
		}
		copies[i], j.kept = c, true
	}
	if len(lawful) > 0 {
		if reply, ok := r.keep(ctx, t, copies); !ok {
			t.ward.free(ctx, lawful)
			return reply // what was answered before stays so: the client's next try is about the rest
		}
	}
	ended := r.attemptAll(ctx, t, lawful, copies)
	t.ward.queued(ctx, ended)
	outcomes := make([]smtp.Outcome, 0, len(t.jobs))
	var failed []smtp.Failure
	for _, j := range t.jobs {
		o, sent := ended[j]
		switch {
		case j.told != nil:
			o = j.told.outcome()
		case !sent:
			o = smtp.Outcome{Fate: smtp.Blocked, Reply: *j.refusal}
		}
		outcomes = append(outcomes, o)
		if o.Fate == smtp.Failed || o.Fate == smtp.Blocked {
			failed = append(failed, smtp.Failure{Recipient: j.to, Fate: o.Fate, Reply: o.Reply, At: r.Now()})
		}
	}
	reply := merge(t.m.ID, outcomes)
	if reply.Positive() && len(failed) > 0 {
		if err := r.Spool.Bounce(ctx, t.m, failed); err != nil {
			// The others were accepted: failing them now would send them twice. The journal has the failures.
			// What failed at the upstream stays kept: the spool will try it again, and report it.
			r.Log.Error("bounce not kept", "message", t.m.ID, "recipients", len(failed), "error", err)
			return reply
		}
	}
	for i, j := range lawful { // only now: a crash before this line leaves them to be tried again, not forgotten
		if ended[j].Fate == smtp.Failed {
			r.done(ctx, copies[i])
		}
	}
	return reply
}

// attemptAll attempts the copies and settles what ends within the budget, but for those that failed for good. What
// ends later is settled then.
func (r *Relay) attemptAll(ctx context.Context, t *transaction, lawful []*job, copies []smtp.Copy) map[*job]smtp.Outcome {
	type result struct {
		i       int
		o       smtp.Outcome
		release func() // of the copy, once it is settled
	}
	results := make(chan result, len(lawful))
	work := make(chan int, len(lawful))
	for i := range lawful {
		work <- i
	}
	close(work)
	late := make(chan struct{})
	attempts, withdraw := context.WithCancelCause(ctx)
	var working sync.WaitGroup
	for range min(workers, len(lawful)) {
		working.Go(func() {
			for i := range work {
				select {
				case <-late:
					lawful[i].data = nil
					results <- result{i, r.unanswered(t), func() {}}
				default:
					held, release := r.Spool.Hold(attempts, copies[i])
					o := r.send(held, t, lawful[i], lawful[i].id)
					lawful[i].data = nil
					results <- result{i, o, release}
				}
			}
		})
	}
	go func() { working.Wait(); withdraw(nil) }()
	ended := make(map[*job]smtp.Outcome, len(lawful))
	timer := time.NewTimer(r.Budget)
	defer timer.Stop()
	for len(ended) < len(lawful) {
		select {
		case x := <-results:
			ended[lawful[x.i]] = x.o
			if x.o.Fate != smtp.Failed {
				r.settle(ctx, copies[x.i], x.o)
			}
			x.release()
		case <-timer.C:
			close(late)
			open := len(lawful) - len(ended)
			r.outlast((1+min(workers, open))*len(t.m.Data), withdraw, func() {
				for range open {
					x := <-results
					r.settle(ctx, copies[x.i], x.o)
					x.release()
				}
			})
			for _, j := range lawful {
				if _, ok := ended[j]; !ok {
					ended[j] = r.unanswered(t)
				}
			}
		}
	}
	return ended
}

func (r *Relay) unanswered(t *transaction) smtp.Outcome {
	late := smtp.Reply{Code: 451, Enhanced: [3]int{4, 4, 7}, Text: fmt.Sprintf("no answer within %s", r.Budget)} // RFC 3463 section 3.5
	return smtp.Outcome{Fate: smtp.Deferred, Reply: late, Upstream: t.account.Upstreams[0]}
}

// keep makes copies durable; where that is not ok, the reply says why and the client stays responsible.
func (r *Relay) keep(ctx context.Context, t *transaction, copies []smtp.Copy) (reply smtp.Reply, ok bool) {
	if r.Spool == nil {
		return smtp.OurFault.With("no final answer from %s, and the spool is off (%s)", strings.Join(t.account.Upstreams, ", "), t.m.ID), false
	}
	err := r.Spool.Keep(ctx, t.m.Data, copies)
	switch {
	case errors.Is(err, smtp.ErrFull):
		return smtp.SpoolFull, false
	case err != nil:
		return r.fault(t, "spool", err), false
	}
	return smtp.Reply{}, true
}

func (r *Relay) settle(ctx context.Context, c smtp.Copy, o smtp.Outcome) {
	if err := r.Spool.Settle(ctx, c, o); err != nil {
		r.Log.Error("kept copy not settled", "message", c.Message.ID, "copy", c.ID, "fate", o.Fate.String(), "error", err)
	}
}

func (r *Relay) done(ctx context.Context, c smtp.Copy) {
	if err := r.Spool.Done(ctx, c.ID); err != nil {
		r.Log.Error("kept copy not removed", "message", c.Message.ID, "copy", c.ID, "error", err)
	}
}
