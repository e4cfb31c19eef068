package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"heed/policy"
	"heed/rewrite"
	"heed/smtp"
)

// world is everything around a relay, in memory; tests break parts of it.
type world struct {
	*Relay
	t  testing.TB
	mu sync.Mutex

	facts      map[string]policy.Facts
	factsErr   error
	fetches    int
	entries    []policy.Entry
	journalErr error
	sent       []smtp.Message
	answer     func(smtp.Message) (smtp.Reply, error)
	kept       map[string]smtp.Copy
	keepErr    error
	settled    map[string]smtp.Outcome
	dropped    []string
	bounced    []smtp.Failure
	bounceErr  error
	now        time.Time
}

var accepted = smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "Ok: queued as 1A2B"}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, facts: map[string]policy.Facts{}, kept: map[string]smtp.Copy{}, settled: map[string]smtp.Outcome{},
		answer: func(smtp.Message) (smtp.Reply, error) { return accepted, nil },
		now:    time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
	}
	rules, err := policy.Guide(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	notices, err := rewrite.LoadNotices()
	if err != nil {
		t.Fatal(err)
	}
	sender := &policy.Sender{ID: "acme", Name: "Acme Ltd", PostalAddress: "1 High Street, London", Country: "GB", Domains: []string{"acme.example"}}
	book := &Book{Rules: rules, Notices: notices, Language: "auto", OneClick: "auto", Accounts: map[string]*Account{}}
	for name, a := range map[string]policy.Account{
		"crm":  {Category: policy.Marketing, Topic: "news", Product: "crm"},
		"open": {Category: policy.Marketing},
		"shop": {Category: policy.Transactional},
		"both": {Category: policy.ByHeader, Topic: "news", Product: "crm"},
		"look": {Category: policy.Marketing, Topic: "news", Product: "crm", Observe: true},
		"firm": {Category: policy.Marketing, Topic: "news", Product: "crm"},
	} {
		a.Name, a.Sender = name, sender
		book.Accounts[name] = &Account{Account: a, Upstreams: []string{"esp"}, RejectPartial: name == "firm"}
	}
	w.Relay = &Relay{
		Hostname: "gw.example", Key: policy.AddressKey{1}, Contacts: w, Journal: w, Links: w, Spool: w, Meter: w,
		Upstreams: map[string]smtp.Sender{"esp": w}, Budget: 10 * time.Second,
		Now: func() time.Time { return w.now }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	w.Load(book)
	return w
}

// consent gives an address a confirmed consent.
func (w *world) consent(address string) {
	w.facts[w.person(address)] = policy.Facts{Contact: policy.Contact{
		Country:   policy.Dated[[]string]{Value: []string{"DE"}},
		Relations: map[string]policy.Relation{"acme": {CollectedBy: policy.Dated[string]{Value: "acme"}}},
		Consents:  []policy.Consent{{Sender: "acme", Method: policy.Double, At: w.now.AddDate(0, -1, 0)}},
	}}
}

func (w *world) optOut(address string, o policy.OptOut) {
	f := w.facts[w.person(address)]
	f.OptOuts = append(f.OptOuts, o)
	w.facts[w.person(address)] = f
}

func (w *world) person(address string) string {
	n, err := policy.Normalise(address)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Key.Person(n)
}

func (w *world) Facts(_ context.Context, persons []string) (map[string]policy.Facts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetches++
	found := map[string]policy.Facts{}
	for _, p := range persons {
		if f, ok := w.facts[p]; ok {
			found[p] = f
		}
	}
	return found, w.factsErr
}

func (w *world) Record(_ context.Context, e []policy.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.journalErr == nil {
		w.entries = append(w.entries, e...)
	}
	return w.journalErr
}

func (w *world) Link(person, sender, topic string, scope policy.Scope, message string) (string, error) {
	return fmt.Sprintf("https://opt.example/u/%s-%s-%s-%s", person, sender, topic, scope), nil
}

func (w *world) Send(_ context.Context, m smtp.Message) (smtp.Reply, error) {
	w.mu.Lock()
	if len(w.entries) == 0 {
		w.t.Error("sent before the decision was journaled")
	}
	w.sent = append(w.sent, m)
	answer := w.answer
	w.mu.Unlock()
	return answer(m)
}

func (w *world) Keep(_ context.Context, body []byte, copies []smtp.Copy) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keepErr != nil {
		return w.keepErr
	}
	for _, c := range copies {
		c.Message.Data = slices.Clone(body)
		w.kept[c.ID] = c
	}
	return nil
}

