package policy

import (
	"slices"
	"time"
)

// Informed is that a sender's notice of GDPR Art. 14 was delivered to a person, and where it said the data came from.
type Informed struct {
	At          time.Time `json:"at"`
	Message     string    `json:"message"`                // the transaction's ID: the evidence is in the journal
	CollectedBy string    `json:"collected_by,omitempty"` // as Grounds has it; "" is not known
	Source      string    `json:"source,omitempty"`       // likewise
}

// Informs is what the person is told of by the message of this decision, where it carries the notice; else nil.
func (d *Decision) Informs(message string, at time.Time) *Informed {
	if !slices.Contains(d.Notices, NoticeArt14) {
		return nil
	}
	return &Informed{At: at, Message: message, CollectedBy: d.Grounds.CollectedBy, Source: d.Grounds.Source}
}

// told tells whether the person has the notice, from where the data is known to come now (Art. 14(2)(f)): what was
// collected elsewhere since is told anew. What the person has already need not be told twice (Art. 14(5)(a)).
func (i Informed) told(g *Grounds) bool {
	return !i.At.IsZero() && i.CollectedBy == g.CollectedBy && i.Source == g.Source
}
