package rewrite

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"heed/policy"
)

//go:embed esp.tsv
var espTable string

// Finding is a header field that would make an ESP send the message to somebody whom nobody decided about.
type Finding struct {
	Field string // as it stands in the message
	Code  string // esp.recipients
	Text  string // one sentence
}

// control is one row of esp.tsv.
type control struct {
	field string
	any   bool
	paths []string // lower case, dotted
	what  string
}

type controlTable []control

var controls = readControls(espTable)

func readControls(table string) (out controlTable) {
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSpace(line), "\t")
		c := control{field: f[0], any: f[1] == "any", what: f[2]}
		if !c.any {
			c.paths = strings.Fields(f[1])
		}
		out = append(out, c)
	}
	return out
}

func (t controlTable) find(name string) *control {
	for i := range t {
		if strings.EqualFold(t[i].field, name) {
			return &t[i]
		}
	}
	return nil
}

// Findings lists the ESP control fields that add or override recipients, every one of them, however written.
func (m *Mail) Findings() []Finding {
	var out []Finding
	for _, f := range m.fields {
		c := controls.find(f.name)
		if c == nil {
			continue
		}
		if why := c.inspect(f.value(m.raw)); why != "" {
			out = append(out, Finding{f.name, policy.CodeESPRecipients, fmt.Sprintf("%s %s (%s)", f.name, why, c.what)})
		}
	}
	return out
}

// inspect tells why a value is not to be let through, or "".
func (c *control) inspect(value string) string {
	if c.any {
		return "names a recipient"
	}
	readable := false
	for _, v := range []string{value, decodeWords(value)} { // an ESP may read it either way
		path, err := namesAny(strings.ReplaceAll(v, "\t", " "), c.paths)
		if path != "" {
			return fmt.Sprintf("names recipients in %q", path)
		}
		readable = readable || err == nil
	}
	if !readable {
		return "is not readable as JSON, so that nobody can tell whom it names"
	}
	return ""
}

// namesAny looks for the paths in a JSON object, in any case and also in a key given twice, which a decoder that
// keeps only the last would miss.
func namesAny(text string, paths []string) (string, error) {
	d := json.NewDecoder(strings.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", errors.New("not a JSON object")
	}
	found, err := scanObject(d, "", paths, 0)
	if err != nil || found != "" {
		return found, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("text after the JSON object")
	}
	return "", nil
}

// scanObject reads the rest of an object; objects below the second level are only skipped.
func scanObject(d *json.Decoder, prefix string, paths []string, depth int) (found string, err error) {
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		path := prefix + strings.ToLower(strings.Join(strings.Fields(fmt.Sprint(key)), "")) // folded in its middle, too
		for _, p := range paths {
			if p == path {
				found = path
			}
		}
		t, err := d.Token()
		if err != nil {
			return "", err
		}
		inner := ""
		switch {
		case t == json.Delim('{') && depth < 2:
			inner, err = scanObject(d, path+".", paths, depth+1)
		case t == json.Delim('{') || t == json.Delim('['):
			err = skipJSON(d)
		}
		if err != nil {
			return "", err
		}
		if inner != "" {
			found = inner
		}
	}
	_, err = d.Token()
	return found, err
}

// skipJSON reads to the end of the object or array that has just begun.
func skipJSON(d *json.Decoder) error {
	for depth := 1; depth > 0; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}
