package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"heed/policy"
	"heed/smtp"
	"heed/spool"
)

type spoolCmd struct {
	List  spoolList  `cmd:"" help:"What waits, by the time of its next attempt."`
	Show  spoolShow  `cmd:"" help:"Everything known of one copy."`
	Retry spoolRetry `cmd:"" help:"Attempt a copy now, or everything that waits."`
	Drop  spoolDrop  `cmd:"" help:"Give up one copy."`
}

type spoolList struct{}

func (spoolList) Run(a *app) error {
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	list := newList(a, "spool")
	waiting := &spool.Spool{Store: p.state}
	err = waiting.List(a.ctx, func(c smtp.Copy, lease time.Time) bool {
		return list.add(spoolRow(c, lease), spoolText(c, lease))
	})
	return errors.Join(err, list.end())
}

func recipient(c smtp.Copy) string {
	if len(c.Message.To) == 0 {
		return ""
	}
	return c.Message.To[0].Address
}

func spoolRow(c smtp.Copy, lease time.Time) map[string]any {
	return map[string]any{
		"id": c.ID, "message": c.Message.ID, "account": c.Message.Account, "from": c.Message.From, "recipient": recipient(c), "upstream": c.Upstream,
		"accepted": c.Accepted, "due": c.Due, "attempts": c.Attempts, "last": c.Last, "in_doubt": c.Doubt, "in_progress": lease.After(time.Now()), "bounce": spool.IsBounce(c),
	}
}

func spoolText(c smtp.Copy, lease time.Time) string {
	when := "next attempt " + c.Due.UTC().Format(time.RFC3339)
	if lease.After(time.Now()) {
		when = "being attempted"
	} else if c.Doubt {
		when += ", in doubt"
	}
	what := c.Message.Account
	if spool.IsBounce(c) {
		what = "bounce"
	}
	return fmt.Sprintf("%s %s to <%s> by %s, message=%s, accepted %s, attempts %d, %s: %s", c.ID, what, recipient(c), c.Upstream, c.Message.ID, c.Accepted.UTC().Format(time.RFC3339), c.Attempts, when, c.Last)
}

// startSpool starts the retry loop. It runs where the spool is off too: what waits from before is still owed.
func (g *gateway) startSpool() {
	c := g.config
	slots := make(map[string]int, len(c.Upstreams))
	for _, u := range c.Upstreams {
		slots[u.Name] = u.Connections
	}
	s := &spool.Spool{
		Store: g.state, Attempt: g.relay.Attempt, Report: g.spoolReport, Enabled: c.Spool.Enabled, Max: int64(c.Spool.Max),
		Node: c.Hostname + "/" + smtp.NewID(), Poll: time.Second, Drain: g.patience / 2, Slots: slots, Retry: c.Spool.Retry, GiveUp: c.Spool.GiveUp, Now: time.Now, Log: g.log,
		Bouncer: &spool.Bouncer{Upstream: c.Bounces.Upstream, Sender: g.relay.Upstreams[c.Bounces.Upstream], Fallback: c.Bounces.FallbackTo, Hostname: c.Hostname},
	}
	if c.Spool.Enabled {
		g.relay.Spool = s
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	g.onStop("spool", func(ctx context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// spoolReport journals what no attempt of the relay's journals: a copy given up, and the fate of bounces.
func (g *gateway) spoolReport(ctx context.Context, c smtp.Copy, o smtp.Outcome, event string) {
	bounce := spool.IsBounce(c)
	if !bounce && event != spool.GaveUp {
		return
	}
	if err := g.state.Record(ctx, []policy.Entry{g.relay.Ended(c, o, event, bounce)}); err != nil {
		g.log.Error("outcome not journaled", "copy", c.ID, "event", event, "error", err)
	}
}