func (w *world) Settle(_ context.Context, c smtp.Copy, o smtp.Outcome) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.kept[c.ID]; !ok {
		w.t.Errorf("settled %s, which was not kept", c.ID)
	}
	w.settled[c.ID] = o
	return nil
}

func (w *world) Hold(ctx context.Context, _ smtp.Copy) (context.Context, func()) {
	return ctx, func() {}
}

func (w *world) Done(_ context.Context, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped = append(w.dropped, id)
	return nil
}

func (w *world) Bounce(_ context.Context, _ smtp.Message, failed []smtp.Failure) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bounceErr == nil {
		w.bounced = append(w.bounced, failed...)
	}
	return w.bounceErr
}

func (w *world) Decided(string, string, string)    {}
func (w *world) Delivered(string, string, float64) {}
func (w *world) codes() (codes []string) {
	for _, e := range w.entries {
		if e.Event == "decision" {
			codes = append(codes, e.Stage+" "+e.Action+" "+e.Code)
		}
	}
	return codes
}

const plainMail = "From: Acme <news@acme.example>\r\nTo: list@acme.example\r\nSubject: News\r\nMessage-ID: <m1@acme.example>\r\n%s\r\nHello\r\n"

// submit runs a whole transaction as the door would: RCPT for each, then DATA for those taken.
func (w *world) submit(account, fields string, to ...string) (rcpt []smtp.Reply, data smtp.Reply) {
	return w.submitRaw(account, fmt.Sprintf(plainMail, fields), to...)
}

func (w *world) submitRaw(account, raw string, to ...string) (rcpt []smtp.Reply, data smtp.Reply) {
	e := smtp.Envelope{ID: smtp.NewID(), Account: account, From: "bounce@acme.example", Helo: "tool", Peer: netip.MustParseAddr("127.0.0.1")}
	m := smtp.Message{Envelope: e, Data: []byte(raw)}
	for _, a := range to {
		r := w.Recipient(context.Background(), e, a)
		rcpt = append(rcpt, r)
		if r.Positive() {
			m.To = append(m.To, smtp.Recipient{Address: a})
			e.Taken++
		}
	}
	if len(m.To) == 0 {
		return rcpt, smtp.Reply{}
	}
	return rcpt, w.Message(context.Background(), m)
}

func TestLawfulMailIsHandedThrough(t *testing.T) {
	w := newWorld(t)
	w.consent("anna@firma.example")
	_, reply := w.submit("crm", "Heed-Language: de\r\nBcc: x@y.example\r\n", "Anna@Firma.example")
	if reply != accepted {
		t.Fatalf("the upstream's own answer was not handed through: %s", reply)
	}
	if len(w.sent) != 1 || len(w.kept) != 0 {
		t.Fatalf("%d sent, %d kept", len(w.sent), len(w.kept))
	}
	got := strings.ReplaceAll(string(w.sent[0].Data), "\r\n ", " ")
	for _, want := range []string{
		"List-Unsubscribe: <https://opt.example/u/" + w.person("anna@firma.example") + "-acme-news-sender>", "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
		"List-Id: ", "Received: from tool ([127.0.0.1]) by gw.example with ESMTP id ", "Acme Ltd", "\r\nHello\r\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the copy lacks %q:\n%s", want, got)
		}
	}
	for _, not := range []string{"Heed-", "Bcc"} {
		if strings.Contains(got, not) {
			t.Errorf("the copy has %q", not)
		}
	}
	if w.fetches != 1 {
		t.Errorf("%d fetches: what RCPT fetched serves DATA", w.fetches)
	}
	if c := w.codes(); !slices.Equal(c, []string{"data allow "}) {
		t.Errorf("journal: %q", c)
	}
	last := w.entries[len(w.entries)-1]
	if last.Event != "outcome" || last.Fate != "sent" || last.Decision != w.entries[0].ID || last.Reply != accepted.String() {
		t.Errorf("outcome: %+v", last)
	}
	if v := w.entries[0].Verdict; v == nil || v.Recipient != "" {
		t.Errorf("the verdict in the journal must not name the address: %+v", v)
	}
}

