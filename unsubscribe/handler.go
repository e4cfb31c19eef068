package unsubscribe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"heed/policy"
)

// linkPath stands between the public URL and the token.
const linkPath = "/u/"

// Config is what a Handler works with. All fields but Metrics must be set.
type Config struct {
	Keys      *Keys
	Senders   func(id string) (policy.Sender, bool) // of today's configuration
	OptOuts   OptOuts
	Journal   Journal
	Addresses Addresses
	Metrics   Metrics
	Log       *slog.Logger
	Now       func() time.Time
}

// Handler serves the opt-out links. It answers everything that is not one with the same 404.
type Handler struct {
	Config
	pages *pages
}

// New makes the handler; it fails only if the built-in pages are broken.
func New(c Config) (*Handler, error) {
	p, err := loadPages()
	if err != nil {
		return nil, fmt.Errorf("opt-out pages: %w", err)
	}
	return &Handler{Config: c, pages: p}, nil
}

// ServeHTTP answers. GET and HEAD never change anything (scanners follow links), and no answer is a redirect
// (RFC 8058 section 3.1). Nothing in it depends on the Host field.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	words := h.pages.speak(r)
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, HEAD, POST")
		h.plain(w, r, words, http.StatusMethodNotAllowed, words.NotAllowed)
		return
	}
	token, ours := strings.CutPrefix(r.URL.Path, linkPath)
	// Mail programs that make links of plain text sometimes take what follows along.
	token = strings.TrimRight(token, `/.,;:!?)>]}'"`)
	t, err := h.Keys.Open(token)
	switch {
	case !ours || err != nil:
		h.plain(w, r, words, http.StatusNotFound, words.NotFound)
	case r.Method == http.MethodPost:
		h.post(w, r, visit{Token: t, ref: Ref(token), words: words, agent: r.UserAgent()})
	default:
		v := visit{Token: t, words: words}
		v.address = h.address(r.Context(), t.Person)
		h.answer(w, r, v, http.StatusOK, words.Ask, words.Ask.Text, h.choices(v))
	}
}

// visit is one request with a good token.
type visit struct {
	Token
	ref     string
	words   words
	address string // masked, "" if not known
	agent   string
	at      time.Time
}

func (h *Handler) post(w http.ResponseWriter, r *http.Request, v visit) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		h.plain(w, r, v.words, http.StatusBadRequest, v.words.BadRequest)
		return
	}
	wish, err := readWish(r.Header.Get("Content-Type"), body)
	if err != nil {
		h.plain(w, r, v.words, http.StatusBadRequest, v.words.BadRequest)
		return
	}
	// A client that hangs up has still said what it wants.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), stateTimeout)
	defer cancel()
	v.at = h.Now().UTC()
	if wish.undo {
		h.undo(ctx, w, r, v)
		return
	}
	if wish.via == viaOneClick {
		wish.scope = v.Scope // the sealed one
	}
	h.stop(ctx, w, r, v, wish)
}

// stop opts out. The answer is 200 only once the state has said that the opt-out is durable.
func (h *Handler) stop(ctx context.Context, w http.ResponseWriter, r *http.Request, v visit, wish wish) {
	o := v.optOut(wish.scope)
	o.At, o.Via = v.at, wish.via
	added, err := h.OptOuts.AddOptOut(ctx, v.Person, "", o)
	if err != nil {
		h.Log.Error("opt-out could not be stored, answered 503", "error", err, "ref", v.ref, "scope", o.Scope, "sender", o.Sender)
		h.unavailable(w, r, v.words)
		return
	}
	h.record(ctx, v, policy.EventOptOut, o, added)
	if added && h.Metrics != nil {
		h.Metrics.OptedOut(o.Via)
	}
	text := v.words.Stopped
	if !added {
		text = v.words.Still
	}
	if wish.via == viaPage { // nobody reads the answer to a one-click
		v.address = h.address(ctx, v.Person)
	}
	lines := append([]string{text.of(o.Scope)}, text.Text...)
	h.answer(w, r, v, http.StatusOK, text, lines, []button{{Name: "undo", Value: "1", Text: text.Undo, Main: true}})
}

