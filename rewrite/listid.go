package rewrite

import (
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"strings"

	"heed/policy"
)

// ListID is the value of List-Id (RFC 2919) for a topic of a sender: "topic" <topic.sender.domain>. It is the same for
// the same three, differs for others, holds nothing but ASCII and its identifier has at most 255 characters. A domain
// that is none becomes "localhost", the namespace for unmanaged lists.
func ListID(topic, sender, domain string) string {
	d, err := policy.NormaliseDomain(domain)
	if err != nil || len(d) > 120 || strings.Trim(d, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
		d = "localhost"
	}
	id := label(topic) + "." + label(sender) + "." + d
	phrase := strings.Join(strings.Fields(oneLine(topic)), " ")
	if r := []rune(phrase); len(r) > 100 {
		phrase = string(r[:100])
	}
	switch {
	case phrase == "":
		return "<" + id + ">"
	case isASCII([]byte(phrase)) && !strings.Contains(phrase, "=?"):
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(phrase) + `" <` + id + ">"
	}
	return mime.QEncoding.Encode("utf-8", phrase) + " <" + id + ">"
}

// label makes a dot-atom label of any text: what is lost on the way is made up by a hash, so that no two texts become
// one label unless they differ in case only.
func label(s string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	out = strings.Trim(out, "-")
	if len(out) > 40 {
		out = strings.Trim(out[:40], "-")
	}
	if out == strings.ToLower(s) && out != "" {
		return out
	}
	sum := sha256.Sum256([]byte(s))
	if out != "" {
		out += "-"
	}
	return out + hex.EncodeToString(sum[:4])
}
