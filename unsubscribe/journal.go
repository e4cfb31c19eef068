package unsubscribe

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"heed/policy"
)

// record journals what was done. It is done by then, and durable: an error changes nothing for the recipient, who
// would else be told that the opt-out failed while it binds. The log line is what is left of the evidence.
func (h *Handler) record(ctx context.Context, v visit, event string, o policy.OptOut, changed bool) {
	e := policy.Entry{
		ID: newEntryID(v.at), At: v.at, Event: event, Message: v.Message, Sender: v.Sender, Topic: o.Topic,
		Person: v.Person, OptOut: &o, Reason: fmt.Sprintf("user agent %.200q", v.agent),
	}
	if !changed {
		e.ID = repeatEntryID(v.at, o)
		e.Reason = "repeated; " + e.Reason
	}
	if err := h.Journal.Record(ctx, []policy.Entry{e}); err != nil {
		h.Log.Error("DONE BUT NOT JOURNALED: keep this line as the record", "error", err, "event", event, "id", e.ID, "at", v.at,
			"person", v.Person, "scope", o.Scope, "sender", v.Sender, "topic", o.Topic, "via", o.Via, "ref", v.ref, "message", v.Message)
	}
}

// newEntryID sorts by time: 48 bits of Unix milliseconds, 32 random bits, 16 characters.
func newEntryID(at time.Time) string {
	var tail [4]byte
	rand.Read(tail[:])
	return entryID(at, tail[:])
}

// repeatEntryID is the same all day, so that who repeats one POST for ever adds one entry a day to the journal.
func repeatEntryID(at time.Time, o policy.OptOut) string {
	sum := sha256.Sum256([]byte(o.Ref + " " + string(o.Scope)))
	return entryID(at.Truncate(24*time.Hour), sum[:10])
}

func entryID(at time.Time, tail []byte) string {
	var millis [8]byte
	binary.BigEndian.PutUint64(millis[:], uint64(at.UnixMilli())<<16)
	return messageID.EncodeToString(append(millis[:6], tail...))
}
