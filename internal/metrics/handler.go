package metrics

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many scrapes are answered at a time; others hear 503.
const maxScrapes = 4

// Handler answers scrapes with the state of src, and with what the Go runtime
// and the system say of this process. What cannot be gathered goes to logger.
func Handler(src Source, logger *slog.Logger) http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(
		New(src),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{logger}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	})
}

// scrapeLog is a slog.Logger as promhttp wants one.
type scrapeLog struct{ logger *slog.Logger }

// Println logs what is wrong with a scrape.
func (l scrapeLog) Println(v ...any) { l.logger.Warn("metrics", "err", fmt.Sprint(v...)) }
