// Package rewrite turns a message into the copy for one recipient: bytes to bytes. It finds offsets and splices; what
// it does not have to change stays byte for byte, and what came out is parsed again and compared before it is
// returned. It never builds MIME, since that is how other gateways lose attachments.
package rewrite

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
	"sync"
)

// Bounds on what is read, so that memory and time stay linear in the size of the message.
const (
	maxHeader = 1 << 20 // octets of one header block
	maxFields = 10_000  // fields of one header block
	maxParts  = 10_000
	maxDepth  = 100
	maxBodies = 100     // each gets the notice
	maxTokens = 200_000 // of one HTML body
	maxSpots  = 500     // places in all bodies that differ from copy to copy
)

// Refusal tells why a message is not safely rewritable: reason code content.unrewritable, a permanent failure.
// Every other error of this package is a fault of ours and temporary.
type Refusal struct {
	Why      string
	ReadBack bool // found when the copy was read back: it is the message's doing, or a fault of ours
}

func (r *Refusal) Error() string { return r.Why }

func refuse(format string, args ...any) error { return &Refusal{Why: fmt.Sprintf(format, args...)} }

// Mail is one parsed message. It serves all recipients, also concurrently, and does not change the bytes it was read
// from, which must not change either.
type Mail struct {
	raw    []byte
	head   header
	fields []field

	// WrapSigned asks for signed and encrypted mail to be wrapped instead of refused. It is set before Rewritable, Language
	// or Copy is called.
	WrapSigned bool

	once   sync.Once
	bodies []*body // where the notice goes
	tree   *part
	fault  error // why there is no marketing copy
	seen   []leaf
	wrap   *wrapper // nil: the notice goes into bodies

	mu     sync.Mutex
	proofs map[string]bool // the ways of filling that were read back, from ways
}

// Read parses the header of a message, which must have CRLF line ends only. The parts are parsed when they are first
// needed. The error is a *Refusal.
func Read(raw []byte) (*Mail, error) {
	h, err := readHeader(raw, 0, len(raw))
	if err != nil {
		return nil, err
	}
	m := &Mail{raw: raw, head: h, fields: h.fields}
	if err := h.ambiguous(raw); err != nil {
		return nil, err
	}
	// Mailgun's container keeps the real message inside a message/rfc822, which an ESP would send as it is.
	for _, v := range m.values("Content-Type") {
		if t, _ := parseParams(v); strings.EqualFold(t, "multipart/mailgun-variables") {
			return nil, refuse("multipart/mailgun-variables holds a second message that would be sent unchecked")
		}
	}
	return m, nil
}

// Fields returns the values of a header field, unfolded, with RFC 2047 encoded words decoded, in the order in which
// they stand. The name is compared without regard to case.
func (m *Mail) Fields(name string) []string {
	var out []string
	for _, v := range m.values(name) {
		out = append(out, decodeWords(v))
	}
	return out
}

// Received counts the Received fields, for the loop check of RFC 5321 section 6.3.
func (m *Mail) Received() int { return len(m.values("Received")) }

// values are the raw unfolded values of a field.
func (m *Mail) values(name string) []string {
	var out []string
	for _, f := range m.fields {
		if f.is(name) {
			out = append(out, f.value(m.raw))
		}
	}
	return out
}

var words = mime.WordDecoder{CharsetReader: readerFor}

// decodeWords decodes encoded words; what does not decode stays as it is, with broken UTF-8 made valid.
func decodeWords(v string) string {
	d, err := words.DecodeHeader(v)
	if err != nil {
		d = v
	}
	return strings.ToValidUTF8(d, "\uFFFD")
}

// sensitive are the fields that must not stand where readers disagree whether the header has ended.
var sensitive = []string{"From", "Sender", "Bcc", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Id", "MIME-Version"}

// ambiguous refuses a message whose header is broken by a line that is no field while fields that matter follow it:
// some readers end the header there, others read on.
func (h header) ambiguous(b []byte) error {
	for _, f := range h.fields {
		if b[f.colon-1] == ' ' || b[f.colon-1] == '\t' {
			if n := strings.ToLower(f.name); strings.HasPrefix(n, "content-") || n == "mime-version" {
				return refuse("a space stands before the colon of %s", f.name)
			}
		}
	}
	if !h.broken {
		return nil
	}
	for at := h.body; at < len(b); {
		end := lineEnd(b, at, len(b))
		line := bytes.TrimRight(b[at:end], "\r\n")
		if len(line) == 0 {
			return nil
		}
		if colon := bytes.IndexByte(line, ':'); colon > 0 {
			// Lenient readers take off what is no letter too: "Bcc\v: a@b" must not reach them.
			notName := func(r rune) bool { return r <= ' ' || r >= 0x7f }
			if name := strings.TrimFunc(string(line[:colon]), notName); matters(name) {
				return refuse("the field %s is malformed, or stands after a line that is not a header field", name)
			}
		}
		at = end
	}
	return nil
}

func matters(name string) bool {
	low := strings.ToLower(name)
	for _, s := range sensitive {
		if strings.EqualFold(s, low) {
			return true
		}
	}
	return strings.HasPrefix(low, "content-") || strings.HasPrefix(low, "resent-") || strings.HasPrefix(low, "heed-") ||
		isControl(low)
}
