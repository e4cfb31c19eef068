package unsubscribe

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"heed/policy"
)

const messageOne = "06fgz3v8q0000001"

func somebody(k *Keys) string { return k.AddressKey().Person("james@corp.example") }

func TestTokenRoundTrip(t *testing.T) {
	k := newKeys(t)
	tests := []struct {
		name string
		in   Token
		want policy.Scope
	}{
		{"topic", Token{Sender: "acme", Topic: "newsletter", Scope: policy.ScopeTopic}, policy.ScopeTopic},
		{"sender", Token{Sender: "acme", Topic: "newsletter", Scope: policy.ScopeSender}, policy.ScopeSender},
		{"all", Token{Sender: "acme", Scope: policy.ScopeAll}, policy.ScopeAll},
		{"scope topic without a topic", Token{Sender: "acme", Scope: policy.ScopeTopic}, policy.ScopeSender},
		{"longest sender", Token{Sender: strings.Repeat("s", policy.MaxNames), Scope: policy.ScopeAll}, policy.ScopeAll},
		{"longest together", Token{Sender: "s", Topic: strings.Repeat("t", policy.MaxNames-1), Scope: policy.ScopeTopic}, policy.ScopeTopic},
		{"other scripts", Token{Sender: "müller", Topic: "событие", Scope: policy.ScopeTopic}, policy.ScopeTopic},
		{"markup", Token{Sender: "<b>", Topic: `"><script>`, Scope: policy.ScopeTopic}, policy.ScopeTopic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Person, tt.in.Message = somebody(k), messageOne
			s, err := k.Seal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if len(s) != 120 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Errorf("%d characters: %s", len(s), s)
			}
			got, err := k.Open(s)
			tt.in.Scope = tt.want
			if err != nil || got != tt.in {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.in)
			}
		})
	}
}

func TestTokenSealRefuses(t *testing.T) {
	k := newKeys(t)
	good := Token{Person: somebody(k), Sender: "acme", Topic: "news", Scope: policy.ScopeTopic, Message: messageOne}
	tests := []struct {
		name   string
		damage func(*Token)
		names  bool
	}{
		{"no person", func(t *Token) { t.Person = "" }, false},
		{"an address for a person", func(t *Token) { t.Person = "james@corp.example" }, false},
		{"no message", func(t *Token) { t.Message = "" }, false},
		{"another message ID", func(t *Token) { t.Message = "<a@b.example>" }, false},
		{"no scope", func(t *Token) { t.Scope = "" }, false},
		{"unknown scope", func(t *Token) { t.Scope = "galaxy" }, false},
		{"no sender", func(t *Token) { t.Sender = "" }, true},
		{"too long together", func(t *Token) { t.Topic = strings.Repeat("t", policy.MaxNames-3) }, true},
		{"line break", func(t *Token) { t.Topic = "a\nb" }, true},
		{"not UTF-8", func(t *Token) { t.Topic = "a\xff" }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := good
			tt.damage(&bad)
			s, err := k.Seal(bad)
			if err == nil || s != "" || errors.Is(err, ErrNames) != tt.names {
				t.Errorf("%q, %v", s, err)
			}
		})
	}
}

func TestTokenRotation(t *testing.T) {
	old, both := rotated(t, 2024), rotated(t, 2026, 2024, 2025)
	tok := Token{Person: somebody(old), Sender: "acme", Scope: policy.ScopeSender, Message: messageOne}
	before, err := old.Seal(tok)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.Open(before); err != nil || got != tok {
		t.Errorf("an old key does not read any more: %+v, %v", got, err)
	}
	after, err := both.Seal(tok)
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := base64.RawURLEncoding.DecodeString(after); raw[0] != 26 {
		t.Errorf("made by key %d, want the newest", raw[0])
	}
	if _, err := old.Open(after); !errors.Is(err, errToken) {
		t.Errorf("read without its key: %v", err)
	}
}

