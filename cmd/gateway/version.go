package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"heed/policy"
)

// version and commit are set by the linker (see Makefile).
var version, commit string

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	rules, err := policy.Guide(policy.Options{})
	if err != nil {
		return err
	}
	v, c := build()
	if a.json {
		return a.printJSON(map[string]any{"version": v, "commit": c, "go": runtime.Version(), "rules": []string{rules.Version}})
	}
	fmt.Fprintf(a.out, "gateway %s (commit %s, %s, rules %s)\n", v, c, runtime.Version(), rules.Version)
	return nil
}

// build is the version and commit, as far as they are known: from the linker, else from what Go recorded.
func build() (v, c string) {
	v, c = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				c = cmp.Or(c, s.Value)
			}
		}
	}
	return cmp.Or(v, "devel"), cmp.Or(c, "unknown")
}
