package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Load reads and checks a configuration. env is os.LookupEnv, but in tests. What is wrong with the file comes as *Errors.
// Relative paths in it are relative to its folder: a command run elsewhere finds the same keys and the same state.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(path, src, env)
}

func unreadable(path string, err error) error {
	remedy := "give the path of gateway.yaml with --config or HEED_CONFIG"
	if errors.Is(err, fs.ErrNotExist) {
		remedy += "; `gateway config init` writes a starter file"
	}
	return fail(path, 0, "cannot be read: "+cause(err).Error(), remedy)
}

// Parse is Load of a source that has been read; name stands in the mistakes. It reads the files that file: values and
// tls name.
func Parse(name string, src []byte, env func(string) (string, bool)) (*Config, error) {
	root, err := parseTree(name, src)
	if err != nil {
		return nil, err
	}
	r := newReport(name)
	r.places[""] = place{line: 1}
	d := &decoder{report: r, env: env, anchors: findAnchors(root), beside: beside(name)}
	if _, ok := pairs(root); !ok {
		return nil, fail(name, lineOf(root), "is not a mapping of keys to values", "start from the file that `gateway config init` writes")
	}
	c := new(Config)
	d.structure("", root, reflect.ValueOf(c).Elem())
	c.derive()
	c.resolve(d.beside)
	c.check(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// beside makes the relative paths of a file absolute; those of a file in the working directory stay as they are.
func beside(file string) func(path string) string {
	dir := filepath.Dir(file)
	return func(path string) string {
		if path == "" || dir == "." || filepath.IsAbs(path) {
			return path
		}
		joined := filepath.Join(dir, path)
		if absolute, err := filepath.Abs(joined); err == nil {
			return absolute
		}
		return joined
	}
}

func (c *Config) resolve(beside func(string) string) {
	c.DataDir, c.Keys = beside(c.DataDir), beside(c.Keys)
	c.TLS.Cert, c.TLS.Key = beside(c.TLS.Cert), beside(c.TLS.Key)
	c.Policy.Notices = beside(c.Policy.Notices)
	if path, ok := strings.CutPrefix(c.State, "sqlite:"); ok {
		c.State = "sqlite:" + beside(path)
	}
}

// derive fills in what a key left out takes from other keys or the machine.
func (c *Config) derive() {
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
		if !validHost(c.Hostname) {
			c.Hostname = "localhost"
		}
	}
	dir := strings.TrimRight(c.DataDir, "/")
	if c.Keys == "" {
		c.Keys = dir + "/keys.json"
	}
	if c.State == "" {
		c.State = "sqlite:" + dir + "/state.db"
	}
	if c.Bounces.Upstream == "" && len(c.Upstreams) > 0 {
		c.Bounces.Upstream = c.Upstreams[0].Name
	}
	sender, upstream := "", []string(nil)
	if len(c.Senders) == 1 {
		sender = c.Senders[0].ID
	}
	if len(c.Upstreams) == 1 {
		upstream = []string{c.Upstreams[0].Name}
	}
	for i := range c.Assessments {
		if c.Assessments[i].Sender == "" {
			c.Assessments[i].Sender = sender
		}
	}
	for i := range c.Accounts {
		a := &c.Accounts[i]
		if a.Sender == "" {
			a.Sender = sender
		}
		if len(a.Upstream) == 0 {
			a.Upstream = upstream
		}
	}
}
