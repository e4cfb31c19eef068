// Command gateway is Heed: an SMTP relay that lets only lawful marketing mail out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"heed/config"
)

// Exit codes of every command.
const (
	exitDone    = 0 // done, allowed
	exitRefused = 1 // refused, blocked, not found
	exitUsage   = 2 // usage or configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], &process{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv, reload: reload})
	stop()
	os.Exit(code)
}

// process is what a command has of the process it runs in; tests bring their own.
type process struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) (string, bool)
	reload   <-chan os.Signal
}

// cli is the command line; each command is a struct in a file of its own.
type cli struct {
	Config string `env:"HEED_CONFIG" default:"gateway.yaml" placeholder:"FILE" help:"Configuration file."`
	JSON   bool   `name:"json" help:"Print JSON."`

	Serve    serveCmd    `cmd:"" help:"Run the gateway; SIGTERM drains, SIGHUP reloads."`
	Demo     demoCmd     `cmd:"" help:"Try it: sample mails, a table of verdicts, a live opt-out page. Nothing leaves the machine."`
	Check    checkCmd    `cmd:"" help:"What would be decided, and why, without sending."`
	Rules    rulesCmd    `cmd:"" help:"The rules in force, with law and citation."`
	Contacts contactsCmd `cmd:"" help:"The ledger of contacts and consents."`
	Optouts  optoutsCmd  `cmd:"" help:"Opt-outs."`
	Journal  journalCmd  `cmd:"" help:"Decisions and outcomes."`
	Spool    spoolCmd    `cmd:"" help:"What waits for an upstream."`
	Conf     configCmd   `cmd:"" name:"config" help:"Check, start or print the configuration."`
	Version  versionCmd  `cmd:"" help:"Version, commit, Go and rules packs."`

	Assessments unbuilt `cmd:"" hidden:"" help:"Legitimate-interest assessments (not supported yet)."`
	Keys        unbuilt `cmd:"" hidden:"" help:"Token keys (not supported yet)."`
	Doctor      unbuilt `cmd:"" hidden:"" help:"Check a running set-up from outside (not supported yet)."`
}

// app is what a command runs with.
type app struct {
	*process
	ctx  context.Context
	file string // configuration file
	json bool
}

func run(ctx context.Context, args []string, p *process) int {
	var c cli
	exited, code := false, exitDone
	parser, err := kong.New(&c,
		kong.Name("gateway"), kong.Description("Heed lets only lawful marketing mail out."), kong.UsageOnError(),
		kong.Writers(p.out, p.err), kong.Exit(func(n int) { exited, code = true, n }))
	if err != nil {
		fmt.Fprintln(p.err, "gateway:", err)
		return exitUsage
	}
	parsed, err := parser.Parse(args)
	if exited { // --help
		return code
	}
	if err != nil {
		fmt.Fprintf(p.err, "gateway: %v\nTry 'gateway --help'.\n", err)
		return exitUsage
	}
	a := &app{process: p, ctx: ctx, file: c.Config, json: c.JSON}
	return a.report(parsed.Run(a))
}

// report prints an error and chooses the exit code.
func (a *app) report(err error) int {
	var mistakes *config.Errors
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errRefused): // said already
		return exitRefused
	case errors.As(err, &mistakes) && a.json:
		if err := a.printJSON(map[string]any{"ok": false, "mistakes": mistakes.Mistakes}); err != nil {
			fmt.Fprintln(a.err, "gateway:", err)
		}
		return exitUsage
	case errors.As(err, &mistakes):
		fmt.Fprintln(a.err, mistakes)
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintln(a.err, "gateway:", err)
		return exitUsage
	}
	fmt.Fprintln(a.err, "gateway:", err)
	return exitRefused
}

// errRefused ends a command that has printed why: blocked, refused or not found.
var errRefused = errors.New("refused")

// usageError is a mistake in what the command was given: arguments, files, configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// printJSON prints one value, indented.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// unbuilt is a command that is still to come.
type unbuilt struct {
	Args []string `arg:"" optional:"" passthrough:"" hidden:""`
}

func (unbuilt) Run(*app) error { return usagef("not supported yet") }
