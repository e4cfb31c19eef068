package main

import (
	"bytes"
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

type spoolShow struct {
	ID      string `arg:"" help:"ID of the copy, as 'spool list' says it, or 'queued as ID' where the message had one recipient."`
	Message bool   `help:"Print the message as it was given, and nothing else."`
}

func (c *spoolShow) Run(a *app) error {
	if c.Message && a.json {
		return usagef("--message prints the message as it is: leave --json out")
	}
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	kept, lease, err := p.waiting().Find(a.ctx, c.ID)
	if err != nil {
		return spoolError(c.ID, err)
	}
	header, _, _ := bytes.Cut(kept.Message.Data, []byte("\r\n\r\n"))
	switch {
	case c.Message:
		_, err = a.out.Write(kept.Message.Data)
		return err
	case a.json:
		row := spoolRow(kept, lease)
		row["bytes"], row["header"] = len(kept.Message.Data), string(header)
		if lease.After(time.Now()) {
			row["lease"] = lease
		}
		return a.printJSON(row)
	}
	for _, line := range spoolLines(kept, lease) {
		if _, err := fmt.Fprintf(a.out, "%-12s %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(a.out, "\n%s\n", bytes.ReplaceAll(header, []byte("\r\n"), []byte("\n")))
	return err
}

func spoolLines(c smtp.Copy, lease time.Time) [][2]string {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	kind := "message"
	if spool.IsBounce(c) {
		kind = "bounce"
	}
	lines := [][2]string{
		{"id", c.ID},
		{"kind", kind},
		{"account", c.Message.Account},
		{"message", c.Message.ID},
		{"from", "<" + c.Message.From + ">"},
		{"to", "<" + recipient(c) + ">"},
		{"upstream", c.Upstream},
		{"bytes", fmt.Sprint(len(c.Message.Data))},
		{"accepted", at(c.Accepted)},
		{"attempts", fmt.Sprint(c.Attempts)},
		{"last answer", c.Last},
	}
	if lease.After(time.Now()) {
		return append(lines, [2]string{"now", "being attempted; another node takes over at " + at(lease) + " unless it goes on"})
	}
	if c.Doubt {
		lines = append(lines, [2]string{"in doubt", "the upstream may have it already: another attempt may deliver it twice"})
	}
	return append(lines, [2]string{"next attempt", at(c.Due)})
}

type spoolRetry struct {
	ID string `arg:"" optional:"" help:"ID of the copy, as 'spool list' says it, or 'queued as ID' where the message had one recipient; left out: everything that waits."`
}

func (c *spoolRetry) Run(a *app) error {
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	var r spool.Retried
	if c.ID == "" {
		r, err = p.waiting().RetryAll(a.ctx)
	} else {
		r, err = p.waiting().RetryOne(a.ctx, c.ID)
	}
	if err != nil {
		return spoolError(c.ID, err)
	}
	if a.json {
		return a.printJSON(map[string]any{"due": r.Due, "in_doubt": r.Doubt, "in_progress": r.InProgress})
	}
	_, err = fmt.Fprintf(a.out, "%d due now; a running gateway attempts them within seconds, as many at once as the upstream has connections\n", r.Due)
	if r.Doubt > 0 && err == nil {
		_, err = fmt.Fprintf(a.out, "%d of them in doubt: the upstream may have them already, and they may arrive twice\n", r.Doubt)
	}
	if r.InProgress > 0 && err == nil {
		_, err = fmt.Fprintf(a.out, "%d left alone: they are being attempted\n", r.InProgress)
	}
	return err
}

type spoolDrop struct {
	ID     string `arg:"" help:"ID of the copy, as 'spool list' says it, or 'queued as ID' where the message had one recipient."`
	Bounce bool   `help:"Report it to the envelope sender."`
}

func (c *spoolDrop) Run(a *app) error {
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	kept, err := p.waiting().Drop(a.ctx, c.ID, c.Bounce, func(kept smtp.Copy, o smtp.Outcome) error {
		return p.state.Record(a.ctx, []policy.Entry{p.relay.OutcomeEntry(kept, o, spool.Dropped, spool.IsBounce(kept))})
	})
	if err != nil {
		return spoolError(c.ID, err)
	}
	if a.json {
		return a.printJSON(map[string]any{"dropped": spoolRow(kept, time.Time{})})
	}
	_, err = fmt.Fprintf(a.out, "dropped %s to <%s>, last: %s\n", kept.ID, recipient(kept), kept.Last)
	return err
}

// waiting is the spool for a command beside running gateways: it keeps and attempts nothing of its own.
func (p *parts) waiting() *spool.Spool {
	return &spool.Spool{
		Store: p.state, Node: p.config.Hostname + "/" + smtp.NewID(), Log: p.log,
		Bouncer: &spool.Bouncer{Upstream: p.config.Bounces.Upstream, Hostname: p.config.Hostname},
	}
}

func spoolError(id string, err error) error {
	if errors.Is(err, spool.ErrGone) || errors.Is(err, spool.ErrInProgress) {
		return fmt.Errorf("%s: %w", id, err)
	}
	return err
}
