package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"heed/policy"
	"heed/smtp/smtptest"
)

// TestObserve: an account that only looks sends what would be blocked, with everything that is due, and says so in the
// journal; what is no matter of consent still blocks.
func TestObserve(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, state []setting) {
		up := smtptest.New(t, smtptest.Script{})
		g := newGateway(t, append(state, setting{"UPSTREAM", up.Addr()})...).start()
		const to = "max.weber@spediteur.de"
		g.tool(t, "crm").blocked(plainMail(to, "enforced"), to, "consent.missing")
		look := g.tool(t, "look")
		raw := plainMail(to, "observed")
		look.sent(raw, to)
		m := up.Await(t, 1)[0]
		l := wantCopy(t, []byte(raw), m, to)
		wantAll(t, g.must("journal", "--recipient", to), "action=block code=consent.missing enforced=false", "fate=sent")
		found := decode[struct{ Entries []policy.Entry }](t, g.must("journal", "--recipient", to, "--json"))
		if e := found.Entries[1]; len(found.Entries) != 3 || e.Verdict == nil || e.Verdict.Enforced || e.Verdict.Action != "block" {
			t.Errorf("%+v", found.Entries)
		}
		if out, code := g.run("check", "--account", "look", "--to", to); code != 1 || !strings.Contains(out, "only observed: would be sent") {
			t.Errorf("check: exit %d\n%s", code, out)
		}
		press(t, l, "scope", "sender")
		look.blocked(raw, to, "optout.sender")
		if _, dot := look.send(strings.Replace(plainMail("b@spediteur.de", "foreign"), "news@acme.example", "news@other.example", 1), "b@spediteur.de"); !strings.HasPrefix(dot, "550 5.7.1 <b@spediteur.de> blocked [sender.domain]") {
			t.Errorf("foreign From: %q", dot)
		}
		if n := len(up.Seen()); n != 1 {
			t.Errorf("the upstream saw %d messages", n)
		}
	})
}

// TestAdmin: health is open, the rest needs the token; the counters moved.
func TestAdmin(t *testing.T) {
	t.Parallel()
	up := smtptest.New(t, smtptest.Script{})
	g := newGateway(t, setting{"UPSTREAM", up.Addr()}).start()
	const to = "a@spedition.example"
	g.consented(to)
	get := func(path, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://"+g.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		b, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(b)
	}
	for _, tt := range []struct {
		name, path, token string
		status            int
	}{
		{"health", "/healthz", "", 200},
		{"ready", "/readyz", "", 200},
		{"metrics without token", "/metrics", "", 401},
		{"metrics with a wrong token", "/metrics", "admin-secre", 401},
		{"metrics", "/metrics", "admin-secret", 200},
		{"check without token", "/api/v1/check", "", 401},
		{"check by GET", "/api/v1/check", "admin-secret", 405},
		{"not built yet", "/api/v1/journal", "admin-secret", 501},
		{"not built yet, without token", "/api/v1/journal", "", 401},
		{"nothing", "/api/v1/nothing", "admin-secret", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, text := get(tt.path, tt.token); status != tt.status {
				t.Errorf("%d, want %d\n%s", status, tt.status, text)
			}
		})
	}
	value := func(metric string) float64 {
		t.Helper()
		_, text := get("/metrics", "admin-secret")
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(metric) + ` (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			return 0
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	counters := []string{
		`heed_decisions_total{account="crm",action="allow",code=""}`, `heed_decisions_total{account="crm",action="block",code="optout.sender"}`,
		`heed_deliveries_total{fate="sent",upstream="esp"}`, `heed_delivery_seconds_count{upstream="esp"}`, `heed_optouts_total{via="one-click"}`,
		`heed_http_requests_total{code="200",listener="http",method="post"}`,
	}
	for _, c := range counters {
		if v := value(c); v != 0 {
			t.Errorf("%s is %v at first", c, v)
		}
	}
	m := g.tool(t, "crm")
	m.sent(plainMail(to, "one"), to)
	oneClicks["urlencoded"](t, link(t, up.Await(t, 1)[0]))
	m.blocked(plainMail(to, "two"), to, "optout.sender")
	for _, c := range counters {
		if v := value(c); v != 1 {
			t.Errorf("%s is %v, want 1", c, v)
		}
	}
	if v := value("heed_smtp_connections"); v != 1 {
		t.Errorf("%v connections", v)
	}
	if _, text := get("/metrics", "admin-secret"); strings.Contains(text, "spedition.example") {
		t.Error("an address in the metrics")
	}
}

// TestCheckAPI: the answer has the keys that outside programs rely on, and no others.
func TestCheckAPI(t *testing.T) {
	t.Parallel()
	g := newGateway(t).start()
	g.consented("a@b.de")
	var answer struct{ Decisions []map[string]json.RawMessage }
	if status := g.api("/api/v1/check", map[string]any{"account": "crm", "recipients": []string{"a@b.de", "x@b.de"}}, &answer); status != 200 || len(answer.Decisions) != 2 {
		t.Fatalf("%d %v", status, answer)
	}
	keys := []string{"recipient", "action", "enforced", "code", "text", "checks", "country", "address_kind", "party", "regime", "soft_opt_in", "legal_basis", "notices", "law", "rules"}
	for i, d := range answer.Decisions {
		for _, k := range keys {
			if len(d[k]) == 0 || string(d[k]) == "null" {
				t.Errorf("%d: %s is %s", i, k, d[k])
			}
		}
		if len(d) != len(keys) {
			t.Errorf("%d keys, want %d: %v", len(d), len(keys), d)
		}
	}
	if string(answer.Decisions[0]["action"]) != `"allow"` || string(answer.Decisions[1]["code"]) != `"consent.missing"` {
		t.Errorf("%s", answer.Decisions)
	}
	var refusal map[string]any
	for name, q := range map[string]map[string]any{
		"unknown account":  {"account": "nobody", "recipients": []string{"a@b.de"}},
		"no recipients":    {"account": "crm", "recipients": []string{}},
		"no address":       {"account": "crm", "recipients": []string{"nonsense"}},
		"unknown key":      {"account": "crm", "recipients": []string{"a@b.de"}, "colour": "red"},
		"unknown country":  {"account": "crm", "recipients": []string{"a@b.de"}, "country": "Germany"},
		"wrong time":       {"account": "crm", "recipients": []string{"a@b.de"}, "at": "yesterday"},
		"recipients wrong": {"account": "crm", "recipients": "a@b.de"},
	} {
		if status := g.api("/api/v1/check", q, &refusal); status != 400 {
			t.Errorf("%s: %d %v", name, status, refusal)
		}
	}
}
