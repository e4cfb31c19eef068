package policy

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// guide is the B2B guide's table: 31 countries x party x address kind, each row with its citation.
//
//go:embed rules/guide.csv
var guide []byte

// guideVersion changes with every change of rules/guide.csv; it stands in each decision.
const guideVersion = "guide@1"

// Rule is what one country asks for a party and an address kind.
type Rule struct {
	Code      string `json:"country"` // ISO 3166-1 alpha-2
	Name      string `json:"name"`
	Party     Party  `json:"party"`
	Kind      Kind   `json:"address_kind"`
	Regime    Regime `json:"regime"`
	SoftOptIn bool   `json:"soft_opt_in"` // permitted on the glossary's four conditions
	Citation  string `json:"citation"`
	Law       string `json:"law"`
	Note      string `json:"note"`
	Pack      string `json:"rules"` // pack@version
}

// Options are the operator's choices where the guide leaves one.
type Options struct {
	BlockUnlisted    bool // a country in no pack: block, instead of opt-in
	FreemailBusiness bool // freemail addresses are judged like any other, instead of as consumers
	SoftOptInIsBasis bool // a complete soft opt-in is a legal basis of its own (CJEU C-654/23)
}

// Rules are the loaded packs and the operator's choices.
type Rules struct {
	Options
	Version string // of all packs
	cells   map[cell]*Rule
	order   []*Rule
}

type cell struct {
	country string
	party   Party
	kind    Kind
}

// Guide loads the guide's rules.
func Guide(o Options) (*Rules, error) {
	r := &Rules{Options: o, Version: guideVersion, cells: map[cell]*Rule{}}
	if err := r.load("guide.csv", guideVersion, bytes.NewReader(guide)); err != nil {
		return nil, err
	}
	return r, nil
}

var ruleColumns = []string{"iso2", "country", "party", "address_kind", "regime", "soft_opt_in", "citation", "law", "note"}

// load reads a pack; every malformed row is reported with its line.
func (r *Rules) load(name, version string, src io.Reader) error {
	in := csv.NewReader(src)
	in.FieldsPerRecord = len(ruleColumns)
	head, err := in.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !slices.Equal(head, ruleColumns) {
		return fmt.Errorf("%s:1: columns are %q, want %q", name, head, ruleColumns)
	}
	var bad []error
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return errors.Join(bad...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		line, _ := in.FieldPos(0)
		rule, err := parseRule(row)
		if err != nil {
			bad = append(bad, fmt.Errorf("%s:%d: %w", name, line, err))
			continue
		}
		rule.Pack = version
		key := cell{rule.Code, rule.Party, rule.Kind}
		if old, ok := r.cells[key]; ok {
			*old = *rule
			continue
		}
		r.cells[key] = rule
		r.order = append(r.order, rule)
	}
}

func parseRule(row []string) (*Rule, error) {
	rule := &Rule{
		Code: row[0], Name: row[1], Party: Party(row[2]), Kind: Kind(row[3]), Regime: Regime(row[4]),
		SoftOptIn: row[5] == "yes", Citation: row[6], Law: row[7], Note: row[8],
	}
	code, err := ParseCountry(rule.Code)
	switch {
	case err != nil || code != rule.Code:
		return nil, fmt.Errorf("iso2 %q: use an ISO 3166-1 alpha-2 code", rule.Code)
	case rule.Party != First && rule.Party != Third:
		return nil, fmt.Errorf("party %q: use first or third", rule.Party)
	case rule.Kind != Individual && rule.Kind != Generic:
		return nil, fmt.Errorf("address_kind %q: use individual or generic", rule.Kind)
	case rule.Regime != OptIn && rule.Regime != DoubleOptIn && rule.Regime != OptOutRegime:
		return nil, fmt.Errorf("regime %q: use opt-in, double-opt-in or opt-out", rule.Regime)
	case row[5] != "yes" && row[5] != "no":
		return nil, fmt.Errorf("soft_opt_in %q: use yes or no", row[5])
	case rule.Citation == "" || rule.Law == "":
		return nil, errors.New("citation and law must not be empty")
	}
	return rule, nil
}

// Find lists the rules in the packs' order; "" selects all.
func (r *Rules) Find(country string, party Party, kind Kind) []Rule {
	var found []Rule
	for _, rule := range r.order {
		if (country == "" || rule.Code == country) && (party == "" || rule.Party == party) && (kind == "" || rule.Kind == kind) {
			found = append(found, *rule)
		}
	}
	return found
}

// rule is what applies to one address kind and party in a country; known is false where no pack lists the country.
// A consumer's is the individual row with opt-out raised to opt-in and the soft opt-in open to the first party.
func (r *Rules) rule(country string, party Party, kind Kind) (rule Rule, known bool) {
	look := kind
	if kind == Consumer {
		look = Individual
	}
	found, known := r.cells[cell{country, party, look}]
	if !known {
		return Rule{Code: country, Name: country, Party: party, Kind: kind, Regime: OptIn, Pack: r.Version}, false
	}
	rule = *found
	rule.Kind = kind
	if kind == Consumer && rule.Regime == OptOutRegime {
		rule.Regime = OptIn
		rule.SoftOptIn = party == First
		rule.Citation = strings.TrimSuffix(rule.Citation, ".") + "; a consumer's address: opt-in with soft opt-in (Directive 2002/58/EC, Art. 13(1), (2))"
	}
	return rule, true
}

// softPermitted tells whether the country has a soft opt-in at all: the dagger stands in its first-party cell.
func (r *Rules) softPermitted(country string, kind Kind) bool {
	rule, _ := r.rule(country, First, kind)
	return rule.SoftOptIn
}
