// Package store opens the state. Both stores behind it satisfy State and pass the contract in storetest.
package store

import (
	"context"
	"time"

	"heed/policy"
)

// State is everything the gateway remembers. Persons are policy.AddressKey.Person values. Every method honours ctx's
// deadline; after an error of a write its effect is unknown and the call may be repeated: every write is idempotent.
// A nil error of a write means that it is durable as configured.
type State interface {
	// Facts reads all persons in one round trip. Strangers are missing from the result.
	Facts(ctx context.Context, persons []string) (map[string]policy.Facts, error)
	// Merge merges what is newly known into the contacts, by policy.Contact.Merge.
	Merge(ctx context.Context, contacts map[string]policy.Contact) error
	// Erase forgets the person: contact, what was told, and address, in the journal too. Opt-outs stay. False: nothing was known.
	Erase(ctx context.Context, person string) (bool, error)
	// Address is the normalised address of a person who was not erased, "" if unknown.
	Address(ctx context.Context, person string) (string, error)

	// AddOptOut records an objection; the first of its scope, sender and topic stays. address may be "".
	// False: it was already there; if by another Ref, it loses that, so that no undo of the first lifts both.
	AddOptOut(ctx context.Context, person, address string, o policy.OptOut) (bool, error)
	// RemoveOptOut removes the opt-out of o's scope, sender and topic; where o.Ref is set, only if its Ref is the same
	// and its At is not before o.At. False: there was none such.
	RemoveOptOut(ctx context.Context, person string, o policy.OptOut) (bool, error)
	// OptOuts calls yield for every opt-out until it returns false; address is "" where it is not known.
	OptOuts(ctx context.Context, yield func(person, address string, o policy.OptOut) bool) error

	// Record appends to the journal, all entries or none; an entry whose ID is there already is not repeated. Where Informed
	// is set, the same write makes it a fact of the person: of each sender's the latest stays, until the person is forgotten.
	Record(ctx context.Context, entries []policy.Entry) error
	// Journal finds entries, oldest first.
	Journal(ctx context.Context, q policy.JournalQuery, yield func(policy.Entry) bool) error
	// Trim removes entries older than before and tells how many.
	Trim(ctx context.Context, before time.Time) (int, error)

	// SpoolAdd makes the body and every copy that refers to it durable, or nothing: copies maps a copy's ID to its
	// meta, opaque here. They stand in a queue, are due at due and until then leased to node. max bounds the bytes of all
	// bodies: where they would exceed it, false and nothing is added.
	SpoolAdd(ctx context.Context, node, queue string, due time.Time, body []byte, copies map[string][]byte, max int64) (bool, error)
	// SpoolClaim leases to node up to n copies that are due at now and not leased to another (a lease ends at its
	// until), earliest first, with their bodies. The queues in skip are left out, however much waits in them.
	SpoolClaim(ctx context.Context, node string, now, until time.Time, n int, skip []string) ([]SpoolItem, error)
	// SpoolRenew extends node's leases on these copies; it returns those that are still node's.
	SpoolRenew(ctx context.Context, node string, until time.Time, ids []string) ([]string, error)
	// SpoolUpdate writes a copy's meta and when it is due next, and gives up node's lease. False: not node's lease, or gone.
	SpoolUpdate(ctx context.Context, node, id string, due time.Time, meta []byte) (bool, error)
	// SpoolTake is SpoolClaim for one copy, due or not. False: it is leased to another, or gone.
	SpoolTake(ctx context.Context, node, id string, now, until time.Time) (SpoolItem, bool, error)
	// SpoolRetry makes those of the copies due at now that are not leased; it returns them.
	SpoolRetry(ctx context.Context, now time.Time, ids []string) ([]string, error)
	// SpoolDone removes a copy, and its body with the last copy that refers to it.
	SpoolDone(ctx context.Context, id string) error
	// SpoolList reads what waits, by due time, without bodies.
	SpoolList(ctx context.Context, yield func(SpoolItem) bool) error
	// SpoolGet reads one copy with its body. False: there is none.
	SpoolGet(ctx context.Context, id string) (SpoolItem, bool, error)
	// SpoolSize is the bytes of all bodies and the number of copies.
	SpoolSize(ctx context.Context) (bytes int64, copies int, err error)

	// GuardBegin looks up what is in flight and what clients were told, in one round trip. Free keys of mark, those of
	// an earlier call by the same token among them, are token's until until; those of look are only looked up. It
	// returns the keys that are not free with the answer that stands, empty while another token has them. If there are
	// none, the entries are recorded with the marks. What stands before a key's "/" is the person; tokens are one line.
	GuardBegin(ctx context.Context, token string, mark, look []string, now, until time.Time, entries []policy.Entry) (map[string][]byte, error)
	// GuardRenew extends token's marks, and sets those again that ended or were given up meanwhile, where nothing stands.
	GuardRenew(ctx context.Context, token string, keys []string, now, until time.Time) error
	// GuardEnd stores each answer until until unless one stands, whoever has the mark; an empty one gives up token's
	// mark. The entries are recorded with them.
	GuardEnd(ctx context.Context, token string, answers map[string][]byte, now, until time.Time, entries []policy.Entry) error

	// Fingerprint stores fp if there is none yet, and returns the one that stands; "" only reads.
	Fingerprint(ctx context.Context, fp string) (string, error)
	Ping(ctx context.Context) error
	Close() error
}

// SpoolItem is one copy in the spool. An alias, so that the spool and the stores need not import each other.
type SpoolItem = struct {
	ID    string
	Queue string
	Due   time.Time
	Lease time.Time // zero: not leased
	Meta  []byte
	Body  []byte
}
