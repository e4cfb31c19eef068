package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// sameInSevenBit reads the 7-bit form back: the same parts in the same order, with the same header fields but for what
// tells the transfer encoding, and each decodes to the same bytes, for us and for an independent reader.
func sameInSevenBit(old, out []byte) error {
	if !isASCII(out) {
		return errors.New("read back: an 8-bit byte was left")
	}
	v := sevenVerifier{old, out}
	if err := v.message([2]int{0, len(old)}, [2]int{0, len(out)}); err != nil {
		return fmt.Errorf("read back: %w", errors.New(err.Error())) // never a Refusal
	}
	before, _ := readDecoded(old)
	if len(before) == 0 { // it cannot read the message, and says nothing
		return nil
	}
	after, err := readDecoded(out)
	if err != nil || !slices.EqualFunc(before, after, leaf.same) {
		return refuse("readers disagree on its parts")
	}
	return nil
}

type sevenVerifier struct{ old, new []byte }

func (v sevenVerifier) message(o, n [2]int) error {
	oldHead, err := readHeader(v.old, o[0], o[1])
	if err != nil {
		return err
	}
	newHead, err := readHeader(v.new, n[0], n[1])
	if err != nil {
		return err
	}
	oldTree, err := readParts(v.old[:o[1]], oldHead)
	if err != nil {
		return err
	}
	newTree, err := readParts(v.new[:n[1]], newHead)
	if err != nil {
		return err
	}
	if !bytes.Equal(v.old[o[0]:oldHead.start], v.new[n[0]:newHead.start]) {
		return errors.New("what stands before the header changed")
	}
	return v.part(oldTree, newTree, true)
}

func (v sevenVerifier) part(o, n *part, root bool) error {
	if o.typ != n.typ || len(o.children) != len(n.children) || o.head.broken != n.head.broken {
		return errors.New("the tree of parts changed")
	}
	if isASCII(v.old[o.start:o.end]) {
		if !bytes.Equal(v.old[o.start:o.end], v.new[n.start:n.end]) {
			return errors.New("a part without 8-bit bytes changed")
		}
		return nil
	}
	if err := v.header(o, n, root); err != nil {
		return err
	}
	for i, child := range o.children {
		if err := v.part(child, n.children[i], false); err != nil {
			return err
		}
	}
	for i, g := range o.glue {
		if !bytes.Equal(masked(v.old[g[0]:g[1]]), v.new[n.glue[i][0]:n.glue[i][1]]) {
			return errors.New("what stands between the parts changed")
		}
	}
	switch {
	case o.multipart():
		return nil
	case o.typ == "message/rfc822" || o.typ == "message/news":
		return v.message([2]int{o.head.body, o.end}, [2]int{n.head.body, n.end})
	}
	before, ok := decodedBody(v.old, o)
	after, ok2 := decodedBody(v.new, n)
	if !ok || !ok2 || !bytes.Equal(before, after) {
		return errors.New("a part does not decode to what it was")
	}
	return nil
}

func decodedBody(b []byte, p *part) ([]byte, bool) {
	cte := identity
	if f := p.field("Content-Transfer-Encoding"); f != nil {
		cte, _ = transferOf(f.value(b))
	}
	return cte.decode(b[p.head.body:p.end])
}

// header compares the fields of a part but for those that SevenBit may change.
func (v sevenVerifier) header(o, n *part, root bool) error {
	before, err := keptFields(v.old, o, root)
	if err != nil {
		return err
	}
	after, err := keptFields(v.new, n, root)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(before, after, bytes.Equal) {
		return errors.New("a header field changed")
	}
	return nil
}

func keptFields(b []byte, p *part, root bool) (kept [][]byte, err error) {
	h, err := readHeader(b, p.start, p.end)
	for _, f := range h.fields {
		switch {
		case f.is("Content-Transfer-Encoding"), f.is("Content-Length"), root && f.is("MIME-Version"):
		default:
			kept = append(kept, b[f.start:f.end])
		}
	}
	return kept, err
}

// same compares what the independent reader makes of a part. What it does not take apart says nothing.
func (l leaf) same(m leaf) bool {
	opaque := l.typ == "" || strings.HasPrefix(l.typ, "multipart/") || strings.HasPrefix(l.typ, "message/")
	return l.typ == m.typ && (opaque || l.sum == m.sum)
}
