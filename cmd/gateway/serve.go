package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"heed/admin"
	"heed/config"
	"heed/smtp"
	"heed/spool"
	"heed/unsubscribe"
)

type serveCmd struct{}

// Run loads, opens, builds, listens and waits.
func (serveCmd) Run(a *app) error {
	log := slog.New(slog.NewTextHandler(a.err, nil))
	p, err := a.open(log)
	if err != nil {
		return err
	}
	g, err := start(p)
	if err != nil {
		return err
	}
	boundMemory(p.config)
	v, c := build()
	log.Info("serving", "version", v, "commit", c, "config", a.file, "state", config.Redact(p.config.State))
	for _, w := range warnings(p.config) {
		log.Warn(w)
	}
	for {
		select {
		case <-a.ctx.Done():
			log.Info("draining")
			err := g.stop()
			log.Info("stopped")
			return err
		case err := <-g.failed:
			return errors.Join(err, g.stop())
		case <-a.reload:
			c, err := a.load()
			if err == nil {
				err = g.reload(c)
			}
			if err != nil {
				log.Error("reload refused, nothing changed", "error", err)
				continue
			}
			log.Info("reloaded accounts, senders, rules and certificate")
			if keys := needRestart(p.config, c); len(keys) > 0 {
				log.Warn("changed, but in effect only after a restart", "keys", strings.Join(keys, ", "))
			}
		}
	}
}

// boundMemory lets the garbage collector work harder before memory grows far beyond the messages in flight, each of
// which exists as it came, as its copy and as what checks the copy. GOMEMLIMIT goes before it.
func boundMemory(c *config.Config) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(3*int64(c.Limits.InFlight) + 128<<20)
	}
}

// gateway is everything that runs. stops undo what was started, the last first.
type gateway struct {
	*parts
	live     atomic.Pointer[live]
	logins   *smtp.Logins
	passing  map[string]*smtp.PassUpstream // by upstream, for accounts whose clients log in there
	metrics  *admin.Metrics
	door     *smtp.Server
	draining atomic.Bool
	failed   chan error // a listener that broke
	stops    []stop
	spool    *spool.Spool
	patience time.Duration // of stop, beyond reply_budget and settleTime; shorter in tests

	smtp, smtps []net.Addr // where the door is
	http, admin net.Addr
}

type stop struct {
	name string
	do   func(context.Context) error
}

func (g *gateway) onStop(name string, do func(context.Context) error) {
	g.stops = append(g.stops, stop{name, do})
}

// start builds the parts of a running gateway and opens its listeners; the door last.
func start(p *parts) (g *gateway, err error) {
	g = &gateway{parts: p, failed: make(chan error, 8), patience: 30 * time.Second}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.stop())
		}
	}()
	g.onStop("state", func(context.Context) error { return p.state.Close() })
	if err := g.goLive(p.config); err != nil {
		return g, err
	}
	if g.logins, err = smtp.NewLogins(credentials(p.config)); err != nil {
		return g, usageError{err}
	}
	connections := new(atomic.Int64)
	registry := prometheus.NewRegistry()
	v, c := build()
	g.metrics = admin.NewMetrics(registry, admin.Sources{
		Version: v, Commit: c, Spool: p.state.SpoolSize, Connections: func() int { return int(connections.Load()) }, Log: p.log,
	})
	p.relay.Meter = g.metrics
	if err := g.startUpstreams(); err != nil {
		return g, err
	}
	g.startSpool()
	g.startRetention()
	if err := g.startPublic(); err != nil {
		return g, err
	}
	if err := g.startAdmin(registry); err != nil {
		return g, err
	}
	return g, g.startDoor(connections)
}

// settleTime is how long the outcomes of transactions that were cut at the end may take to be stored.
const settleTime = 5 * time.Second

// within gives a part less than all the time that is left: a client that dribbles must not use up that of the others.
func within(d time.Duration, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return do(ctx)
	}
}

// stop drains: no new mail, the open transactions to their end, then everything else in reverse order.
func (g *gateway) stop() error {
	g.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), g.config.ReplyBudget+g.patience)
	defer cancel()
	var failures []error
	for i := len(g.stops) - 1; i >= 0; i-- {
		s := g.stops[i]
		if err := s.do(ctx); err != nil {
			failures = append(failures, fmt.Errorf("stopping %s: %w", s.name, err))
		}
		g.log.Debug("stopped", "part", s.name)
	}
	g.stops = nil
	return errors.Join(failures...)
}

func (g *gateway) startUpstreams() error {
	// After the upstreams were cut: what was on its way is stored as in doubt, lest it be tried again too soon.
	g.onStop("outcomes", func(context.Context) error { return within(settleTime, g.relay.Drain)(context.Background()) })
	senders := make(map[string]smtp.Sender, len(g.config.Upstreams))
	g.passing = make(map[string]*smtp.PassUpstream, len(g.config.Upstreams))
	for _, u := range g.config.Upstreams {
		upstream, err := smtp.NewUpstream(smtp.UpstreamConfig{
			Name: u.Name, Address: u.URL.Address, Security: smtp.Security(u.URL.Security), Username: u.Username, Password: string(u.Password),
			Hostname: g.config.Hostname, Connections: u.Connections, PerConnection: u.PerConnection, Rate: u.Rate, Timeout: u.Timeout,
			ConnectTimeout: connectTimeout(g.config, u.Name),
		})
		if err != nil {
			return usageError{err}
		}
		passing := upstream.Passing()
		senders[u.Name], g.passing[u.Name] = upstream, passing
		g.onStop("upstream "+u.Name, func(context.Context) error { return errors.Join(passing.Close(), upstream.Close()) })
	}
	g.relay.Upstreams = senders
	g.onStop("open transactions", func(ctx context.Context) error {
		err := g.relay.Drain(ctx)
		if g.spool != nil {
			g.spool.Pay(ctx)
		}
		return err
	})
	return nil
}

