package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Decide answers whether the message may be sent to the recipient. All checks are reported in the order of the law's
// weight; the first that fails names the decision: opt-out, sender in order, then for every signalled country and
// every party the address may have come from: country, regime, legal basis.
func (r *Rules) Decide(q Question) Decision {
	d := Decision{Recipient: q.Recipient, Rules: r.Version, Enforced: true, SoftOptIn: "not_permitted", LegalBasis: "none"}
	address, err := Normalise(q.Recipient)
	if err != nil { // the door refuses these; never decide on an address that cannot be keyed
		d.fail(Check{Code: CodeConsentMissing, Text: err.Error()})
		d.finish(&q, nil)
		return d
	}
	at := strings.LastIndexByte(address, '@')
	local, domain := address[:at], address[at+1:]
	sender := q.Account.Sender
	rel := q.Facts.Contact.Relations[sender.ID]
	d.AddressKind = r.kindOf(&q.Facts.Contact, local, domain)
	d.Party = partyOf(rel, sender)

	d.add(checkOptOut(&q))
	d.add(checkSender(sender))
	if q.FromDomains != nil {
		d.add(CheckFrom(sender, q.FromDomains))
	}
	found := signals(&q, domain)
	d.Country = found[0]
	first := true
	for _, country := range found {
		for _, party := range d.Party.rows() {
			v := r.judge(&q, country, party, d.AddressKind, rel)
			failed := d.Code == "" && v.failed()
			for _, c := range v.checks {
				if !slices.Contains(d.Checks, c) { // both parties' rows may ask the same
					d.add(c)
				}
			}
			// The answer shows the first judgement, or the one that names the block, or the strictest that allows.
			other := v
			if first || failed || d.Code == "" && regimeRank(v.rule.Regime) > regimeRank(d.Regime) {
				other = judgement{basis: d.LegalBasis, grounds: d.Grounds}
				d.Country, d.Regime, d.Law = country, v.rule.Regime, v.rule.Law
				d.SoftOptIn, d.LegalBasis = v.soft, v.basis
				d.Grounds = v.grounds
			}
			// Where only another country asks for a legal basis, the notices quote that one.
			if !first && d.Code == "" && d.LegalBasis == "not_required" {
				d.LegalBasis, d.Grounds.Assessment = other.basis, other.grounds.Assessment
				d.Grounds.Consent = cmp.Or(d.Grounds.Consent, other.grounds.Consent)
			}
			first = false
		}
	}
	for _, country := range found {
		d.Grounds.Countries = append(d.Grounds.Countries, country.Code)
	}
	d.Grounds.Language = q.Facts.Contact.Language.Value
	d.Grounds.Source = rel.Source.Value
	if d.Party == Third {
		d.Grounds.CollectedBy = rel.CollectedBy.Value
	}
	d.finish(&q, found)
	return d
}

func regimeRank(r Regime) int { return slices.Index([]Regime{OptOutRegime, OptIn, DoubleOptIn}, r) }

// rows are the parties whose rules must pass.
func (p Party) rows() []Party {
	if p == Unknown {
		return []Party{First, Third}
	}
	return []Party{p}
}

func (d *Decision) add(c Check) {
	if !c.Passed {
		d.fail(c)
		return
	}
	d.Checks = append(d.Checks, c)
}

func (d *Decision) fail(c Check) {
	c.Passed = false
	d.Checks = append(d.Checks, c)
	if d.Code == "" {
		d.Code, d.Text = c.Code, c.Text
	}
}

// finish draws the conclusion from the checks.
func (d *Decision) finish(q *Question, countries []CountrySignal) {
	d.Action = Allow
	if d.Code != "" {
		d.Action = Block
	}
	d.Enforced = !q.Account.Observe || d.Action == Block && !observable(d.Code)
	if d.Action == Allow {
		d.Text = fmt.Sprintf("allowed: %s, legal basis: %s", regimeText(d), strings.ReplaceAll(d.LegalBasis, "_", " "))
	}
	d.Notices = dueNotices(d, q, countries)
}

func regimeText(d *Decision) string {
	place := d.Country.Code
	if place == "" {
		place = "an unknown country"
	}
	switch {
	case d.Grounds.SoftOptIn:
		return fmt.Sprintf("soft opt-in in %s", place)
	case d.Regime == OptOutRegime:
		return fmt.Sprintf("opt-out regime in %s", place)
	}
	return fmt.Sprintf("consent given, as %s asks", place)
}

