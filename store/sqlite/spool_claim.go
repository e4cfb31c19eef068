package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"
)

// claimBytes bounds the bodies that one claim brings into memory; the first always comes.
const claimBytes = 32 << 20

// queuesQuery finds the queues with one seek each, however many copies stand in them; dueQuery the earliest of one.
const (
	queuesQuery = `WITH RECURSIVE queues (queue) AS (
			SELECT min(queue) FROM copies
			UNION ALL SELECT (SELECT min(queue) FROM copies WHERE queue > queues.queue) FROM queues WHERE queues.queue IS NOT NULL)
		SELECT queue FROM queues WHERE queue IS NOT NULL`
	dueQuery = `SELECT c.id, c.due, c.body, b.size FROM copies c JOIN bodies b ON b.id = c.body
		WHERE c.queue = ? AND c.due <= ? AND c.lease <= ? ORDER BY c.due, c.id LIMIT ?`
)

// claimed is an item and its row in bodies.
type claimed struct {
	item
	body int64
}

// candidate is a copy that was due and free when it was looked at.
type candidate struct {
	id              string
	due, body, size int64
}

// SpoolClaim leases copies whose lease has ended, whoever held it: one that runs is not given out again, not even
// to its holder, who may be sending that copy. It returns fewer than n where their bodies would fill the memory.
func (s *Store) SpoolClaim(ctx context.Context, node string, now, until time.Time, n int, skip []string) ([]item, error) {
	if node == "" {
		return nil, errNoNode
	}
	if n <= 0 {
		return nil, nil
	}
	found, err := s.spoolDue(ctx, nanos(now), n, skip)
	if err != nil || len(found) == 0 {
		return nil, err // an idle spool costs no write
	}
	var got []claimed
	err = s.write(ctx, 0, func(t *tx) error {
		leased := make([]claimed, 0, len(found))
		for _, f := range found {
			c, err := lease(t, `UPDATE copies SET node = ?, lease = ? WHERE id = ? AND due <= ?4 AND lease <= ?4`, node, nanos(until), f.id, nanos(now))
			if errors.Is(err, sql.ErrNoRows) {
				continue // another was faster
			} else if err != nil {
				return err
			}
			leased = append(leased, c)
		}
		got = leased
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.spoolBodies(ctx, got, until)
}

// lease runs an update of one copy; sql.ErrNoRows where it changed none.
func lease(t *tx, update string, args ...any) (claimed, error) {
	var c claimed
	var due int64
	err := t.row(update+" RETURNING id, queue, due, meta, body", args...).Scan(&c.ID, &c.Queue, &due, &c.Meta, &c.body)
	c.Due = moment(due)
	return c, err
}

// spoolDue looks into every queue but those to skip, and takes the earliest n, as far as the memory for their bodies
// allows.
func (s *Store) spoolDue(ctx context.Context, now int64, n int, skip []string) ([]candidate, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var queues []string
	err := s.rows(ctx, func(r *sql.Rows) error {
		var queue string
		err := r.Scan(&queue)
		queues = append(queues, queue)
		return err
	}, queuesQuery)
	if err != nil {
		return nil, err
	}
	var found []candidate
	for _, queue := range queues {
		if slices.Contains(skip, queue) {
			continue
		}
		err := s.rows(ctx, func(r *sql.Rows) error {
			var c candidate
			err := r.Scan(&c.id, &c.due, &c.body, &c.size)
			found = append(found, c)
			return err
		}, dueQuery, queue, now, now, n)
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id, b.id)) })
	return fitting(found[:min(n, len(found))]), nil
}

func fitting(found []candidate) []candidate {
	seen := map[int64]bool{}
	var sum int64
	for i, c := range found {
		if !seen[c.body] {
			sum += c.size
		}
		if seen[c.body] = true; sum > claimBytes && i > 0 {
			return found[:i]
		}
	}
	return found
}

// rows calls scan for every row of a query.
func (s *Store) rows(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.reads.QueryContext(ctx, query, args...)
	if err != nil {
		return explain(err)
	}
	return explain(every(rows, scan))
}

// SpoolTake leases one copy, due or not, unless it is leased to another. Repeated, it is answered as the first time.
func (s *Store) SpoolTake(ctx context.Context, node, id string, now, until time.Time) (item, bool, error) {
	if node == "" {
		return item{}, false, errNoNode
	}
	var got []claimed
	err := s.write(ctx, 0, func(t *tx) error {
		c, err := lease(t, `UPDATE copies SET node = ?1, lease = ?2 WHERE id = ?3 AND (lease <= ?4 OR node = ?1)`, node, nanos(until), id, nanos(now))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		got = []claimed{c}
		return nil
	})
	if err != nil || len(got) == 0 {
		return item{}, false, err
	}
	items, err := s.spoolBodies(ctx, got, until)
	if err != nil || len(items) == 0 {
		return item{}, false, err
	}
	return items[0], true, nil
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
