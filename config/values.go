package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Secret is a password or token. It prints, logs and marshals as ***; string(s) is the secret itself.
type Secret string

const stars = "***"

// String hides the secret; an empty one is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return stars
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText hides the secret from encoders, loggers among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Later stands where a key is known and what it asks for is not built. It holds nothing.
type Later struct{}

// Size is a number of bytes.
type Size int64

// units of Size, the largest first (IEC 80000-13).
func units() []string { return []string{"TiB", "GiB", "MiB", "KiB", "B"} }

// String is the size in its largest whole unit: 25MiB.
func (s Size) String() string {
	unit := Size(1) << 40
	for _, u := range units() {
		if s%unit == 0 && (s != 0 || u == "B") {
			return strconv.FormatInt(int64(s/unit), 10) + u
		}
		unit >>= 10
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

func parseSize(s string) (Size, error) {
	unit := int64(1) << 40
	for _, u := range units() {
		if digits, ok := strings.CutSuffix(s, u); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/unit {
				break
			}
			return Size(n * unit), nil
		}
		unit >>= 10
	}
	return 0, errors.New("is not a size")
}

// durationText is the duration as people write it: 5m, not 5m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Security is how a connection to an upstream is protected.
type Security string

// The securities. StartTLS is required and verified, never opportunistic.
const (
	NoTLS       Security = "none"
	StartTLS    Security = "starttls"
	ImplicitTLS Security = "tls"
)

// URL is where an upstream is. Address is host:port, an IPv6 host in brackets.
type URL struct {
	Security Security
	Address  string
}

// String is the URL as gateway.yaml has it.
func (u URL) String() string {
	switch u.Security {
	case StartTLS:
		return "smtp+starttls://" + u.Address
	case ImplicitTLS:
		return "smtps://" + u.Address
	}
	return "smtp://" + u.Address
}

// Host is the address without its port.
func (u URL) Host() string {
	host, _, _ := net.SplitHostPort(u.Address)
	return host
}

// Loopback tells whether the upstream is on this machine.
func (u URL) Loopback() bool { return Loopback(u.Host()) }

func parseURL(s string) (URL, error) {
	p, err := url.Parse(s)
	if err != nil || p.Host == "" {
		return URL{}, errors.New("is not an upstream's URL")
	}
	var u URL
	var port string
	switch p.Scheme {
	case "smtp":
		u.Security, port = NoTLS, "25"
	case "smtp+starttls":
		u.Security, port = StartTLS, "587"
	case "smtps":
		u.Security, port = ImplicitTLS, "465"
	default:
		return URL{}, errors.New("is not an upstream's URL")
	}
	if p.User != nil {
		return URL{}, errors.New("holds a login; set username and password instead")
	}
	if strings.Trim(p.Path, "/") != "" || p.RawQuery != "" || p.Fragment != "" {
		return URL{}, errors.New("has more than a host and a port")
	}
	if p.Port() != "" {
		port = p.Port()
	}
	if !validHost(p.Hostname()) || !validPort(port, 1) {
		return URL{}, errors.New("has a bad host or port")
	}
	u.Address = net.JoinHostPort(p.Hostname(), port)
	return u, nil
}

// parsePrefix takes a network, or one address as the network that holds only it.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("is not a network")
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("has bits set beyond its length; the network is %s", p.Masked())
	}
	return p, nil
}

// validAddress takes host:port to listen on; port 0 lets the system choose.
func validAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && (host == "" || validHost(host)) && validPort(port, 0)
}

func validPort(s string, least int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 65535 && s[0] != '+'
}

var hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$`)

// validHost takes an IP address without brackets, or a name of letters, digits, hyphens, underscores and dots.
func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && hostName.MatchString(s)
}

// Loopback tells whether a host, without a port, is this machine.
func Loopback(host string) bool {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// LoopbackAddress is Loopback for host:port.
func LoopbackAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && Loopback(host)
}
