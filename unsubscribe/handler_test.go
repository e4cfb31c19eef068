package unsubscribe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"heed/policy"
)

// state keeps opt-outs and the journal in memory, as the contract of the stores says.
type state struct {
	optOuts map[string]policy.OptOut // by person, scope, sender, topic
	entries []policy.Entry
	calls   int
	down    error // of opt-outs
	noBook  error // of the journal
	noName  error // of addresses
}

func slot(person string, o policy.OptOut) string {
	return strings.Join([]string{person, string(o.Scope), o.Sender, o.Topic}, "|")
}

func (s *state) AddOptOut(ctx context.Context, person, _ string, o policy.OptOut) (bool, error) {
	s.calls++
	if err := errors.Join(ctx.Err(), s.down); err != nil {
		return false, err
	}
	if _, ok := s.optOuts[slot(person, o)]; ok {
		return false, nil
	}
	s.optOuts[slot(person, o)] = o
	return true, nil
}

func (s *state) RemoveOptOut(_ context.Context, person string, o policy.OptOut) (bool, error) {
	s.calls++
	if s.down != nil {
		return false, s.down
	}
	there, ok := s.optOuts[slot(person, o)]
	if !ok || o.Ref == "" || there.Ref != o.Ref || there.At.Before(o.At) {
		return false, nil
	}
	delete(s.optOuts, slot(person, o))
	return true, nil
}

func (s *state) Record(ctx context.Context, entries []policy.Entry) error {
	if err := errors.Join(ctx.Err(), s.noBook); err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.ContainsFunc(s.entries, func(o policy.Entry) bool { return o.ID == e.ID }) {
			s.entries = append(s.entries, e)
		}
	}
	return nil
}

func (s *state) Address(context.Context, string) (string, error) {
	return "james@corp.example", s.noName
}

// desk is a handler with everything around it.
type desk struct {
	*Handler
	t       *testing.T
	state   *state
	senders map[string]policy.Sender
	now     time.Time
	log     bytes.Buffer
	counted []string
}

