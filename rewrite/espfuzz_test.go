package rewrite

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzFindings feeds any value to each field that holds JSON, and any field. What encoding/json reads in it, in any case
// of the keys, must be found.
func FuzzFindings(f *testing.F) {
	for _, s := range []string{
		`{"to":["a@b.example"]}`, `{"category":"a","filters":{"bcc":{"settings":{"enable":1}}}}`, `{"\u0074o":1}`, `{"a":{"to":1}}`,
		`{"filters":[{"footer":{"settings":{"enable":0}}}]}`, `{"options":{"transactional":false,"skip_suppression":true}}`,
		"=?utf-8?B?eyJ0byI6WyJhQGIuZXhhbXBsZSJdfQ==?=", `{"=?utf-8?Q?to?=":1}`, "{\"t\r\n o\":1}", `{"ſub":{"a":"b"}}`, `{"to":1`, `{} {}`, `{"cc":[{}],"cc":0}`,
	} {
		for _, name := range []string{"X-SMTPAPI", "X-Msys-Api", "X-MC-AutoHtml", "x-ignore-y"} {
			f.Add(name, s)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		raw := onTheWire([]byte(name + ": " + value))
		if len(raw) > 1<<16 {
			return
		}
		m, err := Read(append(raw, "\r\nx\r\n"...))
		if err != nil || len(m.fields) != 1 {
			return
		}
		got := m.Findings()
		for _, g := range got {
			if g.Text == "" || len(g.Field) > 64 || g.Code != recipients && g.Code != bypass {
				t.Fatalf("%+v", g)
			}
		}
		c := controls.find(m.fields[0].name)
		if c == nil && len(got) > 0 || c != nil && len(c.at) == 0 && len(got) != 1 && len(c.rows[0].harmless) == 0 {
			t.Fatalf("%s: %v", name, got)
		}
		if c == nil || len(got) > 0 || len(c.at) == 0 {
			return
		}
		v := m.fields[0].value(m.raw)
		for _, v := range []string{v, decodeWords(v)} {
			var object map[string]any
			if json.Unmarshal([]byte(v), &object) != nil {
				continue
			}
			for path, row := range c.at {
				if reach(object, strings.Split(path, "."), row) {
					t.Fatalf("%q names %q", v, path)
				}
			}
		}
	})
}

// reach tells whether a path, keys in any case, leads to a value that is not plainly harmless.
func reach(v any, path []string, row *control) bool {
	if len(path) == 0 {
		return len(row.harmless) == 0 || !hollow(v) && !disabled(v)
	}
	object, _ := v.(map[string]any)
	for key, inner := range object {
		if strings.EqualFold(key, path[0]) && reach(inner, path[1:], row) {
			return true
		}
	}
	return false
}

func hollow(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return v == nil || v == "" || v == false || v == 0.0 || v == "0"
}

// disabled tells whether there is a settings.enable that is off; another beside it is not this oracle's to judge.
func disabled(v any) bool {
	object, _ := v.(map[string]any)
	for key, settings := range object {
		inner, _ := settings.(map[string]any)
		for name, enable := range inner {
			if strings.EqualFold(key, "settings") && strings.EqualFold(name, "enable") && hollow(enable) {
				return true
			}
		}
	}
	return false
}
