package store

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"heed/store/redis"
	"heed/store/sqlite"
)

// Durability is what a nil error of a write promises.
type Durability string

// The durabilities.
const (
	Strict  Durability = "strict"  // it is on disk; verified at Open, refused where it cannot be
	Assumed Durability = "assumed" // the operator vouches for the server; nothing is verified
	None    Durability = "none"    // a crash of the machine may lose the last writes
)

// Options of a state. The zero value is strict, silent, and gives every operation 5 seconds.
type Options struct {
	Durability Durability
	Log        *slog.Logger
	Timeout    time.Duration // of every operation, and of every page of one that streams; ctx may set less
}

// Open opens the state at url: sqlite:PATH (made if missing), redis://[user:password@]host[:port][/db] or rediss://.
// Errors say what to do and never quote a password.
func Open(ctx context.Context, url string, o Options) (State, error) {
	switch o.Durability {
	case "":
		o.Durability = Strict
	case Strict, Assumed, None:
	default:
		return nil, fmt.Errorf("durability %q is unknown: use strict, assumed or none", o.Durability)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "sqlite":
		s, err := sqlite.Open(ctx, rest, sqlite.Options{NoSync: o.Durability == None, Log: o.Log, Timeout: o.Timeout})
		if err != nil {
			return nil, err // a nil *Store in the interface would not be nil
		}
		return s, nil
	case "redis", "rediss":
		s, err := redis.Open(ctx, url, redis.Options{Verify: o.Durability == Strict, Log: o.Log, Timeout: o.Timeout})
		if err != nil {
			return nil, err
		}
		return s, nil
	case "redis+sentinel", "redis+cluster":
		return nil, fmt.Errorf("state %s: not supported yet: use redis://host:6379/0 or sqlite:./data/state.db", scheme+"://")
	}
	return nil, fmt.Errorf("state: the scheme %q is unknown: use sqlite:PATH, redis://host:port/db or rediss://host:port/db", schemeOf(url, scheme))
}

// schemeOf keeps what may be a secret out of the error: a URL without a scheme is not quoted.
func schemeOf(url, scheme string) string {
	if scheme == url || len(scheme) > 20 {
		return ""
	}
	return scheme
}
