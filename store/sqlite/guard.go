package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"heed/policy"
)

var errNoToken = errors.New("guard: a mark needs a token")

// GuardBegin marks what is free, and records the entries where nothing stands, in one transaction.
func (s *Store) GuardBegin(ctx context.Context, token string, mark, look []string, now, until time.Time, entries []policy.Entry) (map[string][]byte, error) {
	if token == "" {
		return nil, errNoToken
	}
	records, size, err := newRecords(entries)
	if err != nil {
		return nil, err
	}
	mark, look = slices.Clone(mark), slices.Clone(look)
	var found map[string][]byte
	err = s.write(ctx, size, func(t *tx) error {
		found = map[string][]byte{}
		for i, key := range slices.Concat(mark, look) {
			answer, free, err := guardLook(t, token, key, nanos(now))
			if err != nil {
				return err
			}
			if !free {
				found[key] = answer
			} else if i < len(mark) {
				if err := guardPut(t, token, key, nanos(until), nil); err != nil {
					return err
				}
			}
		}
		if err := guardTrim(t, nanos(now), len(mark)); err != nil || len(found) > 0 {
			return err
		}
		return insert(t, records)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// guardLook is the answer that stands, empty while another has the key in flight.
func guardLook(t *tx, token, key string, now int64) (answer []byte, free bool, err error) {
	var by string
	err = t.row("SELECT token, answer FROM guard WHERE key = ? AND until > ?", key, now).Scan(&by, &answer)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, true, nil
	}
	return notNil(answer), err == nil && len(answer) == 0 && by == token, err
}

func guardPut(t *tx, token, key string, until int64, answer []byte) error {
	_, err := t.exec(`INSERT INTO guard VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
		SET until = excluded.until, token = excluded.token, answer = excluded.answer`, key, until, token, notNil(answer))
	return err
}

// guardTrim removes a little more than was added, so that the table holds what stands and not much else.
func guardTrim(t *tx, now int64, added int) error {
	if added == 0 {
		return nil
	}
	_, err := t.exec("DELETE FROM guard WHERE key IN (SELECT key FROM guard WHERE until <= ? ORDER BY until LIMIT ?)", now, 2*added)
	return err
}

// GuardRenew extends token's marks.
func (s *Store) GuardRenew(ctx context.Context, token string, keys []string, _, until time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	keys = slices.Clone(keys)
	return s.write(ctx, 0, func(t *tx) error {
		for _, key := range keys {
			if _, err := t.exec("UPDATE guard SET until = ? WHERE key = ? AND token = ? AND answer = x''", nanos(until), key, token); err != nil {
				return err
			}
		}
		return nil
	})
}

// GuardEnd stores answers and gives marks up, and records the entries, in one transaction.
func (s *Store) GuardEnd(ctx context.Context, token string, answers map[string][]byte, now, until time.Time, entries []policy.Entry) error {
	if token == "" {
		return errNoToken
	}
	records, size, err := newRecords(entries)
	if err != nil {
		return err
	}
	own := make(map[string][]byte, len(answers))
	for key, answer := range answers {
		own[key] = bytes.Clone(answer)
	}
	return s.write(ctx, size, func(t *tx) error {
		for _, key := range slices.Sorted(maps.Keys(own)) {
			if err := guardEnd(t, token, key, own[key], nanos(now), nanos(until)); err != nil {
				return err
			}
		}
		return insert(t, records)
	})
}

func guardEnd(t *tx, token, key string, answer []byte, now, until int64) error {
	if len(answer) == 0 {
		_, err := t.exec("DELETE FROM guard WHERE key = ? AND token = ? AND answer = x''", key, token)
		return err
	}
	stands, _, err := guardLook(t, token, key, now)
	if err != nil || len(stands) > 0 {
		return err
	}
	return guardPut(t, token, key, until, answer)
}