func (d *desk) OptedOut(via string) { d.counted = append(d.counted, via) }

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, state: &state{optOuts: map[string]policy.OptOut{}}, now: time.Date(2026, 11, 23, 10, 15, 0, 0, time.UTC)}
	d.senders = map[string]policy.Sender{"acme": {
		ID: "acme", Name: "Acme Ltd", PostalAddress: "1 High Street, London", Contact: "privacy@acme.example",
	}}
	var err error
	d.Handler, err = New(Config{
		Keys: newKeys(t), OptOuts: d.state, Journal: d.state, Addresses: d.state, Metrics: d,
		Senders: func(id string) (policy.Sender, bool) { s, ok := d.senders[id]; return s, ok },
		Log:     slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:     func() time.Time { return d.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) token(topic string, scope policy.Scope) string {
	d.t.Helper()
	s, err := d.Keys.Seal(Token{Person: somebody(d.Keys), Sender: "acme", Topic: topic, Scope: scope, Message: messageOne})
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// do sends a request and checks what holds of every answer.
func (d *desk) do(method, target, contentType, body string, header ...string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if w.Code/100 == 3 || w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" || w.Header().Get("WWW-Authenticate") != "" {
		d.t.Errorf("%s %s: %d %v", method, target, w.Code, w.Header())
	}
	for k, want := range map[string]string{
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"X-Frame-Options": "DENY", "X-Robots-Tag": "noindex, nofollow",
	} {
		if got := w.Header().Get(k); got != want {
			d.t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	return w
}

const form = "application/x-www-form-urlencoded"

func (d *desk) press(token, button string) *httptest.ResponseRecorder {
	d.t.Helper()
	return d.do("POST", "/u/"+token, form, button)
}

func (d *desk) held() []string {
	var all []string
	for _, o := range d.state.optOuts {
		all = append(all, strings.Join([]string{string(o.Scope), o.Sender, o.Topic, o.Via}, " "))
	}
	slices.Sort(all)
	return all
}

func wantHeld(t *testing.T, d *desk, want ...string) {
	t.Helper()
	if got := d.held(); !slices.Equal(got, want) {
		t.Errorf("opt-outs %q, want %q", got, want)
	}
}

func TestLookingChangesNothing(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "post", "X"} {
		for _, query := range []string{"", "?undo=1", "?scope=all", "?List-Unsubscribe=One-Click"} {
			t.Run(method+query, func(t *testing.T) {
				d := newDesk(t)
				w := d.do(method, "/u/"+d.token("news", policy.ScopeTopic)+query, form, "List-Unsubscribe=One-Click")
				want := http.StatusMethodNotAllowed
				if method == "GET" || method == "HEAD" {
					want = http.StatusOK
				} else if w.Header().Get("Allow") != "GET, HEAD, POST" {
					t.Errorf("Allow: %q", w.Header().Get("Allow"))
				}
				if w.Code != want {
					t.Errorf("%d, want %d", w.Code, want)
				}
				if d.state.calls != 0 || len(d.state.entries) != 0 {
					t.Errorf("%d calls of the state, %d entries", d.state.calls, len(d.state.entries))
				}
			})
		}
	}
}

func TestQueryOfAPostHasNoSay(t *testing.T) {
	d := newDesk(t)
	if w := d.do("POST", "/u/"+d.token("news", policy.ScopeTopic)+"?List-Unsubscribe=One-Click", form, ""); w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	if d.state.calls != 0 {
		t.Error("the state was asked")
	}
}

// The bodies as they come over the wire: Google's published sample, and RFC 8058 section 8.2 with its boundary.
const (
	googleBody = "List-Unsubscribe=One-Click"
	rfcBody    = "-----FormBoundary\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n-----FormBoundary--\r\n"
	rfcType    = "multipart/form-data; boundary=---FormBoundary"
)

func TestOneClick(t *testing.T) {
	if len(googleBody) != 26 {
		t.Fatal("Google's sample has 26 bytes")
	}
	encodings := []struct{ name, contentType, body string }{
		{"urlencoded", form, googleBody},
		{"urlencoded with a charset", form + "; charset=UTF-8", googleBody},
		{"urlencoded, escaped", form, "List%2DUnsubscribe=One%2dClick"},
		{"urlencoded, line break", form, googleBody + "\r\n"},
		{"without a type", "", googleBody},
		{"multipart", rfcType, rfcBody},
		{"multipart without the last line break", rfcType, strings.TrimSuffix(rfcBody, "\r\n")},
		{"multipart with another field", rfcType, strings.Replace(rfcBody, "-----FormBoundary--", "-----FormBoundary\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n-----FormBoundary--", 1)},
	}
	scopes := []struct {
		name, topic string
		scope       policy.Scope
		held        string
	}{
		{"topic", "news", policy.ScopeTopic, "topic acme news one-click"},
		{"sender", "news", policy.ScopeSender, "sender acme  one-click"},
		{"all", "news", policy.ScopeAll, "all   one-click"},
		{"topic without one", "", policy.ScopeTopic, "sender acme  one-click"},
	}
	for _, e := range encodings {
		for _, s := range scopes {
			t.Run(e.name+", "+s.name, func(t *testing.T) {
				d := newDesk(t)
				token := d.token(s.topic, s.scope)
				for range 3 { // repeatable
					if w := d.do("POST", "/u/"+token, e.contentType, e.body, "User-Agent", "Mail \"x\"\r\n"); w.Code != 200 {
						t.Fatalf("%d: %s", w.Code, w.Body)
					}
				}
				wantHeld(t, d, s.held)
				if !slices.Equal(d.counted, []string{"one-click"}) {
					t.Errorf("counted %q", d.counted)
				}
				if len(d.state.entries) != 2 { // the act, and that it was repeated that day
					t.Fatalf("journal: %+v", d.state.entries)
				}
				got := d.state.entries[0]
				if got.Event != "optout" || got.Person != somebody(d.Keys) || got.Sender != "acme" || got.Message != messageOne || !got.At.Equal(d.now) ||
					len(got.ID) != 16 || got.OptOut == nil || got.OptOut.Via != "one-click" || got.OptOut.Ref != Ref(token) || got.Reason != `user agent "Mail \"x\"\r\n"` {
					t.Errorf("journal: %+v %+v", got, got.OptOut)
				}
			})
		}
	}
}

func TestOtherBodies(t *testing.T) {
	tests := []struct{ name, contentType, body string }{
		{"empty", form, ""},
		{"no type, empty", "", ""},
		{"other value", form, "List-Unsubscribe=yes"},
		{"empty value", form, "List-Unsubscribe="},
		{"other case", form, "list-unsubscribe=One-Click"},
		{"twice", form, "List-Unsubscribe=One-Click&List-Unsubscribe=One-Click"},
		{"one-click and undo", form, "List-Unsubscribe=One-Click&undo=1"},
		{"undo and scope", form, "undo=1&scope=all"},
		{"two scopes", form, "scope=topic&scope=all"},
		{"unknown scope", form, "scope=everything"},
		{"empty scope", form, "scope="},
		{"other undo", form, "undo=0"},
		{"broken escape", form, "List-Unsubscribe=%zz"},
		{"JSON", "application/json", `{"List-Unsubscribe":"One-Click"}`},
		{"text", "text/plain", googleBody},
		{"broken type", "multipart/", googleBody},
		{"multipart without a boundary", "multipart/form-data", rfcBody},
		{"multipart with another boundary", "multipart/form-data; boundary=x", rfcBody},
		{"multipart cut off", rfcType, rfcBody[:70]},
		{"multipart, a file", rfcType, strings.Replace(rfcBody, `"List-Unsubscribe"`, `"List-Unsubscribe"; filename="x"`, 1)},
		{"too big", form, googleBody + "&x=" + strings.Repeat("x", maxBody)},
		{"too big multipart", rfcType, rfcBody + strings.Repeat("x", maxBody)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			w := d.do("POST", "/u/"+d.token("news", policy.ScopeTopic), tt.contentType, tt.body)
			if w.Code != 400 || d.state.calls != 0 || len(d.state.entries) != 0 {
				t.Errorf("%d, %d calls: %s", w.Code, d.state.calls, w.Body)
			}
		})
	}
}

func TestPageButtons(t *testing.T) {
	tests := []struct{ name, topic, button, held string }{
		{"topic", "news", "scope=topic", "topic acme news page"},
		{"sender", "news", "scope=sender", "sender acme  page"},
		{"all", "news", "scope=all", "all   page"},
		{"topic without one", "", "scope=topic", "sender acme  page"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			token := d.token(tt.topic, policy.ScopeTopic)
			w := d.press(token, tt.button)
			if w.Code != 200 {
				t.Fatalf("%d", w.Code)
			}
			wantHeld(t, d, tt.held)
			for _, want := range []string{"23 November 2026 at 10:15 UTC", "j•••@c•••.example will get no more", `name="undo" value="1"`} {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("the page lacks %q:\n%s", want, w.Body)
				}
			}
			if w = d.press(token, tt.button); w.Code != 200 || !strings.Contains(w.Body.String(), "was unsubscribed already") {
				t.Errorf("pressed again: %d\n%s", w.Code, w.Body)
			}
			d.press(token, "undo=1")
			wantHeld(t, d)
			if events := d.events(); !slices.Equal(events, []string{"optout", "optout", "optout_removed"}) {
				t.Errorf("journal: %q", events)
			}
		})
	}
}

