package policy

import (
	"fmt"
	"slices"
	"strings"
)

const (
	softCitation  = "B2B guide, glossary: Soft Opt-In; Directive 2002/58/EC Art. 13(2)"
	basisCitation = "GDPR Art. 6(1)(a), (f); B2B guide, glossary: Individual Corporate Address"
)

// judgement is what one country says for one party.
type judgement struct {
	rule    Rule
	checks  []Check
	soft    string
	basis   string
	grounds Grounds
}

func (j *judgement) failed() bool {
	return slices.ContainsFunc(j.checks, func(c Check) bool { return !c.Passed })
}

func (r *Rules) judge(q *Question, country CountrySignal, party Party, kind Kind, rel Relation) judgement {
	rule, listed := r.rule(country.Code, party, kind)
	j := judgement{rule: rule, soft: "not_permitted", basis: "none"}
	if rule.SoftOptIn {
		j.soft = "permitted"
	}
	c := checkCountry(rule, listed, country, r.BlockUnlisted)
	j.checks = append(j.checks, c)
	if !c.Passed {
		return j
	}
	need := Single
	if rule.Regime == DoubleOptIn {
		need = Double
	}
	consent, defect := findConsent(q, need)
	j.checks = append(j.checks, r.checkRegime(q, &j, consent, defect, kind, rel))
	j.checks = append(j.checks, r.checkBasis(q, &j, consent, country.Code, kind))
	return j
}

func checkCountry(rule Rule, listed bool, country CountrySignal, blockUnlisted bool) Check {
	switch {
	case listed:
		return Check{"country", true, fmt.Sprintf("%s, named by %s", rule.Name, country.From), rule.Law}
	case country.Code == "":
		return Check{"country", true, "no country is known: treated as opt-in without soft opt-in", rule.cite()}
	case blockUnlisted:
		return Check{CodeUnlisted, false, fmt.Sprintf("no rules pack lists %s, and policy.unlisted_country is block", country.Code), rule.cite()}
	}
	return Check{"country", true, fmt.Sprintf("no rules pack lists %s: treated as opt-in", country.Code), rule.cite()}
}

// checkRegime: consent, confirmed consent, the soft opt-in with its four conditions, or the opt-out regime.
func (r *Rules) checkRegime(q *Question, j *judgement, consent *Consent, defect string, kind Kind, rel Relation) Check {
	softDefect := r.softOptIn(q, j.rule, kind, rel)
	if softDefect == "" {
		j.soft = "met"
	}
	name := j.rule.Name
	if name == "" {
		name = "an unknown country"
	}
	pass := func(format string, args ...any) Check {
		return Check{"regime", true, fmt.Sprintf(format, args...), j.rule.cite()}
	}
	switch {
	case consent != nil:
		j.grounds.Consent = consent
		return pass("the recipient consented (%s opt-in)", consent.Method)
	case j.rule.Regime == OptOutRegime:
		return pass("%s asks for no prior consent here, only for the opt-out", name)
	case softDefect == "":
		j.grounds.SoftOptIn, j.grounds.Relationship = true, rel.Relationship.Value
		return pass("the four conditions of the soft opt-in are met")
	}
	code := defect
	if code == "" {
		code = CodeConsentMissing
		if rv := rel.Relationship.Value; rv != "" && rv != "none" {
			code = softDefect
		}
	}
	citation := j.rule.cite()
	if strings.HasPrefix(code, "softoptin.") {
		citation += "; " + softCitation
	}
	return Check{code, false, fmt.Sprintf(failures[code], name), citation}
}

// failures are the sentences of a failed regime; %s is the country.
var failures = map[string]string{
	CodeConsentMissing: "%s asks for prior consent and none is on record",
	CodeUnconfirmed:    "%s asks for a confirmed consent (double opt-in) and this one was never confirmed",
	CodeConsentExpired: "%s asks for consent and the one on record has expired",
	CodeWithdrawn:      "%s asks for consent and it was withdrawn",
	CodeOtherSender:    "%s asks for consent and the one on record names another sender",
	CodeSoftNotAllowed: "%s asks for consent and has no soft opt-in for customers",
	CodeSoftEntity:     "%s allows mail to customers only by the legal entity that collected the address",
	CodeSoftOrigin:     "%s allows mail to customers only where the address came from a sale or negotiation",
	CodeSoftProducts:   "%s allows mail to customers only about products similar to those they dealt with",
	CodeSoftNotOffered: "%s allows mail to customers only if they could object when the address was collected",
}

