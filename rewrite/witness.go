package rewrite

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// leaf is a part without children as an independent reader sees it. Text keeps its head and body.
type leaf struct {
	typ  string
	sum  uint64
	head textproto.Header
	body []byte
}

var seed = maphash.MakeSeed()

// witness reads a message with go-message, which shares no code with us. It fails on some mail that we and others can
// read; then it says nothing.
func witness(raw []byte) ([]leaf, error) { return readWith(raw, nil) }

// opener gives a leaf's content in the place of its bytes.
type opener func(textproto.Header, io.Reader) (io.Reader, error)

// readDecoded is witness with the transfer encodings undone.
func readDecoded(raw []byte) ([]leaf, error) {
	return readWith(raw, func(h textproto.Header, body io.Reader) (io.Reader, error) {
		e, err := message.New(message.Header{Header: h}, body)
		if err != nil && !message.IsUnknownCharset(err) {
			return nil, err
		}
		return e.Body, nil
	})
}

func readWith(raw []byte, open opener) (leaves []leaf, err error) {
	defer func() {
		if r := recover(); r != nil { // QUIRK: go-message panics on some broken parameters
			leaves, err = nil, fmt.Errorf("go-message: %v", r)
		}
	}()
	r := bufio.NewReader(bytes.NewReader(raw))
	h, err := textproto.ReadHeader(r)
	if err != nil {
		return nil, err
	}
	return walk(nil, h, r, open, 0)
}

// maxWitness is how deep the second reader goes; it buffers anew on every level.
const maxWitness = 16

func walk(leaves []leaf, h textproto.Header, body io.Reader, open opener, depth int) ([]leaf, error) {
	mh := message.Header{Header: h}
	typ, params, err := mh.ContentType()
	if err == nil && strings.HasPrefix(typ, "multipart/") && params["boundary"] != "" && depth < maxWitness {
		mr := textproto.NewMultipartReader(body, params["boundary"])
		for {
			p, err := mr.NextPart()
			if errors.Is(err, io.EOF) {
				return leaves, nil
			}
			if err != nil {
				return nil, err
			}
			if leaves, err = walk(leaves, p.Header, p, open, depth+1); err != nil {
				return nil, err
			}
		}
	}
	if err != nil {
		typ = "" // it makes nothing of this Content-Type
	}
	if open != nil {
		if body, err = open(h, body); err != nil {
			return nil, err
		}
	}
	l := leaf{typ: typ, head: h}
	var sum maphash.Hash
	sum.SetSeed(seed)
	if strings.HasPrefix(typ, "text/") {
		if l.body, err = io.ReadAll(body); err != nil {
			return nil, err
		}
		sum.Write(l.body)
	} else if _, err := io.Copy(&sum, body); err != nil {
		return nil, err
	}
	l.sum = sum.Sum64()
	return append(leaves, l), nil
}

// sameWitness compares what go-message sees in the message and in the copy: the same leaves, all but the bodies
// unchanged, and the notice in those.
func (m *Mail) sameWitness(out []byte, changes []*change) error {
	if len(m.seen) == 0 {
		return nil
	}
	got, err := witness(out)
	if err != nil {
		return fmt.Errorf("read back: go-message reads the message and not the copy: %w", err)
	}
	if len(got) != len(m.seen) {
		return fmt.Errorf("read back: go-message sees %d leaves, %d before", len(got), len(m.seen))
	}
	var differ []leaf
	for i, l := range got {
		if l.typ != m.seen[i].typ && m.seen[i].typ != "" {
			return errors.New("read back: go-message sees another type of part")
		}
		if l.sum != m.seen[i].sum {
			differ = append(differ, l)
		}
	}
	if len(differ) == 0 || len(differ) > len(changes) {
		return fmt.Errorf("read back: go-message sees %d parts changed, %d were", len(differ), len(changes))
	}
	if len(differ) < len(changes) {
		return nil // it takes several of our parts for one
	}
	for i, l := range differ {
		if !l.holds(changes[i].probe()) {
			return errors.New("read back: go-message does not see the notice")
		}
	}
	return nil
}

// probe is the longest line of the notice that is all ASCII; nil where the charset has none to look for.
func (c *change) probe() []byte {
	var best []byte
	if c.cs.family != asciiBased {
		return nil
	}
	for line := range bytes.SplitSeq(c.core, []byte("\r\n")) {
		if len(line) > len(best) && isASCII(line) {
			best = line
		}
	}
	return best
}

// holds looks into the decoded text. What go-message cannot decode says nothing.
func (l leaf) holds(probe []byte) bool {
	if !strings.HasPrefix(l.typ, "text/") {
		return true
	}
	e, err := message.New(message.Header{Header: l.head}, bytes.NewReader(l.body))
	if err != nil && !message.IsUnknownCharset(err) {
		return true
	}
	text, err := io.ReadAll(e.Body)
	return err != nil || bytes.Contains(text, probe)
}