func TestRecipient(t *testing.T) {
	tests := []struct {
		name, account, to string
		prepare           func(w *world)
		want              string // prefix of the RCPT reply
	}{
		{"no consent", "crm", "max@firma.de", nil, "550 5.7.1 <max@firma.de> blocked [consent.missing]"},
		{"consent", "crm", "anna@firma.example", nil, "250 "},
		{"opted out", "crm", "anna@firma.example", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "550 5.7.1 <anna@firma.example> blocked [optout.all]"},
		{"no country known: the message may name one", "crm", "max@firma.example", nil, "250 "},
		{"topic and product open: the message may name them", "open", "max@firma.de", nil, "250 "},
		{"topic open, opted out of the sender", "open", "anna@firma.example", func(w *world) {
			w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeSender, Sender: "acme"})
		}, "550 5.7.1 <anna@firma.example> blocked [optout.sender]"},
		{"topic open, opted out of a topic", "open", "anna@firma.example", func(w *world) {
			w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news"})
		}, "250 "},
		{"transactional to one who opted out", "shop", "anna@firma.example", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "250 "},
		{"category left to the header, opted out", "both", "anna@firma.example", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "250 "},
		{"observed", "look", "max@firma.de", nil, "250 "},
		{"observed, opted out", "look", "anna@firma.example", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "550 "},
		{"unknown account", "ghost", "anna@firma.example", nil, "530 5.7.0"},
		{"malformed", "crm", "anna@..", nil, "553 5.1.3"},
		{"state down", "crm", "anna@firma.example", func(w *world) { w.factsErr = errors.New("secret detail") }, "451 4.3.0"},
		{"journal down, blocked", "crm", "max@firma.de", func(w *world) { w.journalErr = errors.New("secret detail") }, "451 4.3.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.consent("anna@firma.example")
			if tt.prepare != nil {
				tt.prepare(w)
			}
			got := w.Recipient(context.Background(), smtp.Envelope{ID: "T", Account: tt.account}, tt.to).String()
			if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "secret") {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if strings.HasPrefix(got, "550") && len(w.entries) != 1 {
				t.Errorf("a refusal must be journaled: %+v", w.entries)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	tests := []struct {
		name, account, fields string
		prepare               func(w *world)
		want                  string
		sent                  int
	}{
		{"lawful", "crm", "", nil, "250 2.0.0 Ok: queued as 1A2B", 1},
		{"topic named, opted out of it", "open", "Heed-Topic: news\r\nHeed-Product: crm\r\n", func(w *world) {
			w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news"})
		}, "550 5.7.1 <anna@firma.example> blocked [optout.topic]", 0},
		{"header country stricter", "crm", "Heed-Country: XX\r\n", nil, "550 5.7.1 Heed-Country", 0},
		{"two topics", "open", "Heed-Topic: a\r\nHeed-Topic: b\r\n", nil, "550 5.7.1 Heed-Topic stands 2 times", 0},
		{"category marketing by header", "both", "Heed-Category: marketing\r\n", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "550 5.7.1 <anna@firma.example> blocked [optout.all]", 0},
		{"category missing is marketing", "both", "", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "550 5.7.1 <anna@firma.example> blocked [optout.all]", 0},
		{"category transactional by header", "both", "Heed-Category: Transactional\r\n", func(w *world) { w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "250 2.0.0 Ok", 1},
		{"category unknown", "both", "Heed-Category: bulk\r\n", nil, "550 5.7.1 Heed-Category", 0},
		{"recipients inside", "crm", "X-SMTPAPI: {\"to\":[\"a@b.example\"]}\r\n", nil, "550 5.7.1 <anna@firma.example> blocked [esp.recipients]", 0},
		{"recipients inside, transactional", "shop", "X-SMTPAPI: {\"to\":[\"a@b.example\"]}\r\n", nil, "550 5.7.1 <anna@firma.example> blocked [esp.recipients]", 0},
		{"opt-outs bypassed", "crm", "X-SMTPAPI: {\"filters\":{\"bypass_list_management\":{\"settings\":{\"enable\":1}}}}\r\n", nil, "550 5.7.1 <anna@firma.example> blocked [esp.bypass] X-SMTPAPI \"filters.bypass_list_management\" would send to people who unsubscribed, complained or bounced (SendGrid): leave it out (decision ", 0},
		{"opt-outs bypassed, observed", "look", "X-MC-SendAt: 2026-12-01\r\n", nil, "550 5.7.1 <anna@firma.example> blocked [esp.bypass]", 0},
		{"opt-outs bypassed, transactional", "shop", "X-MC-SendAt: 2026-12-01\r\nX-SMTPAPI: {\"sub\":{\"a\":[\"b\"]}}\r\n", nil, "250 2.0.0 Ok", 1},
		{"recipients and a bypass", "crm", "X-MC-SendAt: 2026-12-01\r\nX-MC-BccAddress: a@b.example\r\n", nil, "550 5.7.1 <anna@firma.example> blocked [esp.recipients]", 0},
		{"recipients and a bypass, transactional", "shop", "X-MC-SendAt: 2026-12-01\r\nX-MC-BccAddress: a@b.example\r\n", nil, "550 5.7.1 <anna@firma.example> blocked [esp.recipients]", 0},
		{"signed", "crm", "Content-Type: multipart/signed; boundary=x; protocol=\"application/pgp-signature\"\r\n", nil, "550 5.6.0 [content.unrewritable]", 0},
		{"loop", "crm", strings.Repeat("Received: from a by b; now\r\n", 51), nil, "554 5.4.6", 0},
		{"state down", "open", "", func(w *world) { w.factsErr = errors.New("secret") }, "451 4.3.0", 0},
		{"journal down: no record, no send", "crm", "", func(w *world) { w.journalErr = errors.New("secret") }, "451 4.3.0", 0},
		{"upstream refuses for good", "crm", "", func(w *world) {
			w.answer = func(smtp.Message) (smtp.Reply, error) {
				return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}, nil
			}
		}, "550 5.1.1 no such user", 1},
		{"upstream defers", "crm", "", func(w *world) {
			w.answer = func(smtp.Message) (smtp.Reply, error) {
				return smtp.Reply{Code: 451, Enhanced: [3]int{4, 7, 1}, Text: "later"}, nil
			}
		}, "250 2.0.0 queued as ", 1},
		{"upstream gone", "crm", "", func(w *world) {
			w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("connection refused") }
		}, "250 2.0.0 queued as ", 1},
		{"upstream gone, spool full", "crm", "", func(w *world) {
			w.keepErr = smtp.ErrFull
			w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("connection refused") }
		}, "4", 1},
		{"upstream defers, spool full: its own words", "crm", "", func(w *world) {
			w.keepErr = smtp.ErrFull
			w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{Code: 451, Text: "later"}, nil }
		}, "451 later", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.consent("anna@firma.example")
			if tt.prepare != nil {
				tt.prepare(w)
			}
			m := smtp.Message{
				Envelope: smtp.Envelope{ID: smtp.NewID(), Account: tt.account, From: "b@acme.example", Helo: "tool", Peer: netip.MustParseAddr("::1")},
				To:       []smtp.Recipient{{Address: "anna@firma.example"}}, Data: fmt.Appendf(nil, plainMail, tt.fields),
			}
			got := w.Message(context.Background(), m).String()
			if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "secret") {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(w.sent) != tt.sent {
				t.Errorf("%d sent, want %d", len(w.sent), tt.sent)
			}
		})
	}
}