// undo lifts what this token stopped within the window. It makes no consent: what stood before stands again.
func (h *Handler) undo(ctx context.Context, w http.ResponseWriter, r *http.Request, v visit) {
	text := v.words.Nothing
	for _, s := range []policy.Scope{policy.ScopeTopic, policy.ScopeSender, policy.ScopeAll} {
		o := v.optOut(s)
		if o.Scope != s { // a token without a topic
			continue
		}
		o.At = v.at.Add(-undoWindow)
		removed, err := h.OptOuts.RemoveOptOut(ctx, v.Person, o)
		if err != nil {
			h.Log.Error("undo of an opt-out could not be stored, answered 503", "error", err, "ref", v.ref, "scope", s, "sender", o.Sender)
			h.unavailable(w, r, v.words)
			return
		}
		if removed {
			o.At, o.Via = v.at, viaPage
			h.record(ctx, v, policy.EventOptOutRemoved, o, true)
			text = v.words.Undone
		}
	}
	v.address = h.address(ctx, v.Person)
	h.answer(w, r, v, http.StatusOK, text, text.Text, h.choices(v))
}

// optOut is the objection of that scope by this token, without its time and way.
func (v visit) optOut(s policy.Scope) policy.OptOut {
	if s == policy.ScopeTopic && v.Topic == "" {
		s = policy.ScopeSender
	}
	o := policy.OptOut{Scope: s, Ref: v.ref}
	if s != policy.ScopeAll {
		o.Sender = v.Sender
	}
	if s == policy.ScopeTopic {
		o.Topic = v.Topic
	}
	return o
}

// choices are the page's buttons. The legal minimum, nothing more from this sender, comes first.
func (h *Handler) choices(v visit) []button {
	text := v.words.Ask
	b := []button{{Name: "scope", Value: string(policy.ScopeSender), Text: text.Sender, Main: true}}
	if v.Topic != "" {
		b = append(b, button{Name: "scope", Value: string(policy.ScopeTopic), Text: text.Topic})
	}
	return append(b, button{Name: "scope", Value: string(policy.ScopeAll), Text: text.All})
}

// address is masked for the page, which does without where the state does not answer.
func (h *Handler) address(ctx context.Context, person string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	a, err := h.Addresses.Address(ctx, person)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			h.Log.Warn("opt-out page without the address", "error", err)
		}
		return ""
	}
	return mask(a)
}

// answer shows a page about the token. A sender that was renamed or removed goes by its id.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, v visit, status int, t text, lines []string, buttons []button) {
	sender, ok := h.Senders(v.Sender)
	if !ok {
		sender = policy.Sender{Name: v.Sender}
	}
	with := v.words.values(v.address, sender.Name, v.Topic, v.at)
	for i := range buttons {
		buttons[i].Text = with.Replace(buttons[i].Text)
	}
	h.write(w, r, v.words, status, page{Title: t.Title, Text: fill(with, lines...), Buttons: buttons, Sender: &sender})
}

// plain shows a page that says nothing of any token.
func (h *Handler) plain(w http.ResponseWriter, r *http.Request, words words, status int, t text) {
	h.write(w, r, words, status, page{Title: t.Title, Text: t.Text})
}

func (h *Handler) unavailable(w http.ResponseWriter, r *http.Request, words words) {
	w.Header().Set("Retry-After", "60") // seconds
	h.plain(w, r, words, http.StatusServiceUnavailable, words.Unavailable)
}

func (h *Handler) write(w http.ResponseWriter, r *http.Request, words words, status int, p page) {
	p.Lang = words.Tag
	if r.Method == http.MethodGet || r.Method == http.MethodHead { // a link cannot repeat a POST
		p.LanguagesLabel, p.Languages = words.Languages, h.pages.words
	}
	if err := h.pages.write(w, status, p); err != nil {
		h.Log.Debug("opt-out page not written", "error", err)
	}
}
