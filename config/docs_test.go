package config

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
)

const referencePath = "../docs/configuration.md"

// TestReference holds docs/configuration.md to the fields' documentation. To write it anew: go test ./config -update.
func TestReference(t *testing.T) {
	got := Reference()
	if *update {
		if err := os.WriteFile(referencePath, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the config package says: run go test ./config -update", referencePath)
	}
}

// TestReferenceExample: the least that works does work.
func TestReferenceExample(t *testing.T) {
	_, rest, _ := strings.Cut(string(Reference()), "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	if _, err := Parse("example", []byte(example), testEnv); err != nil {
		t.Error(err)
	}
}

// TestFieldsAreDocumented walks every field: a key, a meaning, kinds that exist, a default that is one.
func TestFieldsAreDocumented(t *testing.T) {
	known := map[string]bool{"required": true, "secret": true, "file": true, "lines": true, "positive": true, "natural": true, "off": true}
	for _, k := range kinds() {
		known[k.name] = true
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f, inner := fieldOf(typ.Field(i)), typ.Field(i).Type
			if f.key == "" || !strings.HasSuffix(f.doc, ".") && !strings.HasSuffix(f.doc, "?") {
				t.Errorf("%s.%s is not documented", typ.Name(), typ.Field(i).Name)
			}
			for k := range f.is {
				if !known[k] {
					t.Errorf("%s.%s: no kind %q", typ.Name(), typ.Field(i).Name, k)
				}
			}
			if _, secret := reflect.New(inner).Elem().Interface().(Secret); secret != f.is["secret"] {
				t.Errorf("%s.%s: a secret must be of type Secret and of kind secret", typ.Name(), typ.Field(i).Name)
			}
			setDefault(reflect.New(inner).Elem(), f)
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if nested(reflect.New(inner).Elem()) {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

// TestStarter: it loads as it is, and says what it seems to say once every # before a key is removed.
func TestStarter(t *testing.T) {
	s := NewSecrets()
	if t2 := NewSecrets(); len(s.AccountPassword) < 20 || s.AccountPassword == s.AdminToken || s == t2 {
		t.Errorf("bad secrets: %v %v", s, t2)
	}
	src := Starter(s)
	c, err := Parse("starter", src, testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Accounts[0].Password) != s.AccountPassword || string(c.Admin.Token) != s.AdminToken || !c.Upstreams[0].URL.Loopback() {
		t.Errorf("%+v", c)
	}
	var all strings.Builder
	for l := range strings.Lines(string(src)) {
		before, after, found := strings.Cut(l, "#")
		if found && strings.TrimSpace(before) == "" && !strings.HasPrefix(after, " #") && (!strings.HasPrefix(after, " ") || strings.HasPrefix(after, "  ")) {
			l = before + after
		}
		all.WriteString(l)
	}
	d, err := Parse("uncommented", []byte(all.String()), testEnv)
	if err != nil {
		t.Fatalf("%v\n%s", err, all.String())
	}
	if strings.Count(all.String(), "data_timeout: 5m") != 1 || !same(c, d) {
		t.Errorf("uncommented, it means something else:\n%s", all.String())
	}
}

// same compares what two configurations mean: an empty list is one left out.
func same(a, b *Config) bool {
	var x, y bytes.Buffer
	p, q := &printer{}, &printer{}
	p.mapping(reflect.ValueOf(*a), "", "")
	q.mapping(reflect.ValueOf(*b), "", "")
	x.WriteString(p.b.String())
	y.WriteString(q.b.String())
	return x.String() == y.String()
}

// TestPrint: what is printed, with its secrets put back, loads as the same configuration.
func TestPrint(t *testing.T) {
	for _, file := range []string{"testdata/minimal.yaml", "testdata/full.yaml", "testdata/odd.yaml"} {
		t.Run(file, func(t *testing.T) {
			c, err := Load(file, testEnv)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := c.Print(&out); err != nil {
				t.Fatal(err)
			}
			src := out.String()
			secrets := []Secret{c.Upstreams[0].Password}
			for _, d := range c.Senders[0].DKIM {
				secrets = append(secrets, d.Key)
			}
			for _, s := range append(secrets, c.Accounts[0].PasswordHash, c.Accounts[0].Password, c.Admin.Token) {
				if s != "" {
					src = strings.Replace(src, `"***"`, quote(string(s)), 1)
				}
			}
			again, err := Parse("printed", []byte(src), testEnv)
			if err != nil {
				t.Fatalf("%v\n%s", err, src)
			}
			if !same(c, again) {
				t.Errorf("printed, it means something else:\n%s", src)
			}
		})
	}
}
