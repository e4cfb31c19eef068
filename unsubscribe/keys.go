package unsubscribe

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"heed/policy"
)

// Keys are the secrets of the key file: the address key, which never rotates, and the token keys, of which the
// newest makes links and all read them. Safe for concurrent use.
type Keys struct {
	address policy.AddressKey
	tokens  []tokenKey // oldest first, never empty
}

type tokenKey struct {
	id   byte
	aead cipher.AEAD
}

// keyFile is the key file as it stands on disk. encoding/json writes []byte as base64.
type keyFile struct {
	Version    int         `json:"version"`
	AddressKey []byte      `json:"address_key"`
	TokenKeys  []fileToken `json:"token_keys"`
}

type fileToken struct {
	ID      byte      `json:"id"`
	Key     []byte    `json:"key"`
	Created time.Time `json:"created"`
}

const (
	keyFileVersion = 1
	keyBytes       = 32
	maxKeyFile     = 1 << 20 // bytes; 256 token keys need 40 KiB
)

// AddressKey is the secret under which addresses become person keys.
func (k *Keys) AddressKey() policy.AddressKey { return k.address }

// Fingerprint names the address key without revealing it: 32 hex digits. It stands in the state, so that a gateway
// with another key file cannot miss the opt-outs that are there. The label is no normalised address: it has no @.
func (k *Keys) Fingerprint() string {
	m := hmac.New(sha256.New, k.address[:])
	m.Write([]byte("heed address key fingerprint"))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// Format keeps the secrets out of every fmt verb, and so out of logs.
func (k *Keys) Format(f fmt.State, _ rune) { fmt.Fprint(f, "keys ***") }

// LoadOrCreate reads the key file at path; where there is none it makes one, durably, and tells so. Of several
// processes that start at once on one folder, one makes it and the others read that one.
func LoadOrCreate(path string) (*Keys, bool, error) {
	k, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	err = create(path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("cannot make the key file %s: %w; make its folder writable for the gateway, on a file system with hard links, or copy a key file there", path, err)
	}
	created := err == nil
	k, err = Load(path)
	return k, created, err
}

// Load reads the key file at path. Its errors name the file and the remedy; errors.Is(err, fs.ErrNotExist) where
// there is none.
func Load(path string) (*Keys, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no key file %s: %w; `gateway serve` makes it at its first start", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the key file: %w; let the gateway's user read it (mode 0600, owned by that user)", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the key file %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the key file %s is not a file; let keys: name one", path)
	}
	// Everybody who reads it can forge opt-outs and guess addresses. A group may read: mounted secrets need it.
	if mode := info.Mode().Perm(); mode&0o007 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the key file %s is open to every user (mode %04o); close it with `chmod o= %s`", path, mode, path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the key file %s: %w", path, err)
	}
	k, err := parseKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("the key file %s is damaged: %w; restore it from the backup (a new one would not know the opt-outs that are recorded)", path, err)
	}
	return k, nil
}

// parseKeys never quotes what it reads: any of it may be a secret.
func parseKeys(raw []byte) (*Keys, error) {
	var file keyFile
	switch {
	case len(raw) == 0:
		return nil, errors.New("it is empty")
	case len(raw) > maxKeyFile:
		return nil, fmt.Errorf("it has over %d bytes", maxKeyFile)
	case json.Unmarshal(raw, &file) != nil:
		return nil, errors.New("it is not the JSON of a key file")
	case file.Version != keyFileVersion:
		return nil, fmt.Errorf("it has version %d and this gateway reads version %d", file.Version, keyFileVersion)
	case len(file.AddressKey) != keyBytes:
		return nil, fmt.Errorf("address_key has %d bytes instead of %d", len(file.AddressKey), keyBytes)
	case bytes.Equal(file.AddressKey, make([]byte, keyBytes)):
		return nil, errors.New("address_key is all zeros")
	case len(file.TokenKeys) == 0:
		return nil, errors.New("token_keys is empty")
	}
	k := &Keys{address: policy.AddressKey(file.AddressKey)}
	slices.SortStableFunc(file.TokenKeys, func(a, b fileToken) int { return a.Created.Compare(b.Created) })
	for _, t := range file.TokenKeys {
		if len(t.Key) != keyBytes {
			return nil, fmt.Errorf("token key %d has %d bytes instead of %d", t.ID, len(t.Key), keyBytes)
		}
		if slices.ContainsFunc(k.tokens, func(o tokenKey) bool { return o.id == t.ID }) {
			return nil, fmt.Errorf("token key %d is there twice", t.ID)
		}
		block, err := aes.NewCipher(t.Key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		k.tokens = append(k.tokens, tokenKey{id: t.ID, aead: aead})
	}
	return k, nil
}

// create writes a new key file, wholly or not at all. The link fails where path exists: a key file is never replaced.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(keyFile{
		Version:    keyFileVersion,
		AddressKey: randomKey(),
		TokenKeys:  []fileToken{{ID: 1, Key: randomKey(), Created: time.Now().UTC().Truncate(time.Second)}},
	}, "", "  ")
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(append(raw, '\n'))
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err = os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also where another process won: its file is about to be used.
	return errors.Join(err, syncDir(dir))
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // folders cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func randomKey() []byte {
	b := make([]byte, keyBytes)
	rand.Read(b) // never fails: it ends the program instead
	return b
}
