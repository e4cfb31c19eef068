package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of what is parsed: far above any real file, and low enough that a hostile one costs little.
const (
	maxBytes  = 1 << 20
	maxTokens = 100_000 // the parser's time grows with the square of the keys in one mapping
	maxDepth  = 64      // of brackets and of indents; the configuration itself needs 12
	maxNodes  = 200_000 // visited, those behind aliases every time
)

// parseTree turns the source into the root of its one document.
func parseTree(file string, src []byte) (ast.Node, error) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	if len(src) > maxBytes {
		return nil, fail(file, 0, fmt.Sprintf("is larger than %s", Size(maxBytes)), "give a gateway.yaml")
	}
	if i := invalidUTF8(src); i >= 0 {
		return nil, fail(file, 1+bytes.Count(src[:i], []byte("\n")), "is not UTF-8 text", "save the file as UTF-8")
	}
	tokens := lexer.Tokenize(string(src))
	if len(tokens) > maxTokens {
		return nil, fail(file, 0, "has too many keys and values", "give a gateway.yaml")
	}
	if line := tooDeep(tokens); line > 0 {
		return nil, fail(file, line, "is nested too deeply", "see docs/configuration.md for the keys")
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(file, src, err)
	}
	return onlyDocument(file, f)
}

func invalidUTF8(src []byte) int {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// tooDeep is the line where brackets or indents nest deeper than maxDepth, else 0: the parser recurses, and keeps a
// path for each level.
func tooDeep(tokens token.Tokens) int {
	brackets := 0
	var columns []int
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		}
		for len(columns) > 0 && columns[len(columns)-1] >= t.Position.Column {
			columns = columns[:len(columns)-1]
		}
		if brackets <= 0 {
			columns = append(columns, t.Position.Column)
		}
		if brackets > maxDepth || len(columns) > maxDepth {
			return t.Position.Line
		}
	}
	return 0
}

// syntaxError takes line and message from the parser's error, never its excerpt: that shows secrets.
func syntaxError(file string, src []byte, err error) error {
	var at interface {
		error
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
		return fail(file, 0, "is not YAML", "check indents, quotes and brackets")
	}
	line, remedy := at.GetToken().Position.Line, "check indents, quotes and brackets"
	lines := strings.Split(string(src), "\n")
	if line >= 1 && line <= len(lines) {
		switch l := lines[line-1]; {
		case strings.Contains(l, "${") && strings.ContainsAny(strings.ReplaceAll(l, "${", ""), "{["):
			remedy = `within { } or [ ], put "${NAME}" in quotes`
		case strings.Contains(l, "\t"):
			remedy = "indent with spaces, not tabs"
		case strings.Count(l, ": ") > 1:
			remedy = "put a value that contains \": \" in quotes"
		}
	}
	return fail(file, line, "is not YAML: "+safeMessage(at.GetMessage()), remedy)
}

// safeMessage drops what a message quotes from the file.
func safeMessage(s string) string {
	if i := strings.IndexByte(s, '"'); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	return strings.ReplaceAll(s, "\t", "TAB")
}

func onlyDocument(file string, f *ast.File) (ast.Node, error) {
	var root ast.Node
	for _, d := range f.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		switch d.Body.(type) {
		case *ast.DirectiveNode, *ast.CommentGroupNode, *ast.NullNode:
			continue
		}
		if root != nil {
			return nil, fail(file, lineOf(d.Body), "a second YAML document starts here", "keep one document: remove the --- line")
		}
		root = d.Body
	}
	if root == nil {
		return nil, fail(file, 1, "is empty", "start from the file that `gateway config init` writes")
	}
	return root, nil
}

// lineOf is a node's line, 0 if it has none.
func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// pairs are the keys and values of a mapping; false: the node is none.
func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

// keyText is a mapping's key as written.
func keyText(p *ast.MappingValueNode) string {
	if s, ok := p.Key.(*ast.StringNode); ok {
		return s.Value
	}
	if t := p.Key.GetToken(); t != nil {
		return t.Value
	}
	return ""
}

// findAnchors maps the name of each anchor to its node.
func findAnchors(root ast.Node) map[string]ast.Node {
	found := anchors{}
	ast.Walk(found, root)
	return found
}

type anchors map[string]ast.Node

// Visit is ast.Visitor.
func (a anchors) Visit(n ast.Node) ast.Visitor {
	if at, ok := n.(*ast.AnchorNode); ok && at.Name != nil {
		if _, again := a[at.Name.String()]; !again {
			a[at.Name.String()] = at.Value
		}
	}
	return a
}
