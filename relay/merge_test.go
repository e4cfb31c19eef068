package relay

import (
	"testing"

	"heed/smtp"
)

func TestMerge(t *testing.T) {
	sent := smtp.Outcome{Fate: smtp.Sent, Reply: smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "Ok: queued as 1A"}}
	failed := smtp.Outcome{Fate: smtp.Failed, Reply: smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}}
	blocked := smtp.Outcome{Fate: smtp.Blocked, Reply: smtp.Refused.With("<a@b> blocked [optout.all]")}
	deferred := smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.Reply{Code: 451, Text: "later"}, Upstream: "esp"}
	doubt := smtp.Outcome{Fate: smtp.InDoubt, Reply: smtp.Reply{Code: 451, Text: "answer lost"}, Upstream: "two"}
	ours := smtp.Outcome{Fate: smtp.Deferred, Reply: smtp.OurFault}
	tests := []struct {
		name     string
		outcomes []smtp.Outcome
		want     string
	}{
		{"one sent: the upstream's own words", []smtp.Outcome{sent}, "250 2.0.0 Ok: queued as 1A"},
		{"one refused by the upstream", []smtp.Outcome{failed}, "550 5.1.1 no such user"},
		{"one blocked", []smtp.Outcome{blocked}, "550 5.7.1 <a@b> blocked [optout.all]"},
		{"one deferred", []smtp.Outcome{deferred}, "250 2.0.0 queued as ID (esp: 451 later)"},
		{"one in doubt", []smtp.Outcome{doubt}, "250 2.0.0 queued as ID (two: 451 answer lost)"},
		{"one that no upstream was asked for", []smtp.Outcome{ours}, "250 2.0.0 queued as ID (451 4.3.0 temporary failure in the gateway)"},
		{"all sent", []smtp.Outcome{sent, sent}, "250 2.0.0 Ok: queued as 1A"},
		{"all refused by the upstream: nobody was accepted", []smtp.Outcome{failed, failed}, "550 5.1.1 no such user"},
		{"all blocked: the first recipient's", []smtp.Outcome{blocked, blocked}, "550 5.7.1 <a@b> blocked [optout.all]"},
		{"blocked and refused: the first's", []smtp.Outcome{blocked, failed}, "550 5.7.1 <a@b> blocked [optout.all]"},
		{"all queued", []smtp.Outcome{deferred, doubt}, "250 2.0.0 queued as ID (esp: 451 later)"},
		{"some of each", []smtp.Outcome{sent, blocked, sent, deferred, failed, sent}, "250 2.0.0 ID: 3 sent, 1 queued, 1 blocked, 1 failed"},
		{"sent and blocked", []smtp.Outcome{blocked, sent}, "250 2.0.0 ID: 1 sent, 1 blocked"},
		{"queued and refused", []smtp.Outcome{failed, deferred}, "250 2.0.0 ID: 1 queued, 1 failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := merge("ID", tt.outcomes).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
