package redis

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"heed/policy"
)

var (
	//go:embed lua/journal_record.lua
	journalRecordScript string
	//go:embed lua/journal_erase.lua
	journalEraseScript string
	//go:embed lua/journal_page.lua
	journalPageScript string
	//go:embed lua/journal_trim.lua
	journalTrimScript string
	//go:embed lua/forget.lua
	forgetScript string
)

// The journal is a hash of entries by ID and indexes that are sorted sets of one score: their members, time and then
// sequence number and then ID, sort as text, so that a page begins exactly where the last one ended.
const (
	journalKey = "heed:{journal}"
	timeLen    = 19 // digits of Unix nanoseconds
	seqLen     = 16
)

// stamp is a time as text that sorts: Unix nanoseconds, zero for none.
func stamp(t time.Time) string {
	if t.IsZero() || t.Unix() < 0 {
		return fmt.Sprintf("%0*d", timeLen, 0)
	}
	return fmt.Sprintf("%0*d", timeLen, t.UnixNano())
}

// moment is the reverse of stamp.
func moment(stamp string) time.Time {
	n, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// messageKey keeps a Message-ID, which a stranger wrote, out of key names.
func messageKey(messageID string) string {
	if messageID == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(messageID))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// value is an entry's text, after a sign whether it came with an address, and that address.
func value(e policy.Entry) (text []byte, address string, err error) {
	e, address, err = e.Apart()
	if err != nil {
		return nil, "", err
	}
	sign := []byte("-")
	if address != "" {
		sign = []byte("+")
	}
	b, err := json.Marshal(e)
	return append(sign, b...), address, err
}

// Record notes addresses that are not known yet and what persons were told, then appends all entries in one script.
func (s *Store) Record(ctx context.Context, entries []policy.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds, err := recordCommands(ctx, entries)
	if err != nil {
		return err
	}
	_, err = s.repeat(ctx, cmds...)
	return err
}

func recordCommands(ctx context.Context, entries []policy.Entry) ([]redis.Cmder, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	args := make([]any, 0, 6*len(entries))
	named := map[string]bool{}
	var cmds []redis.Cmder
	for _, e := range entries {
		text, address, err := value(e)
		if err != nil {
			return nil, err
		}
		if address != "" && !named[e.Person] {
			named[e.Person] = true
			cmds = append(cmds, redis.NewBoolCmd(ctx, "hsetnx", personKey(e.Person), addressField, address))
		}
		if e.Informed != nil {
			told, err := inform(ctx, e.Person, e.Sender, *e.Informed)
			if err != nil {
				return nil, err
			}
			cmds = append(cmds, told)
		}
		args = append(args, e.ID, stamp(e.At), e.Person, messageKey(e.MessageID), e.Action, text)
	}
	return append(cmds, script(ctx, journalRecordScript, journalKey, args...)), nil
}

// row is an entry and its place in the indexes.
type row struct {
	member string
	named  bool
	policy.Entry
}

func (r row) seq() string { return r.member[timeLen : timeLen+seqLen] }

// Journal reads a page at a time, by time and then as recorded. What is recorded meanwhile is not of it.
func (s *Store) Journal(ctx context.Context, q policy.JournalQuery, yield func(policy.Entry) bool) error {
	last, err := s.journalLast(ctx)
	if err != nil {
		return err
	}
	from, err := s.journalStart(ctx, q)
	if err != nil {
		return err
	}
	for {
		rows, end, err := s.journalPage(ctx, q, from, "+", page, "")
		if err != nil {
			return err
		}
		if err := s.readdress(ctx, rows); err != nil {
			return err
		}
		for _, r := range rows {
			if r.seq() <= last && !yield(r.Entry) {
				return nil
			}
		}
		if end == "" {
			return nil
		}
		from = "(" + end
	}
}

// journalLast is the sequence number of the newest entry.
func (s *Store) journalLast(ctx context.Context) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	seq := redis.NewIntCmd(ctx, "get", journalKey+":seq")
	if err := s.read(ctx, seq); err != nil {
		return "", err
	}
	return fmt.Sprintf("%0*d", seqLen, seq.Val()), nil
}

