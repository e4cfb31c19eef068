package main

import (
	"fmt"
	"text/tabwriter"

	"heed/policy"
)

type rulesCmd struct {
	Show rulesShow `cmd:"" default:"withargs" help:"The rules of one country or all."`
	Diff unbuilt   `cmd:"" hidden:"" help:"Compare two packs (not supported yet)."`
	Test unbuilt   `cmd:"" hidden:"" help:"Run your own cases (not supported yet)."`
}

type rulesShow struct {
	Country string `arg:"" optional:"" name:"CC" help:"Country, ISO 3166-1 alpha-2."`
	Party   string `enum:"first,third," default:"" help:"first or third."`
	Kind    string `enum:"individual,generic," default:"" help:"individual or generic."`
	Channel string `enum:"email,call_live,call_automated" default:"email" help:"email; call_live and call_automated are not supported yet."`
}

func (c *rulesShow) Run(a *app) error {
	if c.Channel != "email" {
		return usagef("--channel %s: not supported yet", c.Channel)
	}
	country := ""
	if c.Country != "" {
		code, err := policy.ParseCountry(c.Country)
		if err != nil {
			return usageError{err}
		}
		country = code
	}
	rules, err := policy.Guide(policy.Options{})
	if err != nil {
		return err
	}
	found := rules.Find(country, policy.Party(c.Party), policy.Kind(c.Kind))
	if a.json {
		if found == nil {
			found = []policy.Rule{}
		}
		if err := a.printJSON(map[string]any{"rules": found}); err != nil {
			return err
		}
	} else {
		c.table(a, found)
	}
	if len(found) == 0 {
		if !a.json {
			fmt.Fprintf(a.out, "no rules pack lists %s: it is treated as policy.unlisted_country says\n", country)
		}
		return errRefused
	}
	return nil
}

func (c *rulesShow) table(a *app, found []policy.Rule) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, r := range found {
		soft := "no soft opt-in"
		if r.SoftOptIn {
			soft = "soft opt-in"
		}
		fmt.Fprintf(w, "%s %s\t%s party\t%s\t%s\t%s\n", r.Code, r.Name, r.Party, r.Kind, r.Regime, soft)
	}
	w.Flush()
	if c.Country == "" {
		return
	}
	said := ""
	for _, r := range found {
		if r.Citation != said {
			fmt.Fprintf(a.out, "\n%s\n", r.Citation)
			said = r.Citation
		}
		fmt.Fprintf(a.out, "  %s, %s: %s\n", r.Party, r.Kind, r.Note)
	}
	if len(found) > 0 {
		fmt.Fprintf(a.out, "\nlaw: %s\nrules: %s\n", found[0].Law, found[0].Pack)
	}
}
