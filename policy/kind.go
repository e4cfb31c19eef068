package policy

import (
	_ "embed"
	"strings"
)

// The role mailboxes are functions, not persons, in the languages of the guide's countries. A role that one person
// holds (ceo, director) is not among them: in doubt an address is an individual's.
//
//go:embed data/role-mailboxes.txt
var roleMailboxes string

// The freemail domains give mailboxes to private persons.
//
//go:embed data/freemail-domains.txt
var freemailDomains string

var (
	roles    = words(roleMailboxes)
	freemail = words(freemailDomains)
)

// kindOf is what a normalised address says of a person; what the contact says goes first.
func (r *Rules) kindOf(c *Contact, local, domain string) Kind {
	if c.AddressKind.Value != "" {
		return c.AddressKind.Value
	}
	mailbox, _, _ := strings.Cut(local, "+") // a sub-address counts as its mailbox (RFC 5233)
	switch {
	case roles[mailbox]:
		return Generic
	case freemail[domain] && !r.FreemailBusiness:
		return Consumer
	}
	return Individual
}

// partyOf tells who collected the address, as seen by the sender.
func partyOf(rel Relation, sender *Sender) Party {
	switch collector := rel.CollectedBy.Value; {
	case collector == "":
		return Unknown
	case sender.is(collector):
		return First
	}
	return Third
}

// is tells whether a collector is this legal entity, named by its id or its name.
func (s *Sender) is(collector string) bool {
	return collector == s.ID || strings.EqualFold(collector, s.Name)
}
