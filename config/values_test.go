package config

import (
	"strings"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0B": 0, "1B": 1, "1024B": 1024, "1KiB": 1024, "25MiB": 25 << 20, "10 GiB": 10 << 30, "8388607TiB": 8388607 << 40,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		if again, err := parseSize(want.String()); err != nil || again != want {
			t.Errorf("%d prints as %s", want, want)
		}
	}
	for _, text := range []string{"", "B", "1", "-1B", "1.5MiB", "1MB", "8388608TiB", "99999999999999999999B", "0x10B"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func TestDurationText(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "1m": time.Minute, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "48h": 48 * time.Hour,
		"1h30m": 90 * time.Minute, "1h0m5s": time.Hour + 5*time.Second, "1.5s": 1500 * time.Millisecond,
	} {
		if got := durationText(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestHash(t *testing.T) {
	const salt, hash = "c29tZXNhbHRzb21lc2FsdA", "RdescudvJCsgt3ub+b4dWRWJTmaaJObG2wbhAhHCyIc"
	tests := []struct {
		name, hash string
		ok         bool
	}{
		{"usual", "$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + hash, true},
		{"least memory", "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + hash, true},
		{"argon2i", "$argon2i$v=19$m=65536,t=3,p=4$" + salt + "$" + hash, false},
		{"old version", "$argon2id$v=16$m=65536,t=3,p=4$" + salt + "$" + hash, false},
		{"no passes", "$argon2id$v=19$m=65536,t=0,p=4$" + salt + "$" + hash, false},
		{"no lanes", "$argon2id$v=19$m=65536,t=3,p=0$" + salt + "$" + hash, false},
		{"memory below lanes", "$argon2id$v=19$m=31,t=3,p=4$" + salt + "$" + hash, false},
		{"endless", "$argon2id$v=19$m=65536,t=4294967295,p=4$" + salt + "$" + hash, false},
		{"padded", "$argon2id$v=19$m=65536,t=3,p=4$" + salt + "==$" + hash, false},
		{"no hash", "$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$", false},
		{"more behind it", "$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + hash + "$x", false},
	}
	for _, test := range tests {
		if w := checkHash(&test.hash); (w.text == "") != test.ok {
			t.Errorf("%s: %+v", test.name, w)
		}
	}
}

func TestNetworksOverlap(t *testing.T) {
	tests := []struct {
		name     string
		accounts [][]string
		bad      string
	}{
		{"apart", [][]string{{"10.0.0.0/16"}, {"10.1.0.0/16"}, {"2001:db8::/32"}}, ""},
		{"the same", [][]string{{"10.0.0.0/16"}, {"10.0.0.0/16"}}, "accounts[1].networks[0]"},
		{"the wider one later", [][]string{{"10.0.9.0/24"}, {"10.0.0.0/16"}}, "accounts[1].networks[0]"},
		{"within one account", [][]string{{"10.0.0.0/16", "10.0.9.0/24", "10.0.0.0/16"}, {"10.1.0.0/16"}}, ""},
		{"behind one of its own", [][]string{{"10.0.0.0/8"}, {"192.0.2.0/24", "10.9.0.0/16"}}, "accounts[1].networks[1]"},
		{"with one of the first's between", [][]string{{"10.0.0.0/8", "10.1.0.0/16"}, {"10.2.0.0/16"}}, "accounts[1].networks[0]"},
		{"one address, all of IPv6", [][]string{{"::1"}, {"::/0"}}, "accounts[1].networks[0]"},
		{"all of IPv4, all of IPv6", [][]string{{"0.0.0.0/0"}, {"::/0"}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := new(Config)
			for _, list := range test.accounts {
				var a Account
				for _, s := range list {
					p, err := parsePrefix(s)
					if err != nil {
						t.Fatal(err)
					}
					a.Networks = append(a.Networks, p)
				}
				c.Accounts = append(c.Accounts, a)
			}
			r := newReport("x")
			c.checkNetworks(r)
			var got []string
			for _, m := range r.list {
				got = append(got, m.Key)
			}
			if strings.Join(got, " ") != test.bad {
				t.Errorf("got %q, want %q", got, test.bad)
			}
		})
	}
}

// TestRedact: greedy to the last @, since passwords hold slashes and at signs.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"redis://u:p@h/0": "redis://u:***@h/0", "redis://:p/x@y@h": "redis://:***@h", "redis://h:6379/0": "redis://h:6379/0",
		"redis://u:p q@h": "redis://u:***@h", "sqlite:./x": "sqlite:./x", "redis://u@h": "redis://u@h",
		"redis+sentinel://u:p@h1:1,h2/n": "redis+sentinel://u:***@h1:1,h2/n", "rediss+cluster://:p@h1,h2": "rediss+cluster://:***@h1,h2",
		"redis+cluster://h1:1,h2:2": "redis+cluster://h1:1,h2:2",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
