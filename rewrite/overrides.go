package rewrite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	yamltoken "github.com/goccy/go-yaml/token"
	"golang.org/x/text/language"
)

// Bounds of the texts that are read.
const (
	maxTextFile  = 128 << 10
	maxTextFiles = 200
	maxReported  = 200
)

// TextMistake is one thing wrong in a file of texts.
type TextMistake struct {
	File   string
	Line   int    // 0 for the file as a whole
	Key    string // "" for the file as a whole
	Text   string // what is wrong
	Remedy string
}

// TextMistakes is everything wrong in files of texts.
type TextMistakes []TextMistake

// Error has one line for each mistake.
func (m TextMistakes) Error() string {
	var b strings.Builder
	for i, x := range m {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(x.File)
		if x.Line > 0 {
			fmt.Fprintf(&b, ":%d", x.Line)
		}
		b.WriteString(": ")
		if x.Key != "" {
			b.WriteString(x.Key + ": ")
		}
		b.WriteString(x.Text + "; " + x.Remedy)
	}
	return b.String()
}

// Override returns the notices with the operator's own texts in place of those built in: XX.yaml holds any of the keys of
// en.yaml, or all of them for a language that is lacking. dir names the folder in mistakes, which come as TextMistakes.
// The notices it is called on stay as they are.
func (n *Notices) Override(files fs.FS, dir string) (*Notices, error) {
	next := &Notices{byLanguage: maps.Clone(n.byLanguage), byCountry: n.byCountry}
	return next.read(&textReader{dir: dir, files: files})
}

// read takes over every file of texts.
func (n *Notices) read(r *textReader) (*Notices, error) {
	entries, err := fs.ReadDir(r.files, ".")
	if err != nil {
		r.whole(".", "cannot be read: "+cause(err), "name a folder that the gateway may read")
	}
	if len(entries) > maxTextFiles {
		r.whole(".", "holds too many files", "give the texts a folder of their own")
		return nil, r.mistakes
	}
	english := n.byLanguage["en"].byKey()
	for _, e := range entries {
		name := e.Name()
		tag, isText := strings.CutSuffix(name, ".yaml")
		switch ext := strings.ToLower(path.Ext(name)); {
		case strings.HasPrefix(name, "."):
		case !isText && (ext == ".yml" || ext == ".yaml"):
			r.whole(name, "is not read by this name", "call it XX.yaml, XX being the language in lower case")
		case !isText:
		case !isLanguage(tag):
			r.whole(name, "is not named after a language", "call it XX.yaml, XX being the language alone, like de or pt")
		case written[tag] != "" && n.byLanguage[written[tag]] != nil && tag != "nn":
			r.whole(name, "is not named after the language it is written in", "call it "+written[tag]+".yaml")
		default:
			w := &wording{Language: tag, NativeReview: "none"}
			if old := n.byLanguage[tag]; old != nil {
				*w = *old
			}
			if r.file(name, w, english); r.mistakes == nil {
				n.byLanguage[tag] = w
			}
		}
	}
	if len(r.mistakes) > 0 {
		return nil, r.mistakes
	}
	return n, nil
}

// isLanguage tells whether a file may be named so: a language without region, in its shortest form.
func isLanguage(tag string) bool {
	b, err := language.ParseBase(tag)
	return err == nil && tag == strings.ToLower(tag) && (b.String() == tag || written[tag] != "") && tag != "und"
}

func cause(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return err.Error()
}

// textReader reads files of texts and collects what is wrong in them.
type textReader struct {
	dir      string
	files    fs.FS
	mistakes TextMistakes
}

func (r *textReader) add(m TextMistake) {
	if len(r.mistakes) < maxReported {
		m.File = path.Join(r.dir, m.File)
		r.mistakes = append(r.mistakes, m)
	}
}

func (r *textReader) whole(name, wrong, remedy string) {
	r.add(TextMistake{File: name, Text: wrong, Remedy: remedy})
}

