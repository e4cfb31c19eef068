package rewrite

import (
	"strconv"

	"heed/policy"
)

// account is what a copy changes.
func (m *Mail) account(t *Treatment, changes []*change) policy.Changes {
	var all policy.Changes
	if t.Received != "" {
		all.Added = append(all.Added, "Received")
	}
	if t.Marketing {
		all.Added = append(all.Added, "List-Unsubscribe", "List-Unsubscribe-Post")
		if t.ListID != "" {
			all.Added = append(all.Added, "List-Id")
		}
	}
	if t.Marketing && t.Sign != nil {
		all.Added = append(all.Added, "DKIM-Signature")
	}
	for _, f := range m.fields {
		if removed(f.name, t.Marketing) {
			all.Removed = append(all.Removed, f.name)
		}
	}
	if t.Marketing && m.wrap != nil {
		added, second := m.wrap.account(t.Notice)
		all.Added = append(all.Added, added...)
		all.Parts = append(all.Parts, second)
	}
	for _, c := range changes {
		if c.body.root && c.way >= encoded && len(m.values("MIME-Version")) == 0 {
			all.Added = append(all.Added, "MIME-Version")
		}
		all.Parts = append(all.Parts, c.account())
	}
	return all
}

var contents = [...]string{theNotice: "notice", theLink: "link", theSwitches: "tracking", nothing: "placeholder"}

func (c *change) account() policy.PartChanges {
	p := policy.PartChanges{Part: c.body.part.number, Type: c.body.part.typ, Edits: make([]policy.Edited, len(c.fills))}
	if c.way == encoded || c.way == converted {
		p.Encoding = "quoted-printable"
		if c.body.cte == base64ed {
			p.Encoding = "base64"
		}
	}
	if c.way == converted {
		p.Charset = c.cs.label
	}
	for i, s := range c.body.spots {
		p.Edits[i] = policy.Edited{What: contents[s.content], At: s.at, Deleted: s.del, Inserted: len(c.fills[i])}
	}
	return p
}

// count numbers the parts below p as IMAP does (RFC 9051 section 6.4.5).
func (p *part) count(number string) {
	if p.number = number; number == "" && !p.multipart() {
		p.number = "1"
	}
	for i, child := range p.children {
		n := strconv.Itoa(i + 1)
		if number != "" {
			n = number + "." + n
		}
		child.count(n)
	}
}
