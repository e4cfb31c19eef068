package admin

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Sources are what the gauges read at every scrape. A nil function leaves its gauges out.
type Sources struct {
	Version, Commit string
	Spool           func(context.Context) (bytes int64, copies int, err error) // store.State.SpoolSize
	Connections     func() int                                                 // open SMTP connections of clients
	Log             *slog.Logger
}

// Metrics counts what the gateway does. Labels hold names of the configuration, reason codes and fates only: never
// an address, never what a stranger sent. Safe for concurrent use.
type Metrics struct {
	decisions  *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	optOuts    *prometheus.CounterVec
	requests   *prometheus.CounterVec
}

// NewMetrics registers the gateway's metrics in reg. It panics if they are there already.
func NewMetrics(reg prometheus.Registerer, s Sources) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heed_decisions_total", Help: "Decisions on recipients, by account, action (allow, block) and reason code (empty when allowed).",
		}, []string{"account", "action", "code"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heed_deliveries_total", Help: "Attempts to hand a copy to an upstream, by upstream and fate.",
		}, []string{"upstream", "fate"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "heed_delivery_seconds", Help: "Time from the start of an attempt to the upstream's answer, by upstream.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600}, // the final dot may take 10 minutes
		}, []string{"upstream"}),
		optOuts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heed_optouts_total", Help: "New opt-outs, by the way they came (one-click, page).",
		}, []string{"via"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heed_http_requests_total", Help: "HTTP requests, by listener (http, admin), method and status code.",
		}, []string{"listener", "method", "code"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "heed_build_info", Help: "1, labelled with the build.",
		ConstLabels: prometheus.Labels{"version": s.Version, "commit": s.Commit, "goversion": runtime.Version()},
	})
	info.Set(1)
	reg.MustRegister(m.decisions, m.deliveries, m.seconds, m.optOuts, m.requests, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.Connections != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "heed_smtp_connections", Help: "Open SMTP connections of clients.",
		}, func() float64 { return float64(s.Connections()) }))
	}
	if s.Spool != nil {
		reg.MustRegister(&spoolSize{size: s.Spool, log: s.Log})
	}
	for _, via := range []string{"one-click", "page"} { // so that a first opt-out is seen as an increase
		m.optOuts.WithLabelValues(via)
	}
	return m
}

// Decided counts one decision; code is empty when allowed.
func (m *Metrics) Decided(account, action, code string) {
	m.decisions.WithLabelValues(account, action, code).Inc()
}

// Delivered counts one attempt and how long it took.
func (m *Metrics) Delivered(upstream, fate string, seconds float64) {
	m.deliveries.WithLabelValues(upstream, fate).Inc()
	m.seconds.WithLabelValues(upstream).Observe(seconds)
}

// OptedOut counts one new opt-out.
func (m *Metrics) OptedOut(via string) { m.optOuts.WithLabelValues(via).Inc() }

// Requests counts what next answers. Methods that HTTP does not know are counted as one.
func (m *Metrics) Requests(listener string, next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(prometheus.Labels{"listener": listener}), next)
}

// spoolSize asks the state once a scrape for both gauges. Where it does not answer they are absent, not zero.
type spoolSize struct {
	size func(context.Context) (bytes int64, copies int, err error)
	log  *slog.Logger
}

var (
	spoolBytes  = prometheus.NewDesc("heed_spool_bytes", "Bytes of all bodies in the spool.", nil, nil)
	spoolCopies = prometheus.NewDesc("heed_spool_copies", "Copies in the spool.", nil, nil)
)

func (s *spoolSize) Describe(ch chan<- *prometheus.Desc) {
	ch <- spoolBytes
	ch <- spoolCopies
}

func (s *spoolSize) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	bytes, copies, err := s.size(ctx)
	if err != nil {
		s.log.Warn("spool gauges are absent from this scrape", "error", err)
		return
	}
	ch <- prometheus.MustNewConstMetric(spoolBytes, prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(spoolCopies, prometheus.GaugeValue, float64(copies))
}
