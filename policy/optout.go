package policy

import "fmt"

// Canonical leaves out what the scope does not ask for, so that one objection is one record. An objection that cannot
// be understood is an error, never a silent no.
func (o OptOut) Canonical() (OptOut, error) {
	switch o.Scope {
	case ScopeAll:
		o.Sender, o.Topic = "", ""
	case ScopeSender:
		o.Topic = ""
	case ScopeTopic:
	default:
		return o, fmt.Errorf("opt-out of unknown scope %q", o.Scope)
	}
	return o, nil
}

// Lifts tells whether a removal of o reaches the one that stands: always, or where o.Ref is set, only what came by
// that reference and not before o.At.
func (o OptOut) Lifts(stands OptOut) bool {
	return o.Ref == "" || stands.Ref == o.Ref && !stands.At.Before(o.At)
}
