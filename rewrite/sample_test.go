package rewrite

import (
	"testing"
	"time"

	"heed/policy"
)

// sample is a marketing treatment with every block in its notice.
func sample(t testing.TB, language, name string) Treatment {
	t.Helper()
	all := notices(t)
	in := NoticeInput{
		Sender: acme(name), Topic: "newsletter", UnsubscribeURL: "https://opt.acme.example/u/AbC-123_456",
		Mailto: "mailto:unsubscribe@opt.acme.example?subject=unsubscribe%20AbC-123_456", Language: language,
	}
	in.Decision.Notices = []string{"identity", "label", "reason", "objection", "art14", "unsubscribe", "country"}
	in.Decision.LegalBasis = "consent"
	in.Decision.Grounds = policy.Grounds{
		Source:  "trade fair 2026",
		Consent: &policy.Consent{At: time.Date(2026, 1, 10, 9, 0, 0, 0, time.UTC), Place: "https://acme.example/signup"},
	}
	notice, err := all.Compose(in)
	if err != nil {
		t.Fatal(err)
	}
	return Treatment{
		Marketing:   true,
		Received:    "from crm ([127.0.0.1]) by gw.acme.example with ESMTPSA id 0123456789abcdef; Mon, 23 Nov 2026 10:00:00 +0000",
		Unsubscribe: in.UnsubscribeURL, Mailto: in.Mailto, ListID: ListID("newsletter", "acme", "acme.example"), Notice: notice,
	}
}

func acme(name string) policy.Sender {
	return policy.Sender{
		ID: "acme", Name: name, PostalAddress: "1 High Street,\nLondon EC1A 1AA", Country: "GB", Contact: "privacy@acme.example",
		Phone: "+44 20 0000 0000", Website: "https://acme.example", PrivacyURL: "https://acme.example/privacy?a=1&b=2",
	}
}
