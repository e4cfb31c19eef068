package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"heed/policy"
)

type journalCmd struct {
	Find    journalFind `cmd:"" default:"withargs" help:"Find entries, oldest first."`
	Explain unbuilt     `cmd:"" hidden:"" help:"One decision in plain words (not supported yet)."`
	Verify  unbuilt     `cmd:"" hidden:"" help:"Find edits and gaps (not supported yet)."`
	Export  unbuilt     `cmd:"" hidden:"" help:"Export (not supported yet)."`
}

type journalFind struct {
	Recipient string `placeholder:"E" help:"Only this recipient's."`
	MessageID string `name:"message-id" placeholder:"M" help:"Only this Message-ID's, with or without angle brackets."`
	Since     string `placeholder:"T" help:"Only since then: a time, a day, or a duration ago such as 24h."`
	Action    string `enum:"allow,block," default:"" help:"Only decisions that allow or block."`
}

func (c *journalFind) Run(a *app) error {
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	q := policy.JournalQuery{Action: c.Action}
	if c.Recipient != "" {
		if q.Person, _, err = p.person(c.Recipient); err != nil {
			return err
		}
	}
	if c.MessageID != "" {
		q.MessageID = "<" + strings.Trim(c.MessageID, "<> ") + ">"
	}
	if c.Since != "" {
		if q.Since, err = since(c.Since); err != nil {
			return usagef("--since: %w", err)
		}
	}
	list := newList(a, "entries")
	err = p.state.Journal(a.ctx, q, func(e policy.Entry) bool { return list.add(e, entryText(e)) })
	if err := errors.Join(err, list.end()); err != nil {
		return err
	}
	if list.n == 0 && (q.Person != "" || q.MessageID != "") {
		fmt.Fprintln(a.err, "gateway: no entries")
		return errRefused
	}
	return nil
}

func since(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := policy.ParseTime(s)
	if err != nil {
		return t, fmt.Errorf("%w, nor a duration ago such as 24h", err)
	}
	return t, nil
}

func entryText(e policy.Entry) string {
	who := e.Recipient
	if who == "" && e.Person != "" {
		who = "(no address) " + e.Person
	}
	parts := []string{e.At.UTC().Format(time.RFC3339), e.Event, e.ID, who}
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	add("decision", e.Decision)
	add("account", e.Account)
	add("category", string(e.Category))
	add("topic", e.Topic)
	add("stage", e.Stage)
	add("action", e.Action)
	add("code", e.Code)
	if e.Verdict != nil && e.Verdict.Action == policy.Block && !e.Verdict.Enforced {
		add("enforced", "false")
	}
	if e.Verdict != nil && e.Verdict.Action == policy.Block {
		add("text", fmt.Sprintf("%q", e.Verdict.Text))
	}
	if e.Verdict != nil && !e.Verdict.Stops() {
		add("notices", strings.Join(e.Verdict.Notices, ","))
	}
	add("upstream", e.Upstream)
	add("fate", e.Fate)
	if e.Reply != "" {
		add("reply", fmt.Sprintf("%q", e.Reply))
	}
	if e.OptOut != nil {
		add("optout", fmt.Sprintf("%q", optOutText(*e.OptOut)))
	}
	if e.Reason != "" {
		add("reason", fmt.Sprintf("%q", e.Reason))
	}
	if e.Changes != nil {
		add("changes", fmt.Sprintf("%q", strings.Join(e.Changes.Lines(), "; ")))
	}
	add("message", e.Message)
	add("message-id", e.MessageID)
	return strings.Join(parts, " ")
}
