package main

import (
	"crypto/rsa"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"heed/config"
)

// warnings are what is valid and hardly meant.
func warnings(c *config.Config) []string {
	var found []string
	warn := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if public, err := url.Parse(c.PublicURL); err == nil && config.Loopback(public.Hostname()) {
		for i, u := range c.Upstreams {
			if !u.URL.Loopback() {
				warn("public_url: %s is on loopback, and upstreams[%d] is not: recipients cannot open the opt-out links", c.PublicURL, i)
			}
		}
	}
	for i, s := range c.Senders {
		for j, d := range s.DKIM {
			if key, err := d.Private(); err == nil {
				if k, ok := key.(*rsa.PrivateKey); ok && k.N.BitLen() < 2048 {
					warn("senders[%d].dkim[%d].key: is an RSA key of %d bits: some receivers ask for 2048", i, j, k.N.BitLen())
				}
			}
		}
		switch {
		case len(s.Domains) == 0:
			warn("senders[%d].domains: is empty: all mail of %s is blocked with [sender.domain]", i, s.ID)
		case s.Name == "" || s.PostalAddress == "":
			warn("senders[%d]: name or postal_address is empty: all marketing mail of %s is blocked with [sender.incomplete]", i, s.ID)
		}
	}
	for i, u := range c.Upstreams {
		for _, name := range u.Rewrites {
			if strings.EqualFold(name, "List-Unsubscribe") || strings.EqualFold(name, "List-Unsubscribe-Post") {
				warn("upstreams[%d].rewrites: %s is left out of the signature: mailbox providers honour one-click opt-out only where it is signed (RFC 8058 section 4)", i, name)
			}
		}
	}
	passwords := false
	for i, a := range c.Accounts {
		passwords = passwords || a.Password != "" || a.PasswordHash != "" || a.Auth == "pass"
		for k, n := range a.Networks {
			switch {
			case n.Bits() == 0 && a.Auth == "pass":
				warn("accounts[%d].networks[%d]: %s lets anybody who reaches the listener try passwords at the upstream", i, k, n)
			case n.Bits() == 0:
				warn("accounts[%d].networks[%d]: %s lets anybody who reaches the listener send as %s", i, k, n, a.Name)
			}
		}
	}
	for i, l := range c.Listen.SMTP {
		if passwords && c.TLS.Cert == "" && !config.LoopbackAddress(l) {
			warn("listen.smtp[%d]: %s is not on loopback and there is no tls: nobody can log in there", i, l)
		}
		for k, u := range c.Upstreams {
			if u.URL.Address == l {
				warn("upstreams[%d].url: %s is this gateway's own listener: mail would go round in circles", k, l)
			}
		}
	}
	return found
}

// needRestart names the keys in which two configurations differ and which a reload does not take over.
func needRestart(from, to *config.Config) []string {
	var keys []string
	was := *from
	was.Upstreams = slices.Clone(from.Upstreams)
	for i := range min(len(was.Upstreams), len(to.Upstreams)) {
		was.Upstreams[i].Rewrites = to.Upstreams[i].Rewrites // the signers are made anew
	}
	a, b := reflect.ValueOf(was), reflect.ValueOf(*to)
	for i := range a.NumField() {
		key := a.Type().Field(i).Tag.Get("yaml")
		switch key {
		case "senders", "assessments", "accounts", "policy", "tls":
			continue
		}
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			keys = append(keys, key)
		}
	}
	return keys
}
