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
		for _, key := range mark {
			if n, err := t.exec(guardMark, key, nanos(until), token, nanos(now)); err != nil {
				return err
			} else if n > 0 {
				continue
			}
			if err := guardLook(t, found, token, key, nanos(now)); err != nil {
				return err
			}
		}
		for _, key := range look {
			if err := guardLook(t, found, token, key, nanos(now)); err != nil {
				return err
			}
		}
		if err := s.guardTrim(t, nanos(now), len(mark)); err != nil || len(found) > 0 {
			return err
		}
		return insert(t, records)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// One statement for each key and step: the writer's time is what all clients share.
const (
	guardMark = `INSERT INTO guard VALUES (?1, ?2, ?3, x'') ON CONFLICT (key) DO UPDATE
		SET until = excluded.until, token = excluded.token, answer = x''
		WHERE guard.until <= ?4 OR guard.token = excluded.token AND guard.answer = x''`
	guardAnswer = `INSERT INTO guard VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE
		SET until = excluded.until, token = excluded.token, answer = excluded.answer
		WHERE guard.until <= ?5 OR guard.answer = x''`
)

// guardLook notes the answer that stands, empty while another has the key in flight.
func guardLook(t *tx, found map[string][]byte, token, key string, now int64) error {
	var by string
	var answer []byte
	err := t.row("SELECT token, answer FROM guard WHERE key = ? AND until > ?", key, now).Scan(&by, &answer)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil && (len(answer) > 0 || by != token) {
		found[key] = notNil(answer)
	}
	return err
}

// guardBatch is how many marks are made between two looks for what is over.
const guardBatch = 256

// guardTrim removes more than was added since it last did, so that the table holds what stands and not much else.
func (s *Store) guardTrim(t *tx, now int64, added int) error {
	if s.guardAdded += added; s.guardAdded < guardBatch {
		return nil
	}
	_, err := t.exec("DELETE FROM guard WHERE key IN (SELECT key FROM guard WHERE until <= ? ORDER BY until LIMIT ?)", now, 2*s.guardAdded)
	if err == nil {
		s.guardAdded = 0
	}
	return err
}

// GuardRenew marks what is free, as GuardBegin does: a mark that ended in an outage may have been removed.
func (s *Store) GuardRenew(ctx context.Context, token string, keys []string, now, until time.Time) error {
	if token == "" {
		return errNoToken
	}
	if len(keys) == 0 {
		return nil
	}
	keys = slices.Clone(keys)
	return s.write(ctx, 0, func(t *tx) error {
		for _, key := range keys {
			if _, err := t.exec(guardMark, key, nanos(until), token, nanos(now)); err != nil {
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
	_, err := t.exec(guardAnswer, key, until, token, answer, now)
	return err
}
