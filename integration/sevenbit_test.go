package integration

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

// TestUpstreamWithout8BitMIME: an ESP that takes 7-bit mail only gets it, notice and attachments included.
func TestUpstreamWithout8BitMIME(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{Extensions: []string{"PIPELINING", "ENHANCEDSTATUSCODES"}})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "lager@spedition.example"
	g.consented(to)
	n := 0
	arrived := func(t *testing.T, account, raw string) smtptest.Message {
		t.Helper()
		g.tool(t, account).sent(raw, to)
		n++
		got := up.Await(t, n)[n-1]
		if i := bytes.IndexFunc(got.Data, func(r rune) bool { return r >= 0x80 }); i >= 0 {
			t.Errorf("8-bit at %d of\n%s", i, got.Data)
		}
		if p := strings.Join(got.Params, " "); strings.Contains(p, "BODY") {
			t.Errorf("parameters %q", p)
		}
		return got
	}
	t.Run("marketing", func(t *testing.T) {
		raw := eightBit(to, "seven")
		got := arrived(t, "crm", raw)
		wantCopy(t, []byte(raw), got, to)
		if v := split(got.Data).value("Content-Transfer-Encoding"); v != "quoted-printable" {
			t.Errorf("Content-Transfer-Encoding: %s", v)
		}
	})
	t.Run("attachment", func(t *testing.T) {
		raw := mixed(t, to, "seven.mixed", 100_000)
		got := arrived(t, "crm", raw)
		// The labels are all that differs, beside the text; wantCopy decodes that.
		labelled := strings.ReplaceAll(raw, "Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: quoted-printable")
		want, have := split([]byte(labelled)), split(got.Data)
		wantParts, _ := want.parts()
		haveParts, _ := have.parts()
		if len(haveParts) != 2 || !slices.Equal(haveParts[1].fields, wantParts[1].fields) || !bytes.Equal(haveParts[1].body, wantParts[1].body) {
			t.Fatalf("the attachment is not what was sent")
		}
		link := wantOwnFields(t, &want, &have)
		if !slices.Equal(have.fields, want.fields) {
			t.Errorf("header\n%q\nwant\n%q", have.fields, want.fields)
		}
		texts, _ := haveParts[0].parts()
		for i, begins := range []string{"Grüße\r\n", "<html><body><p>Grüße</p>"} {
			text := texts[i].text(t)
			if flat := strings.Join(strings.Fields(text), " "); !strings.HasPrefix(text, begins) || !strings.Contains(flat, germanNotice) || !strings.Contains(flat, link) {
				t.Errorf("text %d: %s", i, text)
			}
		}
	})
	t.Run("transactional", func(t *testing.T) {
		raw := eightBit(to, "seven.invoice")
		got := arrived(t, "shop", raw)
		want, have := split([]byte(raw)), split(got.Data)
		if v := have.take("Received"); len(v) != 1 || have.text(t) != string(want.body) {
			t.Errorf("got\n%s", got.Data)
		}
		want.take("Content-Transfer-Encoding")
		have.take("Content-Transfer-Encoding")
		if !slices.Equal(have.fields, want.fields) {
			t.Errorf("header\n%q\nwant\n%q", have.fields, want.fields)
		}
	})
	for _, tt := range []struct{ name, old, new, want string }{
		{"signed", "text/plain;\r\n charset=utf-8", "multipart/signed; boundary=b", "the message cannot be sent without: "},
		{"8-bit header", "=?utf-8?b?R3LDvMOfZQ==?=", "Grüße", "the message cannot be sent without: the header field Subject has 8-bit bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, dot := g.tool(t, "shop").send(strings.Replace(eightBit(to, "seven.no"), tt.old, tt.new, 1), to)
			if !strings.HasPrefix(dot, "550 5.6.3 the upstream does not offer 8BITMIME, and "+tt.want) {
				t.Errorf("%q", dot)
			}
			if len(up.Seen()) != n {
				t.Error("it was sent")
			}
		})
	}
	if out := g.must("journal"); strings.Count(out, " fate=sent ") != n || strings.Count(out, " fate=failed ") != 2 {
		t.Errorf("journal:\n%s", out)
	}
}
