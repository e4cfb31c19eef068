package redis

import (
	"context"
	"sync"
	"time"
)

// topology tells which server is the primary of a key.
type topology interface {
	primary(ctx context.Context, key string) (addr string, err error)
	// primaries are all servers that take writes.
	primaries(ctx context.Context) ([]string, error)
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
func (fixed) renew(context.Context)                             {}
func (fixed) moves() bool                                       { return false }
func (fixed) close()                                            {}

const (
	fresh   = time.Second     // how old what is known may get before it is asked for beside the work
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

// get answers at once, and waits only where nothing is known.
func (v *view[T]) get(ctx context.Context) (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ok {
		if time.Since(v.at) > fresh {
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
	return v.known, nil
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

// ask asks all of them at once, until more than half have answered: a change is known to a majority of those who
// agreed on it. Those who are slower than that are not waited for.
func ask[T any](ctx context.Context, addrs []string, question func(context.Context, string) (T, error)) ([]T, error) {
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
			if a.err == nil {
				got = append(got, a.value)
			} else if first == nil {
				first = a.err
			}
		case <-ctx.Done():
			if first == nil {
				first = ctx.Err()
			}
			return got, first
		}
		if len(got) > len(addrs)/2 {
			return got, nil
		}
	}
	return got, first
}
