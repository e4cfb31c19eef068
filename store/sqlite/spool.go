package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"
)

// item is store.SpoolItem.
type item = struct {
	ID    string
	Queue string
	Due   time.Time
	Lease time.Time
	Meta  []byte
	Body  []byte
}

var (
	errNoNode   = errors.New("spool: a lease needs a node's name")
	errNoCopies = errors.New("spool: a body without copies")
)

// SpoolAdd makes the body and its copies durable in one transaction.
func (s *Store) SpoolAdd(ctx context.Context, node, queue string, due time.Time, body []byte, copies map[string][]byte, limit int64) (bool, error) {
	switch {
	case node == "":
		return false, errNoNode
	case len(copies) == 0:
		return false, errNoCopies
	}
	// The caller may leave while the write is under way, and then reuse its memory.
	own, metas := notNil(bytes.Clone(body)), make(map[string][]byte, len(copies))
	for id, meta := range copies {
		metas[id] = notNil(bytes.Clone(meta))
	}
	var fits bool
	err := s.write(ctx, len(own), func(t *tx) (err error) {
		fits, err = spoolAdd(t, node, queue, nanos(due), own, metas, limit)
		return err
	})
	if err != nil {
		return false, err
	}
	return fits, nil
}

func spoolAdd(t *tx, node, queue string, due int64, body []byte, copies map[string][]byte, limit int64) (bool, error) {
	var size int64
	if err := t.row("SELECT bytes FROM spool_size").Scan(&size); err != nil {
		return false, err
	}
	ids := slices.Sorted(maps.Keys(copies))
	for _, id := range ids {
		var there bool
		if err := t.row("SELECT EXISTS (SELECT 1 FROM copies WHERE id = ?)", id).Scan(&there); err != nil || there {
			return there, err // a repeated call: it was all or nothing then too
		}
	}
	if size+int64(len(body)) > limit {
		return false, nil
	}
	var key int64
	if err := t.row("INSERT INTO bodies (size, body) VALUES (?, ?) RETURNING id", len(body), body).Scan(&key); err != nil {
		return false, err
	}
	for _, id := range ids {
		_, err := t.exec("INSERT INTO copies (id, queue, body, due, node, lease, meta) VALUES (?, ?, ?, ?, ?, ?, ?)", id, queue, key, due, node, due, copies[id])
		if err != nil {
			return false, err
		}
	}
	_, err := t.exec("UPDATE spool_size SET bytes = bytes + ?", len(body))
	return err == nil, err
}

// SpoolRenew extends leases, also those that have ended and that nobody else took.
func (s *Store) SpoolRenew(ctx context.Context, node string, until time.Time, ids []string) ([]string, error) {
	if node == "" {
		return nil, errNoNode
	}
	ids = slices.Clone(ids)
	var held []string
	err := s.write(ctx, 0, func(t *tx) error {
		held = nil
		for _, id := range ids {
			n, err := t.exec("UPDATE copies SET lease = ? WHERE id = ? AND node = ?", nanos(until), id, node)
			if err != nil {
				return err
			}
			if n > 0 {
				held = append(held, id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// SpoolUpdate writes a copy's meta and next time and gives up the lease. A repeated call is answered as the first.
func (s *Store) SpoolUpdate(ctx context.Context, node, id string, due time.Time, meta []byte) (bool, error) {
	if node == "" {
		return false, errNoNode
	}
	meta = notNil(bytes.Clone(meta))
	var done bool
	err := s.write(ctx, len(meta), func(t *tx) error {
		n, err := t.exec("UPDATE copies SET meta = ?, due = ?, node = '', lease = 0 WHERE id = ? AND node = ?", meta, nanos(due), id, node)
		if done = n > 0; err != nil || done {
			return err
		}
		return t.row("SELECT EXISTS (SELECT 1 FROM copies WHERE id = ? AND node = '' AND due = ? AND meta = ?)", id, nanos(due), meta).Scan(&done)
	})
	if err != nil {
		return false, err
	}
	return done, nil
}

// SpoolDone removes a copy, and its body with the last copy that refers to it.
func (s *Store) SpoolDone(ctx context.Context, id string) error {
	return s.write(ctx, 0, func(t *tx) error {
		var body, size int64
		err := t.row("DELETE FROM copies WHERE id = ? RETURNING body", id).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		err = t.row("DELETE FROM bodies WHERE id = ? AND NOT EXISTS (SELECT 1 FROM copies WHERE body = ?1) RETURNING size", body).Scan(&size)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		_, err = t.exec("UPDATE spool_size SET bytes = bytes - ?", size)
		return err
	})
}

// SpoolList reads a page at a time.
func (s *Store) SpoolList(ctx context.Context, yield func(item) bool) error {
	var due int64 = -1 << 63
	var id string
	for {
		items, err := s.spoolPage(ctx, due, id)
		if err != nil {
			return err
		}
		for _, i := range items {
			if !yield(i) {
				return nil
			}
		}
		if len(items) < page {
			return nil
		}
		last := items[len(items)-1]
		due, id = nanos(last.Due), last.ID
	}
}

func (s *Store) spoolPage(ctx context.Context, due int64, id string) ([]item, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.reads.QueryContext(ctx, `SELECT id, queue, due, lease, meta FROM copies
		WHERE (due, id) > (?, ?) ORDER BY due, id LIMIT ?`, due, id, page)
	if err != nil {
		return nil, explain(err)
	}
	var items []item
	err = every(rows, func(r *sql.Rows) error {
		var i item
		var due, lease int64
		if err := r.Scan(&i.ID, &i.Queue, &due, &lease, &i.Meta); err != nil {
			return err
		}
		i.Due, i.Lease, i.Meta = moment(due), moment(lease), notNil(i.Meta)
		items = append(items, i)
		return nil
	})
	return items, explain(err)
}

// SpoolRetry makes copies due, but for those that somebody works on.
func (s *Store) SpoolRetry(ctx context.Context, now time.Time, ids []string) ([]string, error) {
	ids = slices.Clone(ids)
	var free []string
	err := s.write(ctx, 0, func(t *tx) error {
		var changed []string
		for _, id := range ids {
			n, err := t.exec("UPDATE copies SET due = min(due, ?1) WHERE id = ?2 AND lease <= ?1", nanos(now), id)
			if err != nil {
				return err
			}
			if n > 0 {
				changed = append(changed, id)
			}
		}
		free = changed
		return nil
	})
	if err != nil {
		return nil, err
	}
	return free, nil
}

// SpoolGet reads one copy.
func (s *Store) SpoolGet(ctx context.Context, id string) (item, bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	i := item{ID: id}
	var due, lease int64
	err := s.reads.QueryRowContext(ctx, `SELECT c.queue, c.due, c.lease, c.meta, b.body FROM copies c JOIN bodies b ON b.id = c.body WHERE c.id = ?`, id).
		Scan(&i.Queue, &due, &lease, &i.Meta, &i.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return item{}, false, nil
	} else if err != nil {
		return item{}, false, explain(err)
	}
	i.Due, i.Lease, i.Meta, i.Body = moment(due), moment(lease), notNil(i.Meta), notNil(i.Body)
	return i, true, nil
}

// SpoolSize is the bytes of all bodies and the number of copies.
func (s *Store) SpoolSize(ctx context.Context) (size int64, copies int, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err = s.reads.QueryRowContext(ctx, "SELECT bytes, (SELECT count(*) FROM copies) FROM spool_size").Scan(&size, &copies)
	return size, copies, explain(err)
}

// moment is the reverse of nanos.
func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// notNil: SQLite takes a nil slice for NULL, and gives an empty one back as nil.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