// A sender that may use any From: may have one that cannot be read: the List-Id then needs another domain.
func TestAnyFromMayBeUnreadable(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.Relay.book.Load().Accounts["crm"].Sender.Domains = []string{"*"}
	for _, from := range []string{"", "From: Acme <news@\r\n", "From: undisclosed:;\r\n"} {
		if _, reply := w.submitRaw("crm", from+"Subject: News\r\n\r\nHello\r\n", "a@firma.example"); reply.Temporary() {
			t.Errorf("%q: %s", from, reply)
		}
	}
}

func TestTransactionalPassesAsItIs(t *testing.T) {
	w := newWorld(t)
	w.optOut("anna@firma.example", policy.OptOut{Scope: policy.ScopeAll})
	raw := "From: orders@acme.example\r\nHeed-Topic: x\r\nBcc: secret@b.example\r\nSubject: Invoice\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\nA\r\n--x--\r\n"
	if _, reply := w.submitRaw("shop", raw, "anna@firma.example"); reply != accepted {
		t.Fatal(reply)
	}
	got := string(w.sent[0].Data)
	_, got, _ = strings.Cut(got, "\r\nFrom:")
	want := " orders@acme.example\r\nSubject: Invoice\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\nA\r\n--x--\r\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	w.sent = nil
	if _, reply := w.submitRaw("shop", strings.Replace(raw, "acme.example", "evil.example", 1), "anna@firma.example"); !strings.Contains(reply.String(), "[sender.domain]") || len(w.sent) > 0 {
		t.Errorf("a strange From: %s", reply)
	}
}

