package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"heed/policy"
	"heed/smtp"
)

type contactsCmd struct {
	Import contactsImport `cmd:"" help:"Merge contacts from CSV; bad rows go to FILE.rejected.csv."`
	Show   contactsShow   `cmd:"" help:"All that is known of an address."`
	Erase  contactsErase  `cmd:"" help:"Forget a person (GDPR Art. 17); opt-outs stay, by key alone."`
	Export unbuilt        `cmd:"" hidden:"" help:"Export (not supported yet)."`
	Set    unbuilt        `cmd:"" hidden:"" help:"Change single values (not supported yet)."`
}

type contactsImport struct {
	File string `arg:"" name:"FILE.csv"`
}

// importBatch is how many rows are merged at once.
const importBatch = 500

func (c *contactsImport) Run(a *app) error {
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	in, err := os.Open(c.File)
	if err != nil {
		return usageError{err}
	}
	defer in.Close()
	file, err := policy.OpenContacts(in, p.senderIDs())
	if err != nil {
		return usagef("%s: %w", c.File, err)
	}
	bad, err := newRejects(c.File, file.Columns())
	if err != nil {
		return err
	}
	i := &importer{app: a, parts: p, rejects: bad}
	if err := i.rows(file); err != nil {
		return errors.Join(err, i.rejects.close())
	}
	if err := i.rejects.close(); err != nil {
		return err
	}
	return i.summary()
}

// importer merges rows in batches; a row's mistake is its own.
type importer struct {
	*app
	*parts
	rejects  *rejects
	batch    map[string]policy.Contact
	imported int
	told     time.Time
}

