package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// manner is how commands may be sent again to a server that has taken over.
type manner int

const (
	reading   manner = iota // always
	writing                 // only what was surely not executed
	repeating               // also what may have been executed: twice is as once, and is answered as once
)

// read sends all commands in one round trip to each server; a missing key is no error.
func (s *Store) read(ctx context.Context, cmds ...redis.Cmder) error {
	_, err := s.exchange(ctx, reading, cmds)
	return err
}

// write sends all commands in one round trip to each server, once, and fails where one of them failed.
func (s *Store) write(ctx context.Context, cmds ...redis.Cmder) error {
	_, err := s.exchange(ctx, writing, cmds)
	return err
}

// repeat is write for commands that may be executed twice. It tells whether one may have been.
func (s *Store) repeat(ctx context.Context, cmds ...redis.Cmder) (twice bool, err error) {
	return s.exchange(ctx, repeating, cmds)
}

func (s *Store) exchange(ctx context.Context, how manner, cmds []redis.Cmder) (twice bool, err error) {
	pending := cmds
	err = s.insist(ctx, func() (bool, error) {
		again, unsure, err := s.once(ctx, how, pending)
		twice = twice || unsure
		pending = again
		return len(again) > 0, err
	})
	return twice, err
}

// insist tries until it succeeds, fails for good, or the time is up. Where no other server can take over it tries once.
func (s *Store) insist(ctx context.Context, try func() (more bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		more, err := try()
		if err == nil || !more || !s.topology.moves() {
			return err
		}
		s.topology.renew(ctx)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(time.Duration(n)*hurried, 4*hurried)):
		}
	}
}

// batch is what goes to one server.
type batch struct {
	addr   string
	cmds   []redis.Cmder
	again  []redis.Cmder // to be sent again
	unsure bool          // what is sent again may have been executed
	err    error
}

// once sends each server its part, side by side. again is what may be sent again; nothing is where one part failed
// for good.
func (s *Store) once(ctx context.Context, how manner, cmds []redis.Cmder) (again []redis.Cmder, unsure bool, err error) {
	batches, err := s.split(ctx, cmds)
	if err != nil {
		if errors.Is(err, redis.ErrClosed) || ctx.Err() != nil {
			return nil, false, err
		}
		return cmds, false, err // nobody knows the servers: nothing was sent
	}
	if len(batches) == 1 {
		s.send(ctx, how, batches[0])
	} else {
		var wait sync.WaitGroup
		for _, b := range batches {
			wait.Go(func() { s.send(ctx, how, b) })
		}
		wait.Wait()
	}
	final := false
	for _, b := range batches {
		if b.err == nil {
			continue
		}
		if final = final || len(b.again) == 0; err == nil || len(b.again) == 0 {
			err = b.err
		}
		again, unsure = append(again, b.again...), unsure || b.unsure
	}
	if final {
		again = nil
	}
	return again, unsure, err
}

// split groups the commands by server, in order.
func (s *Store) split(ctx context.Context, cmds []redis.Cmder) ([]*batch, error) {
	var batches []*batch
	of := map[string]*batch{}
	for _, cmd := range cmds {
		addr, err := s.topology.primary(ctx, keyOf(cmd))
		if err != nil {
			return nil, err
		}
		b := of[addr]
		if b == nil {
			b = &batch{addr: addr}
			of[addr], batches = b, append(batches, b)
		}
		b.cmds = append(b.cmds, cmd)
	}
	return batches, nil
}

// keyOf is the first key of a command; all of a script's lie in its slot.
func keyOf(cmd redis.Cmder) string {
	args := cmd.Args()
	at := 1
	if args[0] == "eval" {
		at = 3
	}
	if len(args) <= at {
		return ""
	}
	key, _ := args[at].(string)
	return key
}

// send does one server's part and judges what may be sent again.
func (s *Store) send(ctx context.Context, how manner, b *batch) {
	v, err := s.servers.get(b.addr)
	if err != nil {
		b.err = err
		return
	}
	if how == reading {
		b.err = v.read(ctx, b.cmds)
	} else {
		b.err = v.write(ctx, b.cmds)
	}
	refused, final := []redis.Cmder(nil), false
	for _, cmd := range b.cmds {
		if err := cmd.Err(); unexecuted(err) {
			refused = append(refused, cmd)
		} else if err != nil && !errors.Is(err, redis.Nil) && !unanswered(err) {
			final = true
		}
	}
	switch {
	case b.err == nil && len(refused) > 0:
		b.err, b.again = firstError(refused), refused
	case b.err == nil, final:
	case how == reading:
		b.again = b.cmds
	case how == repeating && unanswered(b.err):
		b.again, b.unsure = b.cmds, true
	}
	if b.err = explain(b.err); b.err != nil && s.topology.moves() {
		b.err = fmt.Errorf("server %s: %w", b.addr, b.err)
	}
}

// unexecuted tells that the command was surely not executed: the server says so, or was not reached.
func unexecuted(err error) bool {
	if err == nil {
		return false
	}
	var dial *net.OpError
	var stranger unnamed
	if errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, errReplica) || errors.As(err, &stranger) {
		return true
	}
	for _, prefix := range []string{"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "LOADING", "NOREPLICAS"} {
		if serverSays(err, prefix) {
			return true
		}
	}
	return false
}

// unanswered tells that the connection or the server went away before an answer: the command may have been executed.
func unanswered(err error) bool {
	if err == nil {
		return false
	}
	var fault net.Error
	return unexecuted(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &fault) ||
		serverSays(err, "UNBLOCKED") || errors.Is(err, errDemoted)
}

func serverSays(err error, prefix string) bool {
	return redis.HasErrorPrefix(err, prefix) || strings.HasPrefix(err.Error(), prefix+" ")
}

// explain puts a sentence for people before the server's.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for prefix, remedy := range map[string]string{
		"READONLY":    "the server is a replica: name the primary",
		"LOADING":     "the server is still reading its data",
		"OOM":         "the server's memory is full and nothing was kept of this write: raise maxmemory",
		"MISCONF":     "the server cannot write to its disk and nothing was kept of this write",
		"NOREPLICAS":  "the server has fewer replicas than its min-replicas-to-write and nothing was kept of this write: bring the replicas back",
		"NOAUTH":      "the server wants a password: " + form("redis"),
		"WRONGPASS":   "the server refuses the user or the password",
		"NOPERM":      "the server's ACL forbids a command: allow ~heed:* and +@all to this user",
		"CROSSSLOT":   "the server is a node of a cluster: " + form(schemeCluster),
		"MOVED":       "the server is a node of a cluster: " + form(schemeCluster),
		"CLUSTERDOWN": "the cluster does not work, or not all of it: see `redis-cli --cluster check`",
		"ASK":         "the cluster is moving these keys to another node: wait until that is done",
		"TRYAGAIN":    "the cluster is moving these keys to another node: wait until that is done",
	} {
		if serverSays(err, prefix) {
			return fmt.Errorf("%s: %w", remedy, err)
		}
	}
	return err
}
