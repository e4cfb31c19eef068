package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// durability verifies that a server has an acknowledged write on its disk, and on one replica's side where it has any.
// Once it was seen with a replica it must have one, as long as it is the same process and was not promoted since: a
// replica that died does not make the promise less. One that was promoted when its primary died may be alone.
type durability struct {
	mu      sync.Mutex
	known   standing
	history string // the process's master_replid: a promotion makes a new one
}

// standing is what a proof depends on.
type standing struct {
	run        string // the process's run_id; "" before it was verified
	replicated bool
	waitAOF    bool // the answer comes before the fsync: it has to be waited for
	fences     bool // it knows the flags of scripts
}

//go:embed lua/fence.lua
var fenceScript string

// assured are the settings under which the server answers a write after its fsync.
var assured = [...]struct{ setting, value, otherwise string }{
	{"appendonly", "yes", "an acknowledged opt-out could be lost in a crash"},
	{"appendfsync", "always", "an acknowledged opt-out could be lost in a crash"},
	{"no-appendfsync-on-rewrite", "no", "an acknowledged opt-out could be lost in a crash during a rewrite"},
}

const vouch = "or, where the provider vouches for its durability, set durability: assumed"

// refusal says why a server is not written to. It wraps nothing: go-redis passes on only what a hook's error wraps.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	errReplica     = refusal("the server is a replica: name the primary")
	errDemoted     = refusal("the server became a replica before another had the write")
	errUnconfirmed = refusal("no replica confirmed the write in time: bring the replicas back, or restart the primary without them")
	errUnsynced    = refusal("the server did not bring the write to its disk in time")
)

// verify runs on every new connection that writes: the server may have come back with other settings.
func (d *durability) verify(ctx context.Context, c *redis.Conn) error {
	process, replication := redis.NewStringCmd(ctx, "info", "server"), redis.NewStringCmd(ctx, "info", "replication")
	role := redis.NewSliceCmd(ctx, "role")
	for _, cmd := range []redis.Cmder{process, replication, role} {
		if err := c.Process(ctx, cmd); ctx.Err() != nil || unanswered(err) {
			return err
		} else if err != nil {
			return refusal(fmt.Sprintf("durability strict cannot be verified: allow +info, +role and +wait to this user, %s: %s", vouch, err))
		}
	}
	if field(replication.Val(), "role") != "master" {
		return errReplica
	}
	version := field(process.Val(), "redis_version")
	waits, err := settings(ctx, c, atLeast(version, 7, 2))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(process.Val(), replication.Val())
	d.known.waitAOF, d.known.fences = waits, atLeast(version, 7, 0)
	return nil
}

// settings refuses those under which an acknowledged write could be lost. waits: the fsync has to be waited for.
func settings(ctx context.Context, c *redis.Conn, canWait bool) (waits bool, err error) {
	for _, a := range assured {
		got, err := setting(ctx, c, a.setting)
		switch {
		case err != nil:
			return false, err
		case got == a.value, waits && a.setting == "no-appendfsync-on-rewrite":
		case a.setting == "appendfsync" && got == "everysec" && canWait:
			waits = true
		default:
			return false, refusal(fmt.Sprintf("the server runs with %s %s, so %s: set `CONFIG SET %s %s` and the same in redis.conf, or accept the loss with durability: none",
				a.setting, got, a.otherwise, a.setting, a.value))
		}
	}
	if policy, err := setting(ctx, c, "maxmemory-policy"); err != nil {
		return false, err
	} else if strings.HasPrefix(policy, "allkeys-") {
		return false, refusal(fmt.Sprintf("the server runs with maxmemory-policy %s, so opt-outs would be evicted: set `CONFIG SET maxmemory-policy noeviction` and the same in redis.conf", policy))
	}
	return waits, nil
}

