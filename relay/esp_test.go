package relay

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"heed/policy"
)

// TestControlFieldsInTheJournal: the decision that is recorded has a check for each control field.
func TestControlFieldsInTheJournal(t *testing.T) {
	w := newWorld(t)
	const fields = "X-MC-SendAt: 2026-12-01\r\nX-SMTPAPI: {\"to\":[],\"sub\":{\"a\":[\"b\"]}}\r\n"
	want := []string{"esp.recipients", "esp.bypass", "esp.bypass"}
	w.submit("look", fields, "stranger@firma.de") // consent.missing is only observed there
	last := w.entries[len(w.entries)-1]
	if last.Verdict == nil || !slices.Equal(controlCodes(*last.Verdict), want) || last.Code != policy.CodeESPRecipients || !last.Verdict.Enforced {
		t.Errorf("%+v", last.Verdict)
	}
	for account, n := range map[string]int{"look": 3, "shop": 1} { // what does not bind transactional mail is no finding there
		p, err := w.Preview(context.Background(), policy.Inquiry{Account: account, Recipients: []string{"stranger@firma.de"}}, fmt.Appendf(nil, plainMail, fields))
		if err != nil || len(p.Findings) != n || !slices.Equal(controlCodes(p.Decision), want[:n]) || p.Rewritten != nil {
			t.Errorf("%s: %+v, %v", account, p, err)
		}
	}
}

// controlCodes are the codes of the checks that ESP control fields failed.
func controlCodes(d policy.Decision) (codes []string) {
	for _, c := range d.Checks {
		if !c.Passed && (c.Code == policy.CodeESPRecipients || c.Code == policy.CodeESPBypass) {
			codes = append(codes, c.Code)
		}
	}
	return codes
}
