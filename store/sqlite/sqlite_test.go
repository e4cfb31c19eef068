package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"heed/policy"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func options() Options {
	return Options{Log: slog.New(slog.DiscardHandler), Timeout: 5 * time.Second}
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func object(t *testing.T, s *Store, person string) {
	t.Helper()
	if _, err := s.AddOptOut(t.Context(), person, person+"@x.example", policy.OptOut{Scope: policy.ScopeAll, At: at, Via: "page"}); err != nil {
		t.Fatal(err)
	}
}

func isOut(t *testing.T, s *Store, person string) bool {
	t.Helper()
	f, err := s.Facts(t.Context(), []string{person})
	if err != nil {
		t.Fatal(err)
	}
	return len(f[person].OptOuts) == 1
}

// copyFiles copies the file and its WAL as they are on disk: what a crash leaves.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(from + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAcknowledgedWritesSurviveACrash(t *testing.T) {
	path, crashed := filepath.Join(t.TempDir(), "state.db"), filepath.Join(t.TempDir(), "crashed.db")
	s := open(t, path)
	for i := range 20 {
		object(t, s, fmt.Sprint("p", i))
	}
	if ok, err := s.SpoolAdd(t.Context(), "n", "q", at, []byte("body"), map[string][]byte{"c": []byte("m")}, 100); !ok || err != nil {
		t.Fatal(ok, err)
	}
	copyFiles(t, path, crashed)
	again := open(t, crashed)
	for i := range 20 {
		if !isOut(t, again, fmt.Sprint("p", i)) {
			t.Errorf("the opt-out of p%d is lost", i)
		}
	}
	if size, copies, err := again.SpoolSize(t.Context()); size != 4 || copies != 1 || err != nil {
		t.Error("the spool is lost", size, copies, err)
	}
}

func TestTwoHandlesOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	gateway, cli := open(t, path), open(t, path)
	var wg sync.WaitGroup
	for n, s := range []*Store{gateway, cli} {
		wg.Go(func() {
			for i := range 50 {
				object(t, s, fmt.Sprintf("p%d-%d", n, i))
			}
		})
	}
	wg.Wait()
	for i := range 50 {
		if !isOut(t, cli, fmt.Sprintf("p0-%d", i)) || !isOut(t, gateway, fmt.Sprintf("p1-%d", i)) {
			t.Errorf("opt-out %d of one handle is not seen by the other", i)
		}
	}
}

func TestManyOpenANewFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(t.Context(), path, options())
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	object(t, open(t, path), "p")
}

func TestFullDisk(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	object(t, s, "before")
	pages := func(n int) {
		t.Helper()
		if err := s.write(t.Context(), 0, func(t *tx) error {
			return t.row(fmt.Sprintf("PRAGMA max_page_count = %d", n)).Scan(new(int))
		}); err != nil {
			t.Fatal(err)
		}
	}
	pages(1) // SQLite takes it as the present size
	ok, err := s.SpoolAdd(t.Context(), "n", "q", at, make([]byte, 1<<20), map[string][]byte{"c": nil}, 1<<30)
	if ok || err == nil || !strings.Contains(err.Error(), "the disk is full and nothing was kept") {
		t.Errorf("answer on a full disk: %v, %v", ok, err)
	}
	if size, copies, err := s.SpoolSize(t.Context()); size != 0 || copies != 0 || err != nil {
		t.Error("something was kept", size, copies, err)
	}
	if !isOut(t, s, "before") {
		t.Error("an earlier opt-out is lost")
	}
	pages(1 << 30)
	if ok, err := s.SpoolAdd(t.Context(), "n", "q", at, make([]byte, 1<<20), map[string][]byte{"c": nil}, 1<<30); !ok || err != nil {
		t.Error("with room again:", ok, err)
	}
}

