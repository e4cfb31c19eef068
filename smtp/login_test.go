package smtp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// cheapHash is a valid hash that costs a test nothing.
func cheapHash(password string) string {
	h := newPHC()
	h.kib, h.passes = 8, 1
	h.sum = h.derive(password)
	return h.String()
}

func newTestLogins(t *testing.T, credentials map[string]string) *Logins {
	t.Helper()
	l, err := NewLogins(credentials)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLogins(t *testing.T) {
	l := newTestLogins(t, map[string]string{"crm": cheapHash("geheim"), "shop": "plain", "made": HashPassword("pässword")})
	for _, c := range []struct {
		user, password string
		ok             bool
	}{
		{"crm", "geheim", true},
		{"crm", "geheim", true},
		{"crm", "wrong", false},
		{"crm", "", false},
		{"shop", "plain", true},
		{"shop", "Plain", false},
		{"shop", "", false},
		{"made", "pässword", true},
		{"nobody", "geheim", false},
		{"", "", false},
		{"CRM", "geheim", false},
		{"crmg", "eheim", false},
	} {
		account, ok, err := l.Check(context.Background(), c.user, c.password)
		if err != nil || ok != c.ok || ok && account != c.user {
			t.Errorf("%s/%s: %q %v %v", c.user, c.password, account, ok, err)
		}
	}
}

func TestLoginIsVerifiedOnceAndForgottenWithItsHash(t *testing.T) {
	old, hash := cheapHash("secret"), cheapHash("secret")
	l := newTestLogins(t, map[string]string{"crm": old})
	check := func(password string) bool {
		_, ok, _ := l.Check(context.Background(), "crm", password)
		return ok
	}
	if l.isKnown("crm", "secret") || !check("secret") || !l.isKnown("crm", "secret") || l.isKnown("crm", "wrong") {
		t.Error("the password is not known after one login, or one too many is")
	}
	if err := l.Reload(map[string]string{"crm": old, "new": hash}); err != nil || !l.isKnown("crm", "secret") {
		t.Errorf("forgotten though the hash is the same (%v)", err)
	}
	if err := l.Reload(map[string]string{"crm": "$argon2id$broken"}); err == nil || !l.isKnown("crm", "secret") {
		t.Error("a broken reload has changed something")
	}
	if err := l.Reload(map[string]string{"crm": hash}); err != nil || l.isKnown("crm", "secret") || !check("secret") {
		t.Errorf("known though the hash has changed (%v)", err)
	}
	if err := l.Reload(nil); err != nil || check("secret") {
		t.Errorf("an account that is gone still logs in (%v)", err)
	}
}

func TestLoginWaitsNoLongerThanItsContext(t *testing.T) {
	l := newTestLogins(t, map[string]string{"crm": cheapHash("secret"), "shop": "plain"})
	for range cap(l.slots) {
		l.slots <- struct{}{}
	}
	if _, ok, err := l.Check(ended(), "crm", "secret"); ok || !errors.Is(err, context.Canceled) {
		t.Error(ok, err)
	}
	if _, ok, err := l.Check(ended(), "shop", "plain"); !ok || err != nil {
		t.Error("a known password waits for a verification", ok, err)
	}
}

func TestBadCredentials(t *testing.T) {
	salt := "c2FsdHNhbHQ"
	sum := "MTIzNDU2Nzg5MDEyMzQ1Ng"
	hash := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + sum }
	if _, err := parsePHC(hash("m=64,t=1,p=1")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "$argon2id$", hash("m=4294967295,t=1,p=1"), hash("m=262145,t=1,p=1"), hash("m=64,t=0,p=1"), hash("m=64,t=17,p=1"),
		hash("m=64,t=1,p=0"), hash("m=64,t=1,p=17"), hash("m=7,t=1,p=1"), hash("m=64,t=1,p=256"), hash("m=64,t=1"), hash("t=1,m=64,p=1"),
		hash("m=-1,t=1,p=1"), strings.Replace(hash("m=64,t=1,p=1"), "v=19", "v=16", 1), "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$", hash("m=64,t=1,p=1") + "$x",
		"$argon2id$v=19$m=64,t=1,p=1$c2E$" + sum, "$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + sum, "$2b$12$abcdefghijklmnopqrstuv", "$6$salt$hash",
	} {
		if _, err := NewLogins(map[string]string{"crm": bad}); err == nil {
			t.Errorf("%q was taken", bad)
		} else if bad != "" && strings.Contains(err.Error(), sum) {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add(cheapHash("x"))
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Ng")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parsePHC(s)
		if err == nil && (h.kib > maxArgonKiB || h.passes > maxArgonTime || h.lanes == 0 || len(h.sum) > 64) {
			t.Errorf("%+v", h)
		}
	})
}

func TestThrottle(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1e9, 0)
	v4, v6, same6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1")
	for range throttleTries {
		if th.blocked(v4, now) || th.blocked(same6, now) {
			t.Fatal("blocked too early")
		}
		th.failed(v4, now)
		th.failed(v6, now)
		th.failed(netip.MustParseAddr("127.0.0.1"), now)
		th.failed(netip.Addr{}, now)
	}
	if !th.blocked(v4, now) || !th.blocked(same6, now) || th.blocked(netip.MustParseAddr("192.0.2.2"), now) || th.blocked(netip.MustParseAddr("127.0.0.1"), now) {
		t.Error("blocked are not those that failed")
	}
	if th.blocked(v4, now.Add(throttleWindow)) {
		t.Error("blocked for longer than the window")
	}
	for i := range 3 * throttleSize {
		th.failed(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), now)
	}
	if len(th.net) > throttleSize {
		t.Errorf("%d networks are remembered", len(th.net))
	}
}