func (d *desk) events() []string {
	var all []string
	for _, e := range d.state.entries {
		all = append(all, e.Event)
	}
	return all
}

func TestUndoWindow(t *testing.T) {
	tests := []struct {
		name   string
		later  time.Duration
		undone bool
	}{
		{"at once", 0, true},
		{"just inside", 24*time.Hour - time.Nanosecond, true},
		{"to the moment", 24 * time.Hour, true},
		{"just outside", 24*time.Hour + time.Nanosecond, false},
		{"next year", 365 * 24 * time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			token := d.token("news", policy.ScopeTopic)
			d.press(token, googleBody)
			d.now = d.now.Add(tt.later)
			w := d.press(token, "undo=1")
			said := strings.Contains(w.Body.String(), "<h1>Undone</h1>")
			if w.Code != 200 || said != tt.undone || (len(d.state.optOuts) == 0) != tt.undone {
				t.Errorf("%d, held %q:\n%s", w.Code, d.held(), w.Body)
			}
			if w = d.press(token, "undo=1"); w.Code != 200 || !strings.Contains(w.Body.String(), "<h1>Nothing to undo</h1>") {
				t.Errorf("again: %d\n%s", w.Code, w.Body)
			}
		})
	}
}

func TestUndoReversesOnlyWhatTheTokenDid(t *testing.T) {
	d := newDesk(t)
	mine, other := d.token("news", policy.ScopeTopic), d.token("news", policy.ScopeTopic)
	d.press(other, "scope=topic")
	d.press(mine, "scope=topic") // was there already: the other's
	d.press(mine, "scope=sender")
	d.state.optOuts["cli"] = policy.OptOut{Scope: policy.ScopeAll, At: d.now, Via: "cli"}
	d.press(mine, "scope=all")
	d.press(mine, "undo=1")
	wantHeld(t, d, "all   cli", "topic acme news page")
	d.press(other, "undo=1")
	wantHeld(t, d, "all   cli")
}

