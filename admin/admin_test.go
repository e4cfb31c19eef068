package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"heed/policy"
)

// oracle is a checker with one answer.
type oracle struct {
	asked     []policy.Inquiry
	decisions []policy.Decision
	err       error
}

func (o *oracle) Check(_ context.Context, q policy.Inquiry) ([]policy.Decision, error) {
	o.asked = append(o.asked, q)
	return o.decisions, o.err
}

// bench is a handler with everything around it.
type bench struct {
	*Handler
	oracle *oracle
	notYet error
	log    bytes.Buffer
}

func newBench(token string) *bench {
	b := &bench{oracle: &oracle{}}
	b.Handler = New(Config{
		Token: token, Checker: b.oracle, Registry: prometheus.NewRegistry(),
		Ready: func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); !ok {
				return errors.New("asked without a deadline")
			}
			return b.notYet
		},
		Log: slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	return b
}

// do asks by the address of loopback.
func (b *bench) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8026"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

// reason is the code and the message of an error's body.
func reason(t *testing.T, w *httptest.ResponseRecorder) (code, message string) {
	t.Helper()
	var f failure
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || f.Error.Code == "" || f.Error.Message == "" || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("not the API's error: %v, %s %s", err, w.Header().Get("Content-Type"), w.Body)
	}
	return f.Error.Code, f.Error.Message
}

func TestHealth(t *testing.T) {
	down := errors.New("the state does not answer")
	tests := []struct {
		name, method, path string
		notYet             error
		want               int
		body               string
	}{
		{"alive", "GET", "/healthz", nil, 200, `{"status":"ok"}`},
		{"alive while the state is down", "GET", "/healthz", down, 200, `{"status":"ok"}`},
		{"alive, HEAD", "HEAD", "/healthz", nil, 200, ""},
		{"ready", "GET", "/readyz", nil, 200, `{"status":"ready"}`},
		{"state down", "GET", "/readyz", down, 503, "the state does not answer"},
		{"draining", "GET", "/readyz", errors.New("draining"), 503, "draining"},
		{"other method", "POST", "/readyz", nil, 405, "GET and HEAD"},
	}
	for _, token := range []string{"", "secret"} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				b := newBench(token)
				b.notYet = tt.notYet
				w := b.do(tt.method, tt.path, "", "Host", "gw.cluster.local", "Sec-Fetch-Site", "cross-site")
				if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.body) {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				if (w.Code == 503) != (w.Header().Get("Retry-After") != "") {
					t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
				}
			})
		}
	}
}

func TestToken(t *testing.T) {
	tests := []struct {
		name, header string
		want         int
	}{
		{"right", "Bearer s3cret", 200},
		{"scheme in other case", "bearer s3cret", 200},
		{"none", "", 401},
		{"wrong", "Bearer s3creT", 401},
		{"beginning", "Bearer s3cre", 401},
		{"longer", "Bearer s3crett", 401},
		{"empty", "Bearer ", 401},
		{"without scheme", "s3cret", 401},
		{"other scheme", "Basic s3cret", 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench("s3cret")
			for _, ask := range []struct {
				method, path string
				want         int
			}{{"GET", "/metrics", 200}, {"POST", "/api/v1/check", 200}, {"GET", "/nowhere", 404}, {"GET", "/api/v1/journal", 501}} {
				w := b.do(ask.method, ask.path, `{"account":"crm","recipients":["a@b.de"]}`, "Authorization", tt.header, "Host", "gw.acme.example")
				want := ask.want
				if tt.want == 401 {
					want = 401
					if code, _ := reason(t, w); code != "unauthorized" || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
						t.Errorf("%s, %v", code, w.Header())
					}
				}
				if w.Code != want {
					t.Errorf("%s: %d, want %d", ask.path, w.Code, want)
				}
			}
			if tt.want == 401 && len(b.oracle.asked) != 0 {
				t.Error("the check was made")
			}
			if strings.Contains(b.log.String(), "s3cre") {
				t.Error("a token is in the log")
			}
		})
	}
}

