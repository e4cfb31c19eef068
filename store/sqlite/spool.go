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
	Due   time.Time
	Lease time.Time
	Meta  []byte
	Body  []byte
}

// claimBytes bounds the bodies that one claim brings into memory; the first always comes.
const claimBytes = 32 << 20

var (
	errNoNode   = errors.New("spool: a lease needs a node's name")
	errNoCopies = errors.New("spool: a body without copies")
)

// SpoolAdd makes the body and its copies durable in one transaction.
func (s *Store) SpoolAdd(ctx context.Context, node string, due time.Time, body []byte, copies map[string][]byte, limit int64) (bool, error) {
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
		fits, err = spoolAdd(t, node, nanos(due), own, metas, limit)
		return err
	})
	if err != nil {
		return false, err
	}
	return fits, nil
}

func spoolAdd(t *tx, node string, due int64, body []byte, copies map[string][]byte, limit int64) (bool, error) {
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
		_, err := t.exec("INSERT INTO copies (id, body, due, node, lease, meta) VALUES (?, ?, ?, ?, ?, ?)", id, key, due, node, due, copies[id])
		if err != nil {
			return false, err
		}
	}
	_, err := t.exec("UPDATE spool_size SET bytes = bytes + ?", len(body))
	return err == nil, err
}

// SpoolClaim leases copies whose lease has ended, whoever held it: one that runs is not given out again, not even
// to its holder, who may be sending that copy. It returns fewer than n where their bodies would fill the memory.
func (s *Store) SpoolClaim(ctx context.Context, node string, now, until time.Time, n int) ([]item, error) {
	if node == "" {
		return nil, errNoNode
	}
	if any, err := s.spoolAnyDue(ctx, nanos(now)); err != nil || !any || n <= 0 {
		return nil, err // an idle spool costs no write
	}
	var got []claimed
	err := s.write(ctx, 0, func(t *tx) (err error) {
		got, err = spoolClaim(t, node, nanos(now), nanos(until), n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.spoolBodies(ctx, got, until)
}

func (s *Store) spoolAnyDue(ctx context.Context, now int64) (any bool, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err = s.reads.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM copies WHERE due <= ? AND lease <= ?)", now, now).Scan(&any)
	return any, explain(err)
}

type claimed struct {
	item
	body int64
}

func spoolClaim(t *tx, node string, now, until int64, n int) ([]claimed, error) {
	var got []claimed
	var sum int64
	seen := map[int64]bool{}
	err := t.each(func(r *sql.Rows) error {
		var c claimed
		var due, size int64
		if err := r.Scan(&c.ID, &due, &c.Meta, &c.body, &size); err != nil {
			return err
		}
		if c.Due = moment(due); !seen[c.body] {
			sum += size
		}
		if sum > claimBytes && len(got) > 0 {
			return nil // nor any later one: the earliest come first
		}
		seen[c.body] = true
		got = append(got, c)
		return nil
	}, `SELECT c.id, c.due, c.meta, c.body, b.size FROM copies c JOIN bodies b ON b.id = c.body
		WHERE c.due <= ? AND c.lease <= ? ORDER BY c.due, c.id LIMIT ?`, now, now, n)
	if err != nil {
		return nil, err
	}
	for _, c := range got {
		if _, err := t.exec("UPDATE copies SET node = ?, lease = ? WHERE id = ?", node, until, c.ID); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// spoolBodies reads each body once, however many copies share it.
func (s *Store) spoolBodies(ctx context.Context, got []claimed, until time.Time) ([]item, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	bodies := map[int64][]byte{}
	items := make([]item, 0, len(got))
	for _, c := range got {
		body, ok := bodies[c.body]
		if !ok {
			err := s.reads.QueryRowContext(ctx, "SELECT body FROM bodies WHERE id = ?", c.body).Scan(&body)
			if errors.Is(err, sql.ErrNoRows) {
				continue // done since
			} else if err != nil {
				return nil, explain(err)
			}
			bodies[c.body] = body
		}
		c.Lease, c.Meta, c.Body = until, notNil(c.Meta), notNil(body)
		items = append(items, c.item)
	}
	return items, nil
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
	rows, err := s.reads.QueryContext(ctx, `SELECT id, due, lease, meta FROM copies
		WHERE (due, id) > (?, ?) ORDER BY due, id LIMIT ?`, due, id, page)
	if err != nil {
		return nil, explain(err)
	}
	var items []item
	err = every(rows, func(r *sql.Rows) error {
		var i item
		var due, lease int64
		if err := r.Scan(&i.ID, &due, &lease, &i.Meta); err != nil {
			return err
		}
		i.Due, i.Lease, i.Meta = moment(due), moment(lease), notNil(i.Meta)
		items = append(items, i)
		return nil
	})
	return items, explain(err)
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
