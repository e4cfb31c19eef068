// Package admin serves the operator's listener: health, metrics and the API.
package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"heed/policy"
)

// Checker answers what would be decided. A policy.BadInquiry is the asker's mistake, in words for the asker.
type Checker interface {
	Check(ctx context.Context, q policy.Inquiry) ([]policy.Decision, error)
}

// Config is what a Handler works with. All fields but Token must be set.
type Config struct {
	Token    string                      // bearer token; "" only where the listener is on loopback
	Ready    func(context.Context) error // nil while mail can be taken; its text is shown to whoever asks
	Checker  Checker
	Registry *prometheus.Registry
	Log      *slog.Logger
}

// Handler serves the admin listener.
type Handler struct {
	Config
	metrics http.Handler
	checks  chan struct{} // a place for every check at work: bounds the memory of all
}

const (
	readyTimeout   = 2 * time.Second
	checkTimeout   = 30 * time.Second
	checksAtOnce   = 4
	scrapesAtOnce  = 4
	notBuiltYet    = "not supported yet"
	oneMoreTry     = "5" // seconds
	contactsFolder = "/api/v1/contacts/"
)

// New makes the handler.
func New(c Config) *Handler {
	return &Handler{Config: c, checks: make(chan struct{}, checksAtOnce), metrics: promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(c.Log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // one gauge without an answer hides no other
		MaxRequestsInFlight: scrapesAtOnce,
	})}
}

// ServeHTTP answers. Health needs no token: it is asked by machines that have none, and tells little.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	switch r.URL.Path {
	case "/healthz":
		h.allow(w, r, h.health, http.MethodGet, http.MethodHead)
		return
	case "/readyz":
		h.allow(w, r, h.ready, http.MethodGet, http.MethodHead)
		return
	}
	if !h.admit(w, r) {
		return
	}
	switch r.URL.Path {
	case "/metrics":
		h.allow(w, r, h.metrics.ServeHTTP, http.MethodGet, http.MethodHead)
	case "/api/v1/check":
		h.allow(w, r, h.check, http.MethodPost)
	case "/", "/api/v1/openapi.yaml", "/api/v1/contacts:import", "/api/v1/optouts", "/api/v1/subscriptions",
		"/api/v1/journal", "/api/v1/rules", "/api/v1/spool":
		refuse(w, http.StatusNotImplemented, "not_supported", notBuiltYet)
	default:
		if strings.HasPrefix(r.URL.Path, contactsFolder) && r.URL.Path != contactsFolder {
			refuse(w, http.StatusNotImplemented, "not_supported", notBuiltYet)
			return
		}
		refuse(w, http.StatusNotFound, "not_found", "there is nothing at this path")
	}
}

func (h *Handler) allow(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc, methods ...string) {
	for _, m := range methods {
		if r.Method == m {
			serve(w, r)
			return
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "this path takes "+strings.Join(methods, " and "))
}

// health tells that the process lives.
func (h *Handler) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready tells whether mail can be taken: the state answers and no drain has begun.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := h.Ready(ctx); err != nil {
		w.Header().Set("Retry-After", oneMoreTry)
		refuse(w, http.StatusServiceUnavailable, "not_ready", err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

// admit lets in who has the token. Where there is none, the listener is on loopback, and what must be kept out are
// web pages in a local browser: by another name for this address (DNS rebinding) or from another origin.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) bool {
	if h.Token != "" {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		// Hashes have one length: the comparison does not tell the token's (RFC 6750 section 2.1).
		got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(h.Token))
		if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="heed"`)
		refuse(w, http.StatusUnauthorized, "unauthorized", "send the admin token: Authorization: Bearer TOKEN")
		return false
	}
	if !localName(r.Host) {
		refuse(w, http.StatusForbidden, "forbidden", "without admin.token, ask by IP address or as localhost")
		return false
	}
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if site != "" && site != "same-origin" && site != "none" || origin != "" && origin != "http://"+r.Host && origin != "https://"+r.Host {
		refuse(w, http.StatusForbidden, "forbidden", "without admin.token, no other website may ask")
		return false
	}
	return true
}

// localName tells that a Host field holds an IP address or localhost, which nobody else's DNS can stand for.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// failure is the API's one shape of an error.
type failure struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	var f failure
	f.Error.Code, f.Error.Message = code, message
	answer(w, status, f)
}

func answer(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	if err := encoder(&b).Encode(v); err != nil {
		http.Error(w, `{"error":{"code":"internal","message":"the answer could not be written"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // whoever asked has hung up
}
