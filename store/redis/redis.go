// Package redis keeps the state in a Redis server that several gateways share: one, one of several by Sentinel, or a
// Cluster. What changes together lies under one hash tag and changes in one script, so that every write is atomic and
// can be repeated.
//
// Keys: heed:{PERSON} is all that is known of a person; heed:{PERSON}:g:HASH what the duplicate guard knows of one
// submission to it, which the server ends; heed:{optouts}:persons an index of those who objected;
// heed:{journal}:… the journal; heed:{spool:NN}:… one shard of the spool; heed:{meta}:state the schema and the keys'
// fingerprint. No key's name holds an address. Scripts build keys from a base, always of the base's own slot.
//
// Nothing is ever read from a replica: an opt-out binds the next decision.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	_ "embed" // the scripts

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options of Open.
type Options struct {
	Verify  bool // every connection that writes first proves that the server keeps what it acknowledges
	Log     *slog.Logger
	Timeout time.Duration // of every operation, and of every page of one that streams
}

// Store is the state in Redis. It satisfies store.State.
type Store struct {
	timeout  time.Duration
	log      *slog.Logger
	servers  *servers
	topology topology
	shards   shardHints
}

const (
	schemaVersion = 2 // 2: the spool has queues
	metaKey       = "heed:{meta}:state"
	page          = 256 // entries a stream reads at a time
	chunk         = 1000
)

//go:embed lua/fingerprint.lua
var fingerprintScript string

// Open connects to the server or servers of a URL: redis://, redis+sentinel:// or redis+cluster://, with rediss for
// TLS. Its errors never quote the password.
func Open(ctx context.Context, rawURL string, o Options) (*Store, error) {
	t, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	redis.SetLogger(silent{})
	s := &Store{timeout: o.Timeout, log: o.Log, servers: &servers{options: t.options(o.Timeout), verify: o.Verify, at: map[string]*server{}}}
	s.shards.of = map[string]int{}
	switch t.scheme {
	case schemeSentinel:
		s.topology = newSentinels(t)
	case schemeCluster:
		s.topology = newCluster(t.addrs, s.servers)
	default:
		s.topology = fixed(t.addrs[0])
		s.servers.retries = 2
	}
	s.servers.primaryOnly = t.scheme == schemeSentinel
	if s.topology.moves() {
		s.servers.names = s.topology.names
	}
	if err := s.greet(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", t, err), s.Close())
	}
	s.log.Info("state opened", "redis", t.String(), "durability verified", o.Verify)
	return s, nil
}

// options are those of every connection.
func (t target) options(timeout time.Duration) redis.Options {
	return redis.Options{
		Username: t.user, Password: t.password, DB: t.db, TLSConfig: t.tlsConfig(),
		ContextTimeoutEnabled: true, DialTimeout: min(timeout, 2*time.Second), DialerRetries: 1,
		ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
		PoolSize: connections, MaxIdleConns: connections, PipelinePoolSize: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// silent: go-redis writes to stderr what it also returns as an error.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// greet proves that the servers answer, may be written to, are what the URL says, and are not of a newer version.
func (s *Store) greet(ctx context.Context) error {
	if err := s.fits(ctx); err != nil {
		return err
	}
	if err := s.Ping(ctx); err != nil {
		return err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	set := redis.NewBoolCmd(ctx, "hsetnx", metaKey, "schema", schemaVersion)
	get := redis.NewCmd(ctx, "hget", metaKey, "schema")
	if _, err := s.repeat(ctx, set, get); err != nil {
		return err
	}
	version, err := get.Int()
	switch {
	case err != nil || version > schemaVersion:
		return fmt.Errorf("the state has schema %v, this program knows %d: use the newer program that wrote it", get.Val(), schemaVersion)
	case version == schemaVersion:
		return nil
	}
	if err := s.moveToQueues(ctx); err != nil {
		return err
	}
	return s.write(ctx, redis.NewIntCmd(ctx, "hset", metaKey, "schema", schemaVersion))
}

// fits refuses a URL that names another kind of server than it means: what does not fail now would fail for some keys.
func (s *Store) fits(ctx context.Context) error {
	addr, ok := s.topology.(fixed)
	if !ok {
		return nil // the others ask what no other kind of server answers
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	v, err := s.servers.get(string(addr))
	if err != nil {
		return err
	}
	info, err := v.reads.Info(ctx, "server").Result()
	if err != nil {
		return nil // it may be forbidden; what else is wrong the next command says
	}
	switch field(info, "redis_mode") {
	case "cluster":
		return errors.New("the server is a node of a cluster: " + form(schemeCluster))
	case "sentinel":
		return errors.New("the server is a sentinel: " + form(schemeSentinel))
	}
	return nil
}

// bound gives an operation its deadline.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// script is a call of a script. EVAL carries the text: a server that restarted has forgotten what SCRIPT LOAD gave it.
func script(ctx context.Context, text, key string, args ...any) *redis.Cmd {
	return redis.NewCmd(ctx, append([]any{"eval", text, 1, key}, args...)...)
}

// Ping asks every primary for a sign of life, and whether it may be written to.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.insist(ctx, func() (bool, error) {
		addrs, err := s.topology.primaries(ctx)
		if err != nil {
			return ctx.Err() == nil, err
		}
		var wait sync.WaitGroup
		reads, writes := make([]batch, len(addrs)), make([]batch, len(addrs))
		for i, addr := range addrs {
			reads[i] = batch{addr: addr, cmds: []redis.Cmder{redis.NewStatusCmd(ctx, "ping")}}
			writes[i] = batch{addr: addr, cmds: []redis.Cmder{redis.NewStatusCmd(ctx, "ping")}}
			wait.Go(func() {
				if s.send(ctx, reading, &reads[i]); reads[i].err == nil {
					s.send(ctx, repeating, &writes[i]) // a writing connection is one whose durability was verified
				}
			})
		}
		wait.Wait()
		for _, b := range slices.Concat(reads, writes) {
			if b.err != nil {
				return len(b.again) > 0, b.err
			}
		}
		return false, nil
	})
}

// Fingerprint stores fp if there is none yet, and returns the one that stands; "" only reads.
func (s *Store) Fingerprint(ctx context.Context, fp string) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmd := script(ctx, fingerprintScript, metaKey, fp)
	if _, err := s.repeat(ctx, cmd); err != nil {
		return "", err
	}
	return cmd.Text()
}

// Close closes all connections. Later calls fail.
func (s *Store) Close() error {
	s.topology.close()
	return s.servers.close()
}
