package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// field is what the tags of one field say.
type field struct {
	key, doc, def, one, built string
	hasDefault, hasBuilt      bool
	is                        map[string]bool
}

func fieldOf(f reflect.StructField) field {
	x := field{key: f.Tag.Get("yaml"), doc: f.Tag.Get("doc"), one: f.Tag.Get("one"), is: map[string]bool{}}
	x.def, x.hasDefault = f.Tag.Lookup("default")
	x.built, x.hasBuilt = f.Tag.Lookup("built")
	for k := range strings.FieldsSeq(f.Tag.Get("is")) {
		x.is[k] = true
	}
	return x
}

// decoder walks the document beside the structure it fills.
type decoder struct {
	*report
	env     func(string) (string, bool)
	anchors map[string]ast.Node
	beside  func(path string) string // what a relative path means
	nodes   int
}

// resolve looks behind anchors and aliases. Nil: the node is left out, or was reported.
func (d *decoder) resolve(key string, n ast.Node) ast.Node {
	if d.nodes++; d.nodes > maxNodes {
		d.tooMany()
		return nil
	}
	for range 8 {
		switch x := n.(type) {
		case *ast.AnchorNode:
			n = x.Value
		case *ast.AliasNode:
			to, ok := d.anchors[x.Value.String()]
			if !ok {
				d.add(key, "is an alias of an anchor that is not there", "define the anchor with &NAME, or write the value")
				return nil
			}
			n = to
		case *ast.TagNode:
			d.add(key, "has a tag", "remove the word that starts with !")
			return nil
		case nil, *ast.NullNode, *ast.CommentGroupNode:
			return nil
		default:
			return n
		}
	}
	d.add(key, "is an alias of itself", "write the value")
	return nil
}

// absent tells whether a required key has nothing.
func absent(v reflect.Value) bool { return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 }

func (d *decoder) tooMany() {
	d.addAt(place{}, "", "has too many values once its aliases are followed", "write fewer aliases")
}

// structure fills v from the mapping n; what n lacks gets its default. n is nil where the whole mapping is left out.
func (d *decoder) structure(path string, n ast.Node, v reflect.Value) {
	given := map[string]*ast.MappingValueNode{}
	if n != nil {
		list, ok := pairs(n)
		if !ok {
			d.add(path, "must be a mapping of keys to values", "write the keys below it, indented, as KEY: VALUE")
		}
		given = d.keys(path, list, v.Type())
	}
	for i := range v.NumField() {
		f := fieldOf(v.Type().Field(i))
		key := join(path, f.key)
		var value ast.Node
		if p := given[f.key]; p != nil {
			d.places[key] = place{line: lineOf(p.Key)}
			value = d.resolve(key, p.Value)
		}
		if value == nil {
			setDefault(v.Field(i), f)
		}
		d.value(key, value, v.Field(i), f)
		if f.is["required"] && absent(v.Field(i)) && !d.bad(key) {
			d.add(key, "is missing", "set it: "+f.doc)
		}
	}
}

// keys sorts a mapping's pairs by key and reports those that are unknown or there twice.
func (d *decoder) keys(path string, list []*ast.MappingValueNode, t reflect.Type) map[string]*ast.MappingValueNode {
	known := make([]string, t.NumField())
	for i := range known {
		known[i] = t.Field(i).Tag.Get("yaml")
	}
	given := make(map[string]*ast.MappingValueNode, len(list))
	for _, p := range list {
		k, at := keyText(p), place{line: lineOf(p.Key)}
		key := join(path, keyShown(k))
		switch first := given[k]; {
		case k == "<<":
			d.addAt(at, key, "merges a mapping, which is not supported", "write the keys themselves")
		case !slices.Contains(known, k):
			d.addAt(at, key, "is not a known key", nearest(k, known))
		case first != nil:
			d.addAt(at, key, fmt.Sprintf("is there already, in line %d", lineOf(first.Key)), "remove one of the two")
		default:
			given[k] = p
		}
	}
	return given
}

// value fills v from n. n is nil where the key is left out: lists of mappings are then empty, mappings have defaults.
func (d *decoder) value(key string, n ast.Node, v reflect.Value, f field) {
	switch {
	case v.Type() == reflect.TypeFor[Later]():
		if n != nil && !empty(n) {
			d.add(key, "is not supported yet", "leave it out")
		}
	case nested(v):
		d.structure(key, n, v)
	case n == nil:
	case v.Kind() == reflect.Map:
		d.lists(key, n, v)
	case v.Kind() == reflect.Slice:
		d.list(key, n, v, f)
	default:
		d.scalar(key, n, v, f)
	}
}

// list fills a slice from a sequence.
func (d *decoder) list(key string, n ast.Node, v reflect.Value, f field) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(key, "must be a list", "write it as [VALUE], or one item to a line after a hyphen")
		return
	}
	if d.nodes += len(s.Values); d.nodes > maxNodes {
		d.tooMany()
		return
	}
	all := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	texts := make([]string, 0, min(len(s.Values), 8))
	for i, item := range s.Values {
		at := fmt.Sprintf("%s[%d]", key, i)
		d.places[at] = place{line: lineOf(item)}
		to := d.resolve(at, item)
		if to == nil {
			d.add(at, "is empty", "remove it or give it a value")
			continue
		}
		inner := f
		inner.hasBuilt = false
		d.value(at, to, all.Index(i), inner)
		if all.Index(i).Kind() == reflect.String && all.Index(i).Len() == 0 {
			d.add(at, "is empty", "remove it or give it a value")
		}
		if shown := d.places[at].value; shown != "" && len(texts) < cap(texts) {
			texts = append(texts, shown)
		}
	}
	v.Set(all)
	if len(texts) > 0 {
		d.places[key] = place{line: d.places[key].line, value: "[" + strings.Join(texts, ", ") + "]"}
	}
	if f.hasBuilt && len(s.Values) > 0 {
		d.add(key, "is not supported yet", "leave it empty or out")
	}
}

