package rewrite

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"heed/policy"
)

// Treatment is what is done to the copy for one recipient. All texts in it are the gateway's own.
type Treatment struct {
	Marketing   bool   // false: transactional, which gets a Received field and loses Bcc, Resent-* and Heed-* only
	Received    string // value of the Received field, unfolded; "" adds none
	Unsubscribe string // https URL (http only where the operator runs on loopback)
	Mailto      string // mailto: URL, "" for none
	TextSwitch  string // after a bare link in plain text: how this upstream's tracker leaves it alone; "" for none
	ListID      string // value of List-Id, from ListID; "" for none
	Notice      Notice
	Sign        *Signer   // for marketing copies; nil: not signed
	Now         time.Time // of the signature
}

// Notice is the text that must be in the message, in UTF-8. Text has lines of at most 900 octets. HTML is a balanced
// fragment that starts with a block element and sets its own font size.
type Notice struct{ Text, HTML string }

// Copy makes the copy for one recipient, and says what it changes. A *Refusal says that this message is not safely
// rewritable; every other error is ours and nothing must be sent. The original is never returned in place of a copy.
func (m *Mail) Copy(t Treatment) ([]byte, policy.Changes, error) {
	front := 0 // what is left free before the copy, for signatures over its final bytes
	if t.Marketing {
		front = t.Sign.maxSize()
	}
	room, changes, err := m.rewrite(t, front)
	if err == nil && front > 0 {
		var signatures []byte
		if signatures, err = t.Sign.append(make([]byte, 0, front), room[front:], t.Now); err == nil {
			front -= copy(room[front-len(signatures):], signatures)
		}
	}
	if err != nil {
		return nil, policy.Changes{}, err
	}
	return room[front:], m.account(&t, changes), nil
}

// rewrite makes the copy behind front octets that it leaves free.
func (m *Mail) rewrite(t Treatment, front int) ([]byte, []*change, error) {
	if err := t.check(); err != nil {
		return nil, nil, err
	}
	edits := append(make([]edit, 0, 32), edit{off: m.head.start, ins: t.fields()})
	edits = append(edits, m.removals(t.Marketing)...)
	if m.head.start > 0 {
		edits = append(edits, edit{del: m.head.start})
	}
	var changes []*change
	if t.Marketing {
		if err := m.Rewritable(); err != nil {
			return nil, nil, err
		}
		if m.wrap != nil {
			edits = append(edits, m.wrap.edits(m, t.Notice)...)
		}
		for _, b := range m.bodies {
			c, err := b.insert(m, &t)
			if err != nil {
				return nil, nil, err
			}
			changes = append(changes, c)
			edits = append(edits, c.edits...)
		}
	}
	slices.SortStableFunc(edits, inOrder)
	room, err := apply(front, m.raw, edits)
	if err != nil {
		return nil, nil, err
	}
	if t.Marketing && m.wrap == nil && m.proved(changes) {
		return room, changes, nil
	}
	if err := m.verify(room[front:], t, changes); err != nil { // as the next try would, too
		return nil, nil, &Refusal{"a copy of it would be read otherwise than the message (" + err.Error() + ")", true}
	}
	m.prove(changes)
	return room, changes, nil
}

// check holds what would let text become a header field or a tag of its own.
func (t *Treatment) check() error {
	if !fieldText(t.Received) || !fieldText(t.ListID) || !fieldText(t.TextSwitch) {
		return errors.New("a field of the treatment is not printable ASCII")
	}
	if !t.Marketing {
		return nil
	}
	if !strings.HasPrefix(t.Unsubscribe, "https://") && !strings.HasPrefix(t.Unsubscribe, "http://") || !uriText(t.Unsubscribe) {
		return errors.New("the opt-out link is no URL")
	}
	if t.Mailto != "" && (!strings.HasPrefix(t.Mailto, "mailto:") || !uriText(t.Mailto)) {
		return errors.New("the opt-out address is no mailto: URL")
	}
	if strings.TrimSpace(t.Notice.Text) == "" || strings.TrimSpace(t.Notice.HTML) == "" {
		return errors.New("the notice is empty")
	}
	for l := range strings.Lines(t.Notice.Text) {
		if len(l) > 900 {
			return errors.New("a line of the notice is too long")
		}
	}
	return nil
}

func uriText(s string) bool {
	return fieldText(s) && !strings.ContainsAny(s, " <>\"") && len(s) < 900
}

// fields is the block put on top, in the order Received, List-*.
func (t *Treatment) fields() []byte {
	var out []byte
	if t.Received != "" {
		out = foldField("Received", t.Received)
	}
	if !t.Marketing {
		return out
	}
	uris := "<" + t.Unsubscribe + ">"
	if t.Mailto != "" {
		uris += ", <" + t.Mailto + ">" // folded between the URIs only (RFC 2369 section 2)
	}
	out = append(out, foldField("List-Unsubscribe", uris)...)
	out = append(out, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"...) // RFC 8058 section 3.1
	if t.ListID != "" {
		out = append(out, foldField("List-Id", t.ListID)...)
	}
	return out
}

// removed tells whether a field of the original is left out. A DKIM-Signature covers the body, so that marketing
// copies break it.
func removed(name string, marketing bool) bool {
	name = strings.ToLower(name)
	if name == "bcc" || strings.HasPrefix(name, "resent-") || strings.HasPrefix(name, "heed-") {
		return true
	}
	switch name {
	case "list-unsubscribe", "list-unsubscribe-post", "list-id", "dkim-signature":
		return marketing
	}
	return false
}

func (m *Mail) removals(marketing bool) []edit {
	var edits []edit
	for _, f := range m.fields {
		if removed(f.name, marketing) {
			edits = append(edits, edit{off: f.start, del: f.end - f.start, ins: nil})
		}
	}
	return edits
}

// inOrder sorts edits: at one offset, what is put in before what is taken out.
func inOrder(a, b edit) int {
	return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(min(a.del, 1), min(b.del, 1)))
}

// apply splices sorted edits, behind front octets that it leaves free.
func apply(front int, raw []byte, edits []edit) ([]byte, error) {
	size := front + len(raw) + 2
	for i := range edits {
		size += edits[i].size() - edits[i].del
	}
	out := make([]byte, front, max(size, front))
	at := 0
	for _, e := range edits {
		if e.off < at || e.off+e.del > len(raw) {
			return nil, errors.New("edits overlap")
		}
		out = append(append(out, raw[at:e.off]...), e.ins...)
		out = appendBase64(out, e.data)
		at = e.off + e.del
	}
	out = append(out, raw[at:]...)
	if n := len(out); n < front+2 || out[n-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	return out, nil
}