// file takes over what one file says, and then looks for what w lacks. Each text is held to the English one; a nil
// english is w itself.
func (r *textReader) file(name string, w *wording, english map[string]*template) {
	before := len(r.mistakes)
	src, err := readText(r.files, name)
	if err != nil {
		r.whole(name, "cannot be read: "+cause(err), "name a text file that the gateway may read, of at most 128 KiB")
		return
	}
	pairs, line, err := pairsOf(src)
	if err != nil {
		r.add(TextMistake{File: name, Line: line, Text: "is not a list of keys and texts: " + err.Error(), Remedy: "write each as key: \"text\", and check indents and quotes"})
		return
	}
	seen, texts := map[string]int{}, w.byKey()
	for _, p := range pairs {
		key, at := p.Key.GetToken().Value, p.Key.GetToken().Position.Line
		wrong, remedy := "stands there twice", fmt.Sprintf("remove one; the other is in line %d", seen[key])
		if seen[key] == 0 {
			seen[key] = at
			wrong, remedy = w.set(key, p.Value, texts[key], english)
		}
		if wrong != "" {
			r.add(TextMistake{File: name, Line: at, Key: cut(key, 60), Text: wrong, Remedy: remedy})
		}
	}
	if lacking := w.lacking(); len(lacking) > 0 && len(r.mistakes) == before {
		r.whole(name, "lacks "+strings.Join(lacking, ", "), "write all the keys of the English texts: this language has none built in that could stand in for one left out")
	}
}

// set takes over the value of one key, whose place is t; nil: not that of a text.
func (w *wording) set(key string, n ast.Node, t *template, english map[string]*template) (wrong, remedy string) {
	if key == "months" {
		return w.setMonths(n)
	}
	text, ok := textOf(n)
	if !ok {
		return "is not a text", "write it in quotes"
	}
	switch key {
	case "language":
		if text != w.Language {
			return "is not the language that the file is named after", "write " + w.Language + ", or leave it out"
		}
		return "", ""
	case "native_review":
		if text == "" || len(text) > maxText || strings.ContainsFunc(text, unseen) {
			return "does not say who reviewed the texts", `write a name and a date, or "none"`
		}
		w.NativeReview = text
		return "", ""
	}
	if t == nil {
		return "is not a key of the notices", "use those of docs/notices.md"
	}
	model := &template{}
	if english != nil {
		model = english[key]
	} else { // the English text is the model of the others
		*model, wrong, remedy = parseTemplate(text)
	}
	if wrong == "" {
		*t, wrong, remedy = checkText(key, text, model)
	}
	return wrong, remedy
}

func (w *wording) setMonths(n ast.Node) (wrong, remedy string) {
	list, ok := n.(*ast.SequenceNode)
	if !ok || len(list.Values) != 12 {
		return "is not a list of twelve months", "write [January, February, …], all twelve"
	}
	months := make([]string, 12)
	for i, v := range list.Values {
		text, ok := textOf(v)
		if !ok || text == "" || len(text) > 60 || strings.ContainsFunc(text, unseen) || strings.ContainsAny(text, "[]{}") {
			return fmt.Sprintf("has a month, the %d., that is not a name", i+1), "write words only"
		}
		months[i] = text
	}
	w.Months = months
	return "", ""
}

// lacking are the keys without a value.
func (w *wording) lacking() (keys []string) {
	if len(w.Months) == 0 {
		keys = append(keys, "months")
	}
	for k, t := range w.texts() {
		if t.raw == "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// textOf is a node's text, on one line; false: it is none.
func textOf(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return inLine(v.Value), true
	case *ast.LiteralNode:
		return inLine(v.Value.Value), true
	}
	return "", false
}

// inLine joins lines by blanks. A no-break space stays.
func inLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' || r == '\r' || r == '\t' }), " ")
}

func readText(files fs.FS, name string) ([]byte, error) {
	if info, err := fs.Stat(files, name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, errors.New("it is not a file")
	}
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTextFile+1))
	if err == nil && len(b) > maxTextFile {
		err = errors.New("it is too large")
	}
	return b, err
}

// pairsOf are the keys and values of a YAML file that is one mapping; none in an empty file. line is that of an error.
func pairsOf(src []byte) (pairs []*ast.MappingValueNode, line int, err error) {
	file, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var at interface {
			error
			GetToken() *yamltoken.Token
			GetMessage() string
		}
		if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
			return nil, 0, errors.New("it is not YAML")
		}
		return nil, at.GetToken().Position.Line, errors.New(strings.ReplaceAll(at.GetMessage(), "\t", "TAB"))
	}
	for _, d := range file.Docs {
		switch m := d.Body.(type) {
		case nil, *ast.CommentGroupNode, *ast.NullNode:
			continue
		case *ast.MappingNode:
			pairs = append(pairs, m.Values...)
		case *ast.MappingValueNode:
			pairs = append(pairs, m)
		default:
			return nil, m.GetToken().Position.Line, errors.New("there is something else")
		}
	}
	for _, p := range slices.Clone(pairs) {
		if t := p.Key.GetToken(); t == nil || t.Position == nil {
			return nil, 0, errors.New("a key is none")
		}
	}
	return pairs, 0, nil
}