func TestSeveralRecipients(t *testing.T) {
	failFor := func(who string) func(smtp.Message) (smtp.Reply, error) {
		return func(m smtp.Message) (smtp.Reply, error) {
			if m.To[0].Address == who {
				return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user"}, nil
			}
			return accepted, nil
		}
	}
	three := []string{"a@firma.example", "b@firma.example", "c@firma.example"}
	tests := []struct {
		name    string
		account string
		to      []string
		prepare func(w *world)
		want    string
		sent    int
		bounced int
	}{
		{"all sent", "crm", three, nil, "250 2.0.0 Ok: queued as 1A2B", 3, 0},
		{"the same twice gets one copy", "crm", []string{"a@firma.example", "A@firma.example"}, nil, "250 2.0.0 Ok: queued as 1A2B", 1, 0},
		{"one refused upstream: the others stand, it bounces", "crm", three, func(w *world) { w.answer = failFor("b@firma.example") }, "250 2.0.0 ID: 2 sent, 1 failed", 3, 1},
		{"one blocked at DATA: the others stand, it bounces", "open", three, func(w *world) {
			w.optOut("b@firma.example", policy.OptOut{Scope: policy.ScopeTopic, Sender: "acme", Topic: "news"})
		}, "250 2.0.0 ID: 2 sent, 1 blocked", 2, 1},
		{"one blocked at RCPT: it was refused there", "crm", three, func(w *world) { w.optOut("b@firma.example", policy.OptOut{Scope: policy.ScopeAll}) }, "250 2.0.0 Ok: queued as 1A2B", 2, 0},
		{"all refused upstream: nobody was accepted", "crm", three, func(w *world) {
			w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{Code: 554, Text: "no"}, nil }
		}, "554 no", 3, 0},
		{"upstream gone: all queued", "crm", three, func(w *world) {
			w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
		}, "250 2.0.0 queued as ID", 3, 0},
		{"spool full: nothing accepted", "crm", three, func(w *world) { w.keepErr = smtp.ErrFull }, "452 4.3.1", 0, 0},
		{"spool broken: nothing accepted", "crm", three, func(w *world) { w.keepErr = errors.New("disk full") }, "451 4.3.0", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for _, a := range three {
				w.consent(a)
			}
			if tt.prepare != nil {
				tt.prepare(w)
			}
			fields := ""
			if tt.account == "open" {
				fields = "Heed-Topic: news\r\nHeed-Product: crm\r\n"
			}
			_, reply := w.submit(tt.account, fields, tt.to...)
			got := reply.String()
			if len(w.entries) > 0 {
				got = strings.ReplaceAll(got, w.entries[len(w.entries)-1].Message, "ID")
			}
			if !strings.HasPrefix(got, tt.want) || len(w.sent) != tt.sent || len(w.bounced) != tt.bounced {
				t.Errorf("%s (%d sent, %d bounced), want %s (%d, %d)", got, len(w.sent), len(w.bounced), tt.want, tt.sent, tt.bounced)
			}
			for id := range w.kept {
				if _, ok := w.settled[id]; !ok && !slices.Contains(w.dropped, id) {
					t.Errorf("copy %s was kept and neither settled nor dropped", id)
				}
			}
		})
	}
}

// Whoever was promised a report gets one: a copy that failed stays kept where its report could not be made durable.
func TestFailedCopyStaysWithoutItsBounce(t *testing.T) {
	w := newWorld(t)
	w.bounceErr = errors.New("disk full")
	w.consent("a@firma.example")
	w.consent("b@firma.example")
	w.answer = func(m smtp.Message) (smtp.Reply, error) {
		if m.To[0].Address == "b@firma.example" {
			return smtp.Reply{Code: 550, Text: "no such user"}, nil
		}
		return accepted, nil
	}
	if _, reply := w.submit("crm", "", "a@firma.example", "b@firma.example"); !reply.Positive() {
		t.Fatal(reply)
	}
	if len(w.dropped) != 0 || len(w.settled) != 1 {
		t.Errorf("dropped %v, settled %v", w.dropped, w.settled)
	}
}

