package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// The topologies that a URL's scheme may name; rediss is the same over TLS.
const (
	schemeSentinel = "redis+sentinel"
	schemeCluster  = "redis+cluster"
)

// target is what the URL of a state says.
type target struct {
	scheme         string // redis, redis+sentinel or redis+cluster
	addrs          []string
	master         string // Sentinel's name for the primary
	db             int
	user, password string
	tls            bool
}

// form is how a URL of the scheme is written, for remedies.
func form(scheme string) string {
	switch scheme {
	case schemeSentinel:
		return "use redis+sentinel://user:password@h1:26379,h2:26379,h3:26379/NAME"
	case schemeCluster:
		return "use redis+cluster://user:password@h1:6379,h2:6379,h3:6379"
	}
	return "use redis://user:password@host:port/db"
}

// String is the URL without its login.
func (t target) String() string {
	path := ""
	if t.scheme == schemeSentinel {
		path = "/" + t.master
	}
	scheme := t.scheme
	if t.tls {
		scheme = strings.Replace(scheme, "redis", "rediss", 1)
	}
	return scheme + "://" + strings.Join(t.addrs, ",") + path
}

// parse reads the URL. Its errors quote neither the login nor what may be a part of it.
func parse(rawURL string) (target, error) {
	scheme, rest, _ := strings.Cut(rawURL, "://")
	t := target{scheme: scheme}
	if plain, ok := strings.CutPrefix(scheme, "rediss"); ok {
		t.scheme, t.tls = "redis"+plain, true
	}
	if login := strings.LastIndexByte(rest, '@'); login >= 0 {
		if err := t.login(rest[:login]); err != nil {
			return t, err
		}
		rest = rest[login+1:]
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(rest, "?#") {
		return t, fmt.Errorf("state: a Redis URL takes no options after ? or #: %s", form(t.scheme))
	}
	if hosts == "" {
		return t, fmt.Errorf("state: the Redis URL names no server: %s", form(t.scheme))
	}
	many, port := t.scheme != "redis", "6379"
	if t.scheme == schemeSentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := address(host, port)
		if err != nil {
			return t, fmt.Errorf("state: the Redis URL names a server that %w: %s", err, form(t.scheme))
		}
		t.addrs = append(t.addrs, addr)
	}
	if len(t.addrs) > 1 && !many {
		return t, errors.New("state: redis:// names one server: use redis+sentinel://h1,h2/NAME or redis+cluster://h1,h2 for several")
	}
	return t, t.path(strings.Trim(path, "/"))
}

// login reads user:password, with %XX for special characters.
func (t *target) login(text string) error {
	user, password, _ := strings.Cut(text, ":")
	var err, second error
	t.user, err = url.PathUnescape(user)
	t.password, second = url.PathUnescape(password)
	if err != nil || second != nil || strings.ContainsAny(text, "/?#") {
		return errors.New("state: the Redis URL is malformed: escape special characters of the password as %XX")
	}
	return nil
}

// path reads what stands after the servers.
func (t *target) path(path string) error {
	db := path
	switch t.scheme {
	case schemeCluster:
		if path != "" {
			return errors.New("state: a cluster has no databases and no name: " + form(t.scheme))
		}
		return nil
	case schemeSentinel:
		if t.master, db, _ = strings.Cut(path, "/"); t.master == "" {
			return errors.New("state: the Redis URL does not say what the sentinels call the primary: " + form(t.scheme))
		}
	}
	if db == "" {
		return nil
	}
	n, err := strconv.Atoi(db)
	if err != nil || n < 0 {
		return errors.New("state: invalid database number: " + form(t.scheme))
	}
	t.db = n
	return nil
}

// address is host:port, with the usual port where there is none.
func address(text, usual string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), usual
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", errors.New("is not host:port")
		}
	}
	if n, err := strconv.Atoi(port); host == "" || err != nil || n < 1 || n > 65535 {
		return "", errors.New("is not host:port")
	}
	return net.JoinHostPort(host, port), nil
}

// tlsConfig verifies each server by the name that it was dialled by.
func (t target) tlsConfig() *tls.Config {
	if !t.tls {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}
