package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"heed/policy"
)

type optoutsImport struct {
	reach
	File   string `arg:"" name:"FILE"`
	Format string `enum:"plain,md5,sha1,sha256,ecg" default:"plain" help:"plain: one address a line, # starts a comment; or what 'optouts list --json' prints. Others are not supported yet."`
}

func (c *optoutsImport) Run(a *app) error {
	if c.Format != "plain" {
		return usagef("--format %s: not supported yet", c.Format)
	}
	p, err := a.open(a.quiet())
	if err != nil {
		return err
	}
	defer p.close()
	o, err := c.optOut(p, "import")
	if err != nil {
		return err
	}
	in, err := os.Open(c.File)
	if err != nil {
		return usageError{err}
	}
	defer in.Close()
	bad, err := newRejects(c.File, []string{"address"})
	if err != nil {
		return err
	}
	i := &optOutImporter{app: a, parts: p, bad: bad, reason: "import of " + c.File}
	text := bufio.NewReader(in)
	if first, _ := text.Peek(1); string(first) == "{" {
		err = i.list(text)
	} else {
		err = i.lines(bufio.NewScanner(text), o)
	}
	if err = errors.Join(err, bad.close()); err != nil {
		return fmt.Errorf("after %d opt-outs: %w (the import may be repeated)", i.added+i.known, err)
	}
	return i.summary()
}

// optOutImporter records opt-outs one by one: each is durable before the next.
type optOutImporter struct {
	*app
	*parts
	bad          *rejects
	reason       string
	added, known int
}

func (i *optOutImporter) summary() error {
	if i.json {
		if err := i.printJSON(map[string]any{"added": i.added, "known": i.known, "rejected": i.bad.n}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(i.out, "%d opt-outs added, %d known already, %d rejected\n", i.added, i.known, i.bad.n)
		if i.bad.n > 0 {
			fmt.Fprintf(i.out, "what was rejected, with reason: %s\n", i.bad.file)
		}
	}
	if i.bad.n > 0 {
		return errRefused
	}
	return nil
}

// lines reads one address a line.
func (i *optOutImporter) lines(in *bufio.Scanner, o policy.OptOut) error {
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(in.Text(), "\ufeff"))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		person, address, err := i.person(line)
		if err != nil {
			if strings.ContainsAny(line, ",;\t") {
				err = fmt.Errorf("%w; the file has one address a line and nothing else", err)
			}
			if err := i.bad.add(n, []string{line}, err.Error()); err != nil {
				return err
			}
			continue
		}
		if err := i.add(person, address, o); err != nil {
			return err
		}
	}
	return in.Err()
}

// list reads what 'optouts list --json' printed: each opt-out as it was, those of erased persons by their key, which
// holds under the same key file only.
func (i *optOutImporter) list(in io.Reader) error {
	dec := json.NewDecoder(in)
	for depth := 0; depth < 2; { // into the array of the one member
		t, err := dec.Token()
		if err != nil {
			return usagef("%w: this is not what 'optouts list --json' prints", err)
		}
		if d, ok := t.(json.Delim); ok && (d == '{' || d == '[') {
			depth++
		}
	}
	for n := 1; dec.More(); n++ {
		var row struct {
			Person, Address string
			OptOut          policy.OptOut
		}
		if err := dec.Decode(&row); err != nil {
			return usagef("entry %d: %w", n, err)
		}
		person, address := row.Person, row.Address
		if address != "" {
			var err error
			if person, address, err = i.person(address); err != nil {
				if err := i.bad.add(n, []string{row.Address}, err.Error()); err != nil {
					return err
				}
				continue
			}
		}
		if err := i.add(person, address, row.OptOut); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
	}
	return nil
}

func (i *optOutImporter) add(person, address string, o policy.OptOut) error {
	added, err := i.state.AddOptOut(i.ctx, person, address, o)
	if err != nil {
		return err
	}
	if !added {
		i.known++
		return nil
	}
	i.added++
	return i.noteOptOut(i.app, policy.EventOptOut, person, address, o, i.reason)
}
