package spool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// memory is a Store that keeps what it is given, as the contract says, and fails on demand.
type memory struct {
	mu      sync.Mutex
	items   map[string]*held
	failing func(call, node, id string) error // nil: nothing fails
	heedful bool                              // SpoolDone fails where its context has ended, as real stores do
}

type held struct {
	Item
	node string
}

var errStore = errors.New("the store is down")

func (m *memory) fails(call, node, id string) error {
	if m.failing == nil {
		return nil
	}
	return m.failing(call, node, id)
}

func (m *memory) SpoolAdd(_ context.Context, node, queue string, due time.Time, body []byte, copies map[string][]byte, max int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.size()+int64(len(body)) > max {
		return false, nil
	}
	if m.items == nil {
		m.items = map[string]*held{}
	}
	body = bytes.Clone(body)
	for id, meta := range copies {
		if m.items[id] == nil {
			m.items[id] = &held{Item{id, queue, due, due, meta, body}, node}
		}
	}
	return true, m.fails("add", node, "")
}

func (m *memory) SpoolClaim(ctx context.Context, node string, now, until time.Time, n int, skip []string) ([]Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.fails("claim", node, ""), ctx.Err()); err != nil {
		return nil, err
	}
	due := slices.DeleteFunc(m.sorted(), func(h *held) bool {
		return slices.Contains(skip, h.Queue) || h.Due.After(now) || h.Lease.After(now) && h.node != node
	})
	var items []Item
	for _, h := range due[:min(n, len(due))] {
		h.node, h.Lease = node, until
		items = append(items, h.Item)
	}
	return items, nil
}

func (m *memory) SpoolRenew(_ context.Context, node string, until time.Time, ids []string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ours []string
	for _, id := range ids {
		if err := m.fails("renew", node, id); err != nil {
			return nil, err
		}
		if h := m.items[id]; h != nil && h.node == node {
			h.Lease = until
			ours = append(ours, id)
		}
	}
	return ours, nil
}

func (m *memory) SpoolUpdate(_ context.Context, node, id string, due time.Time, meta []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.items[id]
	if h == nil || h.node != node {
		return false, m.fails("update", node, id)
	}
	if err := m.fails("update", node, id); err != nil {
		return false, err
	}
	h.Due, h.Meta, h.node, h.Lease = due, meta, "", time.Time{}
	return true, nil
}

func (m *memory) SpoolTake(_ context.Context, node, id string, now, until time.Time) (Item, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.items[id]
	if h == nil || h.Lease.After(now) && h.node != node {
		return Item{}, false, m.fails("take", node, id)
	}
	h.node, h.Lease = node, until
	return h.Item, true, m.fails("take", node, id)
}

func (m *memory) SpoolRetry(_ context.Context, now time.Time, ids []string) (free []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if h := m.items[id]; h != nil && !h.Lease.After(now) {
			if h.Due.After(now) {
				h.Due = now
			}
			free = append(free, id)
		}
	}
	return free, m.fails("retry", "", "")
}

func (m *memory) SpoolGet(_ context.Context, id string) (Item, bool, error) {
	item, ok := m.get(id)
	return item, ok, nil
}

func (m *memory) SpoolDone(ctx context.Context, id string) error {
	if m.heedful && ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails("done", "", id); err != nil {
		return err
	}
	delete(m.items, id)
	return nil
}

func (m *memory) SpoolList(_ context.Context, yield func(Item) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.sorted() {
		item := h.Item
		item.Body = nil
		if !yield(item) {
			return nil
		}
	}
	return nil
}

func (m *memory) SpoolSize(context.Context) (int64, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size(), len(m.items), nil
}

func (m *memory) size() (n int64) {
	for _, h := range m.items {
		n += int64(len(h.Body))
	}
	return n
}

func (m *memory) sorted() []*held {
	return slices.SortedFunc(maps.Values(m.items), func(a, b *held) int {
		return cmp.Or(a.Due.Compare(b.Due), strings.Compare(a.ID, b.ID))
	})
}

// ids are the copies that wait.
func (m *memory) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.items))
}

func (m *memory) get(id string) (Item, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.items[id]
	if h == nil {
		return Item{}, false
	}
	return h.Item, true
}
