package relay

import (
	"sync"
	"time"

	"heed/policy"
)

// freshness is how long what RCPT fetched serves the DATA of the same transaction.
const freshness = 2 * time.Second

// recent holds the facts that RCPT fetched. Its size is bounded by what arrives within freshness.
type recent struct {
	mu    sync.Mutex
	byTxn map[string]*fetched
	order []*fetched // by time
}

type fetched struct {
	txn   string
	at    time.Time // of the oldest fact
	facts map[string]policy.Facts
}

// put remembers one person's facts for a transaction, those of a stranger too.
func (c *recent) put(txn, person string, f policy.Facts, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 && now.Sub(c.order[0].at) >= freshness {
		if c.byTxn[c.order[0].txn] == c.order[0] {
			delete(c.byTxn, c.order[0].txn)
		}
		c.order[0] = nil
		c.order = c.order[1:]
	}
	if c.byTxn == nil {
		c.byTxn = map[string]*fetched{}
	}
	e := c.byTxn[txn]
	if e == nil {
		e = &fetched{txn: txn, at: now, facts: map[string]policy.Facts{}}
		c.byTxn[txn] = e
		c.order = append(c.order, e)
	}
	e.facts[person] = f
}

// take returns the facts of a transaction if all of these persons' are there and fresh, and forgets them.
func (c *recent) take(txn string, persons []string, now time.Time) (map[string]policy.Facts, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byTxn[txn]
	delete(c.byTxn, txn)
	if e == nil || now.Sub(e.at) >= freshness {
		return nil, false
	}
	for _, p := range persons {
		if _, ok := e.facts[p]; !ok {
			return nil, false
		}
	}
	return e.facts, true
}
