package config

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Print writes the effective values as YAML, secrets as ***. Once those are put back, Load takes it.
func (c *Config) Print(w io.Writer) error {
	p := &printer{hide: true}
	p.mapping(reflect.ValueOf(*c), "", "")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// printer writes a configuration as YAML: for Print all of it, for Starter with documentation, what has its default
// commented out and what is not supported yet left out.
type printer struct {
	b       strings.Builder
	hide    bool // secrets as ***
	explain bool // as a starter file
	off     bool // within what is commented out
}

// mapping writes the fields of v. first is the indent of the first line ("- " for an item of a list), rest of the others.
func (p *printer) mapping(v reflect.Value, first, rest string) {
	indent := first
	for i := range v.NumField() {
		f := fieldOf(v.Type().Field(i))
		if p.explain && (f.hasBuilt || !built(v.Field(i))) {
			continue
		}
		p.entry(f, v.Field(i), indent)
		indent = rest
	}
}

// built tells whether anything below v is supported.
func built(v reflect.Value) bool {
	if !nested(v) {
		return v.Type() != reflect.TypeFor[Later]()
	}
	for i := range v.NumField() {
		if f := fieldOf(v.Type().Field(i)); !f.hasBuilt && built(v.Field(i)) {
			return true
		}
	}
	return false
}

// nested tells whether v is a mapping of its own in the file.
func nested(v reflect.Value) bool {
	switch v.Interface().(type) {
	case URL, Later:
		return false
	}
	return v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[Config]().PkgPath()
}

// entry writes one field. In a starter file # stands before a key that has its default, and what is below it.
func (p *printer) entry(f field, v reflect.Value, indent string) {
	off := p.explain && !p.off && isDefault(v, f)
	part := &printer{hide: p.hide, explain: p.explain, off: p.off || off}
	deeper := strings.Repeat(" ", len(indent)+2)
	switch {
	case nested(v):
		part.line(indent+f.key+":", f.help())
		part.mapping(v, deeper, deeper)
	case v.Kind() == reflect.Slice && v.Len() > 0 && nested(v.Index(0)):
		part.line(indent+f.key+":", f.help())
		for i := range v.Len() {
			part.mapping(v.Index(i), deeper+"- ", deeper+"  ")
		}
	case v.Kind() == reflect.Map && v.Len() > 0:
		part.line(indent+f.key+":", f.help())
		for _, name := range slices.Sorted(maps.Keys(v.Interface().(map[string][]string))) {
			part.line(deeper+quote(name)+": "+part.inline(f, v.MapIndex(reflect.ValueOf(name))), "")
		}
	default:
		part.line(indent+f.key+": "+part.inline(f, v), f.help())
	}
	for l := range strings.Lines(part.b.String()) {
		if text := strings.TrimLeft(l[:len(indent)], " ") + l[len(indent):]; off && !strings.HasPrefix(text, "# ") {
			l = indent + "#" + l[len(indent):]
		}
		p.b.WriteString(l)
	}
}

// line writes one line, and in a starter file what it means: beside it, or above where it is long.
func (p *printer) line(s, doc string) {
	const beside, width = 34, 118
	switch {
	case !p.explain || doc == "":
		p.b.WriteString(s + "\n")
	case len(s) < beside && beside+3+len(doc) <= width:
		fmt.Fprintf(&p.b, "%-*s # %s\n", beside, s, doc)
	default:
		indent := strings.Repeat(" ", len(s)-len(strings.TrimLeft(s, " -")))
		for _, l := range wrap(doc, 90) {
			p.b.WriteString(indent + "# " + l + "\n")
		}
		p.b.WriteString(s + "\n")
	}
}

// help is what a starter file says of a key: the words it may be, and what it means.
func (f field) help() string {
	if f.one == "" {
		return f.doc
	}
	return strings.ReplaceAll(f.one, "|", " | ") + ". " + f.doc
}

func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for w := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(w) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+w, " ")
	}
	return append(lines, line)
}

// isDefault tells whether leaving the key out would mean the same.
func isDefault(v reflect.Value, f field) bool {
	if nested(v) {
		for i := range v.NumField() {
			if !isDefault(v.Field(i), fieldOf(v.Type().Field(i))) {
				return false
			}
		}
		return true
	}
	d := reflect.New(v.Type()).Elem()
	setDefault(d, f)
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return d.Len() == 0
	}
	return reflect.DeepEqual(d.Interface(), v.Interface())
}

// inline is a value in one line.
func (p *printer) inline(f field, v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Secret:
		if p.hide {
			return quote(x.String())
		}
		return quote(string(x))
	case Later:
		return f.def
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return x.Format(time.DateOnly)
	case time.Duration:
		if f.is["off"] && x == 0 {
			return "off"
		}
		return durationText(x)
	case Size:
		return x.String()
	case URL:
		return x.String()
	case netip.Prefix:
		return quote(x.String())
	case string:
		return p.text(f, x)
	case bool, int:
		return fmt.Sprint(x)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	if v.Kind() == reflect.Map {
		return "{}"
	}
	items := make([]string, v.Len())
	for i := range items {
		items[i] = p.inline(f, v.Index(i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (p *printer) text(f field, s string) string {
	if f.is["keyfile"] {
		s = "file:" + s
	}
	if p.hide && f.is["state"] {
		s = Redact(s)
	}
	return quote(s)
}

// plain are the texts that YAML takes for text without quotes, anywhere.
var plain = regexp.MustCompile(`^[A-Za-z./][A-Za-z0-9_./+@-]*(:[A-Za-z0-9_./+@-]+)*$`)

// quote writes a text so that Load reads the same text back.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", ".inf", ".nan":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ReplaceAll(s, "${", "$${") {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x10000 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}
