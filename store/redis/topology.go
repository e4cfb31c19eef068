package redis

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// topology tells which server is the primary of a key.
type topology interface {
	primary(ctx context.Context, key string) (addr string, err error)
	// primaries are all servers that take writes.
	primaries(ctx context.Context) ([]string, error)
	// names asks anew whether a server is a primary. Any error but ctx's is an unnamed: it is not known to be one.
	names(ctx context.Context, addr string) error
	// renew asks anew, after a server turned out not to be what it was thought to be.
	renew(ctx context.Context)
	// moves tells whether another server can take over, so that to try again is worth it.
	moves() bool
	close()
}

// fixed is one server for all keys.
type fixed string

func (f fixed) primary(context.Context, string) (string, error) { return string(f), nil }
func (f fixed) primaries(context.Context) ([]string, error)     { return []string{string(f)}, nil }
func (fixed) names(context.Context, string) error               { return nil }
func (fixed) renew(context.Context)                             {}
func (fixed) moves() bool                                       { return false }
func (fixed) close()                                            {}

// unnamed says why a server that was just connected to is not taken for a primary. It wraps nothing, see refusal.
type unnamed string

func (u unnamed) Error() string {
	return "the server may have been replaced while it was away: " + string(u)
}

// errChanging makes a view forget: what it knew is no longer true for some of those who know.
var errChanging = errors.New("those who know the primary do not agree on it yet")

const (
	fresh   = time.Second     // how old what is known may get before it is waited for
	enquiry = 2 * time.Second // what one asking may take
	hurried = 50 * time.Millisecond
)

// view is what is known of something that changes by itself.
type view[T any] struct {
	load func(context.Context) (T, error)

	mu      sync.Mutex
	known   T
	ok      bool // known holds something
	at      time.Time
	err     error         // of the last load
	running chan struct{} // closed when the load under way ends
	closed  bool
}

// get answers at once where there is work all the time: what is known is asked for beside it. After a rest it waits:
// another primary may have acknowledged something meanwhile, while the old one is back and does not know.
func (v *view[T]) get(ctx context.Context) (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if age := time.Since(v.at); v.ok && age <= fresh {
		if age > fresh/2 {
			v.start()
		}
		return v.known, nil
	}
	if err := v.wait(ctx, v.start()); err != nil {
		return v.known, err
	}
	if !v.ok {
		return v.known, v.err
	}
	return v.known, nil // also where nobody can be asked: as long as its connections hold it is the same process
}

// anew answers only with what was asked for after the call.
func (v *view[T]) anew(ctx context.Context) (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.running != nil {
		if err := v.wait(ctx, v.running); err != nil {
			return v.known, err
		}
	}
	done := v.start()
	if done == nil {
		return v.known, redis.ErrClosed
	}
	if err := v.wait(ctx, done); err != nil {
		return v.known, err
	}
	return v.known, v.err
}

// renew returns when what is known is at most a moment old, or nobody could be asked.
func (v *view[T]) renew(ctx context.Context) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.at) > hurried || v.running != nil {
		_ = v.wait(ctx, v.start()) // ctx has ended: its owner sees that
	}
}

// start begins a load unless one is under way; mu is held.
func (v *view[T]) start() <-chan struct{} {
	if v.running == nil && !v.closed {
		v.running = make(chan struct{})
		go v.run(v.running)
	}
	return v.running
}

// run loads, in a time of its own: who asked may leave, and others wait for the same.
func (v *view[T]) run(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), enquiry)
	defer cancel()
	known, err := v.load(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err = err; err == nil {
		v.known, v.ok = known, true
	} else if errors.Is(err, errChanging) {
		v.ok = false
	}
	v.at, v.running = time.Now(), nil
	close(done)
}

// wait lets go of mu meanwhile.
func (v *view[T]) wait(ctx context.Context, done <-chan struct{}) error {
	if done == nil {
		return v.err
	}
	v.mu.Unlock()
	defer v.mu.Lock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends what begins by itself, after the load that is under way.
func (v *view[T]) close() {
	v.mu.Lock()
	v.closed = true
	running := v.running
	v.mu.Unlock()
	if running != nil {
		<-running
	}
}

// ask asks all of them at once, until the answers are enough; those who are slower are not waited for. The error is
// the first, where they are not.
func ask[T any](ctx context.Context, addrs []string, question func(context.Context, string) (T, error), enough func([]T) bool) ([]T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, len(addrs))
	for _, addr := range addrs {
		go func() {
			value, err := question(ctx, addr)
			answers <- answer{value, err}
		}()
	}
	var got []T
	var first error
	for range addrs {
		select {
		case a := <-answers:
			if a.err != nil {
				first = cmp.Or(first, a.err)
			} else if got = append(got, a.value); enough(got) {
				return got, nil
			}
		case <-ctx.Done():
			return got, cmp.Or(first, ctx.Err())
		}
	}
	return got, first
}
