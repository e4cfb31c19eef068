package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"
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
