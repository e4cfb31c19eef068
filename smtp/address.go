package smtp

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPath is an address's longest form: RFC 5321 section 4.5.3.1 with room for long VERP local parts.
const maxPath = 320

var (
	errNoPath    = errors.New("an address in angle brackets is expected")
	errLocalPart = errors.New("malformed local part")
	errDomain    = errors.New("malformed domain")
	errPathLong  = errors.New("address too long")
	errNeedsUTF8 = errors.New("address has non-ASCII characters and SMTPUTF8 was not given")
)

// parsePath reads a path (RFC 5321 section 4.1.2) from the start of arg: the address validated and quoted anew only
// where it must be, and what follows. "" is the null path <>. <postmaster> is at home (section 4.5.1). Brackets may be
// missing, and a source route is dropped (appendix C).
func parsePath(arg, home string, utf8ok bool) (address, rest string, err error) {
	s, bracket := strings.CutPrefix(arg, "<")
	if bracket && strings.HasPrefix(s, ">") {
		return "", s[1:], nil
	}
	if strings.HasPrefix(s, "@") {
		route, after, ok := strings.Cut(s, ":")
		if !ok || !validRoute(route) {
			return "", "", errNoPath
		}
		s = after
	}
	local, s, err := cutLocalPart(s)
	if err != nil {
		return "", "", err
	}
	var domain string
	if t, ok := strings.CutPrefix(s, "@"); ok {
		end := strings.IndexAny(t, " >")
		if end < 0 {
			end = len(t)
		}
		domain, s = t[:end], t[end:]
	} else if strings.EqualFold(local, "postmaster") {
		domain = home
	}
	if bracket {
		if s, bracket = strings.CutPrefix(s, ">"); !bracket {
			return "", "", errNoPath
		}
	}
	if s != "" && s[0] != ' ' {
		return "", "", errNoPath
	}
	address, err = quoteAddress(local, domain, utf8ok)
	return address, s, err
}

func validRoute(route string) bool {
	for hop := range strings.SplitSeq(route, ",") {
		d, ok := strings.CutPrefix(hop, "@")
		if !ok || checkDomain(d, false) != nil {
			return false
		}
	}
	return true
}

// cutLocalPart takes a local part, out of its quotes if it has them.
func cutLocalPart(s string) (local, rest string, err error) {
	quoted, ok := strings.CutPrefix(s, `"`)
	if !ok {
		end := strings.IndexAny(s, "@> ")
		if end < 0 {
			end = len(s)
		}
		if end == 0 || strings.ContainsAny(s[:end], `()<[]:;\,"`) || !isDotString(s[:end]) {
			return "", "", errLocalPart
		}
		return s[:end], s[end:], nil
	}
	var b strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch quoted[i] {
		case '"':
			if b.Len() == 0 {
				return "", "", errLocalPart
			}
			return b.String(), quoted[i+1:], nil
		case '\\':
			if i++; i == len(quoted) {
				return "", "", errLocalPart
			}
		}
		b.WriteByte(quoted[i])
	}
	return "", "", errLocalPart
}

// quoteAddress is local@domain fit to stand between < and > on the wire. local is unquoted: `a@b` must not become
// an address at b, nor `x> NOTIFY=NEVER` a parameter, in a command that we write later.
func quoteAddress(local, domain string, utf8ok bool) (string, error) {
	if err := checkText(local, utf8ok); err != nil {
		return "", err
	}
	if err := checkDomain(domain, utf8ok); err != nil {
		return "", err
	}
	if !isDotString(local) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if len(local)+len(domain) >= maxPath {
		return "", errPathLong
	}
	return local + "@" + domain, nil
}

func isDotString(local string) bool {
	return local != "" && local[0] != '.' && local[len(local)-1] != '.' && !strings.Contains(local, "..") &&
		!strings.ContainsAny(local, " ()<>[]:;@\\,\"")
}

func checkText(s string, utf8ok bool) error {
	if !utf8.ValidString(s) {
		return errNeedsUTF8
	}
	for _, c := range s {
		switch {
		case c < ' ' || c == 0x7f:
			return errLocalPart
		case c >= 0x80 && !utf8ok:
			return errNeedsUTF8
		case c >= 0x80 && (!unicode.IsGraphic(c) || unicode.IsSpace(c)):
			return errLocalPart
		}
	}
	return nil
}

// checkDomain takes names and address literals. Underscores exist in real mail domains.
func checkDomain(d string, utf8ok bool) error {
	if inner, ok := strings.CutPrefix(d, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok || inner == "" || strings.ContainsFunc(inner, func(c rune) bool { return !isLetDig(c) && c != '.' && c != ':' && c != '-' }) {
			return errDomain
		}
		return nil
	}
	if len(d) > 255 {
		return errPathLong
	}
	if err := checkText(d, utf8ok); err != nil {
		if errors.Is(err, errLocalPart) {
			err = errDomain
		}
		return err
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || utf8.RuneCountInString(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(c rune) bool { return !isLetDig(c) && c != '-' && c != '_' && c < 0x80 }) {
			return errDomain
		}
	}
	return nil
}

func isLetDig(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// addressRefusal is the answer to a path that cannot be taken; status is X.1.Z for its place (RFC 3463 section 3.2).
func addressRefusal(err error, status [3]int) Reply {
	if errors.Is(err, errNeedsUTF8) {
		return Reply{553, [3]int{5, 6, 7}, err.Error()} // RFC 6531 section 3.5
	}
	return Reply{501, status, err.Error()}
}
