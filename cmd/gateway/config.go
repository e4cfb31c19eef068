package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"heed/config"
	"heed/smtp"
)

type configCmd struct {
	Check configCheck `cmd:"" help:"Validate; every mistake with file, line, key and remedy."`
	Init  configInit  `cmd:"" help:"Write a commented starter file with generated secrets."`
	Print configPrint `cmd:"" help:"The effective values; secrets as ***."`
	Hash  configHash  `cmd:"" help:"Read a password from standard input and print its argon2id hash, for password_hash."`
}

type configCheck struct{}

func (configCheck) Run(a *app) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	if _, err := bookOf(c); err != nil {
		return configError(err)
	}
	found := warnings(c)
	if a.json {
		return a.printJSON(map[string]any{"ok": true, "file": a.file, "warnings": append([]string{}, found...)})
	}
	fmt.Fprintf(a.out, "%s is valid\n", a.file)
	for _, w := range found {
		fmt.Fprintf(a.out, "warning: %s\n", w)
	}
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

type configHash struct{}

// maxPassword is more than any password needs, in bytes.
const maxPassword = 1024

func (configHash) Run(a *app) error {
	line, err := bufio.NewReader(io.LimitReader(a.in, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" || len(password) > maxPassword {
		return usagef("a password of 1 to %d bytes is read from the first line of standard input", maxPassword)
	}
	_, err = fmt.Fprintln(a.out, smtp.HashPassword(password))
	return err
}
