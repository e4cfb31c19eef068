package relay

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"heed/smtp"
)

// without8BitMIME answers as smtp.Upstream does for a server that lacks the extension.
func without8BitMIME(answer func(smtp.Message) (smtp.Reply, error)) func(smtp.Message) (smtp.Reply, error) {
	return func(m smtp.Message) (smtp.Reply, error) {
		if bytes.ContainsFunc(m.Data, func(r rune) bool { return r >= 0x80 }) {
			return smtp.No8BitMIME, nil
		}
		return answer(m)
	}
}

func TestUpstreamWithout8BitMIME(t *testing.T) {
	const head = "From: Acme <news@acme.example>\r\nSubject: News\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
	const text, encoded = "\r\nGrüße aus Köln\r\n", "\r\nGr=C3=BC=C3=9Fe aus K=C3=B6ln\r\n"
	signed := strings.Replace(head, "text/plain; charset=utf-8", "multipart/signed; boundary=b", 1) + "\r\n--b\r\n" + text + "--b--\r\n"
	taken := func(smtp.Message) (smtp.Reply, error) { return accepted, nil }
	says := func(r smtp.Reply, err error) func(smtp.Message) (smtp.Reply, error) {
		return func(smtp.Message) (smtp.Reply, error) { return r, err }
	}
	for _, tt := range []struct {
		name, account, raw string
		answer             func(smtp.Message) (smtp.Reply, error)
		want, fate         string
		has                []string // in the copy that left last
		sends              int
	}{
		{"marketing", "crm", head + text, without8BitMIME(taken), accepted.String(), "sent", []string{encoded, "Content-Transfer-Encoding: quoted-printable\r\n", "List-Unsubscribe: <https://opt.example/u/", "Acme Ltd"}, 2},
		{"transactional", "shop", head + text, without8BitMIME(taken), accepted.String(), "sent", []string{encoded, "Content-Transfer-Encoding: quoted-printable\r\n"}, 2},
		{"7-bit", "shop", head + "\r\nHello\r\n", without8BitMIME(taken), accepted.String(), "sent", []string{"\r\nHello\r\n"}, 1},
		{"signed", "shop", signed, without8BitMIME(taken), "550 5.6.3 the upstream does not offer 8BITMIME, and the message cannot be sent without: it is signed", "failed", nil, 1},
		{"8-bit header", "crm", strings.Replace(head, "News", "Grüße", 1) + text, without8BitMIME(taken), "550 5.6.3 the upstream does not offer 8BITMIME, and the message cannot be sent without: the header field Subject", "failed", nil, 1},
		{"refused in 7-bit form", "shop", head + text, without8BitMIME(says(smtp.Reply{Code: 554, Text: "no"}, nil)), "554 no", "failed", []string{encoded}, 2},
		{"answer lost in 7-bit form", "shop", head + text, without8BitMIME(says(smtp.Reply{}, smtp.ErrInDoubt)), "250 2.0.0 queued as ", "in doubt", []string{encoded}, 2},
		{"gone in 7-bit form", "shop", head + text, without8BitMIME(says(smtp.Reply{}, errors.New("gone"))), "250 2.0.0 queued as ", "deferred", []string{encoded}, 2},
		{"the upstream's own 5.6.3", "shop", head + text, says(smtp.Reply{Code: 550, Enhanced: [3]int{5, 6, 3}, Text: "cannot convert"}, nil), "550 5.6.3 cannot convert", "failed", []string{text}, 1},
		{"never more than twice", "shop", head + text, says(smtp.No8BitMIME, nil), smtp.No8BitMIME.String(), "failed", []string{encoded}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.consent("anna@firma.example")
			w.answer = tt.answer
			_, reply := w.submitRaw(tt.account, tt.raw, "anna@firma.example")
			if !strings.HasPrefix(reply.String(), tt.want) {
				t.Errorf("got %s, want %s", reply, tt.want)
			}
			if len(w.sent) != tt.sends {
				t.Fatalf("%d times sent, want %d", len(w.sent), tt.sends)
			}
			last := w.sent[len(w.sent)-1]
			for _, part := range tt.has {
				if !bytes.Contains(last.Data, []byte(part)) {
					t.Errorf("the copy lacks %q:\n%s", part, last.Data)
				}
			}
			if e := w.entries[len(w.entries)-1]; e.Event != "outcome" || e.Fate != tt.fate {
				t.Errorf("journaled %s %s, want %s", e.Event, e.Fate, tt.fate)
			}
		})
	}
}

// A kept copy keeps the client's message, and takes its 7-bit form anew with each attempt.
func TestKeptCopyToUpstreamWithout8BitMIME(t *testing.T) {
	w := newWorld(t)
	w.consent("anna@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
	const raw = "From: news@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n"
	if _, reply := w.submitRaw("crm", raw, "anna@firma.example"); len(w.kept) != 1 {
		t.Fatal(reply)
	}
	w.answer = without8BitMIME(func(smtp.Message) (smtp.Reply, error) { return accepted, nil })
	for _, c := range w.kept {
		if string(c.Message.Data) != raw {
			t.Errorf("kept %q", c.Message.Data)
		}
		if o := w.Attempt(t.Context(), c); o.Fate != smtp.Sent || o.Reply != accepted {
			t.Errorf("%v", o)
		}
	}
	if last := w.sent[len(w.sent)-1]; !bytes.Contains(last.Data, []byte("\r\nGr=C3=BC=C3=9Fe\r\n")) || last.Body != "7BIT" {
		t.Errorf("%s", last.Data)
	}
}
