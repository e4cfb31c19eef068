package rewrite

import "bytes"

// Copies of one message differ in what fills their spots and in nothing else, as long as the spots are filled the same
// way. The first copy made in a way is read back as a whole; of the others only the fills are.

// prove records that a copy made this way read back well.
func (m *Mail) prove(changes []*change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proofs == nil {
		m.proofs = map[string]bool{}
	}
	m.proofs[ways(changes)] = true
}

// proved tells whether such a copy read back well before, and these fills cannot make a difference.
func (m *Mail) proved(changes []*change) bool {
	m.mu.Lock()
	before := m.proofs[ways(changes)]
	m.mu.Unlock()
	if !before {
		return false
	}
	for _, c := range changes {
		if !c.harmless() {
			return false
		}
	}
	return true
}

func ways(changes []*change) string {
	w := make([]byte, len(changes))
	for i, c := range changes {
		w[i] = byte(c.way)
	}
	return string(w)
}

// harmless tells that no fill looks like a delimiter, breaks a line in its middle, or reads back as another.
func (c *change) harmless() bool {
	for i, f := range c.fills {
		if bytes.HasPrefix(f, []byte("--")) || bytes.Contains(f, []byte("\n--")) || bytes.Count(f, []byte("\r")) != bytes.Count(f, []byte("\r\n")) && c.cs.width() == 1 {
			return false
		}
		if c.body.cte != quoted || c.way > inASCII {
			continue
		}
		got, _ := decodeQuoted(c.edits[i].ins)
		if !bytes.Equal(bytes.TrimPrefix(got, []byte("\r\n")), bytes.TrimPrefix(f, []byte("\r\n"))) {
			return false
		}
	}
	return true
}
