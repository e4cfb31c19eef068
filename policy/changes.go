package policy

import (
	"fmt"
	"strings"
)

// Changes is what a copy has that the message has not, and the reverse: all else is byte for byte the same. It holds
// no text of the message.
type Changes struct {
	Added   []string      `json:"added,omitempty"`   // header fields, by name
	Removed []string      `json:"removed,omitempty"` // each name once
	Parts   []PartChanges `json:"parts,omitempty"`
}

// PartChanges is what was done to one part.
type PartChanges struct {
	Part     string   `json:"part"`               // its number: 1.2 is the second part of the first (RFC 9051 section 6.4.5)
	Type     string   `json:"type"`               // text/html
	Charset  string   `json:"charset,omitempty"`  // that it was converted to
	Encoding string   `json:"encoding,omitempty"` // transfer encoding that the whole part got
	Edits    []Edited `json:"edits,omitempty"`
}

// Edited is a place where the text of a part differs: Deleted octets gave way to Inserted others.
type Edited struct {
	What     string `json:"what"` // notice | link | tracking (switches that keep a click tracker off the link) | placeholder (taken out)
	At       int    `json:"at"`   // octets from the start of the part in the message, its transfer encoding undone
	Deleted  int    `json:"deleted,omitempty"`
	Inserted int    `json:"inserted,omitempty"`
}

// Lines are the changes in words, one line each.
func (c Changes) Lines() (lines []string) {
	if len(c.Added) > 0 {
		lines = append(lines, "header fields added: "+strings.Join(c.Added, ", "))
	}
	if len(c.Removed) > 0 {
		lines = append(lines, "header fields removed: "+strings.Join(c.Removed, ", "))
	}
	for _, p := range c.Parts {
		name := fmt.Sprintf("part %s (%s)", p.Part, p.Type)
		if p.Charset != "" || p.Encoding != "" {
			lines = append(lines, strings.TrimSpace(name+": now "+strings.TrimSpace(p.Charset+" "+p.Encoding)))
		}
		for _, e := range p.Edits {
			lines = append(lines, fmt.Sprintf("%s: %s at octet %d of its text, %d octets for %d", name, e.What, e.At, e.Inserted, e.Deleted))
		}
	}
	return lines
}
