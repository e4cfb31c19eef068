package rewrite

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"heed/policy"
)

//go:embed esp.tsv
var espTable string

// Finding is a header field that would make an ESP undo what was decided.
type Finding struct {
	Field string // as it stands in the message
	Code  string // esp.recipients | esp.bypass
	Text  string // one sentence: what it would do, and what to do instead
}

// control is one row of esp.tsv.
type control struct {
	esp, field, when, code, does, instead string
}

// controlTable are the rows by field name in lower case; wide are those for every field that begins so.
type controlTable struct {
	exact map[string][]control
	wide  []control
}

var controls = readControls(espTable)

func readControls(table string) controlTable {
	t := controlTable{exact: map[string][]control{}}
	for line := range strings.Lines(table) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if strings.HasPrefix(line, "#") || len(f) != 6 {
			continue
		}
		c := control{f[0], strings.ToLower(f[1]), f[2], policy.CodeESPBypass, f[4], f[5]}
		if f[3] == "recipients" {
			c.code = policy.CodeESPRecipients
		}
		if start, ok := strings.CutSuffix(c.field, "*"); ok {
			c.field = start
			t.wide = append(t.wide, c)
		} else {
			t.exact[c.field] = append(t.exact[c.field], c)
		}
	}
	return t
}

// find are the rows for a field name in lower case.
func (t controlTable) find(low string) []control {
	rows := t.exact[low]
	for _, c := range t.wide {
		if strings.HasPrefix(low, c.field) {
			rows = append(rows[:len(rows):len(rows)], c)
		}
	}
	return rows
}

// Findings lists the ESP control fields that add recipients, bypass suppression, delay the message, or replace what was
// put into it: every one of them, however written. Marketing tells whether all of these count; in transactional mail
// recipients alone do.
func (m *Mail) Findings(marketing bool) []Finding {
	var out []Finding
	for _, f := range m.fields {
		rows := controls.find(strings.ToLower(f.name))
		if len(rows) == 0 {
			continue
		}
		for _, found := range inspect(rows, f.value(m.raw)) {
			if marketing || found.Code == policy.CodeESPRecipients {
				found.Field = f.name
				out = append(out, found)
			}
		}
	}
	return out
}

// inspect holds a value against the rows of its field, as it stands and with encoded words decoded (RFC 2047): an ESP
// may read it either way.
func inspect(rows []control, value string) (out []Finding) {
	add := func(c control, at string) {
		f := Finding{Code: c.code, Text: fmt.Sprintf("%s%s (%s): %s", at, c.does, c.esp, c.instead)}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	views := []string{strings.ReplaceAll(value, "\t", " ")}
	if strings.Contains(value, "=?") {
		views = append(views, strings.ReplaceAll(decodeWords(value), "\t", " "))
	}
	var paths []control
	for _, c := range rows {
		switch {
		case c.when == "any":
			add(c, "")
		case c.when == "on":
			if slices.ContainsFunc(views, func(v string) bool { return !off(v) }) {
				add(c, "")
			}
		case strings.HasPrefix(c.when, "="):
			for _, v := range views {
				if slices.Contains(strings.Split(c.when[1:], "|"), strings.ToLower(strings.Trim(v, ` "'`))) {
					add(c, "")
				}
			}
		default:
			paths = append(paths, c)
		}
	}
	if len(paths) == 0 {
		return out
	}
	readable := false
	for _, v := range views {
		err := scanJSON(v, func(path string, value []byte) {
			for _, c := range paths {
				if c.when == path && (c.code == policy.CodeESPRecipients || !off(string(value))) {
					add(c, fmt.Sprintf("%q ", path))
				}
			}
		})
		readable = readable || err == nil
	}
	if !readable && len(out) == 0 {
		out = append(out, Finding{Code: policy.CodeESPRecipients, Text: "is not readable as JSON, so that nobody can tell whom it names: leave it out, or mend it"})
	}
	return out
}

// A switch in JSON: {"settings": {"enable": 0}}. One that says so in other words is taken to be on.
var (
	enable   = regexp.MustCompile(`(?i)"enabled?"\s*:`)
	disabled = regexp.MustCompile(`(?i)"enabled?"\s*:\s*(?:0|"0"|false|"false")\s*[,}]`)
)

// off tells that a value, plain or JSON, says nothing or no.
func off(v string) bool {
	v = strings.ToLower(strings.TrimSpace(v))
	switch strings.Trim(v, `"' `) {
	case "", "0", "no", "off", "false", "null", "none", "{}", "[]":
		return true
	}
	n := len(enable.FindAllString(v, -1))
	return strings.HasPrefix(v, "{") && n > 0 && n == len(disabled.FindAllString(v, -1))
}

// pathDepth is how deep the table's paths go: filters.bcc.
const pathDepth = 2

// scanJSON reports the values of a JSON object down to pathDepth, with their keys in lower case, and also a key given
// twice, which a decoder that keeps only the last would miss.
func scanJSON(text string, found func(path string, value []byte)) error {
	if len(text) > maxHeader {
		return errors.New("too long")
	}
	d := json.NewDecoder(strings.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	if err := scanObject(d, "", 1, found); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON object")
	}
	return nil
}

// scanObject reads the rest of an object.
func scanObject(d *json.Decoder, prefix string, depth int, found func(string, []byte)) error {
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		path := prefix + strings.ToLower(strings.Join(strings.Fields(fmt.Sprint(key)), "")) // folded in its middle, too
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		found(path, value)
		if depth == pathDepth || len(value) == 0 || value[0] != '{' {
			continue
		}
		inner := json.NewDecoder(bytes.NewReader(value))
		if _, err := inner.Token(); err != nil {
			return err
		}
		if err := scanObject(inner, path+".", depth+1, found); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}
