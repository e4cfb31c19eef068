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

// Open opens the state at url: sqlite:PATH (made if missing), redis://[user:password@]host[:port][/db],
// redis+sentinel://[user:password@]h1,h2/NAME[/db] of the sentinels, redis+cluster://[user:password@]h1,h2, or rediss
// for TLS. Errors say what to do and never quote a password.
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
	case "redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster":
		s, err := redis.Open(ctx, url, redis.Options{Verify: o.Durability == Strict, Log: o.Log, Timeout: o.Timeout})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("state: the scheme %q is unknown: use sqlite:PATH, redis://host:port/db, redis+sentinel://h1,h2/NAME or redis+cluster://h1,h2", schemeOf(url, scheme))
}

// schemeOf keeps what may be a secret out of the error: a URL without a scheme is not quoted.
func schemeOf(url, scheme string) string {
	if scheme == url || len(scheme) > 20 {
		return ""
	}
	return scheme
}
