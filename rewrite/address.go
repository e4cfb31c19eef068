package rewrite

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"heed/policy"
)

// ErrNoFrom: no From field holds an address.
var ErrNoFrom = errors.New("the message has no address in From:")

// From returns the domains of every address in every From field, as policy.NormaliseDomain writes them, each once.
// It is strict about what decides: where readers could see another address than we do, it is an error.
func (m *Mail) From() ([]string, error) {
	var out []string
	for _, v := range m.values("From") {
		if len(v) > maxFrom || len(out) > maxSenders {
			return nil, errors.New("From: is malformed: it is too long")
		}
		ds, err := addressDomains(v)
		if err != nil {
			return nil, fmt.Errorf("From: is malformed: %w", err)
		}
		for _, d := range ds {
			if !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	if len(out) == 0 {
		return nil, ErrNoFrom
	}
	return out, nil
}

// Bounds on From: what is beyond them is no sender, and parsing stays cheap.
const (
	maxFrom    = 32 << 10 // octets of one field
	maxSenders = 1000     // domains of one message
)

// addressParser reads an address-list (RFC 5322 section 3.4) with groups, comments, obsolete routes and raw 8-bit
// phrases, and keeps the domains only.
type addressParser struct {
	s       string
	domains []string
}

func addressDomains(value string) ([]string, error) {
	p := &addressParser{s: value}
	for inGroup := false; ; {
		if err := p.skip(); err != nil {
			return nil, err
		}
		switch {
		case p.s == "":
			if inGroup {
				return nil, errors.New("a group is not closed")
			}
			return p.domains, nil
		case p.s[0] == ',':
			p.s = p.s[1:]
		case p.s[0] == ';' && inGroup:
			p.s, inGroup = p.s[1:], false
		default:
			group, err := p.mailbox(inGroup)
			if err != nil {
				return nil, err
			}
			inGroup = inGroup || group
		}
	}
}

// encodedWord is taken whole, since tools put commas into it (RFC 2047 section 5 forbids that).
var encodedWord = regexp.MustCompile(`^=\?[^?\s]+\?[bBqQ]\?[^?]*\?=`)

// mailbox reads one mailbox, or the name and colon that open a group.
func (p *addressParser) mailbox(inGroup bool) (group bool, err error) {
	bare := "" // the tokens so far, which are an address if no angle bracket follows
	for {
		if err := p.skip(); err != nil {
			return false, err
		}
		if p.s == "" || p.s[0] == ',' || p.s[0] == ';' && inGroup {
			return false, p.address(bare)
		}
		switch c := p.s[0]; c {
		case '<':
			if strings.Contains(bare, "@") {
				return false, errors.New("an address stands where a name should")
			}
			return false, p.angle()
		case ':':
			if inGroup || strings.Contains(bare, "@") {
				return false, errors.New("a colon stands where none may")
			}
			p.s = p.s[1:]
			return true, nil
		case '"':
			if _, err := p.quoted(); err != nil {
				return false, err
			}
			bare += "q"
		default:
			w := encodedWord.FindString(p.s)
			if w == "" {
				if w, err = p.word(); err != nil {
					return false, err
				}
			} else {
				w = "w"
				p.s = p.s[len(encodedWord.FindString(p.s)):]
			}
			bare += w
		}
	}
}

// word takes one run of characters that need no quotes, or a single '@' or domain literal.
func (p *addressParser) word() (string, error) {
	n := strings.IndexFunc(p.s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>[]:;@\,"`, r) })
	switch {
	case n < 0:
		n = len(p.s)
	case n == 0 && p.s[0] == '@':
		n = 1
	case n == 0 && p.s[0] == '[':
		if n = strings.IndexByte(p.s, ']') + 1; n == 0 {
			return "", errors.New("a domain literal is not closed")
		}
	case n == 0:
		return "", fmt.Errorf("%q stands where none may", p.s[0])
	}
	w := p.s[:n]
	p.s = p.s[n:]
	return w, nil
}

// angle reads "<" [route ":"] addr-spec ">" and what may follow it.
func (p *addressParser) angle() error {
	p.s = p.s[1:]
	spec := ""
	for {
		if err := p.skip(); err != nil {
			return err
		}
		if p.s == "" {
			return errors.New("an angle bracket is not closed")
		}
		switch c := p.s[0]; {
		case c == '>':
			p.s = p.s[1:]
			if err := p.address(spec); err != nil {
				return err
			}
			if err := p.skip(); err != nil {
				return err
			}
			if p.s != "" && p.s[0] != ',' && p.s[0] != ';' {
				return errors.New("text follows an address")
			}
			return nil
		case c == '"':
			if _, err := p.quoted(); err != nil {
				return err
			}
			spec += "q"
		case c == ':' && strings.HasPrefix(spec, "@"): // a source route (RFC 5322 section 4.4)
			p.s, spec = p.s[1:], ""
		case c == ',' && strings.HasPrefix(spec, "@"):
			p.s = p.s[1:]
		default:
			w, err := p.word()
			if err != nil {
				return err
			}
			spec += w
		}
	}
}

// address takes the domain out of local@domain.
func (p *addressParser) address(spec string) error {
	local, domain, ok := strings.Cut(spec, "@")
	if !ok || local == "" || domain == "" || strings.Contains(domain, "@") {
		return errors.New("it holds what is no address")
	}
	for _, r := range domain {
		if r < 0x80 && !strings.ContainsRune("-._", r) && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && domain[0] != '[' || r == utf8.RuneError {
			return errors.New("a domain has a character that none may have")
		}
	}
	d, err := policy.NormaliseDomain(domain)
	if err != nil {
		return errors.New("a domain is malformed")
	}
	p.domains = append(p.domains, d)
	return nil
}

// quoted takes a quoted-string (RFC 5322 section 3.2.4).
func (p *addressParser) quoted() (string, error) {
	for i := 1; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '"':
			q := p.s[1:i]
			p.s = p.s[i+1:]
			return q, nil
		}
	}
	return "", errors.New("a quote is not closed")
}

// skip passes blanks and comments, which nest (RFC 5322 section 3.2.2).
func (p *addressParser) skip() error {
	for depth, i := 0, 0; ; i++ {
		if i == len(p.s) {
			if depth > 0 {
				return errors.New("a comment is not closed")
			}
			p.s = ""
			return nil
		}
		switch c := p.s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0 && i+1 < len(p.s):
			i++
		case depth > 0 || c == ' ' || c == '\t':
		default:
			p.s = p.s[i:]
			return nil
		}
	}
}
