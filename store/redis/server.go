package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	connections = 24 // of each client
	remembered  = 32 // servers that are no primary now
)

// server is one Redis server and the connections to it.
type server struct {
	addr    string
	reads   *redis.Client
	writes  *redis.Client                                // never repeats by itself: nobody knows whether the first try was executed
	probe   *redis.Client                                // asks about the cluster, whatever the others wait for
	durable *durability                                  // nil: not verified
	names   func(ctx context.Context, addr string) error // nil: no other can take over

	mu  sync.Mutex
	run string // run_id of the process that was named last
}

func (v *server) close() error {
	return errors.Join(v.reads.Close(), v.writes.Close(), v.probe.Close())
}

// servers are all that have been named so far.
type servers struct {
	options     redis.Options // of every connection, without the address
	retries     int           // of reads, where no other server can take over
	primaryOnly bool          // reads refuse a replica; those of a cluster do so by themselves
	verify      bool
	names       func(ctx context.Context, addr string) error // the topology's, where another server can take over

	mu     sync.Mutex
	at     map[string]*server
	closed bool
}

// get connects lazily: its only error is that the state is closed.
func (s *servers) get(addr string) (*server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, redis.ErrClosed
	}
	v := s.at[addr]
	if v == nil {
		v = s.open(addr)
		s.at[addr] = v
	}
	return v, nil
}

func (s *servers) open(addr string) *server {
	v := &server{addr: addr, names: s.names}
	read, write, probe := s.options, s.options, s.options
	read.Addr, write.Addr, probe.Addr = addr, addr, addr
	if read.MaxRetries = -1; s.retries > 0 {
		read.MaxRetries = s.retries
	}
	write.MaxRetries, probe.MaxRetries = -1, -1
	probe.PoolSize, probe.MaxIdleConns = 2, 2
	probe.DialTimeout, probe.ReadTimeout, probe.WriteTimeout = enquiry/2, enquiry/2, enquiry/2
	read.OnConnect, write.OnConnect = v.known, v.known
	if s.primaryOnly {
		read.OnConnect = both(v.known, onlyPrimary)
	}
	if s.verify {
		v.durable = &durability{}
		write.OnConnect = both(v.known, v.durable.verify)
	}
	v.reads, v.writes, v.probe = redis.NewClient(&read), redis.NewClient(&write), redis.NewClient(&probe)
	return v
}

type check func(context.Context, *redis.Conn) error

// both checks a new connection twice.
func both(first, second check) check {
	return func(ctx context.Context, c *redis.Conn) error {
		if err := first(ctx, c); err != nil {
			return err
		}
		return second(ctx, c)
	}
}

// known keeps off a process that is new until its address is named as a primary's by who was asked after the connect:
// a primary that was replaced and came back takes itself for one until it is told.
func (v *server) known(ctx context.Context, c *redis.Conn) error {
	if v.names == nil {
		return nil
	}
	info, err := c.Info(ctx, "server").Result()
	if ctx.Err() != nil || unanswered(err) {
		return err
	}
	run := field(info, "run_id") // "" where INFO is forbidden: each connection is a new process's
	v.mu.Lock()
	same := run != "" && run == v.run
	v.mu.Unlock()
	if same {
		return nil
	}
	if err := v.names(ctx, v.addr); err != nil {
		return err
	}
	v.mu.Lock()
	v.run = run
	v.mu.Unlock()
	return nil
}

// onlyPrimary keeps reads off a server that has become a replica: it may not know the newest opt-out.
func onlyPrimary(ctx context.Context, c *redis.Conn) error {
	role, err := c.Do(ctx, "role").Slice()
	if err == nil && len(role) > 0 && role[0] != "master" {
		return errReplica
	}
	return nil // who may not ask learns it from the first write
}

// keep closes connections to servers that are gone, once they are many. What is known of their replicas goes too.
func (s *servers) keep(addrs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.at) <= len(addrs)+remembered {
		return
	}
	for addr, v := range s.at {
		if !slices.Contains(addrs, addr) {
			delete(s.at, addr)
			_ = v.close() // nothing was sent that is not answered
		}
	}
}

func (s *servers) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, v := range s.at {
		errs = append(errs, v.close())
	}
	clear(s.at)
	return errors.Join(errs...)
}

// roundTrip sends the commands in one pipeline. Each then holds its own outcome.
func roundTrip(ctx context.Context, c *redis.Client, cmds []redis.Cmder) {
	p := c.Pipeline()
	for _, cmd := range cmds {
		cmd.SetErr(nil) // of an earlier try
		_ = p.Process(ctx, cmd)
	}
	if _, err := p.Exec(ctx); err != nil && firstError(cmds) == nil && !errors.Is(err, redis.Nil) {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
	}
}

// firstError is that of the first command that failed; a missing key is no error.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

// read is one round trip.
func (v *server) read(ctx context.Context, cmds []redis.Cmder) error {
	roundTrip(ctx, v.reads, cmds)
	return firstError(cmds)
}

// write is one round trip, which brings back the proof that what was written is kept. nil also stands for commands
// that were refused without being executed: each holds its own error.
func (v *server) write(ctx context.Context, cmds []redis.Cmder) error {
	if v.durable == nil {
		roundTrip(ctx, v.writes, cmds)
		return firstFailure(cmds)
	}
	key := keyOf(cmds[0])
	p := v.durable.ask(ctx, key)
	roundTrip(ctx, v.writes, append(cmds[:len(cmds):len(cmds)], p.cmds()...))
	if err := firstFailure(cmds); err != nil || allFailed(cmds) {
		return err
	}
	return v.durable.confirm(ctx, v.writes, key, p)
}

// firstFailure is that of the first command that may have been executed.
func firstFailure(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) && !unexecuted(err) {
			return err
		}
	}
	return nil
}

func allFailed(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if err := cmd.Err(); err == nil || errors.Is(err, redis.Nil) {
			return false
		}
	}
	return true
}

// share is the time that one step of an operation may take, so that another is left for the next.
func share(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Millisecond, time.Until(end)/2)
	}
	return time.Second
}