func TestWithoutTokenWebPagesAreKeptOut(t *testing.T) {
	tests := []struct {
		name   string
		header []string
		want   int
	}{
		{"curl", nil, 200},
		{"localhost", []string{"Host", "localhost:8026"}, 200},
		{"IPv6", []string{"Host", "[::1]:8026"}, 200},
		{"no port", []string{"Host", "127.0.0.1"}, 200},
		{"IPv6, no port", []string{"Host", "[::1]"}, 200},
		{"own page", []string{"Origin", "http://127.0.0.1:8026", "Sec-Fetch-Site", "same-origin"}, 200},
		{"typed into the browser", []string{"Sec-Fetch-Site", "none"}, 200},
		{"another name for loopback", []string{"Host", "rebind.evil.example:8026"}, 403},
		{"a name that begins like an address", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"a name that ends like localhost", []string{"Host", "evil.localhost.example"}, 403},
		{"no host", []string{"Host", ""}, 403},
		{"another website", []string{"Origin", "https://evil.example"}, 403},
		{"a sandboxed page", []string{"Origin", "null"}, 403},
		{"another port's page", []string{"Origin", "http://127.0.0.1:3000"}, 403},
		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"same-site", []string{"Sec-Fetch-Site", "same-site"}, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench("")
			for path, method := range map[string]string{"/metrics": "GET", "/api/v1/check": "POST"} {
				w := b.do(method, path, `{"account":"crm","recipients":["a@b.de"]}`, tt.header...)
				if w.Code != tt.want {
					t.Errorf("%s: %d, want %d: %s", path, w.Code, tt.want, w.Body)
				}
				if w.Header().Get("Access-Control-Allow-Origin") != "" {
					t.Error("lets other origins read")
				}
			}
			if tt.want == 403 && len(b.oracle.asked) != 0 {
				t.Error("the check was made")
			}
		})
	}
}

func TestPaths(t *testing.T) {
	tests := []struct {
		method, path string
		want         int
		code         string
	}{
		{"GET", "/", 501, "not_supported"},
		{"GET", "/api/v1/openapi.yaml", 501, "not_supported"},
		{"PUT", "/api/v1/contacts/a@b.de", 501, "not_supported"},
		{"POST", "/api/v1/contacts:import", 501, "not_supported"},
		{"GET", "/api/v1/optouts", 501, "not_supported"},
		{"POST", "/api/v1/subscriptions", 501, "not_supported"},
		{"GET", "/api/v1/journal", 501, "not_supported"},
		{"GET", "/api/v1/rules", 501, "not_supported"},
		{"GET", "/api/v1/spool", 501, "not_supported"},
		{"GET", "/api/v1/check", 405, "method_not_allowed"},
		{"POST", "/metrics", 405, "method_not_allowed"},
		{"POST", "/api/v1/check/", 404, "not_found"},
		{"POST", "//api/v1/check", 404, "not_found"},
		{"GET", "/api/v1/contacts/", 404, "not_found"},
		{"GET", "/api/v2/check", 404, "not_found"},
		{"GET", "/debug/pprof/", 404, "not_found"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			w := newBench("").do(tt.method, tt.path, "")
			code, message := reason(t, w)
			if w.Code != tt.want || code != tt.code {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if tt.want == 501 && message != "not supported yet" {
				t.Errorf("%q", message)
			}
			if tt.want == 405 && w.Header().Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
}

func TestServerBounds(t *testing.T) {
	s := NewServer(newBench(""), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout <= s.ReadTimeout+checkTimeout || s.IdleTimeout == 0 {
		t.Errorf("deadlines: %+v", s)
	}
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = s
	ts.Start()
	defer ts.Close()
	res, err := ts.Client().Get(ts.URL + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(b) != "{\"status\":\"ok\"}\n" {
		t.Errorf("%s %s", res.Status, b)
	}
}
