package relay

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"heed/policy"
	"heed/smtp"
)

const (
	// guardLease is how long a mark lasts; it is renewed while the message is on its way. That of a node that died soon
	// lets the client's retry through: the node's connection to the upstream died with it.
	guardLease = 30 * time.Second
	// guardRetry is the wait before an answer is stored again that the state did not take.
	guardRetry = 2 * time.Second
	// wardLife ends what nobody ends: it is longer than any upstream's answer is waited for.
	wardLife = 20 * time.Minute
	// doubt is how long a message whose answer was lost, and which could not be kept, is left alone, as the spool does.
	doubt = 10 * time.Minute
)

// ward holds a transaction's marks until each of its recipients has an answer. A nil ward has none.
type ward struct {
	relay *Relay
	token string // the transaction's ID
	ends  time.Time

	mu    sync.Mutex
	marks map[string]bool
	owed  map[string][]byte // answers to marks that the state did not take yet
	timer *time.Timer       // nil: nothing is held
}

func (r *Relay) newWard(token string, marks []string) *ward {
	w := &ward{relay: r, token: token, ends: time.Now().Add(wardLife), marks: map[string]bool{}, owed: map[string][]byte{}}
	for _, key := range marks {
		w.marks[key] = true
	}
	if len(marks) > 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.timer = time.AfterFunc(guardLease/3, w.tend)
	}
	return w
}

// tend renews the marks and pays what is owed.
func (w *ward) tend() {
	w.mu.Lock()
	marks, owed := slices.Collect(maps.Keys(w.marks)), maps.Clone(w.owed)
	w.mu.Unlock()
	now := w.relay.Now()
	if len(marks) > 0 {
		if err := w.relay.Guard.GuardRenew(context.Background(), w.token, marks, now, now.Add(guardLease)); err != nil {
			w.relay.Log.Warn("guard not renewed", "message", w.token, "error", err)
		}
	}
	if len(owed) > 0 {
		if err := w.relay.Guard.GuardEnd(context.Background(), w.token, owed, now, now.Add(w.relay.Remember), nil); err == nil {
			w.paid(owed)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arm()
}

// arm sets the timer by what is held.
func (w *ward) arm() {
	switch {
	case w.timer == nil:
	case len(w.marks)+len(w.owed) == 0 || time.Now().After(w.ends):
		w.timer.Stop()
	case len(w.owed) > 0:
		w.timer.Reset(guardRetry)
	default:
		w.timer.Reset(guardLease / 3)
	}
}

// end stores answers, empty ones giving the mark up, with the entries. What the state does not take is tried again: a
// mark that stays keeps a second copy away, and its client's retry too.
func (w *ward) end(ctx context.Context, answers map[string][]byte, entries ...policy.Entry) error {
	now := w.relay.Now()
	err := w.relay.Guard.GuardEnd(ctx, w.token, answers, now, now.Add(w.relay.Remember), entries)
	if err == nil {
		w.paid(answers)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		maps.Copy(w.owed, answers)
	}
	w.arm()
	return err
}

// paid forgets what the state has.
func (w *ward) paid(answers map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range answers {
		delete(w.marks, key)
		delete(w.owed, key)
	}
}

// recordOutcome records how an attempt ended, with what its client hears of it: of an upstream's positive answer that, of a
// kept copy that it is queued, of a refusal nothing, so that a retry is decided afresh.
func (r *Relay) recordOutcome(ctx context.Context, t *transaction, j *job, o smtp.Outcome, e policy.Entry) error {
	waits := !o.Fate.Final()
	if t.ward == nil || waits && !j.kept {
		return r.Journal.Record(ctx, []policy.Entry{e})
	}
	var answer []byte
	if waits || o.Fate == smtp.Sent {
		answer = t.ward.answer(j, o)
	}
	return t.ward.end(ctx, map[string][]byte{j.guard: answer}, e)
}

func (w *ward) answer(j *job, o smtp.Outcome) []byte {
	return told{Message: w.token, Decision: j.id, Fate: o.Fate, Reply: o.Reply.Hiding(j.to.Address), Upstream: o.Upstream}.encode()
}

// queued notes which copies are kept and waiting, before their client hears it.
func (w *ward) queued(ctx context.Context, ended map[*job]smtp.Outcome) {
	if w == nil {
		return
	}
	answers := map[string][]byte{}
	for j, o := range ended {
		if !o.Fate.Final() { // also where the attempt has ended otherwise since: the client hears this
			answers[j.guard] = w.answer(j, o)
		}
	}
	if len(answers) == 0 {
		return
	}
	if err := w.end(ctx, answers); err != nil { // the mark stays until it is told
		w.relay.Log.Error("guard not told what is queued", "message", w.token, "error", err)
	}
}

// givenUp are the answers that give marks up.
func givenUp(keys []string) map[string][]byte {
	none := make(map[string][]byte, len(keys))
	for _, key := range keys {
		none[key] = nil
	}
	return none
}

// free gives up the marks of jobs that nobody was answered about.
func (w *ward) free(ctx context.Context, jobs []*job) {
	if w == nil {
		return
	}
	var marked []string
	w.mu.Lock()
	for _, j := range jobs {
		if w.marks[j.guard] {
			marked = append(marked, j.guard)
		}
	}
	w.mu.Unlock()
	if len(marked) == 0 {
		return
	}
	if err := w.end(context.WithoutCancel(ctx), givenUp(marked)); err != nil {
		w.relay.Log.Warn("guard not freed", "message", w.token, "error", err)
	}
}

// leave leaves a message that could not be kept to its client: at once, or, where it may have been delivered, once
// the upstream's own time has passed.
func (w *ward) leave(ctx context.Context, j *job, o smtp.Outcome) {
	switch {
	case w == nil || o.Fate.Final():
	case o.Fate == smtp.InDoubt:
		w.mu.Lock()
		delete(w.marks, j.guard)
		w.arm()
		w.mu.Unlock()
		now := w.relay.Now()
		if err := w.relay.Guard.GuardRenew(ctx, w.token, []string{j.guard}, now, now.Add(doubt)); err != nil {
			w.relay.Log.Warn("guard not renewed", "message", w.token, "error", err)
		}
	default:
		w.free(ctx, []*job{j})
	}
}