func TestUndoJournalsEachScope(t *testing.T) {
	d := newDesk(t)
	token := d.token("news", policy.ScopeTopic)
	for _, s := range []string{"topic", "sender", "all"} {
		d.press(token, "scope="+s)
	}
	d.press(token, "undo=1")
	var removed []policy.Scope
	for _, e := range d.state.entries {
		if e.Event == "optout_removed" {
			removed = append(removed, e.OptOut.Scope)
			if e.OptOut.Via != "page" || e.OptOut.Ref != Ref(token) || !e.OptOut.At.Equal(d.now) {
				t.Errorf("%+v", e.OptOut)
			}
		}
	}
	if !slices.Equal(removed, []policy.Scope{policy.ScopeTopic, policy.ScopeSender, policy.ScopeAll}) {
		t.Errorf("removed %q", removed)
	}
}

func TestStateDown(t *testing.T) {
	for _, body := range []string{googleBody, "scope=all", "undo=1"} {
		t.Run(body, func(t *testing.T) {
			d := newDesk(t)
			d.state.down = errors.New("dial 10.0.0.7: refused")
			token := d.token("news", policy.ScopeTopic)
			w := d.press(token, body)
			if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
			}
			if len(d.state.entries) != 0 || len(d.counted) != 0 {
				t.Error("journaled or counted what did not happen")
			}
			if strings.Contains(d.log.String(), token) {
				t.Error("the token is in the log")
			}
		})
	}
}

func TestJournalDownAfterTheOptOut(t *testing.T) {
	d := newDesk(t)
	d.state.noBook = errors.New("disk full")
	if w := d.press(d.token("news", policy.ScopeTopic), googleBody); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	wantHeld(t, d, "topic acme news one-click")
	for _, want := range []string{"level=ERROR", "NOT JOURNALED", "disk full", somebody(d.Keys), "scope=topic"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, &d.log)
		}
	}
}

func TestHangingUpDoesNotLoseTheOptOut(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest("POST", "/u/"+d.token("news", policy.ScopeTopic), strings.NewReader(googleBody)).WithContext(ctx)
	d.ServeHTTP(httptest.NewRecorder(), r)
	wantHeld(t, d, "topic acme news one-click")
	if len(d.state.entries) != 1 {
		t.Error("not journaled")
	}
}

func TestBadTokensAreAllAlike(t *testing.T) {
	d := newDesk(t)
	good := d.token("news", policy.ScopeTopic)
	foreign := newDesk(t).token("news", policy.ScopeTopic)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		var first *httptest.ResponseRecorder
		for _, p := range []string{
			"/u/" + foreign, "/u/x", "/u/", "/u", "/", "/favicon.ico", "/u/" + good[:119], "/u/" + good + "A", "/u/B" + good[1:],
			"/u/" + good[:119] + "%0A", "/u/" + good + "/" + good, "/U/" + good, "//u/" + good, "/x/../u/" + good, "/" + good,
			"/u/%3Cscript%3Ealert(1)%3C/script%3E", "/u/" + strings.Repeat("A", 8000),
		} {
			w := d.do(method, p, form, googleBody, "Accept-Language", "en")
			if w.Code != 404 {
				t.Errorf("%s %s: %d", method, p, w.Code)
			}
			if first == nil {
				first = w
			}
			if w.Body.String() != first.Body.String() || !maps.EqualFunc(w.Header(), first.Header(), slices.Equal) {
				t.Errorf("%s %s answers differently:\n%v\n%s", method, p, w.Header(), w.Body)
			}
		}
	}
	if d.state.calls != 0 {
		t.Error("the state was asked")
	}
}

