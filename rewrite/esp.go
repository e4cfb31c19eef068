package rewrite

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"heed/policy"
)

//go:embed esp.tsv
var espTable string

// Finding is a header field that would make an ESP do what nobody decided.
type Finding struct {
	Field string // as it stands in the message, at most 64 characters
	Code  string // esp.recipients, which binds all mail, or esp.bypass, which binds marketing mail
	Text  string // one sentence: the field, the place in its JSON, what it would do and what to do instead
}

// control is one row of esp.tsv.
type control struct {
	esp, field, code   string
	paths              []string // into the JSON, lower case, dotted; none: the field does it by itself
	harmless           []string // values let through
	does, instead, src string
}

// controlField is what is known of one field name.
type controlField struct {
	rows   []*control
	at     map[string]*control // by path
	inside map[string]bool     // objects on the way to a path
}

// controlTable is esp.tsv by lower-case name: each field of each message is looked up.
type controlTable struct {
	names    map[string]*controlField
	prefixes []string  // of names that end in *
	first    [256]bool // letters that a name begins with
}

var controls = readControls(espTable)

func readControls(table string) *controlTable {
	t := &controlTable{names: map[string]*controlField{}}
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSpace(line), "\t")
		c := &control{esp: f[0], field: f[1], code: f[4], does: f[5], instead: f[6], src: f[7]}
		if f[2] != "any" {
			c.paths = strings.Fields(f[2])
		}
		if f[3] != "-" {
			c.harmless = strings.Fields(f[3])
		}
		t.add(c)
	}
	return t
}

func (t *controlTable) add(c *control) {
	name := strings.ToLower(c.field)
	t.first[name[0]], t.first[name[0]&^0x20] = true, true
	if p, ok := strings.CutSuffix(name, "*"); ok {
		t.prefixes = append(t.prefixes, p)
	}
	f := t.names[name]
	if f == nil {
		f = &controlField{at: map[string]*control{}, inside: map[string]bool{}}
		t.names[name] = f
	}
	f.rows = append(f.rows, c)
	for _, p := range c.paths {
		f.at[p] = c
		for i := range p {
			if p[i] == '.' {
				f.inside[p[:i]] = true
			}
		}
	}
}

// find looks a field name up, in any case; nil: no ESP's, or a harmless one. It allocates nothing.
func (t *controlTable) find(name string) *controlField {
	if name == "" || !t.first[name[0]] {
		return nil
	}
	var buf [64]byte // longer than any name
	low := buf[:copy(buf[:], name)]
	for i, c := range low {
		if 'A' <= c && c <= 'Z' {
			low[i] = c | 0x20
		}
	}
	if len(name) < len(buf) {
		if f := t.names[string(low)]; f != nil {
			return f
		}
	}
	for _, p := range t.prefixes {
		if len(low) >= len(p) && string(low[:len(p)]) == p {
			return t.names[p+"*"]
		}
	}
	return nil
}

// maxFindings bounds those of each code: the decision on each recipient has them all.
const maxFindings = 20

// Findings lists what the ESP control fields would do beside the decision, in every one of them, however written, each
// finding once. esp.recipients come first.
func (m *Mail) Findings() []Finding {
	var binding, more []Finding
	for _, f := range m.fields {
		c := controls.find(f.name)
		if c == nil {
			continue
		}
		for _, found := range c.inspect(f.name, f.value(m.raw)) {
			list := &more
			if found.Code == policy.CodeESPRecipients {
				list = &binding
			}
			if len(*list) < maxFindings && !slices.Contains(*list, found) {
				*list = append(*list, found)
			}
		}
	}
	return append(binding, more...)
}

func (f *controlField) inspect(name, value string) []Finding {
	name = name[:min(len(name), 64)]
	if len(f.at) > 0 {
		return f.inspectJSON(name, value)
	}
	decoded, err := decodeStrictly(value)
	var out []Finding
	for _, c := range f.rows {
		if err != nil || !c.lets(value) || !c.lets(decoded) { // an ESP may read it either way
			out = append(out, Finding{name, c.code, c.sentence(name)})
		}
	}
	return out
}

func (f *controlField) inspectJSON(name, value string) []Finding {
	hits, fault := f.scanBoth(value)
	var out []Finding
	for _, h := range hits {
		out = append(out, Finding{name, h.control.code, h.control.sentence(name + ` "` + h.path + `"`)})
	}
	if fault != nil {
		text := fmt.Sprintf("%s is not readable as JSON (%v), so that nobody can tell what %s would make of it: correct it or leave it out", name, fault, f.rows[0].esp)
		out = append(out, Finding{name, policy.CodeESPRecipients, text})
	}
	return out
}

func (c *control) sentence(what string) string {
	return fmt.Sprintf("%s %s (%s): %s", what, c.does, c.esp, c.instead)
}

// lets tells whether a value of the field itself is harmless.
func (c *control) lets(value string) bool {
	value = strings.ToLower(strings.TrimSpace(value))
	return slices.ContainsFunc(c.harmless, func(h string) bool {
		if p, ok := strings.CutSuffix(h, "*"); ok {
			return strings.HasPrefix(value, p)
		}
		return value == h
	})
}

// controlPrefixes begin the names that ESPs keep to themselves. Where the header's end is in doubt none may follow,
// known or not.
var controlPrefixes = []string{
	"x-msys-", "x-mc-", "x-mailgun-", "x-pm-", "x-ses-", "x-mailin-", "x-mj-", "x-mailjet-", "x-elasticemail-",
	"x-greenarrow-", "x-postal-", "x-cuttlefish-", "x-emailit-", "x-ignore-", "x-mq-",
}

// isControl tells whether a lower-case name may be an ESP control field, be it a harmless one.
func isControl(low string) bool {
	return controls.find(low) != nil || slices.ContainsFunc(controlPrefixes, func(p string) bool { return strings.HasPrefix(low, p) })
}
