// Package unsubscribe makes the opt-out links and serves them: the page that a recipient opens and the one-click
// POST of RFC 8058. It keeps the key file that links and person keys hang on.
package unsubscribe

import (
	"context"
	"time"

	"heed/policy"
)

// OptOuts is where objections are kept. A nil error means that the write is durable.
type OptOuts interface {
	// AddOptOut records an objection; false: one of its scope, sender and topic was there already.
	AddOptOut(ctx context.Context, person, address string, o policy.OptOut) (bool, error)
	// RemoveOptOut removes the opt-out of o's scope, sender and topic if its Ref is o's and its At is not before o.At.
	RemoveOptOut(ctx context.Context, person string, o policy.OptOut) (bool, error)
}

// Journal keeps the record of what recipients did; an entry whose ID is there already is not repeated.
type Journal interface {
	Record(ctx context.Context, entries []policy.Entry) error
}

// Addresses tells the address of a person, "" where it is not known or was erased.
type Addresses interface {
	Address(ctx context.Context, person string) (string, error)
}

// Metrics counts opt-outs by the way they came: one-click or page.
type Metrics interface {
	OptedOut(via string)
}

const (
	undoWindow   = 24 * time.Hour
	stateTimeout = 10 * time.Second // for all that one request asks of the state
	maxBody      = 16 << 10         // bytes; the one-click body has 26, multipart makes it some 200
)

// The ways of policy.OptOut.Via that begin here.
const (
	viaOneClick = "one-click"
	viaPage     = "page"
)
