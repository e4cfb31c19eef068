package rewrite

import (
	"bytes"
	"errors"
	"fmt"
)

// verify reads the copy back and compares it with the message: the same fields but for ours, the same tree of parts,
// every byte outside the bodies, and in each body the old text and one notice.
func (m *Mail) verify(out []byte, t Treatment, changes []*change) error {
	h, err := readHeader(out, 0, len(out))
	if err != nil {
		return fmt.Errorf("read back: %w", errors.New(err.Error())) // never a Refusal
	}
	if t.Marketing && m.wrap != nil {
		return m.verifyWrapped(out, h, t)
	}
	changed := map[*part]*change{}
	for _, c := range changes {
		changed[c.body.part] = c
	}
	if err := m.sameFields(out, h, t, changed[m.tree] != nil); err != nil {
		return err
	}
	if !t.Marketing {
		if h.broken == m.head.broken && bytes.Equal(out[h.body:], m.raw[m.head.body:]) {
			return nil
		}
		return errors.New("read back: the body changed")
	}
	tree, err := readParts(out, h)
	if err != nil {
		return fmt.Errorf("read back: %w", errors.New(err.Error()))
	}
	v := verifier{m.raw, out, changed}
	if err := v.same(m.tree, tree, true); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	return m.sameWitness(out, changes)
}

// sameFields compares the header: ours on top, then what was not removed.
func (m *Mail) sameFields(out []byte, h header, t Treatment, relabelled bool) error {
	var ours header
	top := t.fields()
	if len(top) > 0 {
		ours, _ = readHeader(top, 0, len(top))
	}
	own := func(f field) bool {
		return relabelled && (f.is("MIME-Version") || f.describes())
	}
	var want, got [][]byte
	for _, f := range ours.fields {
		want = append(want, top[f.start:f.end])
	}
	for _, f := range m.fields {
		if !removed(f.name, t.Marketing) && !own(f) {
			want = append(want, m.raw[f.start:f.end])
		}
	}
	for _, f := range h.fields {
		if !own(f) {
			got = append(got, out[f.start:f.end])
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("read back: %d header fields, %d expected", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(want[i], got[i]) {
			return fmt.Errorf("read back: header field %d differs", i+1)
		}
	}
	return nil
}

type verifier struct {
	old, new []byte
	changed  map[*part]*change
}

func (v *verifier) same(o, n *part, root bool) error {
	c := v.changed[o]
	switch {
	case o.typ != n.typ || len(o.children) != len(n.children):
		return errors.New("the tree of parts changed")
	case !root && c == nil && !bytes.Equal(v.old[o.start:o.head.body], v.new[n.start:n.head.body]):
		return errors.New("the header of a part changed")
	case o.head.broken != n.head.broken && c == nil:
		return errors.New("the end of a header changed")
	}
	for i, child := range o.children {
		if err := v.same(child, n.children[i], false); err != nil {
			return err
		}
	}
	for i, g := range o.glue {
		if !bytes.Equal(v.old[g[0]:g[1]], v.new[n.glue[i][0]:n.glue[i][1]]) {
			return errors.New("what stands between the parts changed")
		}
	}
	if o.multipart() {
		return nil
	}
	if c == nil {
		if !bytes.Equal(v.old[o.head.body:o.end], v.new[n.head.body:n.end]) {
			return errors.New("a part changed that must not")
		}
		return nil
	}
	return c.readBack(v.new, n)
}

// readBack decodes the body as its new header says: what was there, and in each spot what belongs there.
func (c *change) readBack(out []byte, n *part) error {
	cte := identity
	if f := n.field("Content-Transfer-Encoding"); f != nil {
		cte, _ = transferOf(f.value(out))
	}
	got, ok := cte.decode(out[n.head.body:n.end])
	if !ok {
		return errors.New("a body does not decode any more")
	}
	if cs := charsetOf(n.charset(), got); cs.label != c.cs.label {
		return errors.New("the charset of a body changed")
	}
	for i, gap := range c.gaps {
		if !bytes.HasPrefix(got, gap) {
			return errors.New("the text of a body changed")
		}
		got = got[len(gap):]
		if i == len(c.fills) {
			break
		}
		if !bytes.HasPrefix(got, c.fills[i]) {
			got = bytes.TrimPrefix(got, []byte("\r\n")) // of the last line, which had no end
		}
		if !bytes.HasPrefix(got, c.fills[i]) {
			return errors.New("a body does not hold what was put in")
		}
		got = got[len(c.fills[i]):]
	}
	if len(got) > 0 && string(got) != "\r\n" {
		return errors.New("a body has more than was put in")
	}
	return nil
}
