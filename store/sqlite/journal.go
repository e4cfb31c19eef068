package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"heed/policy"
)

// record is a journal row to be: what names the person stands apart from the entry, so that erasure can remove it.
type record struct {
	id, person, messageID, action string
	at                            int64
	address                       string
	named                         bool
	entry                         string
	sender, informed              string // "": nobody was told anything
	informedAt                    int64
}

func newRecord(e policy.Entry) (record, error) {
	e, address, err := e.Apart()
	if err != nil {
		return record{}, err
	}
	b, err := json.Marshal(e)
	if err != nil {
		return record{}, err
	}
	r := record{
		id: e.ID, at: nanos(e.At), person: e.Person, messageID: e.MessageID, action: e.Action,
		address: address, named: address != "", entry: string(b),
	}
	if e.Informed != nil {
		b, err = json.Marshal(e.Informed)
		r.sender, r.informed, r.informedAt = e.Sender, string(b), nanos(e.Informed.At)
	}
	return r, err
}

// nanos is a time as the columns hold it: Unix nanoseconds, 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// newRecords are the rows of entries, and their rough size.
func newRecords(entries []policy.Entry) (records []record, bytes int, err error) {
	for _, e := range entries {
		r, err := newRecord(e)
		if err != nil {
			return nil, 0, err
		}
		records, bytes = append(records, r), bytes+len(r.entry)
	}
	return records, bytes, nil
}

// Record appends all entries in one transaction; one whose ID is there already changes nothing.
func (s *Store) Record(ctx context.Context, entries []policy.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	records, bytes, err := newRecords(entries)
	if err != nil {
		return err
	}
	return s.write(ctx, bytes, func(t *tx) error { return insert(t, records) })
}

func insert(t *tx, records []record) error {
	for _, r := range records {
		n, err := t.exec(`INSERT INTO journal (id, at, person, message_id, action, named, entry)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			r.id, r.at, r.person, r.messageID, r.action, r.named, r.entry)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if err := name(t, r.person, r.address); err != nil {
			return err
		}
		if r.informed == "" {
			continue
		}
		if _, err := t.exec(inform, r.person, r.sender, r.informedAt, r.informed); err != nil {
			return err
		}
	}
	return nil
}

// selection is a query's WHERE clause. The index of the first condition drives it.
func selection(q policy.JournalQuery, newest int64) (string, []any) {
	where, args := []string{"j.seq <= ?"}, []any{newest}
	add := func(condition string, arg any) {
		where, args = append(where, condition), append(args, arg)
	}
	index := "journal_at"
	if q.Action != "" {
		add("j.action = ?", q.Action)
		index = "journal_action"
	}
	if q.MessageID != "" {
		add("j.message_id = ?", q.MessageID)
		index = "journal_message"
	}
	if q.Person != "" {
		add("j.person = ?", q.Person)
		index = "journal_person"
	}
	if !q.Since.IsZero() {
		add("j.at >= ?", nanos(q.Since))
	}
	return "FROM journal j INDEXED BY " + index + " LEFT JOIN persons p ON p.person = j.person WHERE " + strings.Join(where, " AND "), args
}

// Journal reads a page at a time, by time and then as recorded. What is recorded meanwhile is not of it.
func (s *Store) Journal(ctx context.Context, q policy.JournalQuery, yield func(policy.Entry) bool) error {
	from, at, seq, args, err := s.journalStart(ctx, q)
	if err != nil {
		return explain(err)
	}
	for {
		rows, err := s.journalPage(ctx, from, append(args[:len(args):len(args)], at, seq, page))
		if err != nil {
			return explain(err)
		}
		for _, r := range rows {
			if !yield(r.entry) {
				return nil
			}
		}
		if len(rows) < page {
			return nil
		}
		at, seq = rows[len(rows)-1].at, rows[len(rows)-1].seq
	}
}

// journalStart is the clause, and the place before the first entry that is wanted.
func (s *Store) journalStart(ctx context.Context, q policy.JournalQuery) (from string, at, seq int64, args []any, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var newest int64
	if err := s.reads.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM journal").Scan(&newest); err != nil {
		return "", 0, 0, nil, err
	}
	from, args = selection(q, newest)
	at, seq = math.MinInt64, 0
	if q.Limit > 0 {
		err = s.reads.QueryRowContext(ctx, "SELECT j.at, j.seq "+from+" ORDER BY j.at DESC, j.seq DESC LIMIT 1 OFFSET ?",
			append(args[:len(args):len(args)], q.Limit-1)...).Scan(&at, &seq)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil // fewer than the limit
		}
		seq-- // the first one wanted is the one found
	}
	return from, at, seq, args, err
}

type journalRow struct {
	at, seq int64
	entry   policy.Entry
}

func (s *Store) journalPage(ctx context.Context, from string, args []any) ([]journalRow, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.reads.QueryContext(ctx, pageQuery(from), args...)
	if err != nil {
		return nil, err
	}
	var found []journalRow
	err = every(rows, func(r *sql.Rows) error {
		var row journalRow
		var stored []byte
		var address string
		if err := r.Scan(&row.at, &row.seq, &stored, &address); err != nil {
			return err
		}
		if err := json.Unmarshal(stored, &row.entry); err != nil {
			return fmt.Errorf("journal entry %d: %w", row.seq, err)
		}
		if row.entry.Recipient = address; row.entry.Verdict != nil {
			row.entry.Verdict.Recipient = address
		}
		found = append(found, row)
		return nil
	})
	return found, err
}

func pageQuery(from string) string {
	return "SELECT j.at, j.seq, j.entry, CASE WHEN j.named AND j.seq > p.erased THEN coalesce(p.address, '') ELSE '' END " +
		from + " AND (j.at, j.seq) > (?, ?) ORDER BY j.at, j.seq LIMIT ?"
}

// Trim removes entries in small transactions, so that nobody waits long, and with a person's last entry the address
// of one of whom nothing else is known, and what that one was told.
func (s *Store) Trim(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for {
		n, err := s.trim(ctx, nanos(before))
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

func (s *Store) trim(ctx context.Context, before int64) (int, error) {
	var n int
	err := s.write(ctx, 0, func(t *tx) error {
		n = 0
		persons := map[string]bool{}
		err := t.each(func(r *sql.Rows) error {
			var person string
			n++
			if err := r.Scan(&person); err != nil {
				return err
			}
			persons[person] = true
			return nil
		}, `DELETE FROM journal WHERE seq IN (SELECT seq FROM journal WHERE at < ? ORDER BY at LIMIT 500) RETURNING person`, before)
		if err != nil {
			return err
		}
		for person := range persons {
			for _, table := range []string{"persons", "informed"} {
				_, err := t.exec(`DELETE FROM `+table+` WHERE person = ?1
					AND NOT EXISTS (SELECT 1 FROM journal WHERE person = ?1)
					AND NOT EXISTS (SELECT 1 FROM contacts WHERE person = ?1)
					AND NOT EXISTS (SELECT 1 FROM optouts WHERE person = ?1)`, person)
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
