package rewrite

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"heed/policy"
)

// Signed and encrypted mail cannot hold a notice. Where the operator wants it (signed_mail: wrap), its MIME entity, byte
// for byte, becomes the first part of a multipart/mixed of the gateway's, and the notice the second. The outer header
// keeps all other fields (RFC 8551 section 3.1 and RFC 1847 section 2.1 sign an entity, wherever it stands).

// sealed is what keeps the notice out of a message, in the words of a refusal.
type sealed struct{ what string }

func (s *sealed) Error() string { return s.what }

// wrapper is how a protected message is wrapped: the same for all its recipients.
type wrapper struct {
	boundary string
	entity   []byte // the Content-* fields of the message, in their order, and the empty line
	at       int    // where the outer Content-Type goes
	versions int    // MIME-Version fields
}

// wrapping plans it. The structure is written by a tool that knows MIME, or the message is refused: what is not closed would
// take the notice for its own.
func (m *Mail) wrapping() (*wrapper, error) {
	if m.asks(m.tree) {
		return nil, refuse("it is signed or encrypted, and a placeholder in it cannot be replaced")
	}
	if m.head.broken {
		return nil, refuse("it is signed or encrypted, and no empty line ends its header")
	}
	if p := unclosed(m.tree); p != nil {
		return nil, refuse("it is signed or encrypted, and its %s does not end", p.typ)
	}
	w := &wrapper{at: m.head.sep, versions: len(m.values("MIME-Version"))}
	for _, f := range m.fields {
		if f.describes() {
			if len(w.entity) == 0 {
				w.at = f.start
			}
			w.entity = append(w.entity, m.raw[f.start:f.end]...)
		}
	}
	w.entity = append(w.entity, "\r\n"...)
	for try := byte(0); ; try++ {
		sum := sha256.Sum256(append(bytes.Clone(m.raw), try))
		if w.boundary = "heed-" + hex.EncodeToString(sum[:16]); !bytes.Contains(m.raw, []byte(w.boundary)) {
			return w, nil
		}
	}
}

// asks tells whether text in p holds a placeholder.
func (m *Mail) asks(p *part) bool {
	if slices.ContainsFunc(p.children, m.asks) {
		return true
	}
	if d, _ := p.disposition(m.raw); d == "attachment" || p.multipart() || !strings.HasPrefix(p.typ, "text/") {
		return false
	}
	b := m.body(p)
	text, ok := b.cte.decode(b.raw)
	if !ok {
		return false
	}
	b.cs = charsetOf(p.charset(), text)
	b.decoded = text
	marks, err := b.marks(b.cs.view(text))
	return err != nil || len(marks) > 0
}

// unclosed is a multipart without parts or without its last delimiter, or nil.
func unclosed(p *part) *part {
	if strings.HasPrefix(p.typ, "multipart/") && !p.closed {
		return p
	}
	for _, child := range p.children {
		if q := unclosed(child); q != nil {
			return q
		}
	}
	return nil
}

func (p *part) depth() (n int) {
	for _, child := range p.children {
		n = max(n, child.depth()+1)
	}
	return n
}

// account is what the copy has beside the entity.
func (w *wrapper) account(n Notice) (added []string, second policy.PartChanges) {
	if added = []string{"Content-Type"}; w.versions == 0 {
		added = append(added, "MIME-Version")
	}
	return added, policy.PartChanges{Part: "2", Type: "text/plain", Edits: []policy.Edited{{What: contents[theNotice], Inserted: len(wrappedText(n))}}}
}

// edits are what makes the copy, but for its own fields.
func (w *wrapper) edits(m *Mail, n Notice) []edit {
	outer := "Content-Type: multipart/mixed; boundary=\"" + w.boundary + "\"\r\n"
	if w.versions == 0 {
		outer = "MIME-Version: 1.0\r\n" + outer
	}
	edits := []edit{{off: w.at, ins: []byte(outer)}}
	for _, f := range m.fields {
		if f.describes() {
			edits = append(edits, edit{off: f.start, del: f.end - f.start})
		}
	}
	head := slices.Concat([]byte("--"+w.boundary+"\r\n"), w.entity)
	tail := slices.Concat([]byte("\r\n--"+w.boundary+"\r\n"), w.notice(n), []byte("\r\n--"+w.boundary+"--\r\n"))
	return append(edits, edit{off: m.head.body, ins: head}, edit{off: len(m.raw), ins: tail})
}

// notice is the second part. Plain text, as the footers of mailing lists: what readers show below a signed part.
func (w *wrapper) notice(n Notice) []byte {
	text := wrappedText(n)
	cte := "7bit"
	if !isASCII(text) || longest(text) > 990 {
		cte, text = "quoted-printable", encodeQuoted(text, false)
	}
	return slices.Concat([]byte("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "+cte+"\r\nContent-Disposition: inline\r\n\r\n"), text)
}

func wrappedText(n Notice) []byte { return []byte(strings.Join(plainLines(n.Text), "\r\n") + "\r\n") }

// verifyWrapped reads a wrapped copy back: the same fields outside, in the first part every byte of the message's entity, in
// the second the notice, and nothing else; for an independent reader, too.
func (m *Mail) verifyWrapped(out []byte, h header, t Treatment) error {
	w := m.wrap
	if err := m.sameFields(out, h, t, true); err != nil {
		return err
	}
	types, versions := 0, 0
	for _, f := range h.fields {
		switch {
		case f.is("Content-Type"):
			types++
		case f.describes():
			return fmt.Errorf("read back: the field %s was left outside", f.name)
		case f.is("MIME-Version"):
			versions++
		}
	}
	if types != 1 || versions != max(w.versions, 1) {
		return errors.New("read back: the outer header is not a MIME header")
	}
	tree, err := readParts(out, h)
	if err != nil {
		return err // a Refusal: with one multipart more it is beyond our bounds
	}
	if tree.typ != "multipart/mixed" || len(tree.children) != 2 || !tree.closed || h.broken {
		return errors.New("read back: the message is not wrapped")
	}
	inner, second := tree.children[0], tree.children[1]
	if !bytes.Equal(out[inner.start:inner.end], slices.Concat(w.entity, m.raw[m.head.body:])) {
		return errors.New("read back: what is signed or encrypted changed")
	}
	if err := (&verifier{m.raw, out, nil}).same(m.tree, inner, true); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(out[second.start:second.end], w.notice(t.Notice)) {
		return errors.New("read back: the notice changed")
	}
	if text, ok := decodedBody(out, second); !ok || !bytes.Equal(text, wrappedText(t.Notice)) {
		return errors.New("read back: the notice does not decode")
	}
	for i, want := range []string{"--" + w.boundary + "\r\n", "\r\n--" + w.boundary + "\r\n", "\r\n--" + w.boundary + "--\r\n"} {
		if g := tree.glue[i]; string(out[g[0]:g[1]]) != want {
			return errors.New("read back: something stands between the parts")
		}
	}
	return m.sameWrapped(out)
}

// sameWrapped asks go-message: the leaves of the message, unchanged, and one more.
func (m *Mail) sameWrapped(out []byte) error {
	if len(m.seen) == 0 || m.tree.depth() >= maxWitness-1 {
		return nil
	}
	got, err := witness(out)
	if err != nil {
		return fmt.Errorf("read back: go-message reads the message and not the copy: %w", err)
	}
	same := func(a, b leaf) bool { return a.sum == b.sum && (a.typ == b.typ || b.typ == "") }
	if len(got) != len(m.seen)+1 || !slices.EqualFunc(got[:len(m.seen)], m.seen, same) {
		return errors.New("read back: go-message sees other parts than before")
	}
	return nil
}
