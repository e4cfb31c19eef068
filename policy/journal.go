package policy

import (
	"errors"
	"fmt"
	"time"
)

// The events of the journal.
const (
	EventDecision      = "decision" // on one recipient of one message, before anything is sent
	EventOutcome       = "outcome"  // of an attempt to deliver, or that no more are made
	EventBounce        = "bounce"   // the outcome of a report to an envelope sender
	EventOptOut        = "optout"
	EventOptOutRemoved = "optout_removed"
	EventErased        = "erased"
)

// Entry is one record of the journal. It names a person by key; Recipient is kept apart, so that erasure can remove it.
type Entry struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Event     string    `json:"event"`              // EventDecision and so on
	Decision  string    `json:"decision,omitempty"` // of an outcome: the decision's ID
	Message   string    `json:"message,omitempty"`  // the transaction's ID
	MessageID string    `json:"message_id,omitempty"`
	Account   string    `json:"account,omitempty"`
	Sender    string    `json:"sender,omitempty"`
	Category  Category  `json:"category,omitempty"`
	Topic     string    `json:"topic,omitempty"`
	Product   string    `json:"product,omitempty"`
	Person    string    `json:"person,omitempty"`    // AddressKey.Person of the recipient
	Recipient string    `json:"recipient,omitempty"` // "" once erased
	Stage     string    `json:"stage,omitempty"`     // rcpt | data | retry
	Verdict   *Decision `json:"verdict,omitempty"`   // of a decision on marketing mail
	Action    string    `json:"action,omitempty"`    // allow | block
	Code      string    `json:"code,omitempty"`      // why blocked
	Changes   *Changes  `json:"changes,omitempty"`   // of a decision to send: what the recipient's copy changes
	Fate      string    `json:"fate,omitempty"`      // of an outcome or bounce: sent | failed | deferred | in doubt | blocked | gave up | repeated | dropped (by the operator)
	Upstream  string    `json:"upstream,omitempty"`  // of an outcome: the upstream that it came from
	Reply     string    `json:"reply,omitempty"`     // of an outcome: the upstream's words, the address left out
	OptOut    *OptOut   `json:"optout,omitempty"`
	Reason    string    `json:"reason,omitempty"` // an operator's
	Informed  *Informed `json:"-"`                // of an outcome: what Person was told by it. Not of the journal: Facts have it
}

// Apart takes the address, normalised, out of an entry: stores keep it apart, so that erasure can remove it. "" where
// there is none, and for EventErased, which must not bring back what it reports as gone.
func (e Entry) Apart() (entry Entry, address string, err error) {
	address, e.Recipient = e.Recipient, ""
	if e.Verdict != nil {
		v := *e.Verdict
		if address == "" {
			address = v.Recipient
		}
		v.Recipient, e.Verdict = "", &v
	}
	if e.Event == EventErased {
		address = ""
	}
	switch {
	case e.ID == "":
		return e, "", errors.New("a journal entry has no ID")
	case address != "" && e.Person == "":
		return e, "", fmt.Errorf("journal entry %s has a recipient and no person", e.ID)
	case e.Informed != nil && (e.Person == "" || e.Sender == ""):
		return e, "", fmt.Errorf("journal entry %s does not say who informed whom", e.ID)
	}
	if n, err := Normalise(address); err == nil {
		address = n
	}
	return e, address, nil
}

// JournalQuery selects entries; a zero field selects all. Newest last.
type JournalQuery struct {
	Person    string
	MessageID string
	Since     time.Time
	Action    string // allow | block
	Limit     int    // the newest this many; 0: all
}
