package config

import (
	"math"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// wrong is what is wrong with a value, and its remedy; the zero value: nothing.
type wrong struct{ text, remedy string }

// setScalar gives v the value that text stands for, as its type and its field's tags ask. Numbers and truth values
// come as their text.
func setScalar(v reflect.Value, f field, text string) wrong {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
		return checkText(f, p)
	case *Secret:
		*p = Secret(text)
		return checkText(f, (*string)(p))
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil || (text != "true" && text != "false") {
			return wrong{"is not true or false", "write true or false"}
		}
		*p = b
	case *int:
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 32)
		if err != nil {
			return wrong{"is not a whole number, or too large", "write a number like " + example(f, "20")}
		}
		*p = int(n)
	case *float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) {
			return wrong{"is not a number, zero or more", "write a number like 10, or 0 for no limit"}
		}
		*p = n
	case *time.Duration:
		return setDuration(p, f, text)
	case *Size:
		n, err := parseSize(text)
		if err != nil {
			return wrong{"is not a size", "write a number and its unit (B, KiB, MiB, GiB or TiB), like " + example(f, "25MiB")}
		}
		*p = n
	case *time.Time:
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return wrong{"is not a date", "write YYYY-MM-DD, like 2026-01-31"}
		}
		*p = t
	case *URL:
		u, err := parseURL(text)
		if err != nil {
			return wrong{err.Error(), "write smtp://HOST:PORT, smtp+starttls://HOST:PORT or smtps://HOST:PORT"}
		}
		*p = u
	case *netip.Prefix:
		n, err := parsePrefix(text)
		if err != nil {
			return wrong{err.Error(), "write an address and a prefix length, like 10.1.0.0/16 or 2001:db8::/32"}
		}
		*p = n
	}
	return checkRange(v, f)
}

func setDuration(p *time.Duration, f field, text string) wrong {
	if text == "off" && f.is["off"] {
		*p = 0
		return wrong{}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return wrong{"is not a time", "write a number and its unit (ms, s, m or h), like " + example(f, "30s") + orOff(f)}
	}
	*p = d
	return checkRange(reflect.ValueOf(p).Elem(), f)
}

// example is the field's default where one fits, for remedies.
func example(f field, otherwise string) string {
	if f.def == "" || f.def == "off" {
		return otherwise
	}
	first, _, _ := strings.Cut(f.def, ",")
	return first
}

func orOff(f field) string {
	if f.is["off"] {
		return ", or off"
	}
	return ""
}

func checkRange(v reflect.Value, f field) wrong {
	if f.is["positive"] && v.Int() <= 0 {
		return wrong{"must be more than zero", "write a value like " + example(f, "1") + orOff(f)}
	}
	if f.is["natural"] && v.Int() < 0 {
		return wrong{"must be zero or more", "write a value like " + example(f, "1")}
	}
	return wrong{}
}

func notBuilt(f field) wrong {
	if f.built == "" {
		return wrong{"is not supported yet", "leave it empty or out"}
	}
	return wrong{"is not supported yet", "write " + f.built + " or leave it out"}
}

// checkText checks a string against its field's words and kinds, and may put it into its usual form. Empty passes:
// whether it may be empty is another question.
func checkText(f field, p *string) wrong {
	s := *p
	if w := checkCharacters(f, s); w.text != "" {
		return w
	}
	if f.one != "" && !strings.Contains("|"+f.one+"|", "|"+s+"|") || f.one != "" && strings.Contains(s, "|") {
		words := strings.Split(f.one, "|")
		return wrong{"is none of the words for this key", "write " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]}
	}
	if s != "" {
		for _, k := range kinds() {
			if !f.is[k.name] {
				continue
			}
			if w := k.check(p); w.text != "" {
				return w
			}
		}
	}
	if f.hasBuilt && s != f.built {
		return notBuilt(f)
	}
	return wrong{}
}

// checkCharacters: no control characters, since values end up in header fields, replies and notices.
func checkCharacters(f field, s string) wrong {
	if !utf8.ValidString(s) {
		return wrong{"is not UTF-8 text", "save it as UTF-8"}
	}
	for _, r := range s {
		if r == '\n' && f.is["lines"] {
			continue
		}
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return wrong{"has a line break or another control character", "write it in one line of printable characters"}
		}
	}
	return wrong{}
}

// kind is a meaning of a string: what it must look like. check may rewrite it.
type kind struct {
	name  string
	check func(*string) wrong
}

var (
	nameForm     = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	argon2idForm = regexp.MustCompile(`^\$argon2id\$v=19\$m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,10})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,172})$`)
)

// kinds are the meanings that the tag `is` may name.
func kinds() []kind {
	return []kind{
		{"name", func(p *string) wrong {
			return unless(nameForm.MatchString(*p), "is not a name", "use letters, digits, dots, hyphens and underscores only")
		}},
		{"label", func(p *string) wrong {
			return unless(strings.TrimSpace(*p) == *p, "starts or ends with a space", "remove that space")
		}},
		{"country", checkCountry},
		{"domain", func(p *string) wrong {
			return unless(validHost(strings.Trim(*p, "[]")), "is not a host name", "write it like gw.example.com")
		}},
		{"sending", func(p *string) wrong {
			return unless(*p == "*" || checkDomain(*p), "is not a domain", `write it like example.com, or "*" for any`)
		}},
		{"signing", checkSigningDomain},
		{"selector", func(p *string) wrong {
			return unless(hostName.MatchString(*p), "is not a selector", "write letters, digits and hyphens, like s1")
		}},
		{"field", checkFieldName},
		{"email", func(p *string) wrong {
			a, err := mail.ParseAddress(*p)
			return unless(err == nil && a.Address == *p, "is not an e-mail address", "write it like name@example.com")
		}},
		{"address", func(p *string) wrong {
			return unless(validAddress(*p), "is not an address to listen on", "write HOST:PORT like 127.0.0.1:2525, or :2525 for every interface")
		}},
		{"url", checkWebURL},
		{"language", func(p *string) wrong {
			_, err := language.Parse(*p)
			return unless(*p == "auto" || err == nil, "is not a language", "write auto, or a tag like de or en-GB")
		}},
		{"argon2id", checkHash},
		{"keyfile", func(p *string) wrong {
			path, ok := strings.CutPrefix(*p, "file:")
			*p = path
			return unless(ok && path != "", "does not name a file", "write file:PATH, like file:./data/keys.json")
		}},
		{"state", checkState},
	}
}

