package config

import (
	"fmt"
	"slices"
)

// checkPass: a client of an account with auth: pass is known by its network, and its password goes on to the upstream.
func (c *Config) checkPass(r *report) {
	const other = ", or write auth: own"
	for i, a := range c.Accounts {
		key := fmt.Sprintf("accounts[%d].", i)
		if a.Auth != "pass" || r.bad(key+"auth") {
			continue
		}
		if len(a.Networks) == 0 && !r.bad(key+"networks") {
			r.add(key+"networks", "is missing: with auth: pass only the network tells whose client it is", "list the networks of the account's tools"+other)
		}
		if a.Password != "" && !r.bad(key+"password") {
			r.add(key+"password", "could not be used: with auth: pass the upstream decides about logins", "remove it"+other)
		}
		if a.PasswordHash != "" && !r.bad(key+"password_hash") {
			r.add(key+"password_hash", "could not be used: with auth: pass the upstream decides about logins", "remove it"+other)
		}
		if len(a.Upstream) > 1 && !r.bad(key+"upstream") {
			r.add(key+"upstream", "names more than one upstream: with auth: pass a login is good at one only", "name one"+other)
		}
		for k, u := range c.Upstreams {
			url := fmt.Sprintf("upstreams[%d].url", k)
			if slices.Contains(a.Upstream, u.Name) && u.URL.Security == NoTLS && !u.URL.Loopback() && !r.bad(url) {
				r.add(key+"auth", "would send passwords to upstream "+shown(u.Name)+" without TLS", "write smtp+starttls:// or smtps:// for "+url+other)
			}
		}
	}
}