func (i *importer) rows(file *policy.ContactsFile) error {
	i.batch = map[string]policy.Contact{}
	i.told = time.Now()
	for {
		line, cells, contact, err := file.Next()
		var bad *policy.RowError
		switch {
		case errors.Is(err, io.EOF):
			return i.flush()
		case errors.As(err, &bad):
			if err := i.rejects.add(line, cells, bad.Error()); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		person := i.keys.AddressKey().Person(contact.Address)
		i.batch[person] = i.batch[person].Merge(contact)
		i.imported++
		if len(i.batch) >= importBatch {
			if err := i.flush(); err != nil {
				return err
			}
		}
	}
}

func (i *importer) flush() error {
	if len(i.batch) > 0 {
		if err := i.state.Merge(i.ctx, i.batch); err != nil {
			return fmt.Errorf("after %d rows: %w (the import may be repeated)", i.imported, err)
		}
		clear(i.batch)
	}
	if time.Since(i.told) > 2*time.Second && !i.json {
		fmt.Fprintf(i.app.err, "%d rows imported, %d rejected\n", i.imported, i.rejects.n)
		i.told = time.Now()
	}
	return nil
}

// summary tells what was done; rejected rows are no failure of the others.
func (i *importer) summary() error {
	if i.json {
		answer := map[string]any{"imported": i.imported, "rejected": i.rejects.n}
		if i.rejects.n > 0 {
			answer["rejected_file"] = i.rejects.file
		}
		if err := i.printJSON(answer); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(i.out, "%d rows imported, %d rejected\n", i.imported, i.rejects.n)
		if i.rejects.n > 0 {
			fmt.Fprintf(i.out, "rejected rows with line and reason: %s\n", i.rejects.file)
		}
	}
	if i.rejects.n > 0 {
		return errRefused
	}
	return nil
}

type contactsShow struct {
	Address string `arg:"" name:"EMAIL"`
}

func (c *contactsShow) Run(a *app) error {
	p, key, address, err := a.openFor(c.Address)
	if err != nil {
		return err
	}
	defer p.close()
	all, err := p.state.Facts(a.ctx, []string{key})
	if err != nil {
		return err
	}
	facts, known := all[key]
	if !known {
		fmt.Fprintf(a.err, "gateway: nothing is known of %s\n", address)
		return errRefused
	}
	if facts.OptOuts == nil {
		facts.OptOuts = []policy.OptOut{}
	}
	if facts.Informed == nil {
		facts.Informed = map[string]policy.Informed{}
	}
	if a.json {
		return a.printJSON(map[string]any{"contact": facts.Contact, "optouts": facts.OptOuts, "informed": facts.Informed})
	}
	a.contact(address, facts)
	return nil
}

func (a *app) contact(address string, f policy.Facts) {
	line := func(name, value string, at time.Time) {
		if value == "" {
			return
		}
		if !at.IsZero() {
			value += "  (" + at.Format(time.DateOnly) + ")"
		}
		fmt.Fprintf(a.out, "  %-18s %s\n", name, value)
	}
	c := f.Contact
	fmt.Fprintln(a.out, address)
	line("country", strings.Join(c.Country.Value, ", "), c.Country.At)
	line("address kind", string(c.AddressKind.Value), c.AddressKind.At)
	line("subscriber type", c.SubscriberType.Value, c.SubscriberType.At)
	line("address published", c.AddressPublished.Value, c.AddressPublished.At)
	line("language", c.Language.Value, c.Language.At)
	for _, sender := range slices.Sorted(maps.Keys(c.Relations)) {
		r := c.Relations[sender]
		fmt.Fprintf(a.out, "sender %s\n", sender)
		line("collected by", r.CollectedBy.Value, r.CollectedBy.At)
		line("source", r.Source.Value, r.Source.At)
		line("relationship", r.Relationship.Value, r.Relationship.At)
		line("products", strings.Join(r.Products.Value, ", "), r.Products.At)
		line("objection offered", r.ObjectionOffered.Value, r.ObjectionOffered.At)
	}
	for _, s := range c.Consents {
		topics := "all topics"
		if len(s.Topics) > 0 {
			topics = strings.Join(s.Topics, ", ")
		}
		fmt.Fprintf(a.out, "consent to %s, %s opt-in, %s\n", s.Sender, s.Method, topics)
		line("given", cmp.Or(s.Place, "place unknown"), s.At)
		line("evidence", s.Evidence, time.Time{})
		if !s.ExpiresAt.IsZero() {
			line("expires", s.ExpiresAt.Format(time.DateOnly), time.Time{})
		}
		if !s.WithdrawnAt.IsZero() {
			line("withdrawn", s.WithdrawnAt.Format(time.DateOnly), time.Time{})
		}
	}
	for _, sender := range slices.Sorted(maps.Keys(f.Informed)) {
		i := f.Informed[sender]
		fmt.Fprintf(a.out, "informed by %s (GDPR Art. 14)\n", sender)
		line("delivered", "message "+i.Message, i.At)
		line("collected by", i.CollectedBy, time.Time{})
		line("source", i.Source, time.Time{})
	}
	for _, o := range f.OptOuts {
		fmt.Fprintf(a.out, "opt-out %s\n", optOutText(o))
	}
}

type contactsErase struct {
	Address string `arg:"" name:"EMAIL"`
}

func (c *contactsErase) Run(a *app) error {
	p, key, address, err := a.openFor(c.Address)
	if err != nil {
		return err
	}
	defer p.close()
	known, err := p.state.Erase(a.ctx, key)
	if err != nil {
		return err
	}
	if !known {
		fmt.Fprintf(a.err, "gateway: nothing is known of %s\n", address)
		return errRefused
	}
	entry := policy.Entry{ID: smtp.NewID(), At: time.Now(), Event: policy.EventErased, Person: key}
	if err := p.state.Record(a.ctx, []policy.Entry{entry}); err != nil {
		return fmt.Errorf("erased, but not journaled: %w", err)
	}
	if a.json {
		return a.printJSON(map[string]any{"erased": true})
	}
	fmt.Fprintln(a.out, "erased; opt-outs and the journal stay, by a key that no longer leads to the address")
	return nil
}
