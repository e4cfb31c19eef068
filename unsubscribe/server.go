package unsubscribe

import (
	"log/slog"
	"net/http"
	"time"
)

// NewServer is the HTTP server that stands on the public listener: every phase of a connection has a deadline and
// the header a bound, so that slow or endless clients are cut.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true, // OPTIONS * goes to the handler like everything else
		ReadHeaderTimeout:            10 * time.Second,
		ReadTimeout:                  20 * time.Second,
		WriteTimeout:                 40 * time.Second, // from the header on: reading the body, the state, the answer
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn), // a panic, above all
	}
}
