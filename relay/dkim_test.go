package relay

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"heed/rewrite"
	"heed/smtp"
)

// signing gives all accounts of a world a key for acme.example, and returns its verifier: the number of good signatures.
func (w *world) signing() func(m smtp.Message) int {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	signer, err := rewrite.NewSigner([]rewrite.DKIMKey{{Domain: "acme.example", Selector: "s1", Private: private}}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range w.book.Load().Accounts {
		a.Signer = signer
	}
	return func(m smtp.Message) int {
		w.t.Helper()
		found, err := dkim.VerifyWithOptions(bytes.NewReader(m.Data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
			return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}, nil
		}})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, v := range found {
			if v.Err != nil || v.Domain != "acme.example" || !v.Time.Equal(w.now) {
				w.t.Errorf("signature of %s at %s: %v\n%s", v.Domain, v.Time, v.Err, m.Data)
			}
		}
		return len(found)
	}
}

const umlauts = "Content-Type: text/plain; charset=utf-8\r\n\r\nGr\u00fc\u00dfe\r\n"

// TestSigned: what is sent last is what was signed, in 7-bit form too.
func TestSigned(t *testing.T) {
	takes := func(smtp.Message) (smtp.Reply, error) { return accepted, nil }
	sevenBit := without8BitMIME(takes)
	for _, tt := range []struct {
		name, account, fields string
		answer                func(smtp.Message) (smtp.Reply, error)
		pass                  bool
		signatures, tries     int
	}{
		{"marketing", "crm", umlauts, takes, false, 1, 1},
		{"marketing in 7-bit form", "crm", umlauts, sevenBit, false, 1, 2},
		{"marketing by header", "both", umlauts, takes, false, 1, 1},
		{"over the client's login", "crm", umlauts, takes, true, 1, 1},
		{"over the client's login in 7-bit form", "crm", umlauts, sevenBit, true, 1, 2},
		{"transactional", "shop", umlauts, takes, false, 0, 1},
		{"transactional in 7-bit form", "shop", umlauts, sevenBit, false, 0, 2},
		{"transactional by header", "both", "Heed-Category: transactional\r\n" + umlauts, sevenBit, false, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.pass {
				w = passWorld(t)
			}
			signatures := w.signing()
			w.consent("anna@firma.example")
			w.answer = tt.answer
			submit := w.submit
			if tt.pass {
				submit = w.pass
			}
			if _, reply := submit(tt.account, tt.fields, "anna@firma.example"); reply != accepted {
				t.Fatalf("answered %s", reply)
			}
			if len(w.sent) != tt.tries {
				t.Errorf("%d tries", len(w.sent))
			}
			for _, m := range w.sent {
				if n := signatures(m); n != tt.signatures {
					t.Errorf("%d signatures\n%s", n, m.Data)
				}
			}
		})
	}
}

// TestSignedAgain: a copy that waited is signed when it is sent.
func TestSignedAgain(t *testing.T) {
	w := newWorld(t)
	signatures := w.signing()
	w.consent("anna@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{Code: 451, Text: "later"}, nil }
	w.submit("crm", "", "anna@firma.example")
	w.now = w.now.Add(3600e9)
	w.answer = func(smtp.Message) (smtp.Reply, error) { return accepted, nil }
	for _, c := range w.kept {
		if o := w.Attempt(t.Context(), c); o.Fate != smtp.Sent {
			t.Errorf("%+v", o)
		}
	}
	if len(w.sent) != 2 || signatures(w.sent[1]) != 1 {
		t.Errorf("%d sent", len(w.sent))
	}
}

// TestFromOfAnotherDomain: a key signs for its own domain only.
func TestFromOfAnotherDomain(t *testing.T) {
	w := newWorld(t)
	w.signing()
	for _, a := range w.book.Load().Accounts {
		a.Sender.Domains = []string{"*"}
	}
	w.consent("anna@firma.example")
	w.submitRaw("crm", "From: x@other.example\r\nDKIM-Signature: v=1; d=other.example\r\n\r\nHello\r\n", "anna@firma.example")
	if len(w.sent) != 1 || strings.Contains(string(w.sent[0].Data), "DKIM-Signature") {
		t.Errorf("%d sent: %+v", len(w.sent), w.sent)
	}
}
