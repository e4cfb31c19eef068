package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// durability verifies that an acknowledged write is on the server's disk, and on one replica's side where it has any.
type durability struct {
	replicated atomic.Bool // the server had replicas when the last connection was made
}

// assured are the settings under which the server answers a write after its fsync.
var assured = [...]struct{ setting, value, otherwise string }{
	{"appendonly", "yes", "an acknowledged opt-out could be lost in a crash"},
	{"appendfsync", "always", "an acknowledged opt-out could be lost in a crash"},
	{"no-appendfsync-on-rewrite", "no", "an acknowledged opt-out could be lost in a crash during a rewrite"},
}

const vouch = "or, where the provider vouches for its durability, set durability: assumed"

// verify runs on every new connection that writes: the server may have come back with other settings. Its errors wrap
// nothing: go-redis passes on only what the hook's error wraps.
func (d *durability) verify(ctx context.Context, c *redis.Conn) error {
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("durability strict cannot be verified: allow +info to this user, %s: %s", vouch, err.Error())
	}
	if field(info, "role") != "master" {
		return errors.New("the server is a replica: name the primary")
	}
	d.replicated.Store(field(info, "connected_slaves") != "0")
	for _, a := range assured {
		got, err := setting(ctx, c, a.setting)
		if err != nil {
			return err
		}
		if got != a.value {
			return fmt.Errorf("the server runs with %s %s, so %s: set `CONFIG SET %s %s` and the same in redis.conf, or accept the loss with durability: none",
				a.setting, got, a.otherwise, a.setting, a.value)
		}
	}
	if policy, err := setting(ctx, c, "maxmemory-policy"); err != nil {
		return err
	} else if strings.HasPrefix(policy, "allkeys-") {
		return fmt.Errorf("the server runs with maxmemory-policy %s, so opt-outs would be evicted: set `CONFIG SET maxmemory-policy noeviction` and the same in redis.conf", policy)
	}
	return nil
}

func setting(ctx context.Context, c *redis.Conn, name string) (string, error) {
	found, err := c.ConfigGet(ctx, name).Result()
	if ctx.Err() != nil {
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("durability strict cannot be verified, the server forbids CONFIG GET: allow +config|get to this user, %s: %s", vouch, err.Error())
	}
	return found[name], nil
}

// field is a field of INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// acknowledged sends the commands and, where the server has replicas, waits on the same connection until one of
// them has received them. Not confirmed is an error: the write may stand, and may be repeated.
func (d *durability) acknowledged(ctx context.Context, c *redis.Client, cmds []redis.Cmder) error {
	if d == nil || !d.replicated.Load() {
		return send(ctx, c, cmds)
	}
	ms := int64(1)
	if end, ok := ctx.Deadline(); ok {
		ms = max(ms, time.Until(end).Milliseconds()/2)
	}
	wait := redis.NewIntCmd(ctx, "wait", 1, strconv.FormatInt(ms, 10))
	if err := send(ctx, c, append(cmds[:len(cmds):len(cmds)], wait)); err != nil {
		return err
	}
	if wait.Val() < 1 {
		return errors.New("no replica confirmed the write in time: bring the replicas back, or restart the gateway without them")
	}
	return nil
}
