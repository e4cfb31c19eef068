package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"heed/policy"
	"heed/rewrite"
)

type checkCmd struct {
	Account   string   `required:"" help:"Account that would send."`
	To        []string `required:"" sep:"none" placeholder:"E" help:"Recipient; may be repeated."`
	Topic     string   `help:"Topic, where the account leaves it open."`
	Product   string   `help:"Product, where the account leaves it open."`
	Country   string   `placeholder:"CC" help:"Country, as a Heed-Country field would name it."`
	At        string   `placeholder:"RFC3339" help:"Decide as at this time."`
	Rewritten string   `placeholder:"OUT.eml" help:"Write what would be sent; with a message."`
	File      string   `arg:"" optional:"" name:"FILE.eml" help:"A message to check as a whole."`
}

func (c *checkCmd) Run(a *app) error {
	q := policy.Inquiry{Account: c.Account, Recipients: c.To, Topic: c.Topic, Product: c.Product, Country: c.Country}
	if c.At != "" {
		at, err := policy.ParseTime(c.At)
		if err != nil {
			return usageError{err}
		}
		q.At = at
	}
	if c.Rewritten != "" && c.File == "" {
		return usagef("--rewritten needs a message")
	}
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	if c.File != "" {
		return c.message(a, p, q)
	}
	decisions, err := p.relay.Check(a.ctx, q)
	if err != nil {
		return badInput(err)
	}
	return a.decided(decisions, nil, nil)
}

func badInput(err error) error {
	var bad policy.BadInquiry
	if errors.As(err, &bad) {
		return usageError{err}
	}
	return err
}

func (c *checkCmd) message(a *app, p *parts, q policy.Inquiry) error {
	raw, err := readMessage(a, c.File)
	if err != nil {
		return usageError{err}
	}
	preview, err := p.relay.Preview(a.ctx, q, raw)
	if err != nil {
		return badInput(err)
	}
	if c.Rewritten != "" && preview.Rewritten == nil {
		fmt.Fprintf(a.err, "gateway: %s is not written: the message would be blocked\n", c.Rewritten)
	} else if c.Rewritten != "" {
		if err := os.WriteFile(c.Rewritten, preview.Rewritten, 0o600); err != nil {
			return err
		}
	}
	return a.decided([]policy.Decision{preview.Decision}, preview.Findings, preview.Changes)
}

// maxMessageFile bounds a message read from disk.
const maxMessageFile = 100 << 20

// readMessage reads a message as it would come over SMTP: with CRLF line ends, one at its end.
func readMessage(a *app, file string) ([]byte, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxMessageFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxMessageFile {
		return nil, fmt.Errorf("%s is larger than 100 MiB", file)
	}
	raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(raw, "\r\n"...)
	}
	return raw, nil
}

// decided prints decisions; one that blocks is exit 1, observed or not.
func (a *app) decided(decisions []policy.Decision, findings []rewrite.Finding, changes *policy.Changes) error {
	if a.json {
		answer := map[string]any{"decisions": decisions}
		if findings != nil {
			answer["findings"] = findings
		}
		if changes != nil {
			answer["changes"] = changes
		}
		if err := a.printJSON(answer); err != nil {
			return err
		}
	} else {
		for _, d := range decisions {
			a.explain(d)
		}
		for _, f := range findings {
			fmt.Fprintf(a.out, "control field %s: [%s] %s\n", f.Field, f.Code, f.Text)
		}
		if changes != nil {
			fmt.Fprintf(a.out, "  changed: %s\n", strings.Join(changes.Lines(), "\n           "))
		}
	}
	for _, d := range decisions {
		if d.Action == policy.Block {
			return errRefused
		}
	}
	return nil
}

// explain prints a decision with every reason.
func (a *app) explain(d policy.Decision) {
	verdict := strings.ToUpper(d.Action)
	if d.Code != "" {
		verdict += " [" + d.Code + "]"
	}
	if !d.Enforced && d.Action == policy.Block {
		verdict += " (only observed: would be sent)"
	}
	fmt.Fprintf(a.out, "%s: %s\n  %s\n", d.Recipient, verdict, d.Text)
	country := d.Country.Code
	if country == "" {
		country = "unknown"
	}
	fmt.Fprintf(a.out, "  country %s (%s), %s address, %s party, regime %s, soft opt-in %s, legal basis %s\n", country, d.Country.From,
		d.AddressKind, d.Party, d.Regime, strings.ReplaceAll(d.SoftOptIn, "_", " "), strings.ReplaceAll(d.LegalBasis, "_", " "))
	for _, c := range d.Checks {
		mark := "ok  "
		if !c.Passed {
			mark = "FAIL"
		}
		fmt.Fprintf(a.out, "  %s %-28s %s\n       %s\n", mark, c.Code, c.Text, c.Citation)
	}
	fmt.Fprintf(a.out, "  notices: %s\n  law: %s\n  rules: %s\n", strings.Join(d.Notices, ", "), d.Law, d.Rules)
}
