package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-message"
	"heed/smtp"
	"heed/smtp/smtptest"
)

// sender makes a Sender of a function.
type sender func(m smtp.Message) (smtp.Reply, error)

func (f sender) Send(_ context.Context, m smtp.Message) (smtp.Reply, error) { return f(m) }

// bounceParts reads a bounce as a mail program does: its header and the bodies of its three parts, decoded.
func bounceParts(t testing.TB, data []byte) (mail.Header, [3]string) {
	t.Helper()
	outer, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	e, err := message.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := e.Header.ContentType()
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("content type %q %v, %v", kind, params, err)
	}
	var parts [3]string
	r := e.MultipartReader()
	for i, want := range []string{"text/plain", "message/delivery-status", "text/rfc822-headers"} {
		part, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := part.Header.ContentType(); got != want {
			t.Errorf("part %d is %q, want %q", i, got, want)
		}
		b, err := io.ReadAll(part.Body)
		if err != nil {
			t.Fatal(err)
		}
		parts[i] = string(b)
	}
	if _, err := r.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("more parts: %v", err)
	}
	return outer.Header, parts
}

// statusFields are the groups of a delivery status: of the message, then of each recipient.
func statusFields(t testing.TB, status string) (groups []mail.Header) {
	t.Helper()
	for group := range strings.SplitSeq(strings.TrimSpace(status), "\r\n\r\n") {
		m, err := mail.ReadMessage(strings.NewReader(group + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, m.Header)
	}
	return groups
}

func TestBounceContent(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := &memory{}
	s := &Spool{Store: store, Node: "a", Now: func() time.Time { return now }, Bouncer: &Bouncer{Upstream: "esp", Hostname: "gw.test"}}
	m := smtp.Message{
		Envelope: smtp.Envelope{ID: "t1", Account: "crm", From: "a@acme.test", EnvID: "job 7\r\nAction: relayed"},
		Data:     []byte("Subject: hällo\r\nX-Long: " + strings.Repeat("y", 2000) + "\r\n\r\nsecret content\r\n"),
	}
	err := s.Bounce(t.Context(), m, []smtp.Failure{
		{Recipient: smtp.Recipient{Address: "b@x.test", ORcpt: "rfc822;orig@x.test"}, Reply: smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "unknown\nuser"}, At: now},
		{Recipient: smtp.Recipient{Address: `"q > x"@x.test`}, Reply: smtp.Reply{Code: 554, Text: "no\r\nBcc: v@x.test\r\n\r\nhi"}},
		{Recipient: smtp.Recipient{Address: "jürgen@x.test", ORcpt: "utf-8;jürgen@x.test"}, Reply: smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "grüezi"}},
		{Recipient: smtp.Recipient{Address: "quiet@x.test", Notify: []string{"NEVER"}}, Reply: failed.Reply},
	})
	if err != nil {
		t.Fatal(err)
	}
	items, _ := store.SpoolClaim(t.Context(), "x", now, now, 9, nil)
	if len(items) != 1 {
		t.Fatalf("%d bounces", len(items))
	}
	c, err := decode(items[0])
	if err != nil || !IsBounce(c) || c.Message.From != "" || c.Message.To[0].Address != "a@acme.test" || c.Message.UTF8 || c.Upstream != "esp" || c.Message.Account != "crm" {
		t.Errorf("got %+v, %v", c, err)
	}
	data := c.Message.Data
	for i, b := range data {
		if b >= 0x80 || b == '\n' && data[i-1] != '\r' {
			t.Fatalf("byte %d is %q", i, b)
		}
	}
	h, parts := bounceParts(t, data)
	for name, want := range map[string]string{
		"From": "Mail Delivery System <MAILER-DAEMON@gw.test>", "To": "<a@acme.test>", "Bcc": "",
		"Auto-Submitted": "auto-replied", "Mime-Version": "1.0", "Date": "Sun, 01 Mar 2026 12:00:00 +0000",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if !strings.HasSuffix(h.Get("Message-Id"), "@gw.test>") {
		t.Errorf("Message-ID %q", h.Get("Message-Id"))
	}
	for _, want := range []string{"<b@x.test>\r\n    550 5.1.1 unknown\r\n    user", "<jürgen@x.test>\r\n    550 5.7.1 grüezi", "<\"q > x\"@x.test>\r\n    554 no?\r\n    Bcc: v@x.test?\r\n"} {
		if !strings.Contains(parts[0], want) {
			t.Errorf("%q is missing in %q", want, parts[0])
		}
	}
	groups := statusFields(t, parts[1])
	want := []map[string]string{
		{"Reporting-Mta": "dns; gw.test", "Original-Envelope-Id": "job 7??Action: relayed"},
		{"Original-Recipient": "rfc822; orig@x.test", "Final-Recipient": "rfc822; b@x.test", "Action": "failed", "Status": "5.1.1", "Diagnostic-Code": "smtp; 550 5.1.1 unknown; user", "Last-Attempt-Date": "Sun, 01 Mar 2026 12:00:00 +0000"},
		{"Final-Recipient": `rfc822; "q > x"@x.test`, "Action": "failed", "Status": "5.0.0", "Bcc": ""},
		{"Original-Recipient": `utf-8; j\x{FC}rgen@x.test`, "Final-Recipient": `utf-8; j\x{FC}rgen@x.test`, "Status": "5.7.1", "Diagnostic-Code": "smtp; 550 5.7.1 gr?ezi"},
	}
	if len(groups) != len(want) {
		t.Fatalf("%d groups: %q", len(groups), parts[1])
	}
	for i := range want {
		for name, value := range want[i] {
			if got := groups[i].Get(name); got != value {
				t.Errorf("group %d: %s is %q, want %q", i, name, got, value)
			}
		}
	}
	if header := strings.TrimRight(parts[2], "\r\n"); header != strings.TrimRight(strings.SplitAfter(string(m.Data), "\r\n\r\n")[0], "\r\n") {
		t.Errorf("header %q", header)
	}
	if bytes.Contains(data, []byte("secret")) {
		t.Error("the bounce has the content")
	}
}

