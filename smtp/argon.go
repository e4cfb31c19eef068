package smtp

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	phcPrefix    = "$argon2id$"
	maxArgonKiB  = 256 << 10
	maxArgonTime = 16
)

// phc is an argon2id hash, $argon2id$v=19$m=KiB,t=passes,p=lanes$salt$hash.
type phc struct {
	kib, passes uint32
	lanes       uint8
	salt, sum   []byte
}

// newPHC has the parameters of new hashes (OWASP Password Storage Cheat Sheet), and a salt.
func newPHC() phc {
	h := phc{kib: 19 << 10, passes: 2, lanes: 1, salt: make([]byte, 16), sum: make([]byte, 32)}
	rand.Read(h.salt)
	return h
}

// HashPassword makes what an account's password_hash takes (PHC string format).
func HashPassword(password string) string {
	h := newPHC()
	h.sum = h.derive(password)
	return h.String()
}

func (h phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("%sv=%d$m=%d,t=%d,p=%d$%s$%s", phcPrefix, argon2.Version, h.kib, h.passes, h.lanes,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

func (h phc) derive(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.kib, h.lanes, uint32(len(h.sum)))
}

func (h phc) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password), h.sum) == 1
}

// parsePHC refuses parameters that no one means, or that would cost a server its memory.
func parsePHC(s string) (phc, error) {
	f := strings.Split(strings.TrimPrefix(s, phcPrefix), "$")
	if len(f) != 4 || f[0] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, errors.New("malformed argon2id hash: $argon2id$v=19$m=…,t=…,p=…$salt$hash is expected")
	}
	var n [3]uint64
	params := strings.Split(f[1], ",")
	if len(params) != 3 {
		return phc{}, errors.New("malformed argon2id hash: m, t and p are expected")
	}
	for i, key := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(params[i], key)
		x, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil {
			return phc{}, errors.New("malformed argon2id hash: m, t and p are expected")
		}
		n[i] = x
	}
	if n[1] < 1 || n[1] > maxArgonTime || n[2] < 1 || n[2] > 16 || n[0] < 8*n[2] || n[0] > maxArgonKiB {
		return phc{}, fmt.Errorf("argon2id parameters out of range: m up to %d, t up to %d, p up to 16", maxArgonKiB, maxArgonTime)
	}
	h := phc{kib: uint32(n[0]), passes: uint32(n[1]), lanes: uint8(n[2])}
	var errSalt, errSum error
	h.salt, errSalt = base64.RawStdEncoding.DecodeString(f[2])
	h.sum, errSum = base64.RawStdEncoding.DecodeString(f[3])
	if errSalt != nil || errSum != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return phc{}, errors.New("malformed argon2id hash: a salt of 8 to 64 and a hash of 16 to 64 bytes are expected")
	}
	return h, nil
}