func TestTokenEveryDamageIsOneError(t *testing.T) {
	k := newKeys(t)
	s, err := k.Seal(Token{Person: somebody(k), Sender: "acme", Topic: "news", Scope: policy.ScopeTopic, Message: messageOne})
	if err != nil {
		t.Fatal(err)
	}
	for i := range s {
		for _, c := range []byte("A_\n") {
			if s[i] == c {
				continue
			}
			if got, err := k.Open(s[:i] + string(c) + s[i+1:]); !errors.Is(err, errToken) || got != (Token{}) {
				t.Errorf("character %d as %q: %+v, %v", i, c, got, err)
			}
		}
	}
	for _, bad := range []string{"", "x", s[1:], s[:119], s + "A", s + "\n", "\n" + s, s + "=", s + s} {
		if _, err := k.Open(bad); !errors.Is(err, errToken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := newKeys(t).Open(s); !errors.Is(err, errToken) {
		t.Errorf("another gateway's key: %v", err)
	}
}

func TestTokensTellNothing(t *testing.T) {
	k := newKeys(t)
	tok := Token{Person: somebody(k), Sender: "acme", Topic: "news", Scope: policy.ScopeTopic, Message: messageOne}
	a, _ := k.Seal(tok)
	b, _ := k.Seal(tok)
	if a == b || a[2:] == b[2:] {
		t.Error("two seals of one token are alike")
	}
	if Ref(a) == Ref(b) || len(Ref(a)) != 16 || strings.Contains(a, Ref(a)) {
		t.Errorf("references %s and %s", Ref(a), Ref(b))
	}
}

func TestLink(t *testing.T) {
	k := newKeys(t)
	for _, public := range []string{"https://opt.acme.example", "https://opt.acme.example/"} {
		u, err := Links{Keys: k, PublicURL: public}.Link(somebody(k), "acme", "news", policy.ScopeTopic, messageOne)
		token, ok := strings.CutPrefix(u, "https://opt.acme.example/u/")
		if err != nil || !ok {
			t.Fatalf("%s, %v", u, err)
		}
		if got, err := k.Open(token); err != nil || got.Topic != "news" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if u, err := (Links{Keys: k}).Link(somebody(k), "acme", strings.Repeat("t", 40), policy.ScopeTopic, messageOne); u != "" || !errors.Is(err, ErrNames) {
		t.Errorf("too long a topic: %q, %v", u, err)
	}
}

func FuzzOpen(f *testing.F) {
	k := rotated(f, 2024, 2025)
	for _, scope := range scopes[1:] {
		s, err := k.Seal(Token{Person: somebody(k), Sender: "acme", Topic: "news", Scope: scope, Message: messageOne})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	f.Add("")
	f.Add(strings.Repeat("A", tokenLength))
	f.Add(strings.Repeat("\n", tokenLength))
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := k.Open(s)
		if err != nil {
			if !errors.Is(err, errToken) || tok != (Token{}) {
				t.Fatalf("%+v, %v", tok, err)
			}
			return
		}
		again, err := k.Seal(tok)
		if err != nil {
			t.Fatalf("what was opened cannot be sealed: %+v, %v", tok, err)
		}
		if back, err := k.Open(again); err != nil || back != tok {
			t.Fatalf("%+v became %+v, %v", tok, back, err)
		}
	})
}

// FuzzUnpack reaches what the tag keeps strangers from.
func FuzzUnpack(f *testing.F) {
	k := rotated(f, 2024)
	b, err := Token{Person: somebody(k), Sender: "acme", Topic: "news", Scope: policy.ScopeTopic, Message: messageOne}.pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(strings.Repeat("\xff", plainBytes)))
	f.Add(append(append([]byte{}, b[:27]...), []byte(strings.Repeat("\xff", plainBytes-27))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := unpack(b)
		if err == nil && (len(tok.Person) != 22 || len(tok.Message) != 16 || tok.Sender == "" || len(tok.Sender)+len(tok.Topic) > policy.MaxNames) {
			t.Fatalf("%+v", tok)
		}
	})
}
