// Package redis keeps the state in a Redis server that several gateways share. What changes together lies under one
// hash tag and changes in one script, so that every write is atomic and can be repeated.
//
// Keys: heed:{PERSON} is all that is known of a person; heed:{optouts}:persons an index of those who objected;
// heed:{journal}:… the journal; heed:{spool:NN}:… one shard of the spool; heed:{meta}:state the schema and the keys'
// fingerprint. No key's name holds an address. Scripts build keys from a base, always of the base's own slot.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
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

// Store is the state in a Redis server. It satisfies store.State.
type Store struct {
	timeout time.Duration
	log     *slog.Logger
	reads   *redis.Client // retries what a broken connection did not answer
	writes  *redis.Client // never does: nobody knows whether the first try was executed
	durable *durability   // nil: not verified
	shards  shardHints
}

const (
	schemaVersion = 2 // 2: the spool has queues
	metaKey       = "heed:{meta}:state"
	page          = 256 // entries a stream reads at a time
	chunk         = 1000
	connections   = 24 // of each client
)

//go:embed lua/fingerprint.lua
var fingerprintScript string

// Open connects to the server of a redis:// or rediss:// URL. Its errors never quote the password.
func Open(ctx context.Context, rawURL string, o Options) (*Store, error) {
	opt, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	opt.ContextTimeoutEnabled = true
	opt.DialTimeout = min(o.Timeout, 2*time.Second)
	opt.DialerRetries = 1
	opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = o.Timeout, o.Timeout, o.Timeout
	opt.PoolSize, opt.MaxIdleConns, opt.PipelinePoolSize = connections, connections, -1
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	redis.SetLogger(silent{})

	s := &Store{timeout: o.Timeout, log: o.Log}
	s.shards.of = map[string]int{}
	read, write := *opt, *opt
	read.MaxRetries, write.MaxRetries = 2, -1
	if o.Verify {
		s.durable = &durability{}
		write.OnConnect = s.durable.verify
	}
	s.reads, s.writes = redis.NewClient(&read), redis.NewClient(&write)
	if err := s.greet(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("state redis %s: %w", opt.Addr, err), s.Close())
	}
	s.log.Info("state opened", "redis", opt.Addr, "durability verified", o.Verify)
	return s, nil
}

// silent: go-redis writes to stderr what it also returns as an error.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// parse reads the URL; url.Error quotes all of it, so only its cause is kept.
func parse(rawURL string) (*redis.Options, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err
		}
		return nil, fmt.Errorf("state: the Redis URL is malformed (escape special characters of the password as %%XX): %w", err)
	}
	switch {
	case u.RawQuery != "":
		return nil, errors.New("state: a Redis URL takes no options after ?: use redis://user:password@host:port/db")
	case u.Host == "":
		return nil, errors.New("state: the Redis URL names no server: use redis://host:port/db")
	}
	opt, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("state: %w: use redis://host:port/db", err)
	}
	if opt.TLSConfig != nil {
		opt.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return opt, nil
}

// greet proves that the server answers, may be written to, and is not of a newer version.
func (s *Store) greet(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	set := redis.NewBoolCmd(ctx, "hsetnx", metaKey, "schema", schemaVersion)
	get := redis.NewCmd(ctx, "hget", metaKey, "schema")
	if err := s.write(ctx, set, get); err != nil {
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

// bound gives an operation its deadline.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// script is a call of a script. EVAL carries the text: a server that restarted has forgotten what SCRIPT LOAD gave it.
func script(ctx context.Context, text, key string, args ...any) *redis.Cmd {
	return redis.NewCmd(ctx, append([]any{"eval", text, 1, key}, args...)...)
}

// write sends all commands in one round trip, once, and fails where one of them failed.
func (s *Store) write(ctx context.Context, cmds ...redis.Cmder) error {
	return explain(s.durable.acknowledged(ctx, s.writes, cmds))
}

// read sends all commands in one round trip; a missing key is no error.
func (s *Store) read(ctx context.Context, cmds ...redis.Cmder) error {
	return explain(send(ctx, s.reads, cmds))
}

func send(ctx context.Context, c *redis.Client, cmds []redis.Cmder) error {
	p := c.Pipeline()
	for _, cmd := range cmds {
		if err := p.Process(ctx, cmd); err != nil {
			return err
		}
	}
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

// explain puts a sentence for people before the server's.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for prefix, remedy := range map[string]string{
		"READONLY":  "the server is a replica: name the primary",
		"LOADING":   "the server is still reading its data",
		"OOM":       "the server's memory is full and nothing was kept of this write: raise maxmemory",
		"MISCONF":   "the server cannot write to its disk and nothing was kept of this write",
		"NOAUTH":    "the server wants a password: use redis://user:password@host:port/db",
		"WRONGPASS": "the server refuses the user or the password",
		"NOPERM":    "the server's ACL forbids a command: allow ~heed:* and +@all to this user",
		"CROSSSLOT": "the server is a cluster node: redis+cluster:// is not supported yet",
		"MOVED":     "the server is a cluster node: redis+cluster:// is not supported yet",
	} {
		if redis.HasErrorPrefix(err, prefix) || strings.HasPrefix(err.Error(), prefix+" ") {
			return fmt.Errorf("%s: %w", remedy, err)
		}
	}
	return err
}

// Ping asks the server for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := explain(s.reads.Ping(ctx).Err()); err != nil {
		return err
	}
	return s.write(ctx, redis.NewStatusCmd(ctx, "ping")) // a writing connection is one whose durability was verified
}

// Fingerprint stores fp if there is none yet, and returns the one that stands; "" only reads.
func (s *Store) Fingerprint(ctx context.Context, fp string) (string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	cmd := script(ctx, fingerprintScript, metaKey, fp)
	if err := s.write(ctx, cmd); err != nil {
		return "", err
	}
	return cmd.Text()
}

// Close closes all connections. Later calls fail.
func (s *Store) Close() error {
	return errors.Join(s.reads.Close(), s.writes.Close())
}
