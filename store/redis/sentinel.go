package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// sentinels know who is the primary: the one that more than half of those that the URL names agree on. So no two
// gateways take two servers for it at a time, and a sentinel that is cut off with the old primary leads nobody to it.
type sentinels struct {
	view  view[string]
	sworn view[string] // what is asked for a server that is new
	name  string
	addrs []string
	at    map[string]*sentinel
}

// sentinel is one of them. It may have a login of its own or none: the servers' is tried first.
type sentinel struct {
	logins []*redis.SentinelClient
	mu     sync.Mutex
	works  int // index in logins
}

func newSentinels(t target) *sentinels {
	s := &sentinels{name: t.master, addrs: t.addrs, at: map[string]*sentinel{}}
	for _, addr := range t.addrs {
		one := &sentinel{}
		o := redis.Options{
			Addr: addr, TLSConfig: t.tlsConfig(), Username: t.user, Password: t.password, ContextTimeoutEnabled: true,
			DialTimeout: enquiry / 2, ReadTimeout: enquiry / 2, WriteTimeout: enquiry / 2, DialerRetries: 1, MaxRetries: -1,
			PoolSize: 2, PipelinePoolSize: -1, DisableIdentity: true,
		}
		open := func() { fresh := o; one.logins = append(one.logins, redis.NewSentinelClient(&fresh)) }
		if open(); t.password != "" {
			o.Username, o.Password = "", ""
			open()
		}
		s.at[addr] = one
	}
	s.view.load, s.sworn.load = s.load, s.swear
	return s
}

// vote is whom one sentinel names.
type vote struct {
	addr      string
	down      bool // it does not reach that one
	replacing bool // enough of them do not
}

func (s *sentinels) load(ctx context.Context) (string, error) {
	return s.elect(ctx, func(vote) bool { return true }, func(elected string) bool { return elected != "" })
}

// swear counts those who reach whom they name, and asks all: a primary that came back is named by the others until the
// one that is replacing it is done.
func (s *sentinels) swear(ctx context.Context) (string, error) {
	replaced := map[string]bool{}
	elected, err := s.elect(ctx, func(v vote) bool {
		replaced[v.addr] = replaced[v.addr] || v.replacing
		return !v.down
	}, func(string) bool { return false })
	if err == nil && replaced[elected] {
		return "", errors.New("a sentinel is replacing it")
	}
	return elected, err
}

// elect asks until it is done.
func (s *sentinels) elect(ctx context.Context, counts func(vote) bool, done func(elected string) bool) (elected string, err error) {
	votes := map[string]int{}
	answers, err := ask(ctx, s.addrs, s.vote, func(got []vote) bool {
		v := got[len(got)-1]
		if counts(v) {
			votes[v.addr]++
		}
		if votes[v.addr] > len(s.addrs)/2 {
			elected = v.addr
		}
		return done(elected)
	})
	switch {
	case elected != "":
		return elected, nil
	case len(answers) == 0:
		return "", err
	case len(answers) > len(s.addrs)/2:
		return "", errChanging
	}
	return "", fmt.Errorf("%d of the %d sentinels answered, more than half must: %w", len(answers), len(s.addrs), err)
}

func (s *sentinels) vote(ctx context.Context, addr string) (vote, error) {
	master, err := s.at[addr].master(ctx, s.name)
	if err != nil {
		return vote{}, fmt.Errorf("sentinel %s: %w", addr, s.explain(err))
	}
	flags := master["flags"]
	return vote{
		addr: net.JoinHostPort(master["ip"], master["port"]), down: strings.Contains(flags, "_down"),
		replacing: strings.Contains(flags, "o_down") || strings.Contains(flags, "failover_in_progress"),
	}, nil
}

// master asks with the login that works.
func (s *sentinel) master(ctx context.Context, name string) (master map[string]string, err error) {
	s.mu.Lock()
	works := s.works
	s.mu.Unlock()
	for range s.logins {
		if master, err = s.logins[works].Master(ctx, name).Result(); !redis.IsAuthError(err) && !isLoginError(err) {
			break
		}
		works = (works + 1) % len(s.logins)
	}
	s.mu.Lock()
	s.works = works
	s.mu.Unlock()
	return master, err
}

// isLoginError: a server without a password answers AUTH so.
func isLoginError(err error) bool {
	return err != nil && strings.Contains(err.Error(), "without any password configured")
}

// explain says what to do about an answer that does not come right by waiting.
func (s *sentinels) explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "No such master"):
		return fmt.Errorf("the sentinels know no primary %q: name the one of `sentinel monitor` in sentinel.conf: %w", s.name, err)
	case strings.Contains(text, "unknown command"):
		return fmt.Errorf("the server is no sentinel: name the sentinels, usually at port 26379, or use redis://host:port/db: %w", err)
	case redis.IsAuthError(err):
		return fmt.Errorf("the sentinel refuses the user or the password: give it those of the servers, or none: %w", err)
	}
	return err
}

func (s *sentinels) primary(ctx context.Context, _ string) (string, error) { return s.view.get(ctx) }

func (s *sentinels) primaries(ctx context.Context) ([]string, error) {
	addr, err := s.view.get(ctx)
	return []string{addr}, err
}

func (s *sentinels) names(ctx context.Context, addr string) error {
	primary, err := s.sworn.anew(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return unnamed(err.Error())
	case primary != addr:
		return unnamed("the sentinels name another primary")
	}
	return nil
}

func (s *sentinels) renew(ctx context.Context) { s.view.renew(ctx) }

func (*sentinels) moves() bool { return true }

func (s *sentinels) close() {
	s.view.close()
	s.sworn.close()
	for _, one := range s.at {
		for _, c := range one.logins {
			_ = c.Close()
		}
	}
}
