package rewrite

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DKIMKey signs for a domain (RFC 6376). Private is an *rsa.PrivateKey or an ed25519.PrivateKey (RFC 8463).
type DKIMKey struct {
	Domain, Selector string // A-labels
	Private          crypto.Signer
}

// Signer makes DKIM signatures: one of each key, over the same header fields and one body hash.
type Signer struct {
	keys   []signingKey
	fields []signedField
}

type signingKey struct {
	DKIMKey
	algorithm string
	opts      crypto.SignerOpts
	size      int // of a signature, in base64
}

// signedField is a header field that is signed where it is there. always: it is named once more than it stands even
// where it does not stand, so that none can be added; else only where it stands.
type signedField struct {
	name   string
	always bool
}

// signedFields are those of RFC 6376 section 5.4.1 that a message keeps on its way, and those that decide about an
// opt-out (RFC 8058 section 4). Of what an MTA adds where it is missing (RFC 6409 section 8) none is ruled out.
func signedFields() []signedField {
	return []signedField{
		{"From", true},
		{"List-Unsubscribe", true},
		{"List-Unsubscribe-Post", true},
		{"List-Id", true},
		{"Subject", true},
		{"To", true},
		{"Cc", true},
		{"Reply-To", true},
		{"Sender", false},
		{"Date", false},
		{"Message-ID", false},
		{"In-Reply-To", false},
		{"References", false},
		{"MIME-Version", true},
		{"Content-Type", true},
		{"Content-Transfer-Encoding", true},
		{"Content-Disposition", false},
		{"Content-Language", false},
		{"Feedback-ID", false},
		{"List-Help", false},
		{"List-Subscribe", false},
		{"List-Post", false},
		{"List-Owner", false},
		{"List-Archive", false},
		{"Precedence", false},
		{"Auto-Submitted", false},
		{"Organization", false},
	}
}

// maxSame bounds how many fields of one name are signed; the last ones are. Lawful mail has one (RFC 5322 section 3.6).
const maxSame = 8

