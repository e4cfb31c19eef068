package smtp

import (
	"strings"
	"testing"

	"heed/smtp/smtptest"
)

func TestParameters(t *testing.T) {
	full := func(change func(*Message)) Message {
		m := letter("b@x.test")
		change(&m)
		return m
	}
	dsn := full(func(m *Message) {
		m.Return, m.EnvID = "HDRS", "a+b=c d"
		m.To[0].Notify, m.To[0].ORcpt = []string{"FAILURE", "DELAY"}, "rfc822;o+p@x.test"
	})
	tests := []struct {
		name   string
		offers string // "" : all
		m      Message
		mail   string
		rcpt   string
		reply  Reply // of ours: nothing is sent
	}{
		{name: "plain", m: letter("b@x.test"), mail: "SIZE=22"},
		{name: "nothing offered", offers: "PIPELINING", m: letter("b@x.test")},
		{name: "8-bit", m: full(func(m *Message) { m.Data = []byte("A: b\r\n\r\n\xe4\r\n") }), mail: "SIZE=11 BODY=8BITMIME"},
		{name: "8-bit not offered", offers: "SIZE", m: full(func(m *Message) { m.Data = []byte("A: b\r\n\r\n\xe4\r\n") }), reply: No8BitMIME},
		{name: "declared 8-bit but is not", m: full(func(m *Message) { m.Body = "8BITMIME" }), mail: "SIZE=22"},
		{name: "UTF8 asked, not needed", m: full(func(m *Message) { m.UTF8 = true }), mail: "SIZE=22"},
		{name: "UTF8 asked, not needed, not offered", offers: "SIZE 8BITMIME", m: full(func(m *Message) { m.UTF8, m.Data = true, []byte("A: b\r\n\r\nü\r\n") }), mail: "SIZE=12 BODY=8BITMIME"},
		{name: "UTF8 in the header", m: full(func(m *Message) { m.UTF8, m.Data = true, []byte("A: ü\r\n\r\nb\r\n") }), mail: "SIZE=12 BODY=8BITMIME SMTPUTF8"},
		{name: "8-bit header, UTF8 not asked", m: full(func(m *Message) { m.Data = []byte("A: ü\r\n\r\nb\r\n") }), mail: "SIZE=12 BODY=8BITMIME"},
		{name: "UTF8 recipient", m: full(func(m *Message) { m.UTF8, m.To[0].Address = true, "ü@x.test" }), mail: "SIZE=22 SMTPUTF8"},
		{name: "UTF8 sender", m: full(func(m *Message) { m.UTF8, m.From = true, "ü@x.test" }), mail: "SIZE=22 SMTPUTF8"},
		{name: "UTF8 recipient, not offered", offers: "8BITMIME", m: full(func(m *Message) { m.UTF8, m.To[0].Address = true, "ü@x.test" }), reply: NoSMTPUTF8},
		{name: "UTF8 header, not offered", offers: "8BITMIME", m: full(func(m *Message) { m.UTF8, m.Data = true, []byte("A: ü\r\n\r\nb\r\n") }), reply: NoSMTPUTF8},
		{name: "SIZE with limit", offers: "SIZE=1000", m: letter("b@x.test"), mail: "SIZE=22"},
		{name: "too big", offers: "SIZE=21", m: letter("b@x.test"), reply: TooBig.With("message is too big for the upstream, which takes 21 bytes")},
		{name: "DSN", m: dsn, mail: "SIZE=22 RET=HDRS ENVID=a+2Bb+3Dc+20d", rcpt: "NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+2Bp@x.test"},
		{name: "DSN not offered", offers: "SIZE", m: dsn, mail: "SIZE=22"},
		{name: "ORCPT in UTF-8 as ASCII", m: full(func(m *Message) { m.To[0].ORcpt = "utf-8;ü+@x.test" }), mail: "SIZE=22", rcpt: `ORCPT=utf-8;\x{FC}\x{2B}@x.test`},
		{name: "ORCPT in UTF-8 as it is", m: full(func(m *Message) { m.To[0].ORcpt, m.To[0].Address = "utf-8;ü@x.test", "ü@x.test" }), mail: "SIZE=22 SMTPUTF8", rcpt: "ORCPT=utf-8;ü@x.test"},
		{name: "malformed DSN", m: full(func(m *Message) {
			m.Return, m.EnvID = "FULL X=Y", strings.Repeat("x", 101)
			m.To[0].Notify, m.To[0].ORcpt = []string{"NEVER", "DELAY"}, "x400;a b"
		}), mail: "SIZE=22"},
		{name: "injection in DSN", m: full(func(m *Message) {
			m.EnvID = "a\r\nRCPT TO:<v@x.test>"
			m.To[0].Notify, m.To[0].ORcpt = []string{"NEVER\r\nDATA"}, "rfc822;a b\r\nDATA"
		}), mail: "SIZE=22 ENVID=a+0D+0ARCPT+20TO:<v@x.test>", rcpt: "ORCPT=rfc822;a+20b+0D+0ADATA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var offers []string
			for word := range strings.FieldsSeq(tt.offers) {
				offers = append(offers, strings.ReplaceAll(word, "=", " "))
			}
			peer := smtptest.New(t, smtptest.Script{Extensions: offers})
			reply, err := upstreamTo(t, peer, nil).Send(t.Context(), tt.m)
			if err != nil {
				t.Fatal(err)
			}
			if tt.reply.Code != 0 {
				if reply != tt.reply || len(peer.Commands()) != 1 {
					t.Errorf("got %v, want %v; sent %q", reply, tt.reply, peer.Commands())
				}
				return
			}
			if !reply.Positive() {
				t.Fatal(reply)
			}
			m := peer.Messages()[0]
			if got := strings.Join(m.Params, " "); got != tt.mail {
				t.Errorf("MAIL got %q, want %q", got, tt.mail)
			}
			if got := strings.Join(m.To[0].Params, " "); got != tt.rcpt {
				t.Errorf("RCPT got %q, want %q", got, tt.rcpt)
			}
		})
	}
}