// observable tells whether an account with enforcement: observe only reports the code.
func observable(code string) bool {
	family, _, _ := strings.Cut(code, ".")
	return family == "country" || family == "consent" || family == "softoptin" || family == "basis"
}

// checkOptOut: an objection always wins (GDPR Art. 21(3)).
func checkOptOut(q *Question) Check {
	const right = "GDPR Art. 21(2), (3); Directive 2002/58/EC Art. 13(2); B2B guide, glossary: Opt-Out"
	sender := q.Account.Sender.ID
	var hit []string
	for _, o := range q.Facts.OptOuts {
		switch {
		case o.Scope == ScopeAll:
			hit = append(hit, CodeOptOutAll)
		case o.Sender != sender:
		case o.Scope == ScopeSender:
			hit = append(hit, CodeOptOutSender)
		case strings.EqualFold(o.Topic, q.Topic) || q.Topic == "": // mail without a topic may be about any
			hit = append(hit, CodeOptOutTopic)
		}
	}
	switch { // the widest names the block
	case slices.Contains(hit, CodeOptOutAll):
		return Check{CodeOptOutAll, false, "the recipient opted out of all marketing mail", right}
	case slices.Contains(hit, CodeOptOutSender):
		return Check{CodeOptOutSender, false, fmt.Sprintf("the recipient opted out of all marketing mail of %s", q.Account.Sender.Name), right}
	case slices.Contains(hit, CodeOptOutTopic):
		return Check{CodeOptOutTopic, false, "the recipient opted out of this topic", right}
	}
	return Check{"optout", true, "no opt-out on record", right}
}

func checkSender(s *Sender) Check {
	const duty = "Directive 2002/58/EC Art. 13(4); 15 USC 7704(a)(5)(A)(iii); CASL s. 6(2)"
	switch {
	case strings.TrimSpace(s.Name) == "":
		return Check{CodeSenderIncompl, false, fmt.Sprintf("sender %s has no name: set senders.name", s.ID), duty}
	case strings.TrimSpace(s.PostalAddress) == "":
		return Check{CodeSenderIncompl, false, fmt.Sprintf("sender %s has no postal address: set senders.postal_address", s.ID), duty}
	}
	return Check{"sender.complete", true, "the sender's name and postal address are known", duty}
}

// CheckFrom: every From: domain, normalised, must be the sender's; none at all fails. Domains ["*"] is the operator's
// word that any From: will do, one without a domain too.
func CheckFrom(s *Sender, domains []string) Check {
	const duty = "15 USC 7704(a)(1); Directive 2002/58/EC Art. 13(4)"
	if slices.Contains(s.Domains, "*") {
		return Check{"sender.from", true, "the sender may use any From:", duty}
	}
	for _, d := range domains {
		if !s.owns(d) {
			return Check{CodeSenderDomain, false, fmt.Sprintf("From: domain %s is not one of sender %s", d, s.ID), duty}
		}
	}
	if len(domains) == 0 {
		return Check{CodeSenderDomain, false, "the message has no From: address", duty}
	}
	return Check{"sender.from", true, "the From: domain belongs to the sender", duty}
}

// owns tells whether a normalised domain is the sender's, or a subdomain of one that is.
func (s *Sender) owns(domain string) bool {
	for _, own := range s.Domains {
		if domain == own || strings.HasSuffix(domain, "."+own) {
			return true
		}
	}
	return false
}

// Exempt makes it the decision on mail that marketing's rules do not bind.
func (d *Decision) Exempt(text string) {
	d.Action, d.Enforced, d.Code, d.Text = Allow, true, "", text
	d.Checks = []Check{{"category", true, text, "Directive 2002/58/EC Art. 13(1): for direct marketing"}}
	d.LegalBasis, d.Notices = "not_required", []string{}
}

// Forbid adds a check of the message's content that failed. It always blocks: an account that observes does not
// observe it. What blocked already stays the decision's name.
func (d *Decision) Forbid(code, text, citation string) {
	d.Checks = append(d.Checks, Check{code, false, text, citation})
	if !d.Stops() {
		d.Action, d.Enforced, d.Code, d.Text = Block, true, code, text
	}
}
