package policy

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// gdprCountries are the EEA and the UK: EU 27, Iceland, Liechtenstein, Norway (EEA Agreement, Annex XI), and the
// United Kingdom by the UK GDPR.
var gdprCountries = map[string]bool{
	"AT": true, "BE": true, "BG": true, "HR": true, "CY": true, "CZ": true, "DK": true, "EE": true, "FI": true, "FR": true,
	"DE": true, "GR": true, "HU": true, "IE": true, "IT": true, "LV": true, "LT": true, "LU": true, "MT": true, "NL": true,
	"PL": true, "PT": true, "RO": true, "SK": true, "SI": true, "ES": true, "SE": true, "IS": true, "LI": true, "NO": true,
	"GB": true,
}

// gdprApplies tells whether the GDPR or the UK GDPR binds mail to or from a country (Art. 3). An unknown country may be
// one of theirs.
func gdprApplies(country string) bool { return country == "" || gdprCountries[country] }

// ParseCountry is the ISO 3166-1 alpha-2 code of a country given as one, in any case; UK is GB and EL is GR, as the EU
// writes them.
func ParseCountry(s string) (string, error) {
	s = strings.ToUpper(strings.TrimSpace(s))
	switch s {
	case "UK":
		return "GB", nil
	case "EL":
		return "GR", nil
	}
	region, err := language.ParseRegion(s)
	if len(s) != 2 || err != nil || !region.IsCountry() || region.Canonicalize().String() != s {
		return "", fmt.Errorf("country %q: use an ISO 3166-1 alpha-2 code such as DE", s)
	}
	return s, nil
}

// worldwide are the ccTLDs that are sold and used worldwide: they say nothing of a country.
//
//go:embed data/worldwide-cctlds.txt
var worldwideTLDs string

var worldwide = words(worldwideTLDs)

// idnTLDs are the ccTLDs in other scripts of countries in the guide (IANA root zone).
var idnTLDs = map[string]string{"xn--qxam": "GR", "xn--90ae": "BG"}

// tldCountry is the country that a normalised domain's ccTLD names, "" if it names none.
func tldCountry(domain string) string {
	tld := domain[strings.LastIndexByte(domain, '.')+1:]
	if c, ok := idnTLDs[tld]; ok {
		return c
	}
	if len(tld) != 2 || worldwide[tld] || tld == domain {
		return ""
	}
	c, err := ParseCountry(tld)
	if err != nil {
		return ""
	}
	return c
}

// signals are the countries that are named for a recipient, each once, by the first that names it.
func signals(q *Question, domain string) []CountrySignal {
	var found []CountrySignal
	add := func(code, from string) {
		if code != "" && !slices.ContainsFunc(found, func(s CountrySignal) bool { return s.Code == code }) {
			found = append(found, CountrySignal{code, from})
		}
	}
	for _, c := range q.Facts.Contact.Country.Value {
		add(c, "contact")
	}
	add(q.Country, "header")
	add(tldCountry(domain), "cctld")
	if len(found) == 0 {
		found = append(found, CountrySignal{"", "none"})
	}
	return found
}

// words reads a data file: one lower-case word a line, # starts a comment.
func words(src string) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(src) {
		word, _, _ := strings.Cut(line, "#")
		if word = strings.TrimSpace(word); word != "" {
			set[word] = true
		}
	}
	return set
}