func unless(ok bool, text, remedy string) wrong {
	if ok {
		return wrong{}
	}
	return wrong{text, remedy}
}

func checkCountry(p *string) wrong {
	if isCountry(*p) {
		return wrong{}
	}
	remedy := "write the two capital letters of ISO 3166-1, like GB or DE"
	if up := strings.ToUpper(*p); up == "UK" {
		remedy = "write GB"
	} else if isCountry(up) {
		remedy = "write " + up
	}
	return wrong{"is not a country code", remedy}
}

// checkDomain takes a domain with a dot or not, in letters of any script.
func checkDomain(s string) bool {
	if len(s) > 253 || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	for _, r := range s {
		if r < 0x80 && r != '.' && r != '-' && r != '_' && !('a' <= r && r <= 'z') && !('A' <= r && r <= 'Z') && !('0' <= r && r <= '9') {
			return false
		}
		if unicode.IsSpace(r) {
			return false
		}
	}
	return true
}

// checkWebURL takes an absolute http or https URL. Its slashes at the end go, so that paths can be appended.
func checkWebURL(p *string) wrong {
	u, err := url.Parse(*p)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || !validHost(u.Hostname()) && !checkDomain(u.Hostname()) || u.Hostname() == "" || u.Port() != "" && !validPort(u.Port(), 1) || u.User != nil {
		return wrong{"is not a web address", "write it like https://www.example.com"}
	}
	*p = strings.TrimRight(*p, "/")
	return wrong{}
}

// checkState takes the URL of a state: a file, or a server, or several that stand in for each other.
func checkState(p *string) wrong {
	scheme, rest, _ := strings.Cut(*p, ":")
	form := wrong{"is not the URL of a state", "write sqlite:PATH, redis://HOST:PORT/DB, redis+sentinel://H1:PORT,H2:PORT/NAME or redis+cluster://H1:PORT,H2:PORT"}
	switch scheme {
	case "sqlite":
		if path := strings.TrimPrefix(rest, "//"); path == "" || strings.ContainsAny(path, "?#") || path == ":memory:" {
			return wrong{"names no file", "write sqlite:PATH, like sqlite:./data/state.db"}
		}
	case "redis", "rediss":
		u, err := url.Parse(*p)
		if err != nil || u.Hostname() == "" || !validHost(u.Hostname()) || u.Port() != "" && !validPort(u.Port(), 1) || u.Fragment != "" {
			return form
		}
		if db := strings.Trim(u.Path, "/"); db != "" {
			if n, err := strconv.Atoi(db); err != nil || n < 0 {
				return form
			}
		}
	case "redis+sentinel", "rediss+sentinel":
		path, ok := manyHosts(rest)
		name, db, _ := strings.Cut(path, "/")
		if n, err := strconv.Atoi(db); !ok || name == "" || db != "" && (err != nil || n < 0) {
			return wrong{form.text, "write redis+sentinel://[USER:PASSWORD@]H1:26379,H2:26379,H3:26379/NAME, NAME as the sentinels call the primary"}
		}
	case "redis+cluster", "rediss+cluster":
		if path, ok := manyHosts(rest); !ok || path != "" {
			return wrong{form.text, "write redis+cluster://[USER:PASSWORD@]H1:6379,H2:6379,H3:6379"}
		}
	default:
		return form
	}
	return wrong{}
}

// manyHosts takes //[USER:PASSWORD@]H1[:PORT],H2[:PORT]/PATH apart.
func manyHosts(s string) (path string, ok bool) {
	s, ok = strings.CutPrefix(s, "//")
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		if _, err := url.PathUnescape(s[:at]); err != nil || strings.ContainsAny(s[:at], "/?#") {
			return "", false
		}
		s = s[at+1:]
	}
	hosts, path, _ := strings.Cut(s, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("//" + host)
		ok = ok && err == nil && u.Host == host && validHost(u.Hostname()) && (u.Port() == "" || validPort(u.Port(), 1))
	}
	return strings.Trim(path, "/"), ok && !strings.ContainsAny(s, "?#")
}

// checkHash takes an argon2id hash in the PHC string format whose cost a login can bear (RFC 9106 section 4).
func checkHash(p *string) wrong {
	form := wrong{"is not an argon2id hash", "write $argon2id$v=19$m=MEMORY,t=PASSES,p=LANES$SALT$HASH, or use password"}
	m := argon2idForm.FindStringSubmatch(*p)
	if m == nil {
		return form
	}
	var cost [3]int64
	for i := range cost {
		cost[i], _ = strconv.ParseInt(m[i+1], 10, 64)
	}
	memory, passes, lanes := cost[0], cost[1], cost[2]
	if passes < 1 || lanes < 1 || lanes > 16 || memory < 8*lanes {
		return form
	}
	if memory > 256<<10 || passes > 16 { // the bounds of package smtp
		return wrong{"costs too much for each login", "use m of at most 262144 (256 MiB) and t of at most 16"}
	}
	return wrong{}
}

// hostOf is the host of a URL that checkWebURL has passed.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// portOf is the port of host:port.
func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
