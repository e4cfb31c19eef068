package policy

import (
	"errors"
	"fmt"
)

// Canonical leaves out what the scope does not ask for, so that one objection is one record. An objection that cannot
// be understood is an error, never a silent no.
func (o OptOut) Canonical() (OptOut, error) {
	switch {
	case o.Scope == ScopeAll:
		o.Sender, o.Topic = "", ""
		return o, nil
	case o.Scope != ScopeSender && o.Scope != ScopeTopic:
		return o, fmt.Errorf("opt-out of unknown scope %q", o.Scope)
	case o.Sender == "": // it would bind nobody
		return o, fmt.Errorf("opt-out of scope %s without a sender", o.Scope)
	case o.Scope == ScopeTopic && o.Topic == "":
		return o, errors.New("opt-out of scope topic without a topic")
	case o.Scope == ScopeSender:
		o.Topic = ""
	}
	return o, nil
}

// Lifts tells whether a removal of o reaches the one that stands: always, or where o.Ref is set, only what came by
// that reference and not before o.At.
func (o OptOut) Lifts(stands OptOut) bool {
	return o.Ref == "" || stands.Ref == o.Ref && !stands.At.Before(o.At)
}