func (r Rule) cite() string {
	if r.Citation == "" {
		return "Directive 2002/58/EC Art. 13(1); opt-in where no rules pack says otherwise"
	}
	return r.Citation
}

// softOptIn is the first condition that fails, "" where all four are met (B2B guide, glossary: Soft Opt-In). Its fourth,
// the chance to object in each message, the gateway meets itself.
func (r *Rules) softOptIn(q *Question, rule Rule, kind Kind, rel Relation) string {
	relationship := rel.Relationship.Value
	switch {
	case !rule.SoftOptIn && !(rule.Party == Third && r.softPermitted(rule.Code, kind)):
		return CodeSoftNotAllowed
	case rule.Party != First || !q.Account.Sender.is(rel.CollectedBy.Value):
		return CodeSoftEntity
	case relationship != "sale" && relationship != "negotiation":
		return CodeSoftOrigin
	case !q.Account.Sender.similar(q.Product, rel.Products.Value):
		return CodeSoftProducts
	case rel.ObjectionOffered.Value != "yes":
		return CodeSoftNotOffered
	}
	return ""
}

// similar tells whether the product is one of those dealt with, or of the same family as one of them.
func (s *Sender) similar(product string, dealt []string) bool {
	if product == "" {
		return false
	}
	same := func(p string) bool { return strings.EqualFold(p, product) }
	if slices.ContainsFunc(dealt, same) {
		return true
	}
	for _, family := range s.Families {
		if slices.ContainsFunc(family, same) && slices.ContainsFunc(family, func(p string) bool {
			return slices.ContainsFunc(dealt, func(d string) bool { return strings.EqualFold(d, p) })
		}) {
			return true
		}
	}
	return false
}

// checkBasis: an address that is personal data needs consent or a passed assessment where GDPR applies.
func (r *Rules) checkBasis(q *Question, j *judgement, consent *Consent, country string, kind Kind) Check {
	pass := func(basis, text string) Check {
		j.basis = basis
		return Check{"basis", true, text, basisCitation}
	}
	switch {
	case kind == Generic:
		return pass("not_required", "a generic address is not personal data")
	case !gdprApplies(country) && !gdprApplies(q.Account.Sender.Country):
		return pass("not_required", "GDPR applies neither to the recipient's country nor to the sender's")
	case consent != nil:
		return pass("consent", "the consent is the legal basis")
	case j.soft == "met" && j.rule.Regime != OptOutRegime && r.SoftOptInIsBasis:
		return pass("soft_opt_in", "the soft opt-in is taken as the legal basis (CJEU C-654/23)")
	}
	code, text := q.Account.Assessment.defect(q, country)
	if code != "" {
		return Check{code, false, text, basisCitation}
	}
	j.grounds.Assessment = q.Account.Assessment
	return pass("legitimate_interest", fmt.Sprintf("assessment %s passed all three tests", q.Account.Assessment.ID))
}

// defect tells why an assessment is no legal basis for the question; nil is none at all. Its last day is the day before
// ExpiresOn.
func (a *Assessment) defect(q *Question, country string) (code, text string) {
	switch {
	case a == nil:
		return CodeBasisMissing, "the address is personal data and there is neither consent nor an assessment of legitimate interest"
	case !a.ExpiresOn.IsZero() && !q.At.Before(a.ExpiresOn):
		return CodeBasisExpired, fmt.Sprintf("assessment %s expired on %s", a.ID, a.ExpiresOn.Format("2006-01-02"))
	case !a.Purpose.Passed || !a.Necessity.Passed || !a.Balancing.Passed:
		return CodeBasisFailed, fmt.Sprintf("assessment %s did not pass all three tests", a.ID)
	case a.Sender != q.Account.Sender.ID:
		return CodeBasisMissing, fmt.Sprintf("assessment %s is another sender's", a.ID)
	case q.At.Before(a.AssessedOn):
		return CodeBasisMissing, fmt.Sprintf("assessment %s was not made yet", a.ID)
	case len(a.Countries) > 0 && !slices.Contains(a.Countries, country):
		return CodeBasisMissing, fmt.Sprintf("assessment %s does not cover this country", a.ID)
	case len(a.Topics) > 0 && !slices.Contains(a.Topics, q.Topic):
		return CodeBasisMissing, fmt.Sprintf("assessment %s does not cover this topic", a.ID)
	}
	return "", ""
}
