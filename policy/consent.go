package policy

import (
	"slices"
	"strings"
	"time"
)

// findConsent is the latest consent to this sender that covers the message's topic and is as strong as needed; where
// there is none, the defect of the latest that is not good enough, "" where nobody ever consented. A consent that
// names another sender counts for nothing (consent must name who it is given to: GDPR Art. 4(11), recital 42).
func findConsent(q *Question, need Method) (*Consent, string) {
	all := q.Facts.Contact.Consents
	sender := q.Account.Sender.ID
	var defect string
	var latest time.Time
	for i := len(all) - 1; i >= 0; i-- { // ordered by At
		c := &all[i]
		if c.Method != Single && c.Method != Double || c.At.After(q.At) {
			continue
		}
		if c.Sender != sender {
			if defect == "" {
				defect = CodeOtherSender
			}
			continue
		}
		if !c.covers(q.Topic) {
			continue
		}
		d := c.defect(q, all, need)
		if d == "" {
			return c, ""
		}
		if defect == "" || defect == CodeOtherSender || c.At.Equal(latest) && defectRank(d) < defectRank(defect) {
			defect, latest = d, c.At
		}
	}
	return nil, defect
}

// covers: no topics means all of the sender's. Mail without a topic is covered only by such a consent.
func (c *Consent) covers(topic string) bool {
	return len(c.Topics) == 0 || topic != "" && slices.Contains(c.Topics, topic)
}

func (c *Consent) defect(q *Question, all []Consent, need Method) string {
	expiry := c.ExpiresAt
	for _, o := range all {
		if o.Sender != c.Sender {
			continue
		}
		touches := len(o.Topics) == 0 || q.Topic == "" || slices.ContainsFunc(o.Topics, func(t string) bool { return strings.EqualFold(t, q.Topic) })
		if !o.WithdrawnAt.IsZero() && touches && !o.WithdrawnAt.After(q.At) && !lastMoment(o.WithdrawnAt).Before(c.At) {
			return CodeWithdrawn
		}
		// Two records of one consent that disagree on its end: the earlier counts.
		if o.Method == c.Method && o.At.Equal(c.At) && slices.Equal(o.Topics, c.Topics) && !o.ExpiresAt.IsZero() && (expiry.IsZero() || o.ExpiresAt.Before(expiry)) {
			expiry = o.ExpiresAt
		}
	}
	switch {
	case !expiry.IsZero() && !q.At.Before(expiry):
		return CodeConsentExpired
	case need == Double && c.Method != Double:
		return CodeUnconfirmed
	}
	return ""
}

// lastMoment is when a withdrawal was made at the latest: one of which only the day is known may have followed a consent
// of that day.
func lastMoment(t time.Time) time.Time {
	if day := t.Truncate(24 * time.Hour); t.Equal(day) {
		return day.Add(24*time.Hour - 1)
	}
	return t
}

// defectRank orders the defects of consents given on one day: the one nearest to a good consent is named.
func defectRank(code string) int {
	return slices.Index([]string{CodeUnconfirmed, CodeConsentExpired, CodeWithdrawn, CodeOtherSender}, code)
}
