package relay

import (
	"fmt"
	"strings"

	"heed/smtp"
)

// merge turns the outcomes of a transaction, in the order of its recipients, into its one reply. Where the gateway or
// an upstream took any recipient the reply is positive: nobody who was accepted is ever failed.
func merge(id string, outcomes []smtp.Outcome) smtp.Reply {
	count := map[smtp.Fate]int{}
	for _, o := range outcomes {
		count[o.Fate]++
	}
	queued := count[smtp.Deferred] + count[smtp.InDoubt]
	switch {
	case len(outcomes) == 1 && queued == 0, count[smtp.Sent] == len(outcomes), count[smtp.Sent]+queued == 0:
		return outcomes[0].Reply
	case queued == len(outcomes):
		why := outcomes[0].Reply.String()
		if name := outcomes[0].Upstream; name != "" {
			why = name + ": " + why
		}
		return smtp.OK.With("queued as %s (%s)", id, why)
	}
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{count[smtp.Sent], "sent"}, {queued, "queued"}, {count[smtp.Blocked], "blocked"}, {count[smtp.Failed], "failed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return smtp.OK.With("%s: %s", id, strings.Join(parts, ", "))
}