// lists fills a map of names to lists.
func (d *decoder) lists(key string, n ast.Node, v reflect.Value) {
	list, ok := pairs(n)
	if !ok {
		d.add(key, "must be a mapping of names to lists", "write NAME: [VALUE, VALUE]")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	seen := map[string]int{}
	f := field{is: map[string]bool{"label": true}}
	for _, p := range list {
		name := keyText(p)
		at := join(key, keyShown(name))
		if line, again := seen[name]; again {
			d.addAt(place{line: lineOf(p.Key)}, at, fmt.Sprintf("is there already, in line %d", line), "remove one of the two")
			continue
		}
		seen[name] = lineOf(p.Key)
		d.places[at] = place{line: lineOf(p.Key)}
		if w := checkText(f, &name); w.text != "" || name == "" {
			d.add(at, "is not a name for a family of products", "write it in printable characters without spaces at its ends")
			continue
		}
		items := reflect.New(v.Type().Elem()).Elem()
		if to := d.resolve(at, p.Value); to != nil {
			d.list(at, to, items, f)
		}
		v.SetMapIndex(reflect.ValueOf(name), items)
	}
}

// scalar fills v from one value, with what the environment and files have for it.
func (d *decoder) scalar(key string, n ast.Node, v reflect.Value, f field) {
	raw, form := scalarText(n)
	at := place{line: d.places[key].line}
	if form == "" {
		d.add(key, "must be a single value, not a list or mapping", "write it as KEY: VALUE")
		return
	}
	if f.is["secret"] && raw != "" && !reference(raw) {
		at.value = stars
	} else {
		at.value = shown(raw)
	}
	d.places[key] = at
	text, given, w := d.fetch(raw, form, f)
	if w.text == "" && !given {
		w = checkForm(v, form)
	}
	if w.text == "" {
		w = setScalar(v, f, text)
	}
	if w.text != "" {
		d.add(key, w.text, w.remedy)
	}
}

// reference tells whether a secret's text names where the secret is and nothing else, so that it may be shown.
func reference(raw string) bool {
	return strings.HasPrefix(raw, "file:") || strings.HasPrefix(raw, "${") && strings.IndexByte(raw, '}') == len(raw)-1
}

// fetch takes ${NAME} and file:PATH to the text they stand for. Given: it did not stand in the file itself.
func (d *decoder) fetch(raw, form string, f field) (text string, given bool, w wrong) {
	if form != "text" {
		return raw, false, wrong{}
	}
	text, given, err := expand(raw, d.env)
	if err != nil {
		return "", given, wrong{err.Error(), "set that variable; $${ stands for ${ itself"}
	}
	if f.is["file"] && strings.HasPrefix(raw, "file:") {
		text, err = readValue(d.beside(strings.TrimPrefix(text, "file:")))
		if err != nil {
			return "", true, wrong{"cannot be read: " + err.Error(), "name a file that the gateway may read; relative paths start at the folder of this file"}
		}
		return text, true, wrong{}
	}
	return text, given, wrong{}
}

// checkForm holds the type: text is no number, and true is no text.
func checkForm(v reflect.Value, form string) wrong {
	switch v.Interface().(type) {
	case bool:
		return unless(form == "truth", "is not true or false", "write true or false, without quotes")
	case int, float64:
		return unless(form == "number", "is not a number", "write a number, without quotes")
	}
	return unless(form != "truth", "is not text", "put it in quotes if it is meant")
}

// scalarText is a scalar as written, and its form: text, number or truth; "" for what is no scalar.
func scalarText(n ast.Node) (text, form string) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, "text"
	case *ast.LiteralNode:
		return strings.TrimRight(x.Value.Value, "\n"), "text"
	case *ast.BoolNode:
		return x.Token.Value, "truth"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, "number"
	}
	return "", ""
}

// empty tells whether a node holds nothing: [], {} or "".
func empty(n ast.Node) bool {
	if s, ok := n.(*ast.SequenceNode); ok {
		return len(s.Values) == 0
	}
	if list, ok := pairs(n); ok {
		return len(list) == 0
	}
	text, form := scalarText(n)
	return form == "text" && text == ""
}

// setDefault gives v what a key left out means. The tags are ours: a bad one is a bug, which a test finds.
func setDefault(v reflect.Value, f field) {
	if !f.hasDefault || f.def == "" || v.Type() == reflect.TypeFor[Later]() {
		return
	}
	if v.Kind() != reflect.Slice {
		mustSet(v, f, f.def)
		return
	}
	for s := range strings.SplitSeq(f.def, ", ") {
		e := reflect.New(v.Type().Elem()).Elem()
		mustSet(e, f, s)
		v.Set(reflect.Append(v, e))
	}
}

func mustSet(v reflect.Value, f field, text string) {
	if w := setScalar(v, f, text); w.text != "" {
		panic(fmt.Sprintf("config: default %q of %s %s", text, f.key, w.text))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keyShown is a key as a mistake may show it.
func keyShown(k string) string {
	if nameForm.MatchString(k) && len(k) <= 60 {
		return k
	}
	return shown(k)
}

// nearest is the remedy for an unknown key: the known one that was probably meant, else all of them.
func nearest(k string, known []string) string {
	best, least := "", 3
	for _, s := range known {
		if n := distance(k, s); n < least {
			best, least = s, n
		}
	}
	if best != "" {
		return "write " + best
	}
	return "remove it; the keys here are " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance, in bytes; 99 for what is not worth comparing.
func distance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return 99
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
