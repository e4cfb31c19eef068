package config

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// DKIM is a key that a sender's marketing mail is signed with (RFC 6376).
type DKIM struct {
	Domain   string `yaml:"domain" is:"required signing" doc:"d= of the signature: the domain of From: or one above it."`
	Selector string `yaml:"selector" is:"required selector" doc:"s= of the signature: the public key is the TXT record SELECTOR._domainkey.DOMAIN."`
	Key      Secret `yaml:"key" is:"required secret file lines" doc:"Private key as PEM: RSA of 1024 to 4096 bits, better 2048 (PKCS#1 or PKCS#8), or Ed25519 (PKCS#8, RFC 8463). One of each gives each message two signatures."`
}

// The sizes of RSA keys that every verifier takes (RFC 8301 section 3.2).
const (
	leastRSA = 1024
	mostRSA  = 4096
)

// Private is the key: an *rsa.PrivateKey or an ed25519.PrivateKey. Its errors hold nothing of it.
func (d DKIM) Private() (crypto.Signer, error) {
	for rest := []byte(d.Key); ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil:
			return nil, errors.New("holds no private key in PEM form")
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("is a key with a passphrase")
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			continue // a public key or certificate beside it
		}
		return privateKey(block.Bytes)
	}
}

func privateKey(der []byte) (crypto.Signer, error) {
	var found any
	found, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if found, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			return nil, errors.New("is no RSA or Ed25519 key that can be read")
		}
	}
	switch k := found.(type) {
	case ed25519.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < leastRSA || n > mostRSA {
			return nil, fmt.Errorf("is an RSA key of %d bits; verifiers take %d to %d", n, leastRSA, mostRSA)
		}
		return k, nil
	}
	return nil, errors.New("is neither an RSA nor an Ed25519 key")
}

const dkimRemedy = "name a file that `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048` or `openssl genpkey -algorithm ed25519` has written"

func (c *Config) checkDKIM(r *report) {
	type use struct {
		sender int
		at     string
		key    Secret
	}
	seen := map[string]use{}
	for i, s := range c.Senders {
		for j, d := range s.DKIM {
			at := fmt.Sprintf("senders[%d].dkim[%d]", i, j)
			if !r.bad(at + ".key") {
				if _, err := d.Private(); err != nil {
					r.add(at+".key", err.Error(), dkimRemedy)
				}
			}
			if r.bad(at+".domain") || r.bad(at+".selector") {
				continue
			}
			name := strings.ToLower(d.Selector) + "._domainkey." + d.Domain
			first, again := seen[name]
			switch {
			case len(name) > 253:
				r.add(at+".selector", fmt.Sprintf("makes a name of %d bytes with the domain, longer than the DNS allows", len(name)), "write a shorter one")
			case again && (first.sender == i || !bytes.Equal([]byte(first.key), []byte(d.Key))):
				r.add(at+".selector", "and the domain are those of "+first.at+" too: one name in the DNS holds one key", "write another selector")
			case !r.bad(fmt.Sprintf("senders[%d].domains", i)) && !s.mayUse(d.Domain):
				r.add(at+".domain", "is none that senders["+fmt.Sprint(i)+"].domains lets it use, nor above or below one: no signature would ever be made", "write the domain of its From: addresses")
			}
			if !again {
				seen[name] = use{i, at, d.Key}
			}
		}
	}
}

// mayUse tells whether mail that the sender may send could be signed for a domain.
func (s *Sender) mayUse(domain string) bool {
	return slices.ContainsFunc(s.Domains, func(d string) bool {
		if a, err := idna.Lookup.ToASCII(d); err == nil {
			d = a
		}
		d = "." + strings.ToLower(d)
		return d == ".*" || strings.HasSuffix("."+domain, d) || strings.HasSuffix(d, "."+domain)
	})
}

// checkSigningDomain takes a domain with a dot in it, as its A-label.
func checkSigningDomain(p *string) wrong {
	a, err := idna.Lookup.ToASCII(*p)
	if err != nil { // with an underscore, perhaps
		a = strings.ToLower(*p)
	}
	*p = a
	return unless(len(a) <= 253 && hostName.MatchString(a) && strings.Contains(a, ".") && !strings.Contains("0123456789", a[len(a)-1:]), "is not a domain", "write it like example.com")
}

// checkFieldName takes the name of a header field (RFC 5322 section 3.6.8) that a signature can do without.
func checkFieldName(p *string) wrong {
	if strings.EqualFold(*p, "From") {
		return wrong{"cannot be left out of a signature (RFC 6376 section 5.4)", "remove it; if the ESP replaces From:, remove senders[].dkim and let the ESP sign"}
	}
	ok := !strings.ContainsFunc(*p, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' })
	return unless(ok, "is not the name of a header field", "write it without a colon, like Message-ID")
}
