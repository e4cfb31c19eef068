package rewrite

import (
	"bytes"
	"strings"
)

// field is one header field by its offsets: name, colon, and the end after its last line's CRLF.
type field struct {
	start, colon, end int
	name              string
}

func (f field) is(name string) bool { return strings.EqualFold(f.name, name) }

// describes tells whether the field describes the body (RFC 2045 section 3).
func (f field) describes() bool {
	return len(f.name) > len("content-") && strings.EqualFold(f.name[:len("content-")], "content-")
}

// value is the unfolded value (RFC 5322 section 2.2.3): the CRLFs taken out, the ends trimmed.
func (f field) value(b []byte) string {
	v := b[f.colon+1 : f.end]
	if bytes.IndexByte(v, '\n') >= 0 {
		v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
	}
	return strings.Trim(string(v), " \t\r\n")
}

// header is one header block.
type header struct {
	fields []field
	start  int  // of the first field: what stands before it belongs to none
	sep    int  // end of the last field: where another may be put
	body   int  // start of the body
	broken bool // ended by a line that is no field, or by the end, and not by an empty line
}

// readHeader scans b[at:end]. A line that is neither field nor continuation ends the header, as if an empty line stood
// before it.
func readHeader(b []byte, at, end int) (header, error) {
	h := header{start: at}
	for limit := at + maxHeader; at < end; {
		next := lineEnd(b, at, end)
		if next > limit {
			return h, refuse("a header is larger than %d octets", maxHeader)
		}
		line := b[at:next]
		switch colon := fieldColon(line); {
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			h.sep, h.body = at, next
			return h, nil
		case line[0] == ' ' || line[0] == '\t':
			if n := len(h.fields); n > 0 {
				h.fields[n-1].end = next
			} else {
				h.start = next // QUIRK: a message that starts with a continuation line
			}
		case colon > 0:
			if len(h.fields) == maxFields {
				return h, refuse("a header has more than %d fields", maxFields)
			}
			name := strings.TrimRight(string(line[:colon]), " \t")
			h.fields = append(h.fields, field{at, at + colon, next, name})
		case len(h.fields) == 0 && (bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))):
			h.start = next // QUIRK: the separator line of an mbox
		default:
			h.sep, h.body, h.broken = at, at, true
			return h, nil
		}
		at = next
	}
	h.sep, h.body, h.broken = end, end, true
	return h, nil
}

// fieldColon is the offset of the colon that ends a field name (RFC 5322 section 3.6.8, white space before the colon
// as in section 4.5.8), or -1.
func fieldColon(line []byte) int {
	i := 0
	for i < len(line) && line[i] > ' ' && line[i] < 0x7f && line[i] != ':' {
		i++
	}
	if i == 0 {
		return -1
	}
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	if i < len(line) && line[i] == ':' {
		return i
	}
	return -1
}

// lineEnd is the offset after the line end of the line at at.
func lineEnd(b []byte, at, end int) int {
	if i := bytes.IndexByte(b[at:end], '\n'); i >= 0 {
		return at + i + 1
	}
	return end
}

// param is one parameter of a Content-* field; start and end are the offsets of its value as it stands,
// -1 where it has none.
type param struct {
	name, value string
	start, end  int
}

// parseParams reads "value; name=value" leniently: mail has ";;", missing quotes and stray blanks, and every reader
// skips them (RFC 2045 section 5.1 allows none of it).
func parseParams(v string) (string, []param) {
	var params []param
	first := ""
	for at, n := 0, 0; at <= len(v); n++ {
		end := at + paramEnd(v[at:])
		piece := v[at:end]
		if n == 0 {
			first = strings.TrimSpace(piece)
		} else if name := strings.ToLower(strings.TrimSpace(piece)); name != "" && !strings.Contains(piece, "=") {
			params = append(params, param{name, "", -1, -1})
		} else if eq := strings.IndexByte(piece, '='); eq >= 0 {
			raw := piece[eq+1:]
			start := at + eq + 1 + len(raw) - len(strings.TrimLeft(raw, " \t\r\n"))
			if raw = strings.TrimSpace(raw); raw == "" {
				start = at + eq + 1
			}
			params = append(params, param{strings.ToLower(strings.TrimSpace(piece[:eq])), unquote(raw), start, start + len(raw)})
		}
		at = end + 1
	}
	return first, params
}

// paramEnd is the offset of the next semicolon outside quotes.
func paramEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			return i
		}
	}
	return len(s)
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		if len(s) > 1 && s[0] == '<' && s[len(s)-1] == '>' {
			return s[1 : len(s)-1] // QUIRK: boundary=<b>
		}
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// foldField writes "Name: value" on lines of at most 78 columns where its blanks allow it (RFC 5322 section 2.1.1).
func foldField(name, value string) []byte {
	out := []byte(name + ":")
	col := len(out)
	for _, w := range strings.Fields(value) {
		if col+1+len(w) > 78 && col > len(name)+1 {
			out = append(out, "\r\n"...)
			col = 0
		}
		out = append(append(out, ' '), w...)
		col += 1 + len(w)
	}
	return append(out, "\r\n"...)
}

// fieldText tells whether s may stand in a header field: printable ASCII and blanks.
func fieldText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
