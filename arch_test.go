// Package heed_test holds what the code as a whole must keep to: who may import whom.
package heed_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "heed"

// imports tells for each folder what of ours it may import besides its own subfolders; a "/*" stands for any
// subfolder. A folder that is not listed may not hold Go code: a new package is a decision, taken here.
var imports = map[string][]string{
	"policy":      {},
	"smtp":        {},
	"config":      {},
	"rewrite":     {"policy"},
	"unsubscribe": {"policy"},
	"feedback":    {"policy"},
	"admin":       {"policy"},
	"store/*":     {"policy"},
	"store":       {"policy", "store/*"},
	"spool":       {"smtp"},
	"relay":       {"smtp", "policy", "rewrite"},
	"cmd/gateway": {"*"},

	// Code for tests: imported by _test.go files only.
	"smtp/smtptest":   {"smtp"},
	"store/storetest": {"policy", "store", "store/*"},
	"integration":     {"*"},
	".":               {}, // this file
}

// inTests is what _test.go files may import beyond that: the contract that a store is tested against is store's.
var inTests = map[string][]string{
	"store/*": {"store"},
}

// forTests are the packages that only _test.go files, each other and the command's demo may import.
var forTests = []string{"smtp/smtptest", "store/storetest", "integration"}

// pure names what the pure cores may not reach for: they take values and give values (docs/flow.md).
var pure = map[string][]string{
	"policy":  {"os", "os/exec", "net", "net/http", "syscall", "database/sql", "log", "log/slog"},
	"rewrite": {"os", "os/exec", "net", "net/http", "syscall", "database/sql", "log", "log/slog"},
}

// only names the folder that a library is confined to, so that it can be replaced there; tests elsewhere may use the
// drivers to look at what was stored.
var only = map[string]struct {
	folder string
	tests  bool // binds tests too
}{
	"github.com/emersion/go-smtp":  {"smtp", true},
	"github.com/redis/go-redis/v9": {"store/redis", false},
	"modernc.org/sqlite":           {"store/sqlite", false},
}

func TestImports(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(name)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		files++
		imported, err := importsOf(name, nil)
		if err != nil {
			return err
		}
		for _, broken := range check(filepath.ToSlash(name), imported) {
			t.Error(broken)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("looked at %d Go files: the tree was not found", files)
	}
}

// TestImportRulesBite shows that every rule fails where it is broken.
func TestImportRulesBite(t *testing.T) {
	tests := []struct {
		name, file, imported string
		want                 string // "" if allowed
	}{
		{"relay may use rewrite", "relay/relay.go", "heed/rewrite", ""},
		{"relay may not use a store", "relay/relay.go", "heed/store", "relay may not import heed/store"},
		{"nor may its tests", "relay/relay_test.go", "heed/store/sqlite", "relay may not import heed/store/sqlite"},
		{"policy stands alone", "policy/decide.go", "heed/smtp", "policy may not import heed/smtp"},
		{"policy does no I/O", "policy/decide.go", "os", "policy is pure: it may not import os"},
		{"its tests may read files", "policy/decide_test.go", "os", ""},
		{"policy has subfolders", "policy/decide.go", "heed/policy/rules", ""},
		{"a store may not use the other", "store/redis/redis.go", "heed/store/sqlite", "store/redis may not import heed/store/sqlite"},
		{"a store may not use its opener", "store/redis/redis.go", "heed/store", "store/redis may not import heed/store"},
		{"a store is tested by the contract", "store/redis/redis_test.go", "heed/store/storetest", ""},
		{"which hands it a store.State", "store/redis/redis_test.go", "heed/store", ""},
		{"but not the other store", "store/redis/redis_test.go", "heed/store/sqlite", "store/redis may not import heed/store/sqlite"},
		{"an outside test imports its own package", "spool/spool_test.go", "heed/spool", ""},
		{"the opener opens both", "store/open.go", "heed/store/redis", ""},
		{"the spool knows no policy", "spool/spool.go", "heed/policy", "spool may not import heed/policy"},
		{"the scripted peer is for tests", "spool/spool.go", "heed/smtp/smtptest", "heed/smtp/smtptest is for tests"},
		{"and tests may use it", "spool/spool_test.go", "heed/smtp/smtptest", ""},
		{"also where smtp is not allowed", "admin/admin_test.go", "heed/smtp/smtptest", ""},
		{"smtp may not depend on its own test peer", "smtp/pool.go", "heed/smtp/smtptest", "heed/smtp/smtptest is for tests"},
		{"the command uses all", "cmd/gateway/serve.go", "heed/relay", ""},
		{"nobody imports the command", "relay/relay.go", "heed/cmd/gateway", "relay may not import heed/cmd/gateway"},
		{"go-smtp in the relay", "relay/relay.go", "github.com/emersion/go-smtp", "github.com/emersion/go-smtp belongs in smtp/ only"},
		{"go-smtp in a test elsewhere", "integration/tls_test.go", "github.com/emersion/go-smtp", "github.com/emersion/go-smtp belongs in smtp/ only"},
		{"go-smtp at home", "smtp/session.go", "github.com/emersion/go-smtp", ""},
		{"go-redis outside its store", "store/open.go", "github.com/redis/go-redis/v9", "github.com/redis/go-redis/v9 belongs in store/redis/ only"},
		{"what starts Redis for tests", "store/storetest/topology.go", "github.com/redis/go-redis/v9", ""},
		{"a test looks into Redis", "integration/redis_test.go", "github.com/redis/go-redis/v9", ""},
		{"a subpackage of sqlite", "admin/admin.go", "modernc.org/sqlite/lib", "modernc.org/sqlite belongs in store/sqlite/ only"},
		{"a package nobody decided on", "utils/strings.go", "strings", "no rule for utils"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(check(tt.file, []string{tt.imported}), "; ")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%s imports %s: %q, want %q", tt.file, tt.imported, got, tt.want)
			}
		})
	}
}

