package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// check reports what is wrong between keys. A key that is mistaken already is not looked at again.
func (c *Config) check(r *report) {
	c.checkPublicURL(r)
	c.checkListen(r)
	c.checkTLS(r)
	if !r.bad("limits.message") && c.Limits.InFlight < c.Limits.Message {
		r.add("limits.in_flight", "is less than limits.message: the largest message could never be received", "write "+c.Limits.Message.String()+" or more")
	}
	c.checkPass(r)
	c.checkUpstreams(r)
	senders := unique(r, "senders", "id", c.Senders, func(s Sender) string { return s.ID })
	c.checkDKIM(r)
	c.checkAssessments(r, senders)
	c.checkAccounts(r, senders)
	c.checkNetworks(r)
	c.checkNotices(r)
	if !r.bad("policy.packs") && !slices.Equal(c.Policy.Packs, []string{"guide"}) {
		r.add("policy.packs", "is not supported yet but as [guide]", "write [guide] or leave it out")
	}
}

func (c *Config) checkPublicURL(r *report) {
	if r.bad("public_url") {
		return
	}
	if !validHost(hostOf(c.PublicURL)) {
		r.add("public_url", "has a host in letters beyond ASCII", "write the host as its A-label, xn--...")
	} else if strings.ContainsAny(c.PublicURL, "?#") {
		r.add("public_url", "has more than a host and a path", "write it like https://opt.example.com")
	} else if strings.HasPrefix(strings.ToLower(c.PublicURL), "http:") && !Loopback(hostOf(c.PublicURL)) {
		r.add("public_url", "is not https", "write https://..., and let an https proxy in front of listen.http serve it")
	}
}

func (c *Config) checkListen(r *report) {
	l := c.Listen
	if len(l.SMTP)+len(l.SMTPS) == 0 && !r.bad("listen") {
		r.add("listen.smtp", "is empty, and so is listen.smtps: no mail could come in", "write an address like 127.0.0.1:2525")
	}
	if len(l.SMTPS) > 0 && c.TLS.Cert == "" && c.TLS.Key == "" && !r.bad("listen.smtps") && !r.bad("tls") {
		r.add("listen.smtps", "needs a certificate", "set tls.cert and tls.key")
	}
	taken := map[string]string{}
	use := func(key, address string) {
		if r.bad(key) || portOf(address) == "0" {
			return
		}
		if first := taken[address]; first != "" {
			r.add(key, "is the address of "+first+" too", "write another port")
			return
		}
		taken[address] = key
	}
	for i, a := range l.SMTP {
		use(fmt.Sprintf("listen.smtp[%d]", i), a)
	}
	for i, a := range l.SMTPS {
		use(fmt.Sprintf("listen.smtps[%d]", i), a)
	}
	use("listen.http", l.HTTP)
	use("listen.admin", l.Admin)
	if !LoopbackAddress(l.Admin) && c.Admin.Token == "" && !r.bad("listen.admin") && !r.bad("admin") {
		r.add("admin.token", "is missing while listen.admin is not on loopback", "write ${HEED_ADMIN_TOKEN} and set that variable, or listen on 127.0.0.1")
	}
}

// checkTLS reads the certificate as serving will, so that a bad one is found before.
func (c *Config) checkTLS(r *report) {
	if r.bad("tls") || c.TLS.Cert == "" && c.TLS.Key == "" {
		return
	}
	if c.TLS.Cert == "" || c.TLS.Key == "" {
		key, other := "tls.cert", "tls.key"
		if c.TLS.Key == "" {
			key, other = other, key
		}
		r.add(key, "is missing while "+other+" is set", "set both or neither")
		return
	}
	const remedy = "name a PEM file that the gateway may read; relative paths start at the folder of this file"
	cert, err := readRegular(c.TLS.Cert, maxBytes)
	if err != nil {
		r.add("tls.cert", "cannot be read: "+err.Error(), remedy)
	}
	key, err2 := readRegular(c.TLS.Key, maxBytes)
	if err2 != nil {
		r.add("tls.key", "cannot be read: "+err2.Error(), remedy)
	}
	if err != nil || err2 != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		r.add("tls.cert", "and tls.key are no certificate and its key: "+err.Error(), "write the chain into one PEM file and its private key, without a passphrase, into the other")
	}
}

func (c *Config) checkUpstreams(r *report) {
	names := unique(r, "upstreams", "name", c.Upstreams, func(u Upstream) string { return u.Name })
	for i, u := range c.Upstreams {
		key := fmt.Sprintf("upstreams[%d].", i)
		if u.Username != "" && u.Password == "" && !r.bad(key+"password") {
			r.add(key+"password", "is missing while username is set", "write ${ESP_PASSWORD} and set that variable, or file:PATH")
		}
		if u.Username != "" && u.URL.Security == NoTLS && !u.URL.Loopback() && !r.bad(key+"url") {
			r.add(key+"url", "would send username and password without TLS", "write smtp+starttls://"+net.JoinHostPort(u.URL.Host(), "587")+" or smtps://"+net.JoinHostPort(u.URL.Host(), "465"))
		}
	}
	refer(r, "bounces.upstream", c.Bounces.Upstream, "upstream", names)
	for i, a := range c.Accounts {
		key := fmt.Sprintf("accounts[%d].upstream", i)
		switch {
		case r.bad(key) || r.bad("upstreams"):
		case len(a.Upstream) == 0:
			r.add(key, "is missing", oneOf(names))
		}
		for j, name := range a.Upstream {
			at := fmt.Sprintf("%s[%d]", key, j)
			refer(r, at, name, "upstream", names)
			if !r.bad(at) && slices.Contains(a.Upstream[:j], name) {
				r.add(at, "stands there before", "name each upstream once")
			}
		}
	}
}