// group has the writes committed together and returns their answers.
func group(t *testing.T, s *Store, runs ...func(*tx) error) []error {
	t.Helper()
	var requests []*write
	for _, run := range runs {
		requests = append(requests, &write{run: run, done: make(chan error, 1)})
	}
	s.writer.close() // its loop ends, so that this goroutine may commit
	db, err := pool(s.path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w := &writer{db: db, path: s.path, log: s.log}
	defer w.reset()
	w.commit(requests)
	var errs []error
	for _, r := range requests {
		errs = append(errs, <-r.done)
	}
	return errs
}

func put(key string) func(*tx) error {
	return func(t *tx) error {
		_, err := t.exec("INSERT INTO meta VALUES (?, 'x')", key)
		return err
	}
}

func TestAWriteThatFailsLeavesItsGroupAlone(t *testing.T) {
	failure := errors.New("failure")
	for _, c := range []struct {
		name string
		bad  func(*tx) error
	}{
		{"its own error, after a change", func(t *tx) error { return errors.Join(put("bad")(t), failure) }},
		{"a broken constraint", func(t *tx) error { return errors.Join(put("first")(t), failure) }},
		{"the whole transaction is rolled back", func(t *tx) error {
			_, err := t.exec("ROLLBACK")
			return errors.Join(err, failure)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			errs := group(t, open(t, path), put("first"), c.bad, put("last"))
			if errs[0] != nil || !errors.Is(errs[1], failure) || errs[2] != nil {
				t.Errorf("answers: %v", errs)
			}
			db, err := pool(path, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var keys string
			if err := db.QueryRow("SELECT group_concat(key) FROM meta").Scan(&keys); err != nil || keys != "first,last" {
				t.Errorf("kept: %s, %v", keys, err)
			}
		})
	}
}

func TestDeadlineWhileAnotherProcessHoldsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	db, err := pool(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	held, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.AddOptOut(ctx, "p", "", policy.OptOut{Scope: policy.ScopeAll, At: at})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the lock is held: %v", err)
	}
	if isOut(t, s, "p") { // reading goes on
		t.Error("it was written beside the lock")
	}
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	object(t, s, "q")
	if !isOut(t, s, "q") {
		t.Error("not written after the lock was released")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
		says string
	}{
		{"another program's file", func(path string) error { return script(path, "CREATE TABLE theirs (x)") }, "another program's database"},
		{"a newer schema", func(path string) error {
			return script(path, fmt.Sprintf("CREATE TABLE x (x); PRAGMA application_id = %d; PRAGMA user_version = 99", applicationID))
		}, "use the newer program"},
		{"no database", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("hello ", 1000)), 0o600) }, "not a SQLite database"},
		{"damage inside", damage, "restore the file from a backup"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, "cannot be opened for writing"},
		{"a folder that is a file", func(path string) error { return os.WriteFile(filepath.Dir(path)+"/no", nil, 0o600) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			if c.says == "" {
				path, c.says = filepath.Dir(path)+"/no/state.db", "folder of the state cannot be made"
			}
			s, err := Open(t.Context(), path, options())
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) && c.says != "folder of the state cannot be made" {
				t.Errorf("says %q", err)
			}
		})
	}
	for _, path := range []string{"", ":memory:", "//host/state.db"} {
		if _, err := Open(t.Context(), path, options()); err == nil || !strings.Contains(err.Error(), "sqlite:") {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func script(path, text string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	_, err = db.Exec(text)
	return errors.Join(err, db.Close())
}

// damage makes a state and overwrites its pages but the first.
func damage(path string) error {
	s, err := Open(context.Background(), path, options())
	if err != nil {
		return err
	}
	for i := range 200 {
		if err := s.Record(context.Background(), []policy.Entry{{ID: fmt.Sprint(i), At: at, Reason: strings.Repeat("x", 500)}}); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := 8192; i < len(b); i++ {
		b[i] ^= 0x5a
	}
	return os.WriteFile(path, b, 0o600)
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "we?ird#%41 name.db")
	object(t, open(t, path), "p")
	for file, mode := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

func TestReopenedFileKeepsItsState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(t.Context(), path, options())
	if err != nil {
		t.Fatal(err)
	}
	object(t, s, "p")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a closed state leaves its WAL: a copy of the file alone would lack writes (%v)", err)
	}
	if !isOut(t, open(t, path), "p") {
		t.Error("the opt-out is lost")
	}
}

func TestErasedIsGoneFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(t.Context(), path, options())
	if err != nil {
		t.Fatal(err)
	}
	contact := policy.Contact{Address: "maria@x.example"}
	for i := range 200 { // until it overflows its page, and leaves old versions behind
		contact.Consents = append(contact.Consents, policy.Consent{Sender: fmt.Sprint("s", i), Evidence: "evidence of maria", At: at})
		if err := s.Merge(t.Context(), map[string]policy.Contact{"p": contact}); err != nil {
			t.Fatal(err)
		}
	}
	entry := policy.Entry{ID: "e", At: at, Person: "p", Recipient: contact.Address, Verdict: &policy.Decision{Recipient: contact.Address}}
	if err := s.Record(t.Context(), []policy.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.SpoolAdd(t.Context(), "n", "q", at, []byte(strings.Repeat("To: maria\r\n", 5000)), map[string][]byte{"c": []byte("maria")}, 1<<30); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, err := range []error{s.SpoolDone(t.Context(), "c"), second(s.Erase(t.Context(), "p")), s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if n := strings.Count(string(b), "maria"); n > 0 || err != nil {
		t.Errorf("her name stands in the file %d times (%v)", n, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestWALEndsAfterAReaderHeldIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	reader, err := s.reads.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ExecContext(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM meta").Scan(new(int)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if ok, err := s.SpoolAdd(t.Context(), "n", "q", at, make([]byte, 1<<20), map[string][]byte{fmt.Sprint(i): nil}, 1<<30); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if size() < 5<<20 {
		t.Fatal("the reader did not hold the WAL")
	}
	if _, err := reader.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	s.writer.close() // its loop ends, so that this goroutine may commit
	db, err := pool(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w := &writer{db: db, path: path, log: s.log}
	defer w.reset()
	if _, err := w.attempt([]*write{{run: put("x"), done: make(chan error, 1)}}); err != nil {
		t.Fatal(err)
	}
	w.checkpoint(1 << 20)
	if size() != 0 {
		t.Errorf("the WAL still has %d bytes", size())
	}
}

func TestCommitsAreSynced(t *testing.T) {
	for name, c := range map[string]struct {
		noSync bool
		want   int
	}{"strict and assumed": {false, 2}, "none": {true, 1}} {
		o := options()
		o.NoSync = c.noSync
		s, err := Open(t.Context(), filepath.Join(t.TempDir(), "state.db"), o)
		if err != nil {
			t.Fatal(err)
		}
		var mode int
		err = s.write(t.Context(), 0, func(t *tx) error { return t.row("PRAGMA synchronous").Scan(&mode) })
		if err != nil || mode != c.want {
			t.Errorf("%s: synchronous is %d, %v", name, mode, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestQueriesUseTheirIndexes(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	journal := func(q policy.JournalQuery) (string, []any) {
		from, args := selection(q, 1)
		return pageQuery(from), append(args, 0, 0, page)
	}
	for _, c := range []struct {
		name, index string
		q           policy.JournalQuery
	}{
		{"all", "journal_at", policy.JournalQuery{}},
		{"since", "journal_at", policy.JournalQuery{Since: at}},
		{"person", "journal_person", policy.JournalQuery{Person: "p", Action: "allow"}},
		{"message", "journal_message", policy.JournalQuery{MessageID: "m", Action: "allow", Since: at}},
		{"action", "journal_action", policy.JournalQuery{Action: "allow"}},
	} {
		query, args := journal(c.q)
		plan := explainPlan(t, s, query, args...)
		if !strings.Contains(plan, "INDEX "+c.index+" (") || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN") {
			t.Errorf("%s: %s", c.name, plan)
		}
	}
	for name, plan := range map[string]string{
		"copies_queue (queue=? AND due<?)": explainPlan(t, s, dueQuery, "q", 1, 1, 1), "copies_queue (queue>?)": explainPlan(t, s, queuesQuery),
	} {
		if !strings.Contains(plan, name) || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN copies") {
			t.Errorf("the spool is not looked up by %s: %s", name, plan)
		}
	}
	if plan := explainPlan(t, s, factsQuery, `["p"]`); strings.Count(plan, "SCAN") != 1 {
		t.Errorf("facts scan more than the list of persons: %s", plan)
	}
}

func explainPlan(t *testing.T, s *Store, query string, args ...any) string {
	t.Helper()
	rows, err := s.reads.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	var plan []string
	err = every(rows, func(r *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := r.Scan(&id, &parent, &unused, &detail)
		plan = append(plan, detail)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "; ")
}

// The guard's table holds what stands, however long the gateway runs.
func TestGuardIsTrimmed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	now := time.Now()
	for i := range 2000 {
		now = now.Add(time.Hour)
		key := fmt.Sprintf("p/%d", i)
		if _, err := s.GuardBegin(t.Context(), "t", []string{key}, nil, now, now.Add(time.Minute), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.GuardEnd(t.Context(), "t", map[string][]byte{key: []byte("250")}, now, now.Add(24*time.Hour), nil); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM guard").Scan(&rows); err != nil || rows > 24+256 {
		t.Errorf("%d rows, %v", rows, err)
	}
}