func TestImportsOfReadsSource(t *testing.T) {
	got, err := importsOf("x.go", "package x\n\nimport (\n\t\"os\"\n\tq \"heed/policy\"\n\t_ \"embed\"\n)\n")
	if err != nil || !slices.Equal(got, []string{"os", "heed/policy", "embed"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// skip leaves out what is not part of the module.
func skip(dir string) error {
	base := filepath.Base(dir)
	if dir == "." {
		return nil
	}
	if base == "testdata" || base == "node_modules" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil { // a module of its own
		return fs.SkipDir
	}
	return nil
}

// importsOf reads the imports of a Go file; src may hold its text.
func importsOf(name string, src any) ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, imported)
	}
	return all, nil
}

// check names every rule that a file's imports break.
func check(file string, imported []string) []string {
	dir := path.Dir(file)
	home, known := ruleFor(dir)
	if !known {
		return []string{fmt.Sprintf("%s: no rule for %s: say in arch_test.go what it may import", file, dir)}
	}
	test := strings.HasSuffix(file, "_test.go")
	var broken []string
	for _, imp := range imported {
		if why := breaks(dir, home, imp, test); why != "" {
			broken = append(broken, file+": "+why)
		}
	}
	return broken
}

// ruleFor finds the entry of imports for a folder: its own, its parent's "/*", or that of a folder above it.
func ruleFor(dir string) (string, bool) {
	for d := dir; ; d = path.Dir(d) {
		if _, ok := imports[d]; ok && (d != "." || dir == ".") {
			return d, true
		}
		if _, ok := imports[path.Dir(d)+"/*"]; ok {
			return path.Dir(d) + "/*", true
		}
		if d == "." {
			return "", false
		}
	}
}

// breaks says which rule the import of imp by a file in dir breaks, "" if none.
func breaks(dir, home, imp string, test bool) string {
	for lib, at := range only {
		if within(imp, lib) && !within(dir, at.folder) && (at.tests || !test && !slices.Contains(forTests, home)) {
			return fmt.Sprintf("%s belongs in %s/ only", lib, at.folder)
		}
	}
	if !test && slices.Contains(pure[home], imp) {
		return fmt.Sprintf("%s is pure: it may not import %s", home, imp)
	}
	ours, ok := strings.CutPrefix(imp, module+"/")
	if !ok || ours == dir && test {
		return ""
	}
	if slices.ContainsFunc(forTests, func(p string) bool { return within(ours, p) }) {
		if test || slices.Contains(forTests, home) || home == "cmd/gateway" {
			return ""
		}
		return imp + " is for tests"
	}
	may := imports[home]
	if test {
		may = slices.Concat(may, inTests[home])
	}
	allowed := slices.ContainsFunc(may, func(a string) bool {
		return a == "*" || a == ours || strings.HasSuffix(a, "/*") && within(ours, strings.TrimSuffix(a, "/*"))
	})
	if allowed || home != "store" && within(ours, dir) {
		return ""
	}
	return fmt.Sprintf("%s may not import %s", dir, imp)
}

// within tells whether p is dir or lies in it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
