package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	b := newBench("")
	var spoolDown error
	m := NewMetrics(b.Registry, Sources{
		Version: "1.2.3", Commit: "abc", Log: slog.New(slog.NewTextHandler(&b.log, nil)), Connections: func() int { return 7 },
		Spool: func(ctx context.Context) (int64, int, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the state is asked without a deadline")
			}
			return 4096, 3, spoolDown
		},
	})
	m.Decided("crm", "block", "consent.missing")
	m.Decided("crm", "block", "consent.missing")
	m.Decided("crm", "allow", "")
	m.Delivered("esp", "sent", .02)
	m.Delivered("esp", "in doubt", 700)
	m.OptedOut("one-click")
	served := m.Requests("http", http.NotFoundHandler())
	for _, method := range []string{"GET", "BREW"} {
		served.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/x", nil))
	}
	page := b.do("GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`heed_decisions_total{account="crm",action="block",code="consent.missing"} 2`,
		`heed_decisions_total{account="crm",action="allow",code=""} 1`,
		`heed_deliveries_total{fate="sent",upstream="esp"} 1`,
		`heed_deliveries_total{fate="in doubt",upstream="esp"} 1`,
		`heed_delivery_seconds_bucket{upstream="esp",le="0.025"} 1`,
		`heed_delivery_seconds_bucket{upstream="esp",le="600"} 1`,
		`heed_delivery_seconds_count{upstream="esp"} 2`,
		`heed_optouts_total{via="one-click"} 1`,
		`heed_optouts_total{via="page"} 0`,
		`heed_http_requests_total{code="404",listener="http",method="get"} 1`,
		`heed_http_requests_total{code="404",listener="http",method="unknown"} 1`,
		`heed_spool_bytes 4096`,
		`heed_spool_copies 3`,
		`heed_smtp_connections 7`,
		`go_goroutines `,
	} {
		if !strings.Contains(page, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if !regexp.MustCompile(`heed_build_info\{commit="abc",goversion="go[^"]+",version="1\.2\.3"\} 1`).MatchString(page) {
		t.Error("no build info")
	}
	if problems, err := testutil.GatherAndLint(b.Registry); err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}

	spoolDown = errors.New("state down")
	w := b.do("GET", "/metrics", "")
	if page := w.Body.String(); w.Code != 200 || strings.Contains(page, "\nheed_spool_bytes") || !strings.Contains(page, "\nheed_smtp_connections 7") {
		t.Errorf("with the state down: %d\n%s", w.Code, page)
	}
	if !strings.Contains(b.log.String(), "state down") {
		t.Errorf("log: %s", &b.log)
	}
}

func TestMetricsOfTwoGatewaysInOneProcess(t *testing.T) {
	for range 2 { // no global registry: the second would panic
		m := NewMetrics(prometheus.NewRegistry(), Sources{})
		m.OptedOut("page")
	}
}