// NewSigner has the fields named in replaced, which the server behind us changes, left out. It tries each key.
func NewSigner(keys []DKIMKey, replaced []string) (*Signer, error) {
	s := &Signer{}
	for _, f := range signedFields() {
		gone := slices.ContainsFunc(replaced, func(name string) bool { return strings.EqualFold(name, f.name) })
		if gone && f.name == "From" {
			return nil, errors.New("DKIM without From is no signature") // RFC 6376 section 5.4
		}
		if !gone {
			s.fields = append(s.fields, f)
		}
	}
	for _, k := range keys {
		key := signingKey{DKIMKey: k}
		var size int
		switch private := k.Private.(type) {
		case *rsa.PrivateKey:
			key.algorithm, key.opts, size = "rsa-sha256", crypto.SHA256, private.Size()
		case ed25519.PrivateKey:
			key.algorithm, key.opts, size = "ed25519-sha256", crypto.Hash(0), ed25519.SignatureSize
		default:
			return nil, fmt.Errorf("the DKIM key %s of %s is of type %T", k.Selector, k.Domain, private)
		}
		key.size = base64.StdEncoding.EncodedLen(size)
		hash := sha256.Sum256(nil)
		if _, err := key.Private.Sign(nil, hash[:], key.opts); err != nil {
			return nil, fmt.Errorf("the DKIM key %s of %s does not sign: %w", k.Selector, k.Domain, err)
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// For keeps the keys that vouch for mail from these domains, as relaxed alignment has it (RFC 7489 section 3.1.1): those
// of a domain or one above it; where it has none, those of one below it. Nil: there are none.
func (s *Signer) For(domains []string) *Signer {
	if s == nil {
		return nil
	}
	var found []signingKey
	for _, below := range []bool{false, true} {
		for _, k := range s.keys {
			if slices.ContainsFunc(domains, func(d string) bool { return atOrBelow(d, k.Domain) || below && atOrBelow(k.Domain, d) }) {
				found = append(found, k)
			}
		}
		if len(found) > 0 {
			return &Signer{keys: found, fields: s.fields}
		}
	}
	return nil
}

// atOrBelow tells whether a domain is another or below it.
func atOrBelow(domain, above string) bool {
	cut := len(domain) - len(above)
	return cut >= 0 && strings.EqualFold(domain[cut:], above) && (cut == 0 || domain[cut-1] == '.')
}

// maxSize is what append may add at most.
func (s *Signer) maxSize() int {
	if s == nil {
		return 0
	}
	names := 0
	for _, f := range s.fields {
		names += (len(f.name) + 1) * (maxSame + 1)
	}
	size := 0
	for _, k := range s.keys {
		folded := names + k.size
		size += folded + folded/16*3 + len(k.Domain) + len(k.Selector) + 256 // a line has 25 octets at least, but the last
	}
	return size
}

// append adds the DKIM-Signature fields of a message to dst: they belong on top of it (RFC 6376 section 5.6). The
// message is final, has CRLF line ends, and a line that is no field ends its header.
func (s *Signer) append(dst, message []byte, now time.Time) ([]byte, error) {
	if s == nil {
		return dst, nil
	}
	var room [64]fieldAt
	found, body := fieldsOf(room[:0], message)
	h := sha256.New()
	relaxedBody(h, message[body:])
	var sum [sha256.Size]byte
	bodyHash := base64.StdEncoding.EncodeToString(h.Sum(sum[:0]))

	signed := make([]byte, 0, 4096)
	names := make([]string, 0, 64)
	for _, f := range s.fields {
		n, more := 0, false
		for i := len(found) - 1; i >= 0 && !more; i-- { // from the last one up (RFC 6376 section 5.4.2)
			if at := found[i]; at.is(message, f.name) {
				if more = n == maxSame; more {
					break
				}
				signed = relaxedField(signed, message[at.start:at.end], at.colon-at.start)
				names = append(names, f.name)
				n++
			}
		}
		if !more && (n > 0 || f.always) { // one more name would be the next of them
			names = append(names, f.name)
		}
		if n == 0 && f.name == "From" {
			return nil, errors.New("a message without From cannot be signed") // RFC 6376 section 5.4
		}
	}
	for _, k := range s.keys {
		start := len(dst)
		dst = k.field(dst, names, bodyHash, now)
		all := relaxedField(signed, dst[start:], len("DKIM-Signature"))
		hash := sha256.Sum256(all[:len(all)-2]) // it counts without its line end (RFC 6376 section 3.7)
		signature, err := k.Private.Sign(nil, hash[:], k.opts)
		if err != nil {
			return nil, fmt.Errorf("DKIM key %s of %s: %w", k.Selector, k.Domain, err)
		}
		dst = appendFolded(dst, start, base64.StdEncoding.EncodeToString(signature))
	}
	return dst, nil
}

// sign puts the signatures on top of a message, which has none; a nil Signer signs nothing.
func (s *Signer) sign(message []byte, now time.Time) ([]byte, error) {
	if s == nil {
		return message, nil
	}
	out, err := s.append(make([]byte, 0, s.maxSize()+len(message)), message, now)
	if err != nil {
		return nil, err
	}
	return append(out, message...), nil
}

// SevenBit is SevenBit for a copy that was signed: with new signatures in place of those.
func (s *Signer) SevenBit(message []byte, now time.Time) ([]byte, error) {
	if s == nil {
		return SevenBit(message)
	}
	var room [64]fieldAt
	fields, _ := fieldsOf(room[:0], message)
	signatures := 0
	for _, f := range fields {
		if !f.is(message, "DKIM-Signature") {
			break
		}
		signatures = f.end
	}
	out, err := SevenBit(message[signatures:])
	if err != nil {
		return nil, err
	}
	return s.sign(out, now)
}

// field appends the field up to its signature.
func (k *signingKey) field(dst []byte, names []string, bodyHash string, now time.Time) []byte {
	dst = append(dst, "DKIM-Signature: v=1; a="+k.algorithm+"; c=relaxed/relaxed;\r\n d="+k.Domain+";"...)
	line := bytes.LastIndexByte(dst, '\n') + 1
	tag := func(s string) {
		if len(dst)-line+1+len(s) > maxColumns {
			dst = append(dst, "\r\n"...)
			line = len(dst)
		}
		dst = append(append(dst, ' '), s...)
	}
	tag("s=" + k.Selector + ";")
	tag("t=" + strconv.FormatInt(now.Unix(), 10) + ";")
	dst = append(dst, "\r\n h="...)
	line = len(dst) - len(" h=")
	for i, name := range names {
		if len(dst)-line+len(name)+1 > maxColumns { // the colon or semicolon behind it included
			dst = append(dst, "\r\n  "...)
			line = len(dst) - 2
		}
		end := byte(':')
		if i == len(names)-1 {
			end = ';'
		}
		dst = append(append(dst, name...), end)
	}
	return append(append(append(dst, "\r\n bh="...), bodyHash...), ";\r\n b="...)
}

// maxColumns is how long lines should be (RFC 5322 section 2.1.1).
const maxColumns = 78

// appendFolded ends a field with base64 text, which may be folded anywhere.
func appendFolded(dst []byte, start int, text string) []byte {
	column := len(dst) - start - bytes.LastIndexByte(dst[start:], '\n') - 1
	for {
		n := min(maxColumns-column, len(text))
		dst = append(dst, text[:n]...)
		if text = text[n:]; text == "" {
			return append(dst, "\r\n"...)
		}
		dst = append(dst, "\r\n  "...)
		column = 2
	}
}

// fieldAt is a field by its offsets, as field has them.
type fieldAt struct{ start, colon, end int }

// is knows names but of our own: they are ASCII.
func (f fieldAt) is(b []byte, name string) bool {
	n := len(name)
	if f.colon-f.start < n || !bytes.EqualFold(b[f.start:f.start+n], []byte(name)) {
		return false
	}
	return len(bytes.TrimRight(b[f.start+n:f.colon], " \t")) == 0
}

// fieldsOf is readHeader without its names and bounds: it appends the fields, and returns where the body starts.
func fieldsOf(found []fieldAt, b []byte) ([]fieldAt, int) {
	for at := 0; at < len(b); {
		next := lineEnd(b, at, len(b))
		line := b[at:next]
		switch colon := fieldColon(line); {
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			return found, next
		case (line[0] == ' ' || line[0] == '\t') && len(found) > 0:
			found[len(found)-1].end = next
		case colon > 0:
			found = append(found, fieldAt{at, at + colon, next})
		default:
			return found, at
		}
		at = next
	}
	return found, len(b)
}
