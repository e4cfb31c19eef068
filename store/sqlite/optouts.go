package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"heed/policy"
)

// canonical is the opt-out as its key has it.
func canonical(person string, o policy.OptOut) (policy.OptOut, error) {
	if person == "" {
		return o, errNobody
	}
	return o.Canonical()
}

// AddOptOut records an objection; the first of its scope, sender and topic stays.
func (s *Store) AddOptOut(ctx context.Context, person, address string, o policy.OptOut) (bool, error) {
	o, err := canonical(person, o)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return false, err
	}
	var added bool
	err = s.write(ctx, len(b), func(t *tx) error {
		n, err := t.exec("INSERT INTO optouts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			person, string(o.Scope), o.Sender, o.Topic, string(b))
		if err != nil {
			return err
		}
		if added = n > 0; added {
			return name(t, person, normalised(address)) // a repeated objection does not bring back an erased address
		}
		// One repeated by another reference loses its own: an undo of the first must not lift the second.
		_, err = t.exec(`UPDATE optouts SET optout = json_remove(optout, '$.ref')
			WHERE person = ? AND scope = ? AND sender = ? AND topic = ? AND json_extract(optout, '$.ref') <> ?`,
			person, string(o.Scope), o.Sender, o.Topic, o.Ref)
		return err
	})
	if err != nil {
		return false, err
	}
	return added, nil
}

// RemoveOptOut removes the opt-out of o's scope, sender and topic, under o.Ref's conditions.
func (s *Store) RemoveOptOut(ctx context.Context, person string, o policy.OptOut) (bool, error) {
	o, err := canonical(person, o)
	if err != nil {
		return false, err
	}
	var removed bool
	err = s.write(ctx, 0, func(t *tx) error {
		var stored string
		var stands policy.OptOut
		removed = false
		err := t.row("SELECT optout FROM optouts WHERE person = ? AND scope = ? AND sender = ? AND topic = ?",
			person, string(o.Scope), o.Sender, o.Topic).Scan(&stored)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(stored), &stands); err != nil {
			return fmt.Errorf("opt-out of %s: %w", person, err)
		}
		if !o.Lifts(stands) {
			return nil
		}
		n, err := t.exec("DELETE FROM optouts WHERE person = ? AND scope = ? AND sender = ? AND topic = ?",
			person, string(o.Scope), o.Sender, o.Topic)
		removed = n > 0
		return err
	})
	if err != nil {
		return false, err
	}
	return removed, nil
}

// optOut is one row of a page.
type optOut struct {
	person, address string
	policy.OptOut
}

// OptOuts reads by person, a page at a time.
func (s *Store) OptOuts(ctx context.Context, yield func(person, address string, o policy.OptOut) bool) error {
	var last optOut
	for {
		rows, err := s.optOutsAfter(ctx, last)
		if err != nil {
			return err
		}
		for _, o := range rows {
			if !yield(o.person, o.address, o.OptOut) {
				return nil
			}
		}
		if len(rows) < page {
			return nil
		}
		last = rows[len(rows)-1]
	}
}

func (s *Store) optOutsAfter(ctx context.Context, last optOut) ([]optOut, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.reads.QueryContext(ctx, `
		SELECT o.person, coalesce(p.address, ''), o.optout FROM optouts o LEFT JOIN persons p ON p.person = o.person
		WHERE (o.person, o.scope, o.sender, o.topic) > (?, ?, ?, ?)
		ORDER BY o.person, o.scope, o.sender, o.topic LIMIT ?`,
		last.person, string(last.Scope), last.Sender, last.Topic, page)
	if err != nil {
		return nil, explain(err)
	}
	var found []optOut
	err = every(rows, func(r *sql.Rows) error {
		var o optOut
		var stored []byte
		if err := r.Scan(&o.person, &o.address, &stored); err != nil {
			return err
		}
		if err := json.Unmarshal(stored, &o.OptOut); err != nil {
			return fmt.Errorf("opt-out of %s: %w", o.person, err)
		}
		found = append(found, o)
		return nil
	})
	return found, explain(err)
}
