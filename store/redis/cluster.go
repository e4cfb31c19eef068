package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

const slotCount = 16384

// slotOf is the slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it.
func slotOf(key string) int {
	if _, tail, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(tail, "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slotCount
}

// slots is the cluster's map as one node tells it.
type slots struct {
	ok     bool  // the node thinks that the cluster works
	epoch  int64 // the newest configuration that it knows of
	ranges []slotRange
	nodes  []string // all, replicas too
	from   string   // who tells it
}

type slotRange struct {
	first, last int
	primary     string
}

// cluster tells the primaries by the map of the node that knows the newest configuration, once more than half of its
// primaries have answered: it takes so many to agree on another. A node that restarted answers CLUSTERDOWN for its
// first two seconds, in which it learns that its slots are another's, but not where it is cut off from those who know.
type cluster struct {
	view    view[slots]
	seeds   []string
	servers *servers
	mu      sync.Mutex
	nodes   []string // asked beside the seeds
}

func newCluster(seeds []string, servers *servers) *cluster {
	c := &cluster{seeds: seeds, servers: servers}
	c.view.load = c.load
	return c
}

func (c *cluster) load(ctx context.Context) (slots, error) {
	c.mu.Lock()
	addrs := slices.Concat(c.seeds, c.nodes)
	c.mu.Unlock()
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	var answers []slots
	for asked := slices.Clone(addrs); ; asked = append(asked, addrs...) {
		got, err := ask(ctx, addrs, c.mapOf, func(got []slots) bool {
			all := slices.Concat(answers, got)
			return newest(all).backed(all)
		})
		if answers = append(answers, got...); len(answers) == 0 {
			return slots{}, err
		}
		best := newest(answers)
		if best.backed(answers) {
			c.mu.Lock()
			c.nodes = best.nodes
			c.mu.Unlock()
			c.servers.keep(best.nodes)
			return best, nil
		}
		// Those that the answers name and the URL does not.
		addrs = slices.DeleteFunc(slices.Clone(best.nodes), func(addr string) bool { return slices.Contains(asked, addr) })
		if len(addrs) == 0 {
			return slots{}, errors.Join(errMinority, err)
		}
	}
}

var errMinority = errors.New("more than half of the cluster's primaries must answer: see `redis-cli --cluster check`")

func newest(answers []slots) slots {
	return slices.MaxFunc(answers, func(a, b slots) int {
		return cmp.Or(cmp.Compare(btoi(a.ok), btoi(b.ok)), cmp.Compare(a.epoch, b.epoch))
	})
}

// primaries are those of the map, each once.
func (m slots) primaries() []string {
	addrs := make([]string, len(m.ranges))
	for i, r := range m.ranges {
		addrs[i] = r.primary
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// backed tells that more than half of the primaries of the map have answered.
func (m slots) backed(answers []slots) bool {
	primaries := m.primaries()
	heard := map[string]bool{}
	for _, a := range answers {
		if slices.Contains(primaries, a.from) {
			heard[a.from] = true
		}
	}
	return 2*len(heard) > len(primaries) || len(primaries) == 0
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// mapOf asks one node.
func (c *cluster) mapOf(ctx context.Context, addr string) (slots, error) {
	v, err := c.servers.get(addr)
	if err != nil {
		return slots{}, err
	}
	info, list := redis.NewStringCmd(ctx, "cluster", "info"), redis.NewClusterSlotsCmd(ctx, "cluster", "slots")
	cmds := []redis.Cmder{info, list}
	roundTrip(ctx, v.probe, cmds)
	if err := firstError(cmds); err != nil {
		if strings.Contains(err.Error(), "cluster support disabled") {
			return slots{}, fmt.Errorf("the server %s is no node of a cluster: use redis://host:port/db: %w", addr, err)
		}
		return slots{}, fmt.Errorf("server %s: %w", addr, explain(err))
	}
	m := slots{from: addr, ok: field(info.Val(), "cluster_state") == "ok"}
	if m.epoch, err = strconv.ParseInt(field(info.Val(), "cluster_current_epoch"), 10, 64); err != nil {
		return slots{}, err
	}
	for _, s := range list.Val() {
		for i, n := range s.Nodes {
			at := reachable(n.Addr, addr)
			if m.nodes = append(m.nodes, at); i == 0 {
				m.ranges = append(m.ranges, slotRange{s.Start, s.End, at})
			}
		}
	}
	slices.SortFunc(m.ranges, func(a, b slotRange) int { return cmp.Compare(a.first, b.first) })
	slices.Sort(m.nodes)
	m.nodes = slices.Compact(m.nodes)
	return m, nil
}

// reachable is a node's address; a node that does not know its own host leaves it out.
func reachable(addr, asked string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && (host == "" || host == "?") {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port)
}

var errNoPrimary = errors.New("the cluster has no primary for a part of the keys: see `redis-cli --cluster check`")

func (c *cluster) primary(ctx context.Context, key string) (string, error) {
	m, err := c.view.get(ctx)
	if err != nil {
		return "", err
	}
	slot := slotOf(key)
	i, ok := slices.BinarySearchFunc(m.ranges, slot, func(r slotRange, slot int) int {
		switch {
		case r.last < slot:
			return -1
		case r.first > slot:
			return 1
		}
		return 0
	})
	if !ok {
		return "", errNoPrimary
	}
	return m.ranges[i].primary, nil
}

// primaries fails where a slot has none: the cluster may be taking shape.
func (c *cluster) primaries(ctx context.Context) ([]string, error) {
	m, err := c.view.get(ctx)
	if err != nil {
		return nil, err
	}
	next := 0
	for _, r := range m.ranges {
		if r.first != next {
			return nil, errNoPrimary
		}
		next = r.last + 1
	}
	if next != slotCount {
		return nil, errNoPrimary
	}
	return m.primaries(), nil
}

func (c *cluster) names(ctx context.Context, addr string) error {
	m, err := c.view.anew(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return unnamed(err.Error())
	case !slices.Contains(m.primaries(), addr):
		return unnamed("the cluster names another primary")
	}
	return nil
}

func (c *cluster) renew(ctx context.Context) { c.view.renew(ctx) }

func (*cluster) moves() bool { return true }

func (c *cluster) close() { c.view.close() }
