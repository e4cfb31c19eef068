package policy

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func readAll(t *testing.T, src string, senders ...string) (got []Contact, bad []string) {
	t.Helper()
	f, err := OpenContacts(strings.NewReader(src), senders)
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, _, c, err := f.Next()
		var row *RowError
		switch {
		case errors.Is(err, io.EOF):
			return got, bad
		case errors.As(err, &row):
			bad = append(bad, row.Error())
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, c)
		}
	}
}

func TestContactsFile(t *testing.T) {
	src := "\ufeffemail,country,collected_by,collected_at,relationship,relationship_at,products,objection_offered,consent,consent_topics,consent_at\r\n" +
		"Anna@Firma.DE,uk,acme,2025-01-01,sale,2025-02-01,b;a;b,yes,double,news; events,2025-03-01T10:00:00+01:00\r\n"
	got, bad := readAll(t, src, "acme")
	if len(bad) > 0 || len(got) != 1 {
		t.Fatal(got, bad)
	}
	collected := day("2025-01-01")
	want := Contact{
		Address: "anna@firma.de", Country: Dated[[]string]{[]string{"GB"}, collected},
		Relations: map[string]Relation{"acme": {
			CollectedBy: Dated[string]{"acme", collected}, Relationship: Dated[string]{"sale", day("2025-02-01")},
			Products: Dated[[]string]{[]string{"a", "b"}, day("2025-02-01")}, ObjectionOffered: Dated[string]{"yes", collected},
		}},
		Consents: []Consent{{Sender: "acme", Method: Double, Topics: []string{"events", "news"}, At: day("2025-03-01").Add(9 * 3600e9)}},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
}

func TestContactsFileMistakes(t *testing.T) {
	const head = "email,sender,country,relationship,consent_at,consent\n"
	tests := []struct{ name, row, reason string }{
		{"address", "nobody,acme,,,,", "email: \"nobody\" is not an e-mail address"},
		{"country", "a@b.de,acme,Germany,,,", "country: country \"GERMANY\""},
		{"relationship", "a@b.de,acme,,customer,,", "relationship: \"customer\": use one of none, sale"},
		{"date", "a@b.de,acme,,,31.12.2025,single", "consent_at: \"31.12.2025\" is not an ISO 8601 date"},
		{"sender unknown", "a@b.de,gamma,,sale,,", "sender: \"gamma\" is not configured"},
		{"sender empty, two configured", "a@b.de,,,sale,,", "sender: is empty"},
		{"Latin-1", "m\xfcller@b.de,acme,,,,", "email: is not UTF-8"},
		{"too few cells", "a@b.de,acme", "row: 2 cells, the header has 6"},
		{"quote", "a@b.de,ac\"me,,,,", "row: bare \" in non-quoted-field"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, bad := readAll(t, head+tt.row+"\nlast@b.de,acme,,,,\n", "acme", "beta")
			if len(bad) != 1 || !strings.HasPrefix(bad[0], tt.reason) {
				t.Errorf("bad rows %q, want %q", bad, tt.reason)
			}
			if len(got) != 1 || got[0].Address != "last@b.de" {
				t.Errorf("the row after it was not read: %+v", got)
			}
		})
	}
	for _, head := range []string{"", "email,colour", "country", "email,email"} {
		if _, err := OpenContacts(strings.NewReader(head+"\n"), nil); err == nil {
			t.Errorf("header %q was taken", head)
		}
	}
}
