package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"heed/config"
	"heed/policy"
	"heed/smtp"
)

// live is what a reload replaces beside the relay's book.
type live struct {
	senders  map[string]*policy.Sender
	networks []network
	pass     map[string]string // the upstream where clients of an account log in
	cert     *tls.Certificate  // nil: no TLS
}

// network names the account of a trusted network.
type network struct {
	netip.Prefix
	account string
}

// goLive puts a configuration's senders, networks and certificate into force, or changes nothing.
func (g *gateway) goLive(c *config.Config) error {
	next := &live{senders: sendersOf(c), pass: map[string]string{}}
	for _, a := range c.Accounts {
		if a.Auth == "pass" {
			next.pass[a.Name] = a.Upstream[0]
		}
		for _, n := range a.Networks {
			next.networks = append(next.networks, network{n, a.Name})
		}
	}
	if c.TLS.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
		if err != nil {
			return usagef("tls: %w", err)
		}
		next.cert = &cert
	}
	g.live.Store(next)
	return nil
}

// reload takes over rules, accounts, senders and certificate; everything fallible is built before anything changes.
// Listeners, upstreams and the state stay as they were started.
func (g *gateway) reload(c *config.Config) error {
	book, err := bookOf(c)
	if err != nil {
		return err
	}
	for name, a := range book.Accounts {
		for _, u := range a.Upstreams {
			if g.relay.Upstreams[u] == nil {
				return fmt.Errorf("account %s: upstream %s is new: restart to add upstreams", name, u)
			}
		}
	}
	if (c.TLS.Cert == "") != (g.config.TLS.Cert == "") {
		return errors.New("tls: restart to turn TLS on or off")
	}
	if _, err := smtp.NewLogins(credentials(c)); err != nil {
		return err
	}
	if err := g.goLive(c); err != nil {
		return err
	}
	g.relay.Load(book)
	return g.logins.Reload(credentials(c))
}

// credentials are what accounts log in with: a hash or a password each.
func credentials(c *config.Config) map[string]string {
	found := map[string]string{}
	for _, a := range c.Accounts {
		if a.PasswordHash != "" {
			found[a.Name] = string(a.PasswordHash)
		} else if a.Password != "" {
			found[a.Name] = string(a.Password)
		}
	}
	return found
}

// pass is where clients of an account log in; nil: here.
func (g *gateway) pass(account string) *smtp.PassUpstream {
	return g.passing[g.live.Load().pass[account]]
}

func (g *gateway) trusted(ip netip.Addr) (string, bool) {
	networks := g.live.Load().networks
	i := slices.IndexFunc(networks, func(n network) bool { return n.Contains(ip.Unmap()) })
	if i < 0 {
		return "", false
	}
	return networks[i].account, true
}

func (g *gateway) sender(id string) (policy.Sender, bool) {
	s, ok := g.live.Load().senders[id]
	if !ok {
		return policy.Sender{}, false
	}
	return *s, true
}

func (g *gateway) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := g.live.Load().cert; cert != nil {
		return cert, nil
	}
	return nil, errors.New("no certificate is configured")
}
