package smtp

import (
	"errors"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		in, address, rest string
		utf8              bool
		err               error
	}{
		{in: "<>", address: ""},
		{in: "<> SIZE=1", address: "", rest: " SIZE=1"},
		{in: "<a@b.test>", address: "a@b.test"},
		{in: "a@b.test X", address: "a@b.test", rest: " X"},
		{in: `<"a b"@x.test>`, address: `"a b"@x.test`},
		{in: `<"plain"@x.test>`, address: "plain@x.test"},
		{in: `<"victim@other.test"@mine.test>`, address: `"victim@other.test"@mine.test`},
		{in: `<"v@evil.test> NOTIFY=NEVER ORCPT=rfc822;x"@mine.test>`, address: `"v@evil.test> NOTIFY=NEVER ORCPT=rfc822;x"@mine.test`},
		{in: `<"a\"b\\c"@x.test>`, address: `"a\"b\\c"@x.test`},
		{in: `<"a..b"@x.test>`, address: `"a..b"@x.test`},
		{in: "<a+tag=b%c!d@under_score.test>", address: "a+tag=b%c!d@under_score.test"},
		{in: "<a@[192.0.2.1]>", address: "a@[192.0.2.1]"},
		{in: "<a@[IPv6:2001:db8::1]>", address: "a@[IPv6:2001:db8::1]"},
		{in: "<@r.test,@s.test:a@b.test>", address: "a@b.test"},
		{in: "<POSTMASTER>", address: "POSTMASTER@gw.test"},
		{in: "<ü@bücher.test>", utf8: true, address: "ü@bücher.test"},
		{in: "<ü@b.test>", err: errNeedsUTF8},
		{in: "<a@bücher.test>", err: errNeedsUTF8},
		{in: "<\xff@b.test>", utf8: true, err: errNeedsUTF8},
		{in: "<a\u2028@b.test>", utf8: true, err: errLocalPart},
		{in: "<a@b\u00a0.test>", utf8: true, err: errDomain},
		{in: "<a@b@c.test>", err: errDomain},
		{in: "<a@b.test.>", err: errDomain},
		{in: "<a@.test>", err: errDomain},
		{in: "<a@>", err: errDomain},
		{in: "<a>", err: errDomain},
		{in: `<"a@b.test">`, err: errDomain},
		{in: "<a@[1.2.3.4>", err: errDomain},
		{in: "<a@[x_y]>", err: errDomain},
		{in: "<a@b\x00.test>", err: errDomain},
		{in: "<a\r@b.test>", err: errLocalPart},
		{in: `<"a` + "\x01" + `"@b.test>`, err: errLocalPart},
		{in: `<""@b.test>`, err: errLocalPart},
		{in: `<"a@b.test>`, err: errLocalPart},
		{in: `<"a\`, err: errLocalPart},
		{in: "<.a@b.test>", err: errLocalPart},
		{in: "<a.@b.test>", err: errLocalPart},
		{in: "<a,b@c.test>", err: errLocalPart},
		{in: "<@b.test>", err: errNoPath},
		{in: "<@x y:a@b.test>", err: errNoPath},
		{in: "<a@b.test", err: errNoPath},
		{in: "<a@b.test>X", err: errNoPath},
		{in: "", err: errLocalPart},
		{in: "<" + strings.Repeat("a", 320) + "@b.test>", err: errPathLong},
	} {
		address, rest, err := parsePath(c.in, "gw.test", c.utf8)
		if !errors.Is(err, c.err) || address != c.address || err == nil && rest != c.rest {
			t.Errorf("%q: %q, %q, %v; want %q, %q, %v", c.in, address, rest, err, c.address, c.rest, c.err)
		}
	}
}

// What is taken once stands between < and > as it is: read again it is the same, and nothing follows it.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"<a@b.test>", `<"a b\"c"@x.test> SIZE=1`, "<>", "<@a.test:b@c.test>", "<ü@bücher.test>", `<"v@evil.test> NOTIFY=NEVER"@m.test>`, "<a@[::1]>"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8ok bool) {
		address, rest, err := parsePath(s, "gw.test", utf8ok)
		if err != nil || address == "" {
			return
		}
		again, more, err := parsePath("<"+address+">"+rest, "gw.test", utf8ok)
		if err != nil || again != address || more != rest {
			t.Errorf("%q gives %q, that %q, %q, %v", s, address, again, more, err)
		}
		if strings.ContainsAny(address, "\r\n\x00") || rest != "" && rest[0] != ' ' {
			t.Errorf("%q gives %q and %q", s, address, rest)
		}
	})
}
