package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"

	"heed/config"
)

type configCmd struct {
	Check configCheck `cmd:"" help:"Validate; every mistake with file, line, key and remedy."`
	Init  configInit  `cmd:"" help:"Write a commented starter file with generated secrets."`
	Print configPrint `cmd:"" help:"The effective values; secrets as ***."`
}

type configCheck struct{}

func (configCheck) Run(a *app) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	if _, err := bookOf(c); err != nil {
		return usageError{err}
	}
	if a.json {
		return a.printJSON(map[string]any{"ok": true, "file": a.file})
	}
	fmt.Fprintf(a.out, "%s is valid\n", a.file)
	return nil
}

// configError makes every failure to read the configuration exit 2.
func configError(err error) error {
	var mistakes *config.Errors
	if errors.As(err, &mistakes) {
		return err
	}
	return usageError{err}
}

type configInit struct{}

func (configInit) Run(a *app) error {
	out, err := os.OpenFile(a.file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s exists already and is left as it is; name another with --config", a.file)
	}
	if err != nil {
		return usageError{err}
	}
	_, err = out.Write(config.Starter(config.NewSecrets()))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "wrote %s: set your sender and upstream in it, then run 'gateway serve'\n", a.file)
	return nil
}

type configPrint struct{}

func (configPrint) Run(a *app) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	if !a.json {
		return c.Print(a.out)
	}
	var text bytes.Buffer
	if err := c.Print(&text); err != nil {
		return err
	}
	out, err := yaml.YAMLToJSON(text.Bytes())
	if err != nil {
		return err
	}
	_, err = a.out.Write(out)
	return err
}