// journalStart is where the range of the query begins: at its time, or at its Limit-th newest entry.
func (s *Store) journalStart(ctx context.Context, q policy.JournalQuery) (string, error) {
	since := "-"
	if !q.Since.IsZero() {
		since = "[" + stamp(q.Since)
	}
	for left, newest := q.Limit, "+"; left > 0; {
		rows, end, err := s.journalPage(ctx, q, newest, since, page, "REV")
		if err != nil {
			return "", err
		}
		if len(rows) >= left {
			return "[" + rows[left-1].member, nil
		}
		if left -= len(rows); end == "" {
			break
		}
		newest = "(" + end
	}
	return since, nil
}

// index is the one that leaves the fewest entries to look at.
func index(q policy.JournalQuery) string {
	switch {
	case q.Person != "":
		return journalKey + ":person:" + q.Person
	case q.MessageID != "":
		return journalKey + ":message:" + messageKey(q.MessageID)
	case q.Action != "":
		return journalKey + ":action:" + q.Action
	}
	return journalKey + ":at"
}

// journalPage reads entries of a range that the query selects, without addresses. end is where the next page
// continues, "" after the last.
func (s *Store) journalPage(ctx context.Context, q policy.JournalQuery, from, to string, count int, rev string) (rows []row, end string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmd := redis.NewStringSliceCmd(ctx, "eval", journalPageScript, 2, journalKey, index(q), from, to, count, rev)
	if err := s.read(ctx, cmd); err != nil {
		return nil, "", err
	}
	found := cmd.Val()
	for i := 0; i+1 < len(found); i += 2 {
		r := row{member: found[i]}
		if text := found[i+1]; text != "" {
			r.named = text[0] == '+'
			if err := json.Unmarshal([]byte(text[1:]), &r.Entry); err != nil {
				return nil, "", fmt.Errorf("journal entry %s: %w", r.member[timeLen+seqLen:], err)
			}
			if selected(q, r.Entry) {
				rows = append(rows, r)
			}
		}
	}
	if len(found) >= 2*count {
		end = found[len(found)-2]
	}
	return rows, end, nil
}

// selected checks what the index leaves open.
func selected(q policy.JournalQuery, e policy.Entry) bool {
	return (q.Person == "" || e.Person == q.Person) && (q.MessageID == "" || e.MessageID == q.MessageID) &&
		(q.Action == "" || e.Action == q.Action)
}

// readdress fills in the addresses of persons who are known, except in entries from before an erasure.
func (s *Store) readdress(ctx context.Context, rows []row) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	address, erased := map[string]*redis.StringCmd{}, map[string]*redis.IntCmd{}
	var cmds []redis.Cmder
	for _, r := range rows {
		if r.named && address[r.Person] == nil {
			address[r.Person] = redis.NewStringCmd(ctx, "hget", personKey(r.Person), addressField)
			erased[r.Person] = redis.NewIntCmd(ctx, "hget", journalKey+":erased", r.Person)
			cmds = append(cmds, address[r.Person], erased[r.Person])
		}
	}
	if err := s.read(ctx, cmds...); err != nil {
		return err
	}
	for i, r := range rows {
		if !r.named || r.seq() <= fmt.Sprintf("%0*d", seqLen, erased[r.Person].Val()) {
			continue
		}
		if rows[i].Recipient = address[r.Person].Val(); r.Verdict != nil {
			r.Verdict.Recipient = rows[i].Recipient
		}
	}
	return nil
}

// Trim removes entries a page at a time, so that nobody waits long, and with a person's last entry the address of
// one of whom nothing else is known, and what that one was told.
func (s *Store) Trim(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for {
		n, err := s.trim(ctx, "("+stamp(before))
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

func (s *Store) trim(ctx context.Context, before string) (int, error) {
	rows, _, err := s.journalPage(ctx, policy.JournalQuery{}, "-", before, page, "")
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var args []any
	for _, r := range rows {
		args = append(args, r.member, r.Person, messageKey(r.MessageID), r.Action)
	}
	cmd := script(ctx, journalTrimScript, journalKey, args...)
	if err := s.write(ctx, cmd); err != nil {
		return 0, err
	}
	result, err := cmd.Slice()
	if err != nil {
		return 0, err
	}
	n, _ := result[0].(int64)
	var forget []redis.Cmder
	for _, person := range result[1:] {
		forget = append(forget, script(ctx, forgetScript, personKey(fmt.Sprint(person))))
	}
	_, err = s.repeat(ctx, forget...)
	return int(n), err
}
