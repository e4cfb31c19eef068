package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"heed/policy"
)

// What waits in a file without queues waits on in one with them.
func TestSpoolOfSchema1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := schema.ReadFile("schema/001.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(first), "INSERT INTO bodies (size, body) VALUES (4, x'626f6479')", "UPDATE spool_size SET bytes = 4",
		"INSERT INTO copies (id, body, due, node, lease, meta) VALUES ('c', 1, 1, 'n', 1, x'6d')",
		fmt.Sprintf("PRAGMA user_version = 1; PRAGMA application_id = %d", applicationID),
	} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	items, err := s.SpoolClaim(t.Context(), "b", at, at.Add(time.Hour), 9, []string{"esp"})
	if err != nil || len(items) != 1 || items[0].Queue != "" || string(items[0].Meta) != "m" || string(items[0].Body) != "body" {
		t.Errorf("claimed %v, %v", items, err)
	}
}

// Who is known in a file without what was told is known in one with it; what was told outlasts the process.
func TestInformedOfSchema3(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		step, err := schema.ReadFile(fmt.Sprintf("schema/%03d.sql", n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(step)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(fmt.Sprintf(`INSERT INTO contacts VALUES ('p', '{"language":{"value":"de"}}');
		PRAGMA user_version = 3; PRAGMA application_id = %d`, applicationID)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := open(t, path)
		if err := s.Record(t.Context(), []policy.Entry{{ID: "e", Person: "p", Sender: "acme", Informed: &policy.Informed{At: at, Message: "m"}}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := open(t, path).Facts(t.Context(), []string{"p"})
	if err != nil || f["p"].Contact.Language.Value != "de" || f["p"].Informed["acme"].Message != "m" {
		t.Errorf("facts %+v, %v", f, err)
	}
}
