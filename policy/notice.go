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
	due := []string{NoticeIdentity, NoticeLabel, NoticeReason}
	if personal || d.SoftOptIn == "met" {
		due = append(due, NoticeObjection)
	}
	if personal && d.Party != First && d.Grounds.Consent == nil && !q.Facts.Informed[q.Account.Sender.ID].told(&d.Grounds) {
		due = append(due, NoticeArt14)
	}
	due = append(due, NoticeUnsubscribe)
	if slices.ContainsFunc(d.Grounds.Countries, func(code string) bool {
		return code == "CZ" || // Act 480/2004 s. 7(4)(a): marked as a commercial communication
			code == "BG" && d.Grounds.Consent == nil || // E-Commerce Act Art. 6(1): marked as unsolicited
			code == "DE" && d.Grounds.SoftOptIn // UWG s. 7(3) no. 4: the base-rate sentence
	}) {
		due = append(due, NoticeCountry)
	}
	return due
}
