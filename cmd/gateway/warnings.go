package main

import (
	"fmt"
	"net/url"
	"reflect"

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
		switch {
		case len(s.Domains) == 0:
			warn("senders[%d].domains: is empty: all mail of %s is blocked with [sender.domain]", i, s.ID)
		case s.Name == "" || s.PostalAddress == "":
			warn("senders[%d]: name or postal_address is empty: all marketing mail of %s is blocked with [sender.incomplete]", i, s.ID)
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
	a, b := reflect.ValueOf(*from), reflect.ValueOf(*to)
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