func (c *Config) checkAssessments(r *report, senders []string) {
	unique(r, "assessments", "id", c.Assessments, func(a Assessment) string { return a.ID })
	for i, a := range c.Assessments {
		key := fmt.Sprintf("assessments[%d].", i)
		refer(r, key+"sender", a.Sender, "sender", senders)
		if !r.bad(key+"assessed_on") && !r.bad(key+"expires_on") && !a.ExpiresOn.After(a.AssessedOn) {
			r.add(key+"expires_on", "is not after assessed_on", "write the day on which the assessment must be made anew")
		}
	}
}

// sealed is how many bytes sender id and topic may have together, as policy.MaxNames says: both are sealed into each
// opt-out link.
const sealed = 32

func (c *Config) checkAccounts(r *report, senders []string) {
	unique(r, "accounts", "name", c.Accounts, func(a Account) string { return a.Name })
	for i, a := range c.Accounts {
		key := fmt.Sprintf("accounts[%d].", i)
		switch hasHash, hasPassword := a.PasswordHash != "", a.Password != ""; {
		case r.bad(key+"password") || r.bad(key+"password_hash") || r.bad(key+"networks") || a.Auth == "pass":
		case hasHash && hasPassword:
			r.add(key+"password", "is set beside password_hash", "remove one of the two")
		case !hasHash && !hasPassword && len(a.Networks) == 0:
			r.add(key+"password_hash", "is missing, and so are password and networks: nobody could use this account", "set one of the three")
		}
		refer(r, key+"sender", a.Sender, "sender", senders)
		if n := len(a.Sender) + len(a.Topic); n > sealed && len(a.Sender) <= sealed && !r.bad(key+"sender") && !r.bad(key+"topic") {
			r.add(key+"topic", fmt.Sprintf("and the sender's id are %d bytes together; both are sealed into each opt-out link", n), fmt.Sprintf("make them %d bytes or less together", sealed))
		}
		c.checkAccountAssessment(r, key, a)
	}
	for i, s := range c.Senders {
		if key := fmt.Sprintf("senders[%d].id", i); len(s.ID) > sealed {
			r.add(key, fmt.Sprintf("is %d bytes long; it is sealed into each opt-out link", len(s.ID)), fmt.Sprintf("make it, with the longest topic, %d bytes or less", sealed))
		}
	}
}

func (c *Config) checkAccountAssessment(r *report, key string, a Account) {
	if a.Assessment == "" || r.bad(key+"sender") {
		return
	}
	ids := make([]string, len(c.Assessments))
	for i, x := range c.Assessments {
		ids[i] = x.ID
		if at := fmt.Sprintf("assessments[%d]", i); x.ID == a.Assessment && x.Sender != a.Sender && !r.bad(at+".sender") {
			r.add(key+"assessment", "is an assessment of sender "+shown(x.Sender)+", not of this account's", "name one of sender "+shown(a.Sender))
		}
	}
	refer(r, key+"assessment", a.Assessment, "assessment", ids)
}

// checkNetworks: a client must belong to one account only.
func (c *Config) checkNetworks(r *report) {
	type claim struct {
		network netip.Prefix
		account int
		key     string
	}
	var claims []claim
	for i, a := range c.Accounts {
		for j, n := range a.Networks {
			if n.IsValid() {
				claims = append(claims, claim{n, i, fmt.Sprintf("accounts[%d].networks[%d]", i, j)})
			}
		}
	}
	// In order of address, networks that overlap stand within the one that holds them.
	slices.SortStableFunc(claims, func(a, b claim) int {
		if d := a.network.Addr().Compare(b.network.Addr()); d != 0 {
			return d
		}
		return a.network.Bits() - b.network.Bits()
	})
	var open []claim
	for _, x := range claims {
		for len(open) > 0 && !open[len(open)-1].network.Overlaps(x.network) {
			open = open[:len(open)-1]
		}
		for _, o := range open {
			if o.account != x.account {
				later, first := x, o
				if later.account < first.account {
					later, first = first, later
				}
				r.add(later.key, fmt.Sprintf("overlaps %s of account %s", first.network, shown(c.Accounts[first.account].Name)), "give each network to one account")
				break
			}
		}
		if n := len(open); n == 0 || open[n-1].network != x.network || open[n-1].account != x.account {
			open = append(open, x)
		}
	}
}

// unique reports names that are there twice, and returns each name once.
func unique[T any](r *report, list, key string, items []T, name func(T) string) []string {
	var names []string
	first := map[string]int{}
	for i, item := range items {
		n := name(item)
		at := fmt.Sprintf("%s[%d].%s", list, i, key)
		j, again := first[n]
		if !again {
			first[n], names = i, append(names, n)
		} else if n != "" && !r.bad(at) {
			r.add(at, fmt.Sprintf("is the %s of %s[%d] too", key, list, j), "write another")
		}
	}
	return names
}

// refer reports a name that is none of those defined. Where one of them could not be read, it might have been that.
func refer(r *report, key, name, what string, names []string) {
	switch {
	case r.bad(key) || slices.Contains(names, "") || len(names) == 0 && what != "assessment":
	case name == "":
		r.add(key, "is missing", oneOf(names))
	case !slices.Contains(names, name):
		r.add(key, "names no "+what, oneOf(names))
	}
}

func oneOf(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "define it, or leave this out"
	case len(names) > most:
		names = append(slices.Clone(names[:most]), "...")
	}
	return "write one of " + strings.Join(names, ", ")
}