func setting(ctx context.Context, c *redis.Conn, name string) (string, error) {
	found, err := c.ConfigGet(ctx, name).Result()
	if ctx.Err() != nil || unanswered(err) {
		return "", err
	}
	if err != nil {
		return "", refusal(fmt.Sprintf("durability strict cannot be verified, the server forbids CONFIG GET: allow +config|get to this user, %s: %s", vouch, err))
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

// atLeast compares a version like 7.2.4.
func atLeast(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

// note keeps the process and its replicas; mu is held. A replica that is still copying does not count.
func (d *durability) note(process, replication string) {
	run, history := field(process, "run_id"), field(replication, "master_replid")
	inherited := strings.Trim(field(replication, "master_replid2"), "0") != "" // what it had as a replica
	if run != d.known.run || history != d.history && inherited {
		d.known.replicated = false
	}
	d.known.run, d.history = run, history
	d.known.replicated = d.known.replicated || strings.Contains(replication, "state=online")
}

func (d *durability) standing() standing {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known
}

// proof are the commands that follow a write on its connection.
type proof struct {
	under standing
	fence redis.Cmder        // what WAITAOF and WAIT wait for, or nil
	aof   *redis.IntSliceCmd // WAITAOF, or nil
	wait  *redis.IntCmd      // WAIT for one replica, or nil
	role  *redis.SliceCmd    // instead of wait: has one come meanwhile?
}

// ask begins a proof for a write of key.
func (d *durability) ask(ctx context.Context, key string) proof {
	p := proof{under: d.standing()}
	if p.under.waitAOF || p.under.replicated {
		p.fence = p.under.fence(ctx, key)
	}
	if p.under.waitAOF {
		p.aof = redis.NewIntSliceCmd(ctx, "waitaof", 1, 0, share(ctx).Milliseconds())
	}
	if p.under.replicated {
		p.wait = redis.NewIntCmd(ctx, "wait", 1, share(ctx).Milliseconds())
	} else {
		p.role = redis.NewSliceCmd(ctx, "role")
	}
	return p
}

// fence is a change in any case. A repeated write changes nothing, and what it finds may be another connection's,
// which nobody has confirmed. Redis 6 waits for all that the server had written at the connection's last command.
func (s standing) fence(ctx context.Context, key string) redis.Cmder {
	if !s.fences || key == "" {
		return redis.NewStatusCmd(ctx, "ping")
	}
	return script(ctx, fenceScript, key)
}

func (p proof) cmds() (cmds []redis.Cmder) {
	if p.fence != nil {
		cmds = append(cmds, p.fence)
	}
	if p.aof != nil {
		cmds = append(cmds, p.aof)
	}
	if p.wait != nil {
		return append(cmds, p.wait)
	}
	return append(cmds, p.role)
}

// confirm reads the proof, and asks for another where it is not what the server now has to prove: it was connected to
// for this write, or promoted, or its first replica came. Not confirmed is an error: the write may stand, and may be
// repeated.
func (d *durability) confirm(ctx context.Context, c *redis.Client, key string, p proof) error {
	for {
		again, err := d.read(ctx, c, p)
		if err != nil {
			return err
		}
		if !again && d.standing() == p.under {
			return nil
		}
		p = d.ask(ctx, key)
		roundTrip(ctx, c, p.cmds())
	}
}

// read tells whether the proof has to be another.
func (d *durability) read(ctx context.Context, c *redis.Client, p proof) (again bool, err error) {
	if err := firstError(p.cmds()); err != nil {
		return false, err
	}
	if p.aof != nil && (len(p.aof.Val()) == 0 || p.aof.Val()[0] < 1) {
		return false, errUnsynced
	}
	if p.wait != nil {
		if p.wait.Val() > 0 {
			return false, nil
		}
		return true, d.alone(ctx, c)
	}
	switch role := p.role.Val(); {
	case len(role) < 3 || role[0] != "master":
		return false, errDemoted
	case none(role[2]):
		return false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known.replicated = true
	return true, nil
}

func none(list any) bool {
	replicas, _ := list.([]any)
	return len(replicas) == 0
}

// alone is right for a server that was promoted since it was last seen with a replica.
func (d *durability) alone(ctx context.Context, c *redis.Client) error {
	process, replication := redis.NewStringCmd(ctx, "info", "server"), redis.NewStringCmd(ctx, "info", "replication")
	cmds := []redis.Cmder{process, replication}
	roundTrip(ctx, c, cmds)
	if err := firstError(cmds); err != nil {
		return errors.Join(errUnconfirmed, err)
	}
	if field(replication.Val(), "role") != "master" {
		return errDemoted
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.note(process.Val(), replication.Val()); d.known.replicated {
		return errUnconfirmed
	}
	return nil
}