func TestBounceToUTF8Sender(t *testing.T) {
	store := &memory{}
	s := &Spool{Store: store, Bouncer: &Bouncer{Hostname: "gw.test"}}
	m := smtp.Message{Envelope: smtp.Envelope{From: "jürgen@acme.test", UTF8: true}, Data: body}
	if err := s.Bounce(t.Context(), m, []smtp.Failure{{Recipient: smtp.Recipient{Address: "b@x.test"}, Reply: failed.Reply}}); err != nil {
		t.Fatal(err)
	}
	item, _ := store.get(store.ids()[0])
	c, err := decode(item)
	if err != nil || !c.Message.UTF8 {
		t.Errorf("got %+v, %v", c, err)
	}
	if h, _ := bounceParts(t, c.Message.Data); h.Get("To") != "<jürgen@acme.test>" {
		t.Errorf("To: %q", h.Get("To"))
	}
}

func TestNoBounce(t *testing.T) {
	store := &memory{}
	one := []smtp.Failure{{Recipient: smtp.Recipient{Address: "b@x.test"}, Reply: failed.Reply}}
	quiet := []smtp.Failure{{Recipient: smtp.Recipient{Address: "b@x.test", Notify: []string{"SUCCESS"}}, Reply: failed.Reply}}
	with, without := &Spool{Store: store, Bouncer: &Bouncer{}}, &Spool{Store: store}
	for name, err := range map[string]error{
		"about a bounce":  with.Bounce(t.Context(), smtp.Message{Data: body}, one),
		"nobody wants it": with.Bounce(t.Context(), smtp.Message{Envelope: smtp.Envelope{From: "a@x.test"}, Data: body}, quiet),
		"bounces are off": without.Bounce(t.Context(), smtp.Message{Envelope: smtp.Envelope{From: "a@x.test"}, Data: body}, one),
	} {
		if err != nil || len(store.ids()) != 0 {
			t.Errorf("%s: %v, %v", name, err, store.ids())
		}
	}
}

func TestBounceIsSent(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fallback string
		answers  map[string][]string
		to       []string // from > to of what the upstream took
	}{
		{"to the sender", "ops@acme.test", nil, []string{" > a@acme.test"}},
		{"null sender refused", "ops@acme.test", map[string][]string{"MAIL": {"550 5.7.1 no null sender", ""}}, []string{"ops@acme.test > ops@acme.test"}},
		{"null sender refused, no fallback", "", map[string][]string{"MAIL": {"550 5.7.1 no null sender", ""}}, nil},
		{"all refused", "ops@acme.test", map[string][]string{"MAIL": {"550 5.7.1 no"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peer := smtptest.New(t, smtptest.Script{Answers: tt.answers})
			up, err := smtp.NewUpstream(smtp.UpstreamConfig{Name: "esp", Address: peer.Addr(), Security: smtp.Plain, Hostname: "gw.test"})
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			store := &memory{}
			empty := make(chan struct{})
			s := &Spool{
				Store: store, Node: "a", Poll: time.Millisecond,
				Bouncer: &Bouncer{Upstream: "esp", Sender: up, Fallback: tt.fallback, Hostname: "gw.test"},
				Attempt: func(context.Context, smtp.Copy) smtp.Outcome { return failed },
			}
			store.failing = func(call, _, _ string) error {
				if call == "claim" && len(store.items) == 0 {
					select {
					case <-empty:
					default:
						close(empty)
					}
				}
				return nil
			}
			keep(t, s, "c1")
			stop := running(t, s)
			<-empty
			if err := stop(); err != nil {
				t.Error(err)
			}
			var got []string
			for _, m := range peer.Messages() {
				got = append(got, m.From+" > "+m.To[0].Address)
				h, _ := bounceParts(t, m.Data)
				if h.Get("To") != "<"+m.To[0].Address+">" || m.From != "" && h.Get("From") != "<"+m.From+">" {
					t.Errorf("From: %q, To: %q", h.Get("From"), h.Get("To"))
				}
			}
			if !slices.Equal(got, tt.to) {
				t.Errorf("got %q, want %q", got, tt.to)
			}
		})
	}
}

