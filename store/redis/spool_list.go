package redis

import (
	"context"
	_ "embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/spool_list.lua
var spoolListScript string

// listed is how far one shard has been read.
type listed struct {
	ahead []string // member, lease, queue, meta, in turn
	from  string   // "": read to its end
}

// SpoolList merges the shards by due time, a page of each at a time.
func (s *Store) SpoolList(ctx context.Context, yield func(item) bool) error {
	var shards [shardCount]listed
	for i := range shards {
		shards[i].from = "-"
	}
	for {
		first := -1
		for i := range shards {
			if err := s.listAhead(ctx, i, &shards[i]); err != nil {
				return err
			}
			if len(shards[i].ahead) > 0 && (first < 0 || shards[i].ahead[0] < shards[first].ahead[0]) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		f := shards[first].ahead
		s.shards.put(first, f[0][timeLen:])
		if !yield(item{ID: f[0][timeLen:], Due: moment(f[0][:timeLen]), Queue: f[2], Lease: moment(f[1]), Meta: []byte(f[3])}) {
			return nil
		}
		shards[first].ahead = f[4:]
	}
}

// listAhead reads the next page of a shard once the last is used up.
func (s *Store) listAhead(ctx context.Context, shard int, l *listed) error {
	if len(l.ahead) > 0 || l.from == "" {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	const count = 64
	cmd := redis.NewStringSliceCmd(ctx, "eval", spoolListScript, 1, shardKey(shard), l.from, count)
	if err := s.read(ctx, cmd); err != nil {
		return err
	}
	if l.ahead, l.from = cmd.Val(), ""; len(l.ahead) == 4*count {
		l.from = "(" + l.ahead[len(l.ahead)-4]
	}
	return nil
}