func TestOnPartialReject(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.consent("c@firma.example")
	// b has no country and no consent: left to DATA, and blocked there.
	_, reply := w.submit("firm", "", "a@firma.example", "b@firma.example", "c@firma.example")
	if !strings.HasPrefix(reply.String(), "550 5.7.1 <b@firma.example> blocked [consent.missing]") || len(w.sent)+len(w.kept)+len(w.bounced) > 0 {
		t.Errorf("%s; %d sent", reply, len(w.sent))
	}
}

func TestEachCopyHasItsOwnLink(t *testing.T) {
	w := newWorld(t)
	var to []string
	for i := range 30 {
		a := fmt.Sprintf("r%d@firma.example", i)
		w.consent(a)
		to = append(to, a)
	}
	if _, reply := w.submit("crm", "", to...); reply != accepted {
		t.Fatal(reply)
	}
	for _, m := range w.sent {
		if len(m.To) != 1 {
			t.Fatalf("%d recipients in one upstream transaction", len(m.To))
		}
		own := w.person(m.To[0].Address)
		if n := strings.Count(string(m.Data), own); n < 2 {
			t.Errorf("%s: own link stands %d times", m.To[0].Address, n)
		}
		for _, other := range to {
			if other != m.To[0].Address && strings.Contains(string(m.Data), w.person(other)) {
				t.Errorf("%s got the link of %s", m.To[0].Address, other)
			}
		}
	}
}

func TestSlowUpstreamIsKept(t *testing.T) {
	w := newWorld(t)
	w.Budget = time.Millisecond
	w.consent("a@firma.example")
	answer := make(chan struct{})
	w.answer = func(smtp.Message) (smtp.Reply, error) { <-answer; return accepted, nil }
	_, reply := w.submit("crm", "", "a@firma.example")
	if !strings.HasPrefix(reply.String(), "250 2.0.0 queued as ") || len(w.kept) != 1 || len(w.settled) != 0 {
		t.Fatalf("%s; %d kept, %d settled", reply, len(w.kept), len(w.settled))
	}
	close(answer)
	if err := w.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(w.settled) != 1 || len(w.sent) != 1 {
		t.Errorf("the open transaction was not settled: %d settled, %d sent", len(w.settled), len(w.sent))
	}
}

func TestAttemptDecidesAgain(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
	w.submit("crm", "", "a@firma.example")
	var c smtp.Copy
	for _, c = range w.kept {
	}
	w.sent, w.answer = nil, func(smtp.Message) (smtp.Reply, error) { return accepted, nil }
	if o := w.Attempt(context.Background(), c); o.Fate != smtp.Sent || len(w.sent) != 1 {
		t.Fatalf("%+v", o)
	}
	w.sent = nil
	w.optOut("a@firma.example", policy.OptOut{Scope: policy.ScopeAll})
	if o := w.Attempt(context.Background(), c); o.Fate != smtp.Blocked || len(w.sent) != 0 {
		t.Errorf("an opt-out clicked while mail waits stops that mail: %+v", o)
	}
	w.factsErr = errors.New("down")
	if o := w.Attempt(context.Background(), c); o.Fate != smtp.Deferred || len(w.sent) != 0 {
		t.Errorf("no state, no decision, no mail: %+v", o)
	}
}

func TestInDoubtIsKept(t *testing.T) {
	w := newWorld(t)
	w.consent("a@firma.example")
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, fmt.Errorf("esp: %w", smtp.ErrInDoubt) }
	_, reply := w.submit("crm", "", "a@firma.example")
	if !reply.Positive() || len(w.settled) != 1 {
		t.Fatalf("%s, %+v", reply, w.settled)
	}
	for _, o := range w.settled {
		if o.Fate != smtp.InDoubt {
			t.Errorf("%+v", o)
		}
	}
	if last := w.entries[len(w.entries)-1]; last.Fate != "in doubt" {
		t.Errorf("%+v", last)
	}
}

func TestSpoolOff(t *testing.T) {
	w := newWorld(t)
	w.Spool = nil
	w.consent("a@firma.example")
	w.consent("b@firma.example")
	rcpt, reply := w.submit("crm", "", "a@firma.example", "b@firma.example")
	if reply != accepted || rcpt[1].Code != 452 {
		t.Errorf("copies that could not be made durable: %s, %s", rcpt[1], reply)
	}
	w.answer = func(smtp.Message) (smtp.Reply, error) { return smtp.Reply{}, errors.New("gone") }
	if _, reply := w.submit("crm", "", "a@firma.example"); !reply.Temporary() {
		t.Errorf("nobody would deliver it: %s", reply)
	}
}
