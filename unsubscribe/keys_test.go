package unsubscribe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestKeyFileIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data", "keys.json")
	first, created, err := LoadOrCreate(path)
	if err != nil || !created {
		t.Fatalf("first start: created %v, %v", created, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	second, created, err := LoadOrCreate(path)
	if err != nil || created {
		t.Fatalf("second start: created %v, %v", created, err)
	}
	if first.AddressKey() != second.AddressKey() {
		t.Error("the second start has another address key")
	}
	if first.Fingerprint() != second.Fingerprint() {
		t.Error("the second start has another fingerprint")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".keys-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKeyFileOfARaceIsOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var wg sync.WaitGroup
	fingerprints, created := make([]string, 16), make([]bool, 16)
	for i := range fingerprints {
		wg.Go(func() {
			k, c, err := LoadOrCreate(path)
			if err != nil {
				t.Error(err)
				return
			}
			fingerprints[i], created[i] = k.Fingerprint(), c
		})
	}
	wg.Wait()
	makers := 0
	for i := range fingerprints {
		if fingerprints[i] != fingerprints[0] {
			t.Errorf("process %d has another address key", i)
		}
		if created[i] {
			makers++
		}
	}
	if makers != 1 {
		t.Errorf("%d processes say they made it, want 1", makers)
	}
}

func TestKeyFileIsNeverReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over an existing file: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file now holds %q", got)
	}
}

func TestKeyFileErrors(t *testing.T) {
	key := strings.Repeat("QUJD", 10) + "QUI=" // 32 bytes
	good := fmt.Sprintf(`{"version":1,"address_key":%q,"token_keys":[{"id":1,"key":%q,"created":"2026-01-02T03:04:05Z"}]}`, key, key)
	if _, err := parseKeys([]byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"empty", "", 0o600, "it is empty"},
		{"cut off", good[:100], 0o600, "not the JSON"},
		{"other JSON", `[]`, 0o600, "not the JSON"},
		{"newer version", strings.Replace(good, `"version":1`, `"version":2`, 1), 0o600, "version 2"},
		{"short address key", strings.Replace(good, key, "QUJD", 1), 0o600, "address_key has 3 bytes instead of 32"},
		{"zero address key", strings.Replace(good, key, strings.Repeat("A", 43)+"=", 1), 0o600, "all zeros"},
		{"short token key", good[:strings.LastIndex(good, key)] + "QUJD" + good[strings.LastIndex(good, key)+len(key):], 0o600, "token key 1 has 3 bytes"},
		{"no token key", good[:strings.Index(good, `[{`)] + "[]}", 0o600, "token_keys is empty"},
		{"one id twice", strings.Replace(good, `[{`, fmt.Sprintf(`[{"id":1,"key":%q,"created":"2025-01-02T03:04:05Z"},{`, key), 1), 0o600, "token key 1 is there twice"},
		{"id too big", strings.Replace(good, `"id":1`, `"id":300`, 1), 0o600, "not the JSON"},
		{"endless", strings.Repeat(" ", maxKeyFile+1), 0o600, "over"},
		{"everybody may read", good, 0o644, "chmod o= "},
		{"everybody may write", good, 0o602, "chmod o= "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil { // past the umask
				t.Fatal(err)
			}
			_, created, err := LoadOrCreate(path)
			if err == nil || created {
				t.Fatalf("created %v, error %v", created, err)
			}
			for _, want := range []string{path, tt.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), key) {
				t.Errorf("%q shows a key", err)
			}
			if after, _ := os.ReadFile(path); string(after) != tt.content {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("a group may read", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(good), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("a folder", func(t *testing.T) {
		if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Error(err)
		}
	})
	t.Run("none, not to be made", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.json")
		if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("Load made it")
		}
	})
	t.Run("a folder that cannot be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, created, err := LoadOrCreate(filepath.Join(file, "keys.json")); err == nil || created {
			t.Errorf("created %v, %v", created, err)
		}
	})
}

func TestKeysAreNotPrinted(t *testing.T) {
	k := newKeys(t)
	a := k.AddressKey()
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %x %d", k, k, k, k, k, k)} {
		if strings.Contains(s, fmt.Sprintf("%x", a[:4])) || strings.Contains(s, fmt.Sprint(a[:4])[1:12]) {
			t.Errorf("shows the address key: %s", s)
		}
	}
}

func TestFingerprint(t *testing.T) {
	a, b := newKeys(t), newKeys(t)
	if len(a.Fingerprint()) != 32 || a.Fingerprint() == b.Fingerprint() {
		t.Errorf("fingerprints %s, %s", a.Fingerprint(), b.Fingerprint())
	}
}

// newKeys has fresh keys, by way of a file.
func newKeys(t testing.TB) *Keys {
	t.Helper()
	k, _, err := LoadOrCreate(filepath.Join(t.TempDir(), "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rotated is the key file of keys made once a year, newest first as somebody may have sorted them.
func rotated(t testing.TB, years ...int) *Keys {
	t.Helper()
	file := keyFile{Version: 1, AddressKey: []byte(strings.Repeat("a", keyBytes))}
	for _, y := range years {
		file.TokenKeys = append(file.TokenKeys, fileToken{
			ID: byte(y % 100), Key: []byte(strings.Repeat(string(rune('a'+y%26)), keyBytes)), Created: time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC),
		})
	}
	raw, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
