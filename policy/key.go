package policy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// AddressKey is the secret under which addresses become person keys. It never rotates: opt-outs hang on it.
type AddressKey [32]byte

// Person is the key of the person behind a normalised address: the first 16 bytes of HMAC-SHA-256 (RFC 2104), as 22
// characters of unpadded base64url.
func (k AddressKey) Person(normalised string) string {
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte(normalised))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// domains maps as browsers and MTAs do (UTS 46, non-transitional) and lets underscores and odd hyphens pass: they
// exist in real mail domains.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))

// Normalise is the form in which an address is keyed: local part lower-cased, unquoted where it need not be quoted, its
// plus tag kept, the domain as a lower-case A-label (RFC 5890) without a trailing dot. It takes a bare address, quoted or not.
func Normalise(address string) (string, error) {
	if !utf8.ValidString(address) || strings.ContainsRune(address, utf8.RuneError) {
		return "", fmt.Errorf("%q is not UTF-8", address) // RFC 6531 section 3.3; a guess would key somebody else
	}
	i := strings.LastIndexByte(address, '@')
	if i <= 0 || i == len(address)-1 {
		return "", fmt.Errorf("%q is not an e-mail address: it needs a local part, an @ and a domain", address)
	}
	local, err := unquote(address[:i])
	if err != nil {
		return "", fmt.Errorf("%q is not an e-mail address: %w", address, err)
	}
	domain, err := NormaliseDomain(address[i+1:])
	if err != nil {
		return "", fmt.Errorf("%q is not an e-mail address: %w", address, err)
	}
	return quote(norm.NFC.String(strings.ToLower(local))) + "@" + domain, nil // one person, however composed
}

// quote puts a local part that is no dot-atom into the one canonical quoted form (RFC 5321 section 4.1.2).
func quote(local string) string {
	if !strings.ContainsAny(local, " \t\r\n<>(),;:@\"[]\\") && !strings.HasPrefix(local, ".") && !strings.HasSuffix(local, ".") && !strings.Contains(local, "..") {
		return local
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}

// NormaliseDomain is the domain as a lower-case A-label without a trailing dot; an address literal as it stands.
func NormaliseDomain(domain string) (string, error) {
	if strings.HasPrefix(domain, "[") {
		return strings.ToLower(domain), nil
	}
	d, err := domains.ToASCII(domain)
	if err != nil {
		return "", fmt.Errorf("domain %q: %w", domain, err)
	}
	d = strings.TrimSuffix(d, ".") // only now: other scripts' full stops have become dots
	if d == "" || strings.HasPrefix(d, ".") || strings.HasSuffix(d, ".") || strings.Contains(d, "..") || strings.ContainsAny(d, " \t\r\n<>,;@\"()") {
		return "", fmt.Errorf("domain %q is malformed", domain)
	}
	return strings.ToLower(d), nil
}

// unquote takes a local part out of its quoted-string form (RFC 5321 section 4.1.2).
func unquote(local string) (string, error) {
	if !strings.HasPrefix(local, `"`) {
		if strings.ContainsAny(local, " \t\r\n<>(),;:\"[]\\") {
			return "", fmt.Errorf("local part %q has a character that must be quoted", local)
		}
		return local, nil
	}
	if len(local) < 3 || !strings.HasSuffix(local, `"`) {
		return "", fmt.Errorf("local part %q has an unclosed quote", local)
	}
	var b strings.Builder
	in := local[1 : len(local)-1]
	for i := 0; i < len(in); i++ {
		if in[i] == '\\' {
			if i++; i == len(in) {
				return "", fmt.Errorf("local part %q ends in a backslash", local)
			}
		} else if in[i] == '"' {
			return "", fmt.Errorf("local part %q has an unescaped quote", local)
		}
		b.WriteByte(in[i])
	}
	return b.String(), nil
}
