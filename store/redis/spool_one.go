package redis

import (
	"context"
	_ "embed"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lua/spool_take.lua
	spoolTakeScript string
	//go:embed lua/spool_retry.lua
	spoolRetryScript string
	//go:embed lua/spool_get.lua
	spoolGetScript string
	//go:embed lua/spool_queues.lua
	spoolQueuesScript string
)

// SpoolTake leases one copy, due or not, unless it is leased to another. Repeated, it is answered as the first time.
func (s *Store) SpoolTake(ctx context.Context, node, id string, now, until time.Time) (item, bool, error) {
	if node == "" {
		return item{}, false, errNoNode
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds := s.inShards(ctx, spoolTakeScript, id, node, id, stamp(now), stamp(until))
	if _, err := s.repeat(ctx, cmds...); err != nil {
		return item{}, false, err
	}
	f, err := found(cmds, 4)
	if err != nil || f == nil {
		return item{}, false, err
	}
	return item{ID: id, Queue: f[0], Due: moment(f[1]), Lease: until.UTC(), Meta: []byte(f[2]), Body: []byte(f[3])}, true, nil
}

// SpoolGet reads one copy.
func (s *Store) SpoolGet(ctx context.Context, id string) (item, bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds := s.inShards(ctx, spoolGetScript, id, id)
	if err := s.read(ctx, cmds...); err != nil {
		return item{}, false, err
	}
	f, err := found(cmds, 5)
	if err != nil || f == nil {
		return item{}, false, err
	}
	return item{ID: id, Queue: f[0], Due: moment(f[1]), Lease: moment(f[2]), Meta: []byte(f[3]), Body: []byte(f[4])}, true, nil
}

// inShards is a script's call in each shard where the copy may lie.
func (s *Store) inShards(ctx context.Context, text, id string, args ...any) []redis.Cmder {
	var cmds []redis.Cmder
	for shard := range s.shards.split([]string{id}) {
		cmds = append(cmds, script(ctx, text, shardKey(shard), args...))
	}
	return cmds
}

// found is the one answer that has all its fields, nil if there is none.
func found(cmds []redis.Cmder, fields int) ([]string, error) {
	for _, cmd := range cmds {
		f, err := cmd.(*redis.Cmd).StringSlice()
		if err != nil {
			return nil, err
		}
		if len(f) == fields {
			return f, nil
		}
	}
	return nil, nil
}

// SpoolRetry makes copies due, but for those that somebody works on.
func (s *Store) SpoolRetry(ctx context.Context, now time.Time, ids []string) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var cmds []redis.Cmder
	for shard, ids := range s.shards.split(ids) {
		args := []any{stamp(now)}
		for _, id := range ids {
			args = append(args, id)
		}
		cmds = append(cmds, script(ctx, spoolRetryScript, shardKey(shard), args...))
	}
	if _, err := s.repeat(ctx, cmds...); err != nil {
		return nil, err
	}
	var free []string
	for _, cmd := range cmds {
		some, err := cmd.(*redis.Cmd).StringSlice()
		if err != nil {
			return nil, err
		}
		free = append(free, some...)
	}
	slices.Sort(free)
	return free, nil
}

// moveToQueues takes the spool of schema 1, which had no queues, into schema 2.
func (s *Store) moveToQueues(ctx context.Context) error {
	cmds := make([]redis.Cmder, shardCount)
	for shard := range cmds {
		cmds[shard] = script(ctx, spoolQueuesScript, shardKey(shard))
	}
	_, err := s.repeat(ctx, cmds...)
	return err
}
