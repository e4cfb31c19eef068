package integration

import (
	"encoding/csv"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"heed/policy"
)

// TestCases: the decision cases written from the guide, through the running gateway's API and through the command line.
func TestCases(t *testing.T) {
	f, err := os.Open("../policy/testdata/cases.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(24 * time.Hour)
	const header = "email,country,collected_by,collected_at,relationship,products,objection_offered,consent,consent_at"
	nodes := map[string]*gateway{} // by the sender's country
	contacts := map[string][]string{}
	type question struct{ id, country, account, to, want string }
	var questions []question
	for _, values := range rows[1:] {
		row := map[string]string{}
		for i, name := range rows[0] {
			row[name] = values[i]
		}
		country := "GB"
		if row["country"] == "US" || row["country"] == "CA" {
			country = "US"
		}
		// Cases share addresses: a sub-address keeps them apart and changes nothing else.
		local, domain, _ := strings.Cut(row["recipient_email"], "@")
		to := local + "+" + strings.ToLower(row["id"]) + "@" + domain
		products := "other"
		if row["similar_products"] == "yes" {
			products = "routing"
		}
		consentAt := ""
		if row["consent"] != "none" {
			age, err := strconv.Atoi(row["consent_age_days"])
			if err != nil {
				t.Fatal(err)
			}
			consentAt = at.AddDate(0, 0, -age).Format(time.DateOnly)
		}
		contacts[country] = append(contacts[country], strings.Join([]string{
			to, row["country"], row["collected_by"], "2010-01-01", row["relationship"], products, row["objection_offered_at_collection"], row["consent"], consentAt,
		}, ","))
		if row["opted_out"] == "yes" {
			contacts[country+" out"] = append(contacts[country+" out"], to)
		}
		account := map[string]string{"passed": "crm", "failed": "crm-failed", "none": "crm-none"}[row["lia"]]
		questions = append(questions, question{row["id"], country, account, to, row["expected"]})
	}
	for _, country := range []string{"GB", "US"} {
		g := newGateway(t, setting{"SENDER_COUNTRY", country}).start()
		g.contacts(header, contacts[country]...)
		file := t.TempDir() + "/optouts.txt"
		if err := os.WriteFile(file, []byte(strings.Join(contacts[country+" out"], "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		g.must("optouts", "import", file)
		nodes[country] = g
	}
	for i, q := range questions {
		t.Run(q.id, func(t *testing.T) {
			g := nodes[q.country]
			var answer struct{ Decisions []policy.Decision }
			status := g.api("/api/v1/check", map[string]any{"account": q.account, "recipients": []string{q.to}}, &answer)
			if status != 200 || len(answer.Decisions) != 1 || answer.Decisions[0].Action != q.want {
				t.Errorf("API: %d %+v, want %s", status, answer.Decisions, q.want)
			}
			if i%8 != 0 { // a process each: a sample is enough beside the API
				return
			}
			out, code := g.run("check", "--account", q.account, "--to", q.to)
			if want := map[string]int{"allow": 0, "block": 1}[q.want]; code != want {
				t.Errorf("exit %d, want %d\n%s", code, want, out)
			}
		})
	}
}