// The bounce is durable before the copy goes, and a crash between them does not make a second one.
func TestBounceSurvivesCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crashed := true
		store := &memory{failing: func(call, _, _ string) error {
			if crashed && call == "done" {
				return errStore
			}
			return nil
		}}
		s := &Spool{Store: store, Node: "a", Bouncer: &Bouncer{Hostname: "gw.test", Upstream: "esp"}}
		keep(t, s, "c1")
		if err := s.Settle(t.Context(), letter("c1"), failed); err == nil {
			t.Fatal("no error")
		}
		if want := []string{"c1", "c1b"}; !slices.Equal(store.ids(), want) {
			t.Fatalf("waiting %v, want %v", store.ids(), want)
		}
		crashed = false
		bounces := 0
		after := &Spool{
			Store: store, Node: "b", Attempt: func(context.Context, smtp.Copy) smtp.Outcome { return failed },
			Bouncer: &Bouncer{Hostname: "gw.test", Sender: sender(func(smtp.Message) (smtp.Reply, error) {
				bounces++
				return smtp.Reply{}, context.DeadlineExceeded
			})},
		}
		stop := running(t, after)
		time.Sleep(30 * time.Second)
		stop()
		if !slices.Equal(store.ids(), []string{"c1b"}) || bounces != 1 {
			t.Errorf("waiting %v after %d bounces", store.ids(), bounces)
		}
	})
}

func TestBounceIsBounded(t *testing.T) {
	r := report{host: "gw.test", m: smtp.Message{Data: bytes.Repeat([]byte("X: y\r\n"), 100_000)}}
	for range 1000 {
		r.failed = append(r.failed, smtp.Failure{Recipient: smtp.Recipient{Address: "b@x.test"}, Reply: failed.Reply})
	}
	data, err := r.compose()
	if err != nil || len(data) > maxHeader+1000*300 {
		t.Fatal(len(data), err)
	}
	if _, parts := bounceParts(t, data); strings.Trim(strings.ReplaceAll(parts[2], "X: y\r\n", ""), "\r\n") != "" {
		t.Error("a line of the header was cut")
	}
}

func FuzzReport(f *testing.F) {
	f.Add("a@acme.test", "b@x.test", "rfc822;o@x.test", "env", "550 no", []byte("Subject: x\r\n\r\nbody"))
	f.Add("ü@x", "\"\r\n\"@x", "utf-8;\r\n", "\r\n", "no\r\n\r\nBcc: x", []byte("--=_\r\n\r\n"))
	f.Add("a\x00", "", ";", "\xff", strings.Repeat("x", 5000), bytes.Repeat([]byte("X: y\r\n"), 20))
	f.Add("a", "b", "", "", "", []byte("=\r\n \t\r\n.\r\nFrom x\r\n"))
	f.Fuzz(func(t *testing.T, from, to, orcpt, env, text string, original []byte) {
		data, err := report{
			host: "gw.test", m: smtp.Message{Envelope: smtp.Envelope{From: from, EnvID: env}, Data: original},
			failed: []smtp.Failure{{Recipient: smtp.Recipient{Address: to, ORcpt: orcpt}, Reply: smtp.Reply{Code: 550, Text: text}}},
			now:    time.Unix(0, 0),
		}.compose()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(data, []byte("\n")) != bytes.Count(data, []byte("\r\n")) || bytes.Count(data, []byte("\r")) != bytes.Count(data, []byte("\r\n")) {
			t.Fatalf("bare CR or LF in %q", data)
		}
		h, parts := bounceParts(t, data)
		if len(h) != 8 {
			t.Errorf("%d header fields: %v", len(h), h)
		}
		if groups := statusFields(t, parts[1]); len(groups) != 2 || groups[1].Get("Action") != "failed" || len(groups[1]) > 5 || len(groups[0]) > 2 {
			t.Errorf("got %q", parts[1])
		}
	})
}
