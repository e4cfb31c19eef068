package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mistake is one thing wrong in a configuration. It never holds a secret.
type Mistake struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // 1 is the first; of the nearest key there is, where the key itself is missing; 0 without a line
	Key    string `json:"key"`  // as accounts[0].upstream; "" for the file as a whole
	Value  string `json:"value,omitempty"`
	Text   string `json:"text"` // what is wrong
	Remedy string `json:"remedy"`
}

// String is the mistake in one line.
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		b.WriteString(":" + strconv.Itoa(m.Line))
	}
	b.WriteString(": ")
	if m.Key != "" {
		b.WriteString(m.Key + ": ")
	}
	if m.Value != "" {
		b.WriteString(m.Value + " ")
	}
	b.WriteString(m.Text)
	if m.Remedy != "" {
		b.WriteString("; " + m.Remedy)
	}
	return b.String()
}

// Errors is every mistake found, by line.
type Errors struct{ Mistakes []Mistake }

// Error has one line for each mistake.
func (e *Errors) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// maxMistakes bounds what is reported of a file that is not a configuration at all.
const maxMistakes = 200

// place is where a key stands and how its value may be shown.
type place struct {
	line  int
	value string
}

// report collects mistakes, at most one for each key.
type report struct {
	file     string
	places   map[string]place
	mistaken map[string]bool
	list     []Mistake
}

func newReport(file string) *report {
	return &report{file: file, places: map[string]place{}, mistaken: map[string]bool{}}
}

// add reports a mistake at a key; line and value are those recorded for it, or the line of its nearest parent.
func (r *report) add(key, text, remedy string) {
	p, ok := r.places[key]
	for parent := key; !ok && parent != ""; {
		parent = parent[:max(strings.LastIndexAny(parent, ".["), 0)]
		var at place
		at, ok = r.places[parent]
		p = place{line: at.line}
	}
	r.addAt(p, key, text, remedy)
}

func (r *report) addAt(p place, key, text, remedy string) {
	if r.mistaken[key] || len(r.list) >= maxMistakes {
		return
	}
	r.mistaken[key] = true
	r.list = append(r.list, Mistake{File: r.file, Line: p.line, Key: key, Value: p.value, Text: text, Remedy: remedy})
}

// bad tells whether the key, one above it or one below it is mistaken already: what hangs on it is not looked at.
func (r *report) bad(key string) bool {
	for parent := key; parent != ""; parent = parent[:max(strings.LastIndexAny(parent, ".["), 0)] {
		if r.mistaken[parent] {
			return true
		}
	}
	for k := range r.mistaken {
		if strings.HasPrefix(k, key+"[") || strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// err is nil where nothing is wrong.
func (r *report) err() error {
	if len(r.list) == 0 {
		return nil
	}
	slices.SortStableFunc(r.list, func(a, b Mistake) int { return a.Line - b.Line })
	return &Errors{Mistakes: r.list}
}

// fail is an error of one mistake about the file as a whole.
func fail(file string, line int, text, remedy string) error {
	return &Errors{Mistakes: []Mistake{{File: file, Line: line, Text: text, Remedy: remedy}}}
}

var urlLogin = regexp.MustCompile(`(?s)(://[^/@:]*):.*@`)

// Redact hides the password in a URL, for logs: redis://user:***@host.
func Redact(s string) string { return urlLogin.ReplaceAllString(s, "$1:"+stars+"@") }

// shown is a value as a mistake may show it: quoted, cut to its first line, without the password of a URL. A pasted
// private key shows no more than its BEGIN line.
func shown(s string) string {
	const most = 100
	s = Redact(s)
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i] + "…"
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
