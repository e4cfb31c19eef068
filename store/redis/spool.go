package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lua/spool_add.lua
	spoolAddScript string
	//go:embed lua/spool_renew.lua
	spoolRenewScript string
	//go:embed lua/spool_update.lua
	spoolUpdateScript string
	//go:embed lua/spool_done.lua
	spoolDoneScript string
)

// item is store.SpoolItem.
type item = struct {
	ID    string
	Queue string
	Due   time.Time
	Lease time.Time
	Meta  []byte
	Body  []byte
}

// shardCount is how many parts the spool has. All that came with one body lies in one shard for good.
const shardCount = 16

var (
	errNoNode   = errors.New("spool: a lease needs a node's name")
	errNoCopies = errors.New("spool: a body without copies")
)

func shardKey(shard int) string { return fmt.Sprintf("heed:{spool:%02d}", shard) }

// shardHints remembers in which shard a copy lies, of those that passed through this node. Without a hint all are asked.
type shardHints struct {
	mu sync.Mutex
	of map[string]int
}

func (h *shardHints) put(shard int, ids ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.of)+len(ids) > 1<<17 {
		clear(h.of)
	}
	for _, id := range ids {
		h.of[id] = shard
	}
}

func (h *shardHints) drop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, id)
}

// split tells which of the copies to ask for in which shard.
func (h *shardHints) split(ids []string) map[int][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	in := map[int][]string{}
	for _, id := range ids {
		if shard, ok := h.of[id]; ok {
			in[shard] = append(in[shard], id)
			continue
		}
		for shard := range shardCount {
			in[shard] = append(in[shard], id)
		}
	}
	return in
}

// SpoolAdd measures the other shards, then adds the body and its copies in one script. Adders at the same time may
// exceed limit by one body each at most.
func (s *Store) SpoolAdd(ctx context.Context, node, queue string, due time.Time, body []byte, copies map[string][]byte, limit int64) (bool, error) {
	switch {
	case node == "":
		return false, errNoNode
	case len(copies) == 0:
		return false, errNoCopies
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	ids := slices.Sorted(maps.Keys(copies))
	h := fnv.New32a()
	h.Write([]byte(ids[0]))
	shard := int(h.Sum32() % shardCount)
	sizes, _, err := s.spoolSizes(ctx)
	if err != nil {
		return false, err
	}
	for i, size := range sizes {
		if i != shard {
			limit -= size
		}
	}
	args := []any{node, queue, stamp(due), notNil(body), limit}
	for _, id := range ids {
		args = append(args, id, notNil(copies[id]))
	}
	cmd := script(ctx, spoolAddScript, shardKey(shard), args...)
	if _, err := s.repeat(ctx, cmd); err != nil {
		return false, err
	}
	s.shards.put(shard, ids...)
	return cmd.Bool()
}

// notNil: go-redis has no form for a nil slice.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// SpoolRenew extends leases, also those that have ended and that nobody else took.
func (s *Store) SpoolRenew(ctx context.Context, node string, until time.Time, ids []string) ([]string, error) {
	if node == "" {
		return nil, errNoNode
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var cmds []redis.Cmder
	for shard, ids := range s.shards.split(ids) {
		args := []any{node, stamp(until)}
		for _, id := range ids {
			args = append(args, id)
		}
		cmds = append(cmds, script(ctx, spoolRenewScript, shardKey(shard), args...))
	}
	if _, err := s.repeat(ctx, cmds...); err != nil {
		return nil, err
	}
	var held []string
	for _, cmd := range cmds {
		some, err := cmd.(*redis.Cmd).StringSlice()
		if err != nil {
			return nil, err
		}
		held = append(held, some...)
	}
	slices.Sort(held)
	return held, nil
}

// anyShard runs a script where the copy may lie; true where one of them answered 1.
func (s *Store) anyShard(ctx context.Context, text, id string, args ...any) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmds := s.inShards(ctx, text, id, args...)
	if _, err := s.repeat(ctx, cmds...); err != nil {
		return false, err
	}
	for _, cmd := range cmds {
		if ok, err := cmd.(*redis.Cmd).Bool(); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// SpoolUpdate writes a copy's meta and next time and gives up the lease. A repeated call is answered as the first.
func (s *Store) SpoolUpdate(ctx context.Context, node, id string, due time.Time, meta []byte) (bool, error) {
	if node == "" {
		return false, errNoNode
	}
	return s.anyShard(ctx, spoolUpdateScript, id, node, id, stamp(due), notNil(meta))
}

// SpoolDone removes a copy, and its body with the last copy that refers to it.
func (s *Store) SpoolDone(ctx context.Context, id string) error {
	_, err := s.anyShard(ctx, spoolDoneScript, id, id)
	if err == nil {
		s.shards.drop(id)
	}
	return err
}

// SpoolSize is the bytes of all bodies and the number of copies.
func (s *Store) SpoolSize(ctx context.Context) (size int64, copies int, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	sizes, copies, err := s.spoolSizes(ctx)
	for _, n := range sizes {
		size += n
	}
	return size, copies, err
}

func (s *Store) spoolSizes(ctx context.Context) (sizes [shardCount]int64, copies int, err error) {
	var cmds []redis.Cmder
	for shard := range shardCount {
		cmds = append(cmds, redis.NewStringCmd(ctx, "get", shardKey(shard)+":bytes"), redis.NewIntCmd(ctx, "zcard", shardKey(shard)+":all"))
	}
	if err := s.read(ctx, cmds...); err != nil {
		return sizes, 0, err
	}
	for shard := range shardCount {
		if text := cmds[2*shard].(*redis.StringCmd).Val(); text != "" {
			if sizes[shard], err = strconv.ParseInt(text, 10, 64); err != nil {
				return sizes, 0, err
			}
		}
		copies += int(cmds[2*shard+1].(*redis.IntCmd).Val())
	}
	return sizes, copies, nil
}
