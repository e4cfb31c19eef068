package rewrite

import (
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxControlDepth is how deep arrays and objects are followed; ESPs read three levels.
const maxControlDepth = 32

// wordLike is what a lenient reader takes for an encoded word (RFC 2047 section 2).
var wordLike = regexp.MustCompile(`=\?[^?]*\?[bBqQ]\?[^?]*\?=`)

var errWords = errors.New("an encoded word in it is broken or has an unknown charset")

// decodeStrictly decodes encoded words. What a more lenient reader might decode and we cannot is an error.
func decodeStrictly(v string) (string, error) {
	if !strings.Contains(v, "=?") {
		return v, nil
	}
	d, err := words.DecodeHeader(v)
	if err != nil || wordLike.MatchString(d) {
		return v, errWords
	}
	return d, nil
}

// hit is a path at which a control row applies.
type hit struct {
	path    string
	control *control
}

// scanBoth looks into a value as it stands and with its encoded words decoded, since an ESP may read it either way. What
// no word is in must be JSON; with words, what they decode to.
func (f *controlField) scanBoth(value string) ([]hit, error) {
	value = strings.ReplaceAll(value, "\t", " ") // of folding
	hits, fault := f.scan(value)
	decoded, err := decodeStrictly(value)
	if err != nil {
		return hits, err
	}
	if decoded == value {
		return hits, fault
	}
	more, fault := f.scan(strings.ReplaceAll(decoded, "\t", " "))
	for _, h := range more {
		if !slices.Contains(hits, h) {
			hits = append(hits, h)
		}
	}
	return hits, fault
}

// scan looks for the paths in a JSON object, in any case and also in a key given twice, which a decoder that keeps only
// the last would miss.
func (f *controlField) scan(text string) ([]hit, error) {
	s := &jsonScan{field: f, d: json.NewDecoder(strings.NewReader(text))}
	s.d.UseNumber()
	t, err := s.d.Token()
	if err != nil || t != json.Delim('{') {
		return nil, errors.New("no object")
	}
	if err := s.members("", 0); err != nil {
		return s.hits, errors.New("broken")
	}
	if _, err := s.d.Token(); !errors.Is(err, io.EOF) {
		return s.hits, errors.New("text behind the object")
	}
	return s.hits, nil
}

type jsonScan struct {
	field *controlField
	d     *json.Decoder
	hits  []hit
}

var errKey = errors.New("a control character in a key, or nested too deep")

// members reads the rest of an object whose path is prefix, "" or with a dot at its end.
func (s *jsonScan) members(prefix string, depth int) error {
	return s.each(func(key string, t json.Token) error { return s.value(prefix+key, t, depth) })
}

// each reads the rest of an object, one folded key and the first token of its value at a time.
func (s *jsonScan) each(do func(key string, first json.Token) error) error {
	for s.d.More() {
		t, err := s.d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		key, err := foldKey(name)
		if err != nil {
			return err
		}
		if t, err = s.d.Token(); err != nil {
			return err
		}
		if err := do(key, t); err != nil {
			return err
		}
	}
	_, err := s.d.Token()
	return err
}

// value reads the value that begins with t and notes it where it is not harmless.
func (s *jsonScan) value(path string, t json.Token, depth int) error {
	if c := s.field.at[path]; c != nil {
		lets, err := s.lets(c, t)
		if h := (hit{path, c}); !lets && !slices.Contains(s.hits, h) {
			s.hits = append(s.hits, h)
		}
		return err
	}
	switch {
	case t != json.Delim('{') && t != json.Delim('['):
		return nil
	case !s.field.inside[path]:
		return s.skip()
	case depth == maxControlDepth:
		return errKey
	case t == json.Delim('{'):
		return s.members(path+".", depth+1)
	}
	for s.d.More() {
		t, err := s.d.Token()
		if err != nil {
			return err
		}
		if err := s.value(path, t, depth+1); err != nil {
			return err
		}
	}
	_, err := s.d.Token()
	return err
}

// lets reads a value to its end and tells whether it is one of the row's harmless ones.
func (s *jsonScan) lets(c *control, t json.Token) (bool, error) {
	switch t {
	case json.Delim('{'):
		return s.letsObject(c)
	case json.Delim('['):
		empty := !s.d.More()
		return empty && slices.Contains(c.harmless, "empty"), s.skip()
	case nil, "":
		return slices.Contains(c.harmless, "empty"), nil
	}
	switch off(t) {
	case "false":
		return slices.Contains(c.harmless, "false"), nil
	case "0":
		return slices.Contains(c.harmless, "0"), nil
	}
	return false, nil
}

// letsObject wants an object to be empty, or every settings.enable in it to be off, and one to be there.
func (s *jsonScan) letsObject(c *control) (bool, error) {
	if !s.d.More() {
		return slices.Contains(c.harmless, "empty"), s.skip()
	}
	enables, allOff := 0, true
	err := s.each(func(key string, t json.Token) error {
		if key != "settings" || t != json.Delim('{') {
			allOff = allOff && key != "settings"
			return s.rest(t)
		}
		return s.each(func(key string, t json.Token) error {
			if key == "enable" {
				enables++
				allOff = allOff && off(t) != ""
			}
			return s.rest(t)
		})
	})
	return enables > 0 && allOff && slices.Contains(c.harmless, "disabled"), err
}

// off names a scalar that switches off: 0 ("0" too) or false, else "".
func off(t json.Token) string {
	switch v := t.(type) {
	case bool:
		if !v {
			return "false"
		}
	case json.Number:
		if n, err := strconv.ParseFloat(v.String(), 64); err == nil && n == 0 {
			return "0"
		}
	case string:
		if v == "0" {
			return "0"
		}
	}
	return ""
}

// rest reads to the end of the value that begins with t.
func (s *jsonScan) rest(t json.Token) error {
	if t == json.Delim('{') || t == json.Delim('[') {
		return s.skip()
	}
	return nil
}

// skip reads to the end of the object or array that has just begun.
func (s *jsonScan) skip() error {
	for depth := 1; depth > 0; {
		t, err := s.d.Token()
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

// foldKey is a key in lower case, also by Unicode's other letters for k and s, without blanks (a fold may stand in its
// middle), what is not seen and what is no UTF-8, which some readers drop. A control character ends a key for some readers and not for others.
func foldKey(key string) (string, error) {
	if i := strings.IndexFunc(key, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }); i >= 0 {
		return "", errKey
	}
	key = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, key)
	return strings.ToLower(strings.ToUpper(key)), nil
}
