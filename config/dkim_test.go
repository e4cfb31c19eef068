package config

import (
	"fmt"
	"os"
	"testing"
)

func TestDKIMKeys(t *testing.T) {
	for file, want := range map[string]string{
		"rsa": "*rsa.PrivateKey", "rsa8": "*rsa.PrivateKey", "ed25519": "ed25519.PrivateKey", "both": "ed25519.PrivateKey",
	} {
		pem, err := os.ReadFile("testdata/keys/" + file + ".pem")
		if err != nil {
			t.Fatal(err)
		}
		key, err := DKIM{Key: Secret(pem)}.Private()
		if got := fmt.Sprintf("%T", key); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", file, got, err, want)
		}
	}
}

// TestDKIMDomains: of the domains a sender may use, one above or one below can be signed for.
func TestDKIMDomains(t *testing.T) {
	for _, tt := range []struct {
		domains []string
		domain  string
		ok      bool
	}{
		{[]string{"acme.example"}, "acme.example", true},
		{[]string{"Acme.example"}, "acme.example", true},
		{[]string{"acme.example"}, "news.acme.example", true},
		{[]string{"news.acme.example"}, "acme.example", true},
		{[]string{"*"}, "any.example", true},
		{[]string{"b\u00fccher.example"}, "xn--bcher-kva.example", true},
		{[]string{"acme.example"}, "notacme.example", false},
		{[]string{"acme.example", "other.example"}, "other.example", true},
		{nil, "acme.example", false},
	} {
		if got := (&Sender{Domains: tt.domains}).mayUse(tt.domain); got != tt.ok {
			t.Errorf("%q for %s: %t", tt.domains, tt.domain, got)
		}
	}
	for domain, want := range map[string]string{"B\u00fccher.Example": "xn--bcher-kva.example", "ACME.example": "acme.example", "_x.acme.example": "_x.acme.example"} {
		if w := checkSigningDomain(&domain); w.text != "" || domain != want {
			t.Errorf("%s, want %s: %s", domain, want, w.text)
		}
	}
}
