package rewrite

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"heed/policy"
)

// docs/esp.md lists the rows of esp.tsv; HEED_GOLDEN=write makes the list anew.
func TestPageOfControlFields(t *testing.T) {
	const page, begin, end = "../docs/esp.md", "<!-- rows -->\n", "<!-- end of rows -->"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the page has no place for the rows")
	}
	var rows strings.Builder
	n := 0
	esp := ""
	for line := range strings.Lines(espTable) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 6 || f[3] != "recipients" && f[3] != "bypass" {
			t.Fatalf("not a row: %q", line)
		}
		n++
		when := map[string]string{"any": "", "on": ", unless empty or off"}[f[2]]
		if v, ok := strings.CutPrefix(f[2], "="); ok {
			when = ": " + strings.ReplaceAll(v, "|", ", ")
		} else if when == "" && f[2] != "any" {
			when = ", key `" + f[2] + "`"
		}
		esp = f[0]
		fmt.Fprintf(&rows, "| %s | `%s`%s | %s | %s | `esp.%s` |\n", esp, f[1], when, f[4], f[5], f[3])
	}
	want := "| ESP | field | what it would do | instead | code |\n|---|---|---|---|---|\n" + rows.String()
	if os.Getenv("HEED_GOLDEN") == "write" {
		write(t, page, []byte(before+begin+want+end+after))
	} else if got != want {
		t.Error("docs/esp.md does not list what esp.tsv has: HEED_GOLDEN=write go test ./rewrite -run Page")
	}
	if n < 40 {
		t.Errorf("%d rows", n)
	}
}

// FuzzFindings: where the standard library's decoder sees a forbidden key in the value, so do we.
func FuzzFindings(f *testing.F) {
	for _, s := range []string{`{"to":["a@b.example"]}`, `{"\u0074o":1}`, `{"filters":{"bcc":{}}}`, `{"category":"to"}`, `{`, `=?utf-8?q?{=22to=22:1}?=`, "\ufeff{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n") {
			return
		}
		m, err := Read([]byte("X-SMTPAPI: " + value + "\r\n\r\nx\r\n"))
		if err != nil || len(m.fields) != 1 {
			return
		}
		found := m.Findings(false)
		var seen struct {
			To, CC, BCC json.RawMessage
			Filters     struct{ BCC json.RawMessage }
		}
		if err := json.Unmarshal([]byte(strings.TrimSpace(value)), &seen); err != nil || seen.To == nil && seen.CC == nil && seen.BCC == nil && seen.Filters.BCC == nil {
			return
		}
		if len(found) == 0 || found[0].Code != policy.CodeESPRecipients {
			t.Fatalf("%q: found %v", value, found)
		}
	})
}