// connectTimeout is how long the making of a connection to an upstream may take: where an account has others after it, its
// share of the reply budget, so that a client hears the next one's answer if this one is silent. 0: no limit of its own.
func connectTimeout(c *config.Config, upstream string) (shortest time.Duration) {
	for _, a := range c.Accounts {
		if i := slices.Index(a.Upstream, upstream); i < 0 || i == len(a.Upstream)-1 {
			continue
		}
		if share := c.ReplyBudget / time.Duration(len(a.Upstream)); shortest == 0 || share < shortest {
			shortest = share
		}
	}
	return shortest
}

// startRetention removes journal entries past their age, now and every hour.
func (g *gateway) startRetention() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := g.state.Trim(ctx, time.Now().Add(-g.config.Retention.Journal)); err != nil && ctx.Err() == nil {
				g.log.Error("journal not trimmed", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Hour):
			}
		}
	}()
	g.onStop("retention", func(context.Context) error { cancel(); <-done; return nil })
}

func (g *gateway) startPublic() error {
	handler, err := unsubscribe.New(unsubscribe.Config{
		Keys: g.keys, Senders: g.sender, OptOuts: g.state, Journal: g.state, Addresses: g.state,
		Metrics: g.metrics, Log: g.log, Now: time.Now,
	})
	if err != nil {
		return err
	}
	public := g.metrics.Requests("http", underPath(g.config.PublicURL, handler))
	g.http, err = g.serveHTTP("http", g.config.Listen.HTTP, unsubscribe.NewServer(public, g.log))
	return err
}

// underPath serves the links of a public_url with a path, whether the proxy in front strips the path or not.
func underPath(publicURL string, next http.Handler) http.Handler {
	u, err := url.Parse(publicURL)
	if err != nil || strings.Trim(u.Path, "/") == "" {
		return next
	}
	path := strings.TrimRight(u.Path, "/")
	stripped := http.StripPrefix(path, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, path+"/") {
			stripped.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g *gateway) startAdmin(registry *prometheus.Registry) error {
	handler := admin.New(admin.Config{Token: string(g.config.Admin.Token), Ready: g.ready, Checker: g.relay, Registry: registry, Log: g.log})
	var err error
	g.admin, err = g.serveHTTP("admin", g.config.Listen.Admin, admin.NewServer(g.metrics.Requests("admin", handler), g.log))
	return err
}

func (g *gateway) ready(ctx context.Context) error {
	if g.draining.Load() {
		return errors.New("draining")
	}
	if err := g.state.Ping(ctx); err != nil {
		g.log.Warn("not ready", "error", err)
		return errors.New("the state does not answer")
	}
	return nil
}

// httpConnections bounds the connections of one HTTP listener; more wait to be accepted.
const httpConnections = 1000

func (g *gateway) serveHTTP(name, address string, s *http.Server) (net.Addr, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen.%s: %w", name, err)
	}
	go func() {
		if err := s.Serve(netutil.LimitListener(ln, httpConnections)); !errors.Is(err, http.ErrServerClosed) {
			g.failed <- fmt.Errorf("listen.%s: %w", name, err)
		}
	}()
	g.onStop(name, within(g.patience/10, func(ctx context.Context) error {
		if err := s.Shutdown(ctx); err != nil {
			return errors.Join(err, s.Close())
		}
		return nil
	}))
	g.log.Info("listening", "for", name, "on", ln.Addr().String())
	return ln.Addr(), nil
}

func (g *gateway) startDoor(connections *atomic.Int64) error {
	l := g.config.Limits
	g.door = &smtp.Server{
		Hostname: g.config.Hostname, Handler: g.relay, Login: g.logins.Check, Pass: g.pass, Trusted: g.trusted, Log: g.log,
		OnConnect: func(delta int) { connections.Add(int64(delta)) },
		Limits: smtp.Limits{
			Message: int64(l.Message), Recipients: l.Recipients, Connections: l.Connections, InFlight: int64(l.InFlight),
			CommandTimeout: l.CommandTimeout, DataTimeout: l.DataTimeout,
		},
	}
	if g.config.TLS.Cert != "" {
		g.door.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: g.certificate}
	}
	g.onStop("smtp", within(g.config.ReplyBudget+g.patience/6, g.door.Shutdown))
	for _, address := range g.config.Listen.SMTP {
		addr, err := g.listenSMTP("smtp", address, g.door.Serve)
		if err != nil {
			return err
		}
		g.smtp = append(g.smtp, addr)
	}
	for _, address := range g.config.Listen.SMTPS {
		addr, err := g.listenSMTP("smtps", address, g.door.ServeTLS)
		if err != nil {
			return err
		}
		g.smtps = append(g.smtps, addr)
	}
	return nil
}

func (g *gateway) listenSMTP(name, address string, serve func(net.Listener) error) (net.Addr, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen.%s: %w", name, err)
	}
	go func() {
		if err := serve(ln); !errors.Is(err, smtp.ErrServerClosed) {
			g.failed <- fmt.Errorf("listen.%s: %w", name, err)
		}
	}()
	g.log.Info("listening", "for", name, "on", ln.Addr().String())
	return ln.Addr(), nil
}
