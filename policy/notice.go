package policy

import "slices"

// The notices that a message may have to carry.
const (
	NoticeIdentity    = "identity"    // who markets: Directive 2002/58/EC Art. 13(4)
	NoticeLabel       = "label"       // that it is advertising: Directive 2000/31/EC Art. 6(a)
	NoticeReason      = "reason"      // why the recipient gets it: GDPR Art. 13, 14
	NoticeObjection   = "objection"   // the right to object, apart from the rest: GDPR Art. 21(4)
	NoticeArt14       = "art14"       // where the data came from: GDPR Art. 14
	NoticeUnsubscribe = "unsubscribe" // the opt-out: Directive 2002/58/EC Art. 13(2), (4)
	NoticeCountry     = "country"     // what one country asks beyond that
)

// dueNotices are the notices the message must carry if it is sent, blocked or not (an observed block is sent).
func dueNotices(d *Decision, q *Question, countries []CountrySignal) []string {
	protected := slices.ContainsFunc(countries, func(c CountrySignal) bool { return gdprApplies(c.Code) })
	personal := d.AddressKind != Generic && (protected || gdprApplies(q.Account.Sender.Country))
	due := []string{NoticeIdentity}
	if labelled(d, q, countries) {
		due = append(due, NoticeLabel)
	}
	due = append(due, NoticeReason)
	if personal || d.SoftOptIn == "met" {
		due = append(due, NoticeObjection)
	}
	if personal && d.Party != First && d.Grounds.Consent == nil && !q.Facts.Informed[q.Account.Sender.ID].told(&d.Grounds) {
		due = append(due, NoticeArt14)
	}
	due = append(due, NoticeUnsubscribe)
	if slices.ContainsFunc(d.Grounds.Countries, func(code string) bool { return asksWords(d, code) }) {
		due = append(due, NoticeCountry)
	}
	return due
}

// labelled tells whether it must say that it is advertising. In the US that falls away with consent (15 USC
// 7704(a)(5)(B)); Directive 2000/31/EC Art. 6(a) binds senders established in the EEA and the UK wherever they write to.
func labelled(d *Decision, q *Question, countries []CountrySignal) bool {
	elsewhere := slices.ContainsFunc(countries, func(c CountrySignal) bool { return c.Code != "US" })
	return d.Grounds.Consent == nil || elsewhere || gdprApplies(q.Account.Sender.Country)
}

// asksWords tells whether a country asks for words of its own.
func asksWords(d *Decision, code string) bool {
	switch code {
	case "CZ", // Act 480/2004 s. 7(4)(a): marked as a commercial communication
		"ES", // LSSI Art. 21(2), 22(1): objection by a simple procedure, free of charge
		"FR", // CPCE Art. L34-5: at no cost other than that of sending the request
		"US", // 15 USC 7704(a)(5)(A)(ii), (iii): the opt-out, and a postal address
		"CA": // CASL s. 6(2), 11(1): who sends, how to reach them, the opt-out
		return true
	case "BG":
		return d.Grounds.Consent == nil // E-Commerce Act Art. 6(1): marked as unsolicited
	case "DE":
		return d.Grounds.SoftOptIn // UWG s. 7(3) no. 4: the base-rate sentence
	}
	return false
}