func TestUnfit(t *testing.T) {
	for _, tt := range []struct {
		name, from, to, data string
		code                 int // 0: it is sent
	}{
		{"good", "a@x.test", "b@x.test", "A: b\r\n", 0},
		{"null sender", "", "b@x.test", "A: b\r\n", 0},
		{"quoted", `"a > \" b"@x.test`, `"<>"@x.test`, "A: b\r\n", 0},
		{"no recipient", "a@x.test", "", "A: b\r\n", 553},
		{"CRLF in the recipient", "a@x.test", "b@x.test>\r\nRCPT TO:<c@x.test", "A: b\r\n", 553},
		{"LF in quotes", "a@x.test", "\"\\\n\"@x.test", "A: b\r\n", 553},
		{"> in the recipient", "a@x.test", "b@x.test> NOTIFY=NEVER", "A: b\r\n", 553},
		{"blank in the sender", "a b@x.test", "b@x.test", "A: b\r\n", 553},
		{"open quote", `"a@x.test`, "b@x.test", "A: b\r\n", 553},
		{"backslash at the end", `"a\`, "b@x.test", "A: b\r\n", 553},
		{"NUL", "a\x00@x.test", "b@x.test", "A: b\r\n", 553},
		{"bare LF", "a@x.test", "b@x.test", "A: b\r\n\r\nc\n.\r\nd\r\n", 550},
		{"bare CR", "a@x.test", "b@x.test", "A: b\r\n\r\nc\r.\r\n", 550},
		{"CR and LF the wrong way round", "a@x.test", "b@x.test", "A: b\n\r.\n\r", 550},
		{"CR at the end", "a@x.test", "b@x.test", "A: b\r\n\r", 550},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peer := smtptest.New(t, smtptest.Script{})
			m := Message{Envelope: Envelope{From: tt.from}, To: []Recipient{{Address: tt.to}}, Data: []byte(tt.data)}
			reply, err := upstreamTo(t, peer, nil).Send(t.Context(), m)
			if err != nil || tt.code == 0 && !reply.Positive() || tt.code != 0 && reply.Code != tt.code {
				t.Errorf("got %v, %v", reply, err)
			}
			if tt.code != 0 {
				if peer.Connections() != 0 {
					t.Error("it connected")
				}
			} else if m := peer.Messages()[0]; m.From != tt.from || m.To[0].Address != tt.to {
				t.Errorf("got %q, %q", m.From, m.To[0].Address)
			}
		})
	}
	if reply, err := upstreamTo(t, smtptest.New(t, smtptest.Script{}), nil).Send(t.Context(), letter()); err != nil || reply.Code != 554 {
		t.Errorf("no recipients: %v, %v", reply, err)
	}
}
