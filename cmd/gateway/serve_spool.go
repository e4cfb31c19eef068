package main

import (
	"context"
	"time"

	"heed/policy"
	"heed/smtp"
	"heed/spool"
)

// startSpool starts the retry loop. It runs where the spool is off too: what waits from before is still owed.
func (g *gateway) startSpool() {
	c := g.config
	slots := make(map[string]int, len(c.Upstreams))
	for _, u := range c.Upstreams {
		slots[u.Name] = u.Connections
	}
	s := &spool.Spool{
		Store: g.state, Attempt: g.relay.Attempt, Report: g.spoolReport, Ready: g.relay.Ready, Enabled: c.Spool.Enabled, Max: int64(c.Spool.Max),
		Node: c.Hostname + "/" + smtp.NewID(), Poll: time.Second, Drain: g.patience / 2, Slots: slots, Retry: c.Spool.Retry, GiveUp: c.Spool.GiveUp, Now: time.Now, Log: g.log,
		Bouncer: &spool.Bouncer{Upstream: c.Bounces.Upstream, Sender: g.relay.Upstreams[c.Bounces.Upstream], Fallback: c.Bounces.FallbackTo, Hostname: c.Hostname},
	}
	g.spool = s
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
	if err := g.state.Record(ctx, []policy.Entry{g.relay.OutcomeEntry(c, o, event, bounce)}); err != nil {
		g.log.Error("outcome not journaled", "copy", c.ID, "event", event, "error", err)
	}
}
