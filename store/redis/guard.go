package redis

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"heed/policy"
)

var (
	//go:embed lua/guard_begin.lua
	guardBeginScript string
	//go:embed lua/guard_end.lua
	guardEndScript string
)

var errNoToken = errors.New("guard: a mark needs a token")

// guardKey lies in the person's slot; the server removes it when its time is over.
func guardKey(key string) string {
	person, hash, _ := strings.Cut(key, "/")
	return personKey(person) + ":g:" + hash
}

// life is how long a key stays, in milliseconds.
func life(now, until time.Time) int64 { return max(1, until.Sub(now).Milliseconds()) }

// GuardBegin marks what is free in one round trip, and records the entries in a second where nothing stands: the
// journal lies in another slot.
func (s *Store) GuardBegin(ctx context.Context, token string, mark, look []string, now, until time.Time, entries []policy.Entry) (map[string][]byte, error) {
	if token == "" {
		return nil, errNoToken
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := slices.Concat(mark, look)
	cmds := make([]redis.Cmder, len(keys))
	for i, key := range keys {
		marks := 0
		if i < len(mark) {
			marks = 1
		}
		cmds[i] = script(ctx, guardBeginScript, guardKey(key), token, stamp(now), stamp(until), life(now, until), marks)
	}
	if len(cmds) > 0 {
		if _, err := s.repeat(ctx, cmds...); err != nil {
			return nil, err
		}
	}
	found := map[string][]byte{}
	for i, key := range keys {
		answer, err := cmds[i].(*redis.Cmd).Text()
		switch {
		case err == nil:
			found[key] = []byte(answer)
		case !errors.Is(err, redis.Nil):
			return nil, err
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return found, s.Record(ctx, entries)
}

// GuardRenew marks as GuardBegin does and hears no answer: a mark whose time ended in an outage is gone by now.
func (s *Store) GuardRenew(ctx context.Context, token string, keys []string, now, until time.Time) error {
	if token == "" {
		return errNoToken
	}
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds := make([]redis.Cmder, len(keys))
	for i, key := range keys {
		cmds[i] = script(ctx, guardBeginScript, guardKey(key), token, stamp(now), stamp(until), life(now, until), 1)
	}
	_, err := s.repeat(ctx, cmds...)
	return err
}

// GuardEnd stores answers and gives marks up, and records the entries, in one round trip.
func (s *Store) GuardEnd(ctx context.Context, token string, answers map[string][]byte, now, until time.Time, entries []policy.Entry) error {
	if token == "" {
		return errNoToken
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds, err := recordCommands(ctx, entries)
	if err != nil {
		return err
	}
	for key, answer := range answers {
		cmds = append(cmds, script(ctx, guardEndScript, guardKey(key), token, stamp(now), stamp(until), life(now, until), notNil(answer)))
	}
	if len(cmds) == 0 {
		return nil
	}
	_, err = s.repeat(ctx, cmds...)
	return err
}
