// Package sqlite keeps the state in one SQLite file: WAL, one writer that commits in groups, readers beside it.
// Several processes may have the file open.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	driver "modernc.org/sqlite"
)

// Options of Open.
type Options struct {
	NoSync  bool // commits are not waited for on disk: a crash of the machine may lose the last
	Log     *slog.Logger
	Timeout time.Duration // of every operation, and of every page of one that streams
}

// Store is the state in one file. It satisfies store.State.
type Store struct {
	path    string
	timeout time.Duration
	log     *slog.Logger
	reads   *sql.DB
	facts   *sql.Stmt
	writer  *writer

	guardAdded int // marks since the last trim; the writer's
}

// page is how many rows a stream reads at a time: no reader stays open while its caller works.
const page = 256

// Open opens the file at path and makes it and its folder if they are missing, readable by its owner only. It
// refuses a file that is damaged, of another program or of a newer version.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	path, err := prepare(path)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	sync := "FULL" // in WAL mode: every commit is on disk before it is acknowledged
	if o.NoSync {
		sync = "NORMAL"
	}
	s := &Store{path: path, timeout: o.Timeout, log: o.Log}
	writes, err := pool(path, o.Timeout, "synchronous("+sync+")", "secure_delete(ON)", // what is erased or delivered must not linger in free pages
		"wal_autocheckpoint(1000)", "journal_size_limit(67108864)")
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", path, err)
	}
	writes.SetMaxOpenConns(1)
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := initialise(ctx, writes, o.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", path, explain(err)), writes.Close())
	}
	if s.reads, err = pool(path, o.Timeout, "query_only(1)"); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", path, err), writes.Close())
	}
	s.reads.SetMaxOpenConns(max(4, runtime.NumCPU()))
	s.reads.SetMaxIdleConns(max(4, runtime.NumCPU()))
	if s.facts, err = s.reads.PrepareContext(ctx, factsQuery); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", path, explain(err)), s.reads.Close(), writes.Close())
	}
	s.writer = startWriter(writes, path, o.Log)
	return s, nil
}

// prepare makes the folder and the file with the modes they need; SQLite gives -wal and -shm the file's mode.
func prepare(path string) (string, error) {
	switch {
	case path == "":
		return "", errors.New("sqlite: names no file: use sqlite:./data/state.db")
	case path == ":memory:":
		return "", errors.New("sqlite::memory: would forget opt-outs: use sqlite:./data/state.db")
	case strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"):
		return "", fmt.Errorf("sqlite:%s has a host: use sqlite:PATH or sqlite:///PATH", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("the folder of the state cannot be made: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("the file cannot be opened for writing: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return path, syncFolder(filepath.Dir(path))
}

// syncFolder makes a new file's name durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err2 := d.Close(); err == nil {
		err = err2
	}
	return err
}

// pool opens connections that wait for other processes' locks and start every transaction as a writer.
func pool(path string, timeout time.Duration, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_error_rc": {"1"}, "_dqs": {"0"}, "_pragma": pragmas}
	q.Set("_busy_timeout", strconv.FormatInt(timeout.Milliseconds(), 10))
	q.Add("_pragma", "cache_size(-8192)") // KiB
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	c, err := driver.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// bound gives an operation its deadline.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// Ping reads from the file.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var version int
	return explain(s.reads.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version))
}

// Fingerprint stores fp if there is none yet, and returns the one that stands; "" only reads.
func (s *Store) Fingerprint(ctx context.Context, fp string) (string, error) {
	var stands string
	err := s.write(ctx, 0, func(t *tx) error {
		if fp != "" {
			if _, err := t.exec("INSERT INTO meta VALUES ('fingerprint', ?) ON CONFLICT DO NOTHING", fp); err != nil {
				return err
			}
		}
		return t.row("SELECT coalesce((SELECT value FROM meta WHERE key = 'fingerprint'), '')").Scan(&stands)
	})
	if err != nil {
		return "", err
	}
	return stands, nil
}

// Close ends the writes under way and closes the file. Later calls fail.
func (s *Store) Close() error {
	// The last connection to close folds the WAL into the file; readers cannot, and open statements keep one alive.
	err := errors.Join(s.facts.Close(), s.reads.Close())
	return errors.Join(err, s.writer.close())
}
