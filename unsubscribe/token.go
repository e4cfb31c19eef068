package unsubscribe

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"heed/policy"
)

// Token is what an opt-out link carries: who opts out of what, and by which message.
type Token struct {
	Person  string       // of policy.AddressKey.Person
	Sender  string       // a sender id, never empty
	Topic   string       // "" if the message had none
	Scope   policy.Scope // what one click opts out of; topic only where there is one
	Message string       // 16 characters, as smtp.NewID makes them
}

// A token is 120 characters of base64url (RFC 4648 section 5), always: its length tells nothing.
//
//	1 key id | 12 nonce | AES-256-GCM of 61 bytes | 16 tag           the key id is the additional data
//	16 person | 1 scope | 10 message | 1+n sender | 1+m topic | zeros
const (
	personBytes  = 16
	messageBytes = 10
	nonceBytes   = 12
	tagBytes     = 16
	plainBytes   = personBytes + 1 + messageBytes + 1 + 1 + policy.MaxNames
	tokenBytes   = 1 + nonceBytes + plainBytes + tagBytes
	tokenLength  = tokenBytes * 4 / 3
)

// ErrNames is why Seal refuses a sender id and topic: none or too long together, or not fit to be shown.
var ErrNames = fmt.Errorf("a sender id and a topic must have 1 to %d bytes of printable text together", policy.MaxNames)

// errToken is the one error of Open: what is wrong with a token is nobody's business.
var errToken = errors.New("not an opt-out token of this gateway")

var (
	scopes    = [...]policy.Scope{1: policy.ScopeTopic, 2: policy.ScopeSender, 3: policy.ScopeAll}
	messageID = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
)

// Seal makes the token under the newest key. Scope topic without a topic becomes sender. Random nonces are safe for
// 2^32 tokens under one key (NIST SP 800-38D section 8.3): rotate the key before that.
func (k *Keys) Seal(t Token) (string, error) {
	plain, err := t.pack()
	if err != nil {
		return "", err
	}
	key := k.tokens[len(k.tokens)-1]
	out := make([]byte, 1+nonceBytes, tokenBytes)
	out[0] = key.id
	rand.Read(out[1:])
	out = key.aead.Seal(out, out[1:], plain, out[:1])
	return base64.RawURLEncoding.EncodeToString(out), nil
}

// Open reads a token that any of the keys made. Its error says nothing of the cause.
func (k *Keys) Open(token string) (Token, error) {
	if len(token) != tokenLength {
		return Token{}, errToken
	}
	// The decoder skips line breaks: a token with some in it comes out short.
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenBytes {
		return Token{}, errToken
	}
	for _, key := range k.tokens {
		if key.id != raw[0] {
			continue
		}
		plain, err := key.aead.Open(nil, raw[1:1+nonceBytes], raw[1+nonceBytes:], raw[:1])
		if err != nil {
			return Token{}, errToken
		}
		return unpack(plain)
	}
	return Token{}, errToken
}

// Ref is the token's reference, 16 characters, kept with the opt-out it made (policy.OptOut.Ref). It names the
// token and does not reveal it.
func Ref(token string) string {
	sum := sha256.Sum256([]byte("heed opt-out token\x00" + token))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func (t Token) pack() ([]byte, error) {
	person, err := base64.RawURLEncoding.DecodeString(t.Person)
	if err != nil || len(person) != personBytes {
		return nil, errors.New("the person of an opt-out token is no person key")
	}
	message, err := messageID.DecodeString(t.Message)
	if err != nil || len(message) != messageBytes {
		return nil, errors.New("the message of an opt-out token is no message ID")
	}
	if t.Sender == "" || len(t.Sender)+len(t.Topic) > policy.MaxNames || !printable(t.Sender) || !printable(t.Topic) {
		return nil, ErrNames
	}
	if t.Scope == policy.ScopeTopic && t.Topic == "" {
		t.Scope = policy.ScopeSender
	}
	var scope byte
	for i, s := range scopes {
		if i > 0 && s == t.Scope {
			scope = byte(i)
		}
	}
	if scope == 0 {
		return nil, fmt.Errorf("an opt-out token has no scope %q", t.Scope)
	}
	b := make([]byte, 0, plainBytes)
	b = append(b, person...)
	b = append(b, scope)
	b = append(b, message...)
	b = append(append(b, byte(len(t.Sender))), t.Sender...)
	b = append(append(b, byte(len(t.Topic))), t.Topic...)
	return b[:plainBytes], nil // make zeroed the rest
}

// unpack takes what the tag has vouched for; the checks stand for a key file that another program shares.
func unpack(b []byte) (Token, error) {
	if len(b) != plainBytes {
		return Token{}, errToken
	}
	t := Token{Person: base64.RawURLEncoding.EncodeToString(b[:personBytes])}
	b = b[personBytes:]
	if b[0] == 0 || int(b[0]) >= len(scopes) {
		return Token{}, errToken
	}
	t.Scope, b = scopes[b[0]], b[1:]
	t.Message, b = messageID.EncodeToString(b[:messageBytes]), b[messageBytes:]
	for _, name := range []*string{&t.Sender, &t.Topic} {
		if len(b) == 0 || int(b[0]) > len(b)-1 {
			return Token{}, errToken
		}
		n := 1 + int(b[0])
		*name, b = string(b[1:n]), b[n:]
	}
	if t.Sender == "" || strings.Trim(string(b), "\x00") != "" {
		return Token{}, errToken
	}
	return t, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// Links makes the opt-out links of messages.
type Links struct {
	Keys      *Keys
	PublicURL string // where the world reaches the handler; never taken from a request's Host
}

// Link is one recipient's opt-out link in one message. errors.Is(err, ErrNames) where the sender id and the topic do
// not fit into it.
func (l Links) Link(person, sender, topic string, scope policy.Scope, message string) (string, error) {
	token, err := l.Keys.Seal(Token{Person: person, Sender: sender, Topic: topic, Scope: scope, Message: message})
	if err != nil {
		return "", err
	}
	return strings.TrimRight(l.PublicURL, "/") + linkPath + token, nil
}
