package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"heed/policy"
	"heed/smtp"
)

type optoutsCmd struct {
	Add    optoutsAdd    `cmd:"" help:"Record an opt-out."`
	Remove optoutsRemove `cmd:"" help:"Remove opt-outs, for a reason that is journaled."`
	List   optoutsList   `cmd:"" help:"All opt-outs."`
	Check  optoutsCheck  `cmd:"" help:"The opt-outs of one address; exit 1 if there are any."`
	Import optoutsImport `cmd:"" help:"Record the opt-out of every address in a file."`
	Export unbuilt       `cmd:"" hidden:"" help:"Export (not supported yet)."`
}

// reach is how far an opt-out goes.
type reach struct {
	Scope  string `enum:"all,sender,topic" default:"all" help:"all, sender or topic."`
	Sender string `help:"Sender id; may be left out where there is only one."`
	Topic  string `help:"Topic, for --scope topic."`
}

func (r reach) optOut(p *parts, via string) (policy.OptOut, error) {
	o := policy.OptOut{Scope: policy.Scope(r.Scope), At: time.Now().UTC().Truncate(time.Second), Via: via}
	if o.Scope == policy.ScopeAll {
		if r.Sender != "" || r.Topic != "" {
			return o, usagef("--sender and --topic go with --scope sender or topic")
		}
		return o, nil
	}
	ids := p.senderIDs()
	o.Sender = r.Sender
	if o.Sender == "" && len(ids) == 1 {
		o.Sender = ids[0]
	}
	if !slices.Contains(ids, o.Sender) {
		return o, usagef("--sender %q: name one of %s", r.Sender, strings.Join(ids, ", "))
	}
	if (o.Scope == policy.ScopeTopic) != (r.Topic != "") {
		return o, usagef("--topic goes with --scope topic, and --scope topic with --topic")
	}
	o.Topic = r.Topic
	return o, nil
}

func optOutText(o policy.OptOut) string {
	of := "all marketing mail"
	switch o.Scope {
	case policy.ScopeSender:
		of = "all of " + o.Sender
	case policy.ScopeTopic:
		of = o.Topic + " of " + o.Sender
	}
	return fmt.Sprintf("[optout.%s] %s, since %s, by %s", o.Scope, of, o.At.Format(time.RFC3339), o.Via)
}

// noteOptOut journals what was done to an opt-out; the opt-out itself is durable by then.
func (p *parts) noteOptOut(a *app, event, person, address string, o policy.OptOut, reason string) error {
	e := policy.Entry{ID: smtp.NewID(), At: time.Now(), Event: event, Person: person, Recipient: address, Sender: o.Sender, Topic: o.Topic, OptOut: &o, Reason: reason}
	if err := p.state.Record(a.ctx, []policy.Entry{e}); err != nil {
		return fmt.Errorf("done, but not journaled: %w", err)
	}
	return nil
}

type optoutsAdd struct {
	reach
	Address string `arg:"" name:"EMAIL"`
}

func (c *optoutsAdd) Run(a *app) error {
	p, key, address, err := a.openFor(c.Address)
	if err != nil {
		return err
	}
	defer p.close()
	o, err := c.optOut(p, "cli")
	if err != nil {
		return err
	}
	added, err := p.state.AddOptOut(a.ctx, key, address, o)
	if err != nil {
		return err
	}
	if added {
		if err := p.noteOptOut(a, policy.EventOptOut, key, address, o, ""); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(map[string]any{"added": added, "optout": o})
	}
	if added {
		fmt.Fprintf(a.out, "%s: opt-out %s\n", address, optOutText(o))
	} else {
		fmt.Fprintf(a.out, "%s had opted out of that already\n", address)
	}
	return nil
}

type optoutsRemove struct {
	Scope   string `enum:"all,sender,topic," default:"" help:"Only opt-outs of this scope; left out: every one."`
	Sender  string `help:"Only opt-outs of this sender."`
	Topic   string `help:"Only opt-outs of this topic."`
	Reason  string `required:"" help:"Why; journaled."`
	Address string `arg:"" name:"EMAIL"`
}

func (c *optoutsRemove) Run(a *app) error {
	if strings.TrimSpace(c.Reason) == "" {
		return usagef("--reason: say why the opt-out is removed; it is journaled")
	}
	p, key, address, err := a.openFor(c.Address)
	if err != nil {
		return err
	}
	defer p.close()
	facts, err := p.state.Facts(a.ctx, []string{key})
	if err != nil {
		return err
	}
	removed := []policy.OptOut{}
	for _, o := range facts[key].OptOuts {
		if c.Scope != "" && string(o.Scope) != c.Scope || c.Sender != "" && o.Sender != c.Sender || c.Topic != "" && o.Topic != c.Topic {
			continue
		}
		ok, err := p.state.RemoveOptOut(a.ctx, key, policy.OptOut{Scope: o.Scope, Sender: o.Sender, Topic: o.Topic})
		if err != nil {
			return err
		}
		if ok {
			removed = append(removed, o)
			if err := p.noteOptOut(a, policy.EventOptOutRemoved, key, address, o, c.Reason); err != nil {
				return err
			}
		}
	}
	if a.json {
		if err := a.printJSON(map[string]any{"removed": removed}); err != nil {
			return err
		}
	}
	if len(removed) == 0 {
		fmt.Fprintf(a.err, "gateway: %s has no such opt-out\n", address)
		return errRefused
	}
	for _, o := range removed {
		if !a.json {
			fmt.Fprintf(a.out, "%s: removed %s\n", address, optOutText(o))
		}
	}
	return nil
}

type optoutsCheck struct {
	Address string `arg:"" name:"EMAIL"`
}

func (c *optoutsCheck) Run(a *app) error {
	p, key, address, err := a.openFor(c.Address)
	if err != nil {
		return err
	}
	defer p.close()
	facts, err := p.state.Facts(a.ctx, []string{key})
	if err != nil {
		return err
	}
	found := facts[key].OptOuts
	if a.json {
		if found == nil {
			found = []policy.OptOut{}
		}
		if err := a.printJSON(map[string]any{"optouts": found}); err != nil {
			return err
		}
	} else if len(found) == 0 {
		fmt.Fprintf(a.out, "%s: no opt-out\n", address)
	}
	for _, o := range found {
		if !a.json {
			fmt.Fprintf(a.out, "%s: %s\n", address, optOutText(o))
		}
	}
	if len(found) > 0 {
		return errRefused
	}
	return nil
}

type optoutsList struct{}

func (optoutsList) Run(a *app) error {
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	list := newList(a, "optouts")
	err = p.state.OptOuts(a.ctx, func(person, address string, o policy.OptOut) bool {
		who := address
		if who == "" {
			who = "(no address) " + person
		}
		return list.add(map[string]any{"person": person, "address": address, "optout": o}, who+": "+optOutText(o))
	})
	return errors.Join(err, list.end())
}
