package redis

import (
	"cmp"
	"context"
	_ "embed"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lua/spool_due.lua
	spoolDueScript string
	//go:embed lua/spool_claim.lua
	spoolClaimScript string
)

// claimBytes bounds the bodies that one claim brings into memory; the first always comes.
const claimBytes = 32 << 20

// candidate is a copy that was due and free when it was looked at.
type candidate struct {
	id, due, body string
	size          int64
	shard         int
}

// SpoolClaim looks for the earliest copies of all shards and leases those that nobody took meanwhile. A lease that
// runs is not given out again, not even to its holder, who may be sending that copy. It returns fewer than n where
// their bodies would fill the memory.
func (s *Store) SpoolClaim(ctx context.Context, node string, now, until time.Time, n int, skip []string) ([]item, error) {
	if node == "" {
		return nil, errNoNode
	}
	if n <= 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	found, err := s.spoolDue(ctx, now, n, skip)
	if err != nil {
		return nil, err
	}
	ids := map[int][]any{}
	for _, c := range choose(found, n) {
		ids[c.shard] = append(ids[c.shard], c.id)
	}
	shards := slices.Sorted(maps.Keys(ids))
	var cmds []redis.Cmder
	for _, shard := range shards {
		cmds = append(cmds, script(ctx, spoolClaimScript, shardKey(shard), append([]any{node, stamp(now), stamp(until)}, ids[shard]...)...))
	}
	if err := s.write(ctx, cmds...); err != nil {
		return nil, err // what was leased becomes free when the lease ends
	}
	var items []item
	for i, shard := range shards {
		got, err := claimedItems(cmds[i].(*redis.Cmd), until)
		if err != nil {
			return nil, err
		}
		for _, it := range got {
			s.shards.put(shard, it.ID)
		}
		items = append(items, got...)
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	return items, nil
}

// spoolDue frees ended leases and looks into every shard.
func (s *Store) spoolDue(ctx context.Context, now time.Time, n int, skip []string) ([]candidate, error) {
	cmds := make([]redis.Cmder, shardCount)
	args := []any{stamp(now), n}
	for _, queue := range skip {
		args = append(args, queue)
	}
	for shard := range cmds {
		cmds[shard] = script(ctx, spoolDueScript, shardKey(shard), args...)
	}
	if _, err := s.repeat(ctx, cmds...); err != nil {
		return nil, err
	}
	var found []candidate
	for shard, cmd := range cmds {
		values, err := cmd.(*redis.Cmd).Slice()
		if err != nil {
			return nil, err
		}
		for f := range slices.Chunk(values, 4) {
			c := candidate{shard: shard}
			c.id, _ = f[0].(string)
			c.due, _ = f[1].(string)
			c.body, _ = f[2].(string)
			c.size, _ = f[3].(int64)
			found = append(found, c)
		}
	}
	return found, nil
}

// choose takes the earliest n, as far as the memory for their bodies allows.
func choose(found []candidate, n int) []candidate {
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id, b.id)) })
	found = found[:min(n, len(found))]
	seen := map[string]bool{}
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

// claimedItems reads the answer of the claim script; copies that share a body share its memory.
func claimedItems(cmd *redis.Cmd, until time.Time) ([]item, error) {
	lists, err := cmd.Slice()
	if err != nil {
		return nil, err
	}
	copies, _ := lists[0].([]any)
	bodies, _ := lists[1].([]any)
	data := map[any][]byte{}
	for b := range slices.Chunk(bodies, 2) {
		text, _ := b[1].(string)
		data[b[0]] = []byte(text)
	}
	items := make([]item, 0, len(copies)/5)
	for c := range slices.Chunk(copies, 5) {
		id, _ := c[0].(string)
		queue, _ := c[1].(string)
		due, _ := c[2].(string)
		meta, _ := c[3].(string)
		items = append(items, item{ID: id, Queue: queue, Due: moment(due), Lease: until, Meta: []byte(meta), Body: data[c[4]]})
	}
	return items, nil
}