func TestTrailingPunctuationOfPlainText(t *testing.T) {
	for _, tail := range []string{".", ",", ")", ">", "/", "%22", ")."} {
		d := newDesk(t)
		token := d.token("news", policy.ScopeTopic)
		if w := d.press(token+tail, googleBody); w.Code != 200 {
			t.Errorf("%s: %d", tail, w.Code)
		}
		d.press(token, "undo=1")
		wantHeld(t, d)
	}
}

func TestSenderNoLongerConfigured(t *testing.T) {
	d := newDesk(t)
	clear(d.senders)
	token := d.token("news", policy.ScopeTopic)
	if w := d.do("GET", "/u/"+token, "", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "Stop all marketing email from acme") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	if w := d.press(token, googleBody); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	wantHeld(t, d, "topic acme news one-click")
}

func TestServerBounds(t *testing.T) {
	d := newDesk(t)
	s := NewServer(d, slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout <= s.ReadTimeout+stateTimeout || s.IdleTimeout == 0 {
		t.Errorf("deadlines: %+v", s)
	}
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = s
	ts.Start()
	defer ts.Close()
	target := ts.URL + "/u/" + d.token("news", policy.ScopeTopic)

	t.Run("header flood", func(t *testing.T) {
		r, _ := http.NewRequest("POST", target, strings.NewReader(googleBody))
		r.Header.Set("X-Flood", strings.Repeat("x", 64<<10))
		res, err := ts.Client().Do(r)
		if err == nil { // the server may also have hung up on the writer
			defer res.Body.Close()
			if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s", res.Status)
			}
		}
		if d.state.calls != 0 {
			t.Error("it got through")
		}
	})
	t.Run("another host", func(t *testing.T) {
		r, _ := http.NewRequest("GET", target, nil)
		r.Host = "evil.example"
		r.Header.Set("X-Forwarded-Host", "evil.example")
		res, err := ts.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 || bytes.Contains(b, []byte("evil")) {
			t.Errorf("%s\n%s", res.Status, b)
		}
	})
	t.Run("HEAD has GET's length and no body", func(t *testing.T) {
		get, err := ts.Client().Get(target)
		if err != nil {
			t.Fatal(err)
		}
		defer get.Body.Close()
		head, err := ts.Client().Head(target)
		if err != nil {
			t.Fatal(err)
		}
		defer head.Body.Close()
		if b, _ := io.ReadAll(head.Body); len(b) != 0 || head.ContentLength != get.ContentLength || head.ContentLength <= 0 {
			t.Errorf("%d and %d bytes", head.ContentLength, get.ContentLength)
		}
	})
	t.Run("chunked one-click", func(t *testing.T) {
		r, _ := http.NewRequest("POST", target, io.MultiReader(strings.NewReader("List-Unsub"), strings.NewReader("scribe=One-Click")))
		r.Header.Set("Content-Type", form)
		res, err := ts.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s", res.Status)
		}
		wantHeld(t, d, "topic acme news one-click")
	})
}

func FuzzReadWish(f *testing.F) {
	f.Add(form, googleBody)
	f.Add(rfcType, rfcBody)
	f.Add(form, "scope=topic")
	f.Add(form, "undo=1")
	f.Add("", "%")
	f.Add("multipart/form-data; boundary=\"\"", "--\r\n\r\n----")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		w, err := readWish(contentType, []byte(body))
		if err != nil {
			if w != (wish{}) {
				t.Fatalf("%+v with %v", w, err)
			}
			return
		}
		if w.via == viaOneClick && (w.scope != "" || w.undo) || w.via == viaPage && w.undo == (w.scope != "") || w.via == "" {
			t.Fatalf("%+v of %q", w, body)
		}
		if q, err := url.ParseQuery(body); err == nil && contentType == form && w.via == viaOneClick && strings.TrimSpace(q.Get("List-Unsubscribe")) != "One-Click" {
			t.Fatalf("one-click of %q", body)
		}
	})
}
