package policy

import (
	"encoding/csv"
	"os"
	"strconv"
	"testing"
	"time"
)

// caseQuestion turns a row of cases.csv into a question, by the conventions of docs/rules.md.
func caseQuestion(t *testing.T, row map[string]string) Question {
	t.Helper()
	at := day("2026-06-01")
	sender := &Sender{ID: "acme", Name: "Acme Ltd", PostalAddress: "1 High Street", Country: "GB", Domains: []string{"acme.example"}}
	if row["country"] == "US" || row["country"] == "CA" {
		sender.Country = "US"
	}
	q := Question{Account: &Account{Name: "crm", Sender: sender, Category: Marketing, Topic: "news", Product: "crm"}, Topic: "news", Product: "crm", Recipient: row["recipient_email"], At: at}
	if row["lia"] != "none" {
		passed := Test{Passed: row["lia"] == "passed"}
		q.Account.Assessment = &Assessment{ID: "LIA-1", Sender: "acme", Purpose: passed, Necessity: passed, Balancing: passed, AssessedOn: at.AddDate(-1, 0, 0), ExpiresOn: at.AddDate(1, 0, 0)}
	}
	collector := row["collected_by"]
	if collector == row["sender_entity"] {
		collector = "acme"
	}
	products := []string{"other"}
	if row["similar_products"] == "yes" {
		products = []string{"crm"}
	}
	c := Contact{Country: Dated[[]string]{Value: []string{row["country"]}}, Relations: map[string]Relation{"acme": {
		CollectedBy: Dated[string]{Value: collector}, Relationship: Dated[string]{Value: row["relationship"]},
		Products: Dated[[]string]{Value: products}, ObjectionOffered: Dated[string]{Value: row["objection_offered_at_collection"]},
	}}}
	if row["consent"] != "none" {
		age, err := strconv.Atoi(row["consent_age_days"])
		if err != nil {
			t.Fatal(err)
		}
		c.Consents = []Consent{{Sender: "acme", Method: Method(row["consent"]), At: at.AddDate(0, 0, -age)}}
	}
	q.Facts.Contact = c
	if row["opted_out"] == "yes" {
		q.Facts.OptOuts = []OptOut{{Scope: ScopeAll, At: at.Add(-time.Hour)}}
	}
	return q
}

// TestCases: decision cases written from the guide, independently of this code.
func TestCases(t *testing.T) {
	f, err := os.Open("testdata/cases.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Guide(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range rows[1:] {
		row := map[string]string{}
		for i, name := range rows[0] {
			row[name] = values[i]
		}
		t.Run(row["id"], func(t *testing.T) {
			if d := rules.Decide(caseQuestion(t, row)); d.Action != row["expected"] {
				t.Errorf("%s (%s), want %s: %s", d.Action, d.Code, row["expected"], row["expected_reason"])
			}
		})
	}
	if len(rows) < 100 {
		t.Errorf("only %d cases", len(rows))
	}
}
