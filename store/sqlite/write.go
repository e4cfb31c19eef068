package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	codes "modernc.org/sqlite/lib"
)

// A group is committed with one fsync. Its bounds keep one commit short and the WAL small.
const (
	groupWrites = 256
	groupBytes  = 32 << 20
	walBytes    = 128 << 20 // above this a checkpoint waits for readers, so that the WAL ends
)

// write is one caller's change. run may run again after a failed group, and may outlive its caller: it must not
// touch what the caller may still change.
type write struct {
	run   func(*tx) error
	bytes int
	state atomic.Int32
	done  chan error
}

const (
	waiting int32 = iota
	running
	abandoned // its caller left before it began
)

// writer is the one goroutine that changes the file.
type writer struct {
	db      *sql.DB
	path    string
	log     *slog.Logger
	queue   chan *write // not buffered: who is waiting is the next group
	quit    chan struct{}
	once    sync.Once
	stopped chan struct{}

	tx     *tx // nil until the first group, and after a failure that may have left it unusable
	groups int
}

func startWriter(db *sql.DB, path string, log *slog.Logger) *writer {
	w := &writer{db: db, path: path, log: log, queue: make(chan *write), quit: make(chan struct{}), stopped: make(chan struct{})}
	go w.loop()
	return w
}

// write has run done in a group and waits until it is durable, or until ctx or the store's own deadline ends: then
// its effect is unknown. bytes is its rough size.
func (s *Store) write(ctx context.Context, bytes int, run func(*tx) error) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &write{run: run, bytes: bytes, done: make(chan error, 1)}
	select {
	case s.writer.queue <- r:
	case <-s.writer.quit:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("the state is busy, nothing was written: %w", ctx.Err())
	}
	select {
	case err := <-r.done:
		return explain(err)
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, abandoned) {
			return fmt.Errorf("the state is busy, nothing was written: %w", ctx.Err())
		}
		return fmt.Errorf("the state did not answer in time, it may have been written: %w", ctx.Err())
	}
}

func (w *writer) loop() {
	defer close(w.stopped)
	for {
		select {
		case <-w.quit:
			return
		case first := <-w.queue:
			w.commit(w.gather(first))
		}
	}
}

// gather takes who else is waiting now; it never waits for more.
func (w *writer) gather(first *write) []*write {
	group, bytes := []*write{first}, first.bytes
	for len(group) < groupWrites && bytes < groupBytes {
		select {
		case r := <-w.queue:
			group, bytes = append(group, r), bytes+r.bytes
		default:
			return group
		}
	}
	return group
}

// commit answers every caller of the group. Where the group as a whole failed for one of them (a full disk rolls
// back everything), each is tried alone, so that none fails for another's sake.
func (w *writer) commit(group []*write) {
	errs, err := w.attempt(group)
	if err != nil && len(group) > 1 && errors.Is(err, errGroup) {
		for _, r := range group {
			w.commit([]*write{r})
		}
		return
	}
	for i, r := range group {
		if err != nil {
			r.done <- err
		} else {
			r.done <- errs[i]
		}
	}
	w.groups++
	if w.groups%256 == 0 {
		w.checkpoint(walBytes)
	}
}

// errGroup: a write has undone the others of its group.
var errGroup = errors.New("the group was rolled back")

// attempt runs the group in one transaction, each in a savepoint of its own. errs are the callers' own errors; err
// is that of the whole group, of which then nothing stays.
func (w *writer) attempt(group []*write) (errs []error, err error) {
	if err := w.begin(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.reset()
		}
	}()
	errs = make([]error, len(group))
	for i, r := range group {
		if !r.state.CompareAndSwap(waiting, running) && r.state.Load() == abandoned {
			continue
		}
		if _, err := w.tx.exec("SAVEPOINT one"); err != nil {
			return nil, err
		}
		if errs[i] = r.run(w.tx); errs[i] != nil {
			// SQLite has ended the whole transaction where there is no savepoint any more.
			if _, err := w.tx.exec("ROLLBACK TO one"); err != nil {
				return nil, fmt.Errorf("%w: %w", errGroup, errs[i])
			}
		}
		if _, err := w.tx.exec("RELEASE one"); err != nil {
			return nil, err
		}
	}
	if _, err := w.tx.exec("COMMIT"); err != nil {
		if code(err) == codes.SQLITE_FULL {
			err = fmt.Errorf("%w: %w", errGroup, err)
		}
		return nil, err
	}
	return errs, nil
}

func (w *writer) begin() error {
	if w.tx == nil {
		conn, err := w.db.Conn(context.Background())
		if err != nil {
			return err
		}
		w.tx = &tx{conn: conn, stmts: map[string]*sql.Stmt{}}
	}
	_, err := w.tx.exec("BEGIN IMMEDIATE")
	if err != nil && !isBusy(err) {
		w.reset()
	}
	return err
}

// reset gives up the connection, and with it whatever transaction it may still be in.
func (w *writer) reset() {
	if w.tx == nil {
		return
	}
	for _, stmt := range w.tx.stmts {
		_ = stmt.Close() // an open one would keep the connection alive
	}
	if err := w.tx.conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
		w.log.Error("state: the connection did not close", "err", err)
	}
	w.tx = nil
}

// checkpoint moves a WAL that outgrew its bound, because there was always a reader, into the file.
func (w *writer) checkpoint(limit int64) {
	info, err := os.Stat(w.path + "-wal")
	if err != nil || info.Size() < limit || w.tx == nil {
		return
	}
	var busy, frames, moved int
	if err := w.tx.row("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil || busy != 0 {
		w.log.Warn("state: the WAL cannot be shortened while a reader holds it", "bytes", info.Size(), "err", err)
	}
}

func (w *writer) close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.stopped
	w.reset()
	return w.db.Close()
}

// tx is the writer's connection inside a transaction. Its statements are prepared once. They run without a
// context: SQLite answers an interrupted write by undoing the whole group.
type tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if s := t.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.stmts[query] = s
	}
	return s, err
}

// exec tells how many rows were changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	res, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row is one row; its Scan answers sql.ErrNoRows where there is none.
func (t *tx) row(query string, args ...any) scanner {
	s, err := t.prepare(query)
	if err != nil {
		return failed{err}
	}
	return s.QueryRow(args...)
}

// each calls scan for every row.
func (t *tx) each(scan func(*sql.Rows) error, query string, args ...any) error {
	s, err := t.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return err
	}
	return every(rows, scan)
}

// every calls scan for every row and closes rows.
func every(rows *sql.Rows, scan func(*sql.Rows) error) error {
	for rows.Next() {
		if err := scan(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

type scanner interface{ Scan(dest ...any) error }

type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }
