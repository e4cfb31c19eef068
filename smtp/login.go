package smtp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Logins checks passwords. A right one is verified against its slow hash once and known again by a keyed digest, so
// that a mail tool that logs in for every message pays little. All methods may be called at the same time.
type Logins struct {
	key   [32]byte      // of this process
	slots chan struct{} // verifications at a time: each costs tens of MiB

	mu      sync.RWMutex
	entries map[string]login
	dummy   phc // verified in place of what cannot be right
}

type login struct {
	text  string   // the hash as configured, "" for a password
	hash  phc      // its parts
	known [32]byte // digest of the right password; zero until it was seen
}

// otherHash is a hash of a kind that is not argon2id: such a value must not become the password.
var otherHash = regexp.MustCompile(`^\$[0-9a-z-]{1,16}\$`)

// NewLogins takes argon2id hashes in PHC form, or passwords, by account.
func NewLogins(credentials map[string]string) (*Logins, error) {
	l := &Logins{slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
	rand.Read(l.key[:])
	return l, l.Reload(credentials)
}

// Reload replaces all credentials, or none if one is bad. What is known of unchanged hashes stays known.
func (l *Logins) Reload(credentials map[string]string) error {
	entries := make(map[string]login, len(credentials))
	dummy := newPHC()
	for _, account := range slices.Sorted(maps.Keys(credentials)) {
		secret := credentials[account]
		var e login
		switch {
		case account == "" || secret == "":
			return fmt.Errorf("account %q: a name and a password are needed", account)
		case strings.HasPrefix(secret, phcPrefix):
			hash, err := parsePHC(secret)
			if err != nil {
				return fmt.Errorf("account %q: %w", account, err)
			}
			e, dummy = login{text: secret, hash: hash}, hash
		case otherHash.MatchString(secret):
			return fmt.Errorf("account %q: only argon2id hashes are supported", account)
		default:
			e.known = l.digest(account, secret, "")
		}
		entries[account] = e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for account, e := range entries {
		if old := l.entries[account]; e.text != "" && e.text == old.text {
			e.known = old.known
			entries[account] = e
		}
	}
	l.entries, l.dummy = entries, dummy
	return nil
}

// Check fits Server.Login: the user is the account's name. What fails costs the same whether the account exists or
// not. The error is ctx's, where the turn to verify did not come in time.
func (l *Logins) Check(ctx context.Context, user, password string) (account string, ok bool, err error) {
	if l.isKnown(user, password) {
		return user, true, nil
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	if l.isKnown(user, password) { // verified while this one waited
		return user, true, nil
	}
	l.mu.RLock()
	e, dummy := l.entries[user], l.dummy
	l.mu.RUnlock()
	if e.text == "" {
		dummy.matches(password)
		return "", false, nil
	}
	if !e.hash.matches(password) {
		return "", false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.entries[user]; now.text != e.text {
		return "", false, nil // changed meanwhile
	}
	e.known = l.digest(user, password, e.text)
	l.entries[user] = e
	return user, true, nil
}

func (l *Logins) isKnown(user, password string) bool {
	l.mu.RLock()
	e, ok := l.entries[user]
	l.mu.RUnlock()
	sum := l.digest(user, password, e.text)
	return ok && hmac.Equal(sum[:], e.known[:])
}

func (l *Logins) digest(parts ...string) (sum [32]byte) {
	m := hmac.New(sha256.New, l.key[:])
	for _, p := range parts {
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		m.Write([]byte(p))
	}
	return [32]byte(m.Sum(nil))
}
