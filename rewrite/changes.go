package rewrite

import (
	"slices"
	"strconv"
	"strings"

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
		if name := tellable(f.name); removed(f.name, t.Marketing) && !slices.Contains(all.Removed, name) {
			all.Removed = append(all.Removed, name)
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

// maxEdits is how many places of one part are told apart.
const maxEdits = 50

// removable are the fields that a copy lacks. A name may hold an address, so that no other is told.
var removable = []string{
	"Bcc", "DKIM-Signature", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Id",
	"Heed-Category", "Heed-Topic", "Heed-Product", "Heed-Country", "Heed-Language",
	"Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-From", "Resent-Sender", "Resent-Date", "Resent-Message-ID", "Resent-Reply-To",
}

func tellable(name string) string {
	for _, r := range removable {
		if strings.EqualFold(r, name) {
			return r
		}
	}
	kind, _, _ := strings.Cut(strings.ToLower(name), "-")
	return kind + "-*"
}

var contents = [...]string{theNotice: "notice", theLink: "link", theSwitches: "tracking", nothing: "placeholder"}

func (c *change) account() policy.PartChanges {
	p := policy.PartChanges{Part: c.body.part.number, Type: c.body.part.typ, Edits: make([]policy.Edited, min(len(c.fills), maxEdits))}
	if c.way == encoded || c.way == converted {
		p.Encoding = "quoted-printable"
		if c.body.cte == base64ed {
			p.Encoding = "base64"
		}
	}
	if c.way == converted {
		p.Charset = c.cs.label
	}
	for i, s := range c.body.spots[:min(len(c.body.spots), maxEdits)] {
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
