package metrics

import (
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics with labels. Each label has a closed set of values.
var (
	buildInfo = describe("build_info", "1; what was built.", "version", "goversion")
	stateNow  = describe("state", "1 for the state the collector is in, 0 for the others.", "state")
	evictions = describe("tracker_evictions_total", "Connections that left the table.", "cause")
	drops     = describe("drops_total", "What was dropped or refused; the list is in docs/operations.md. A place appears once something was.", "where")

	rulesRaised     = describe("rule_anomalies_total", "Anomalies raised.", "rule", "severity")
	rulesSuppressed = describe("rule_suppressed_total", "Anomalies kept silent by the allowlist.", "rule", "severity")

	probesByState = describe("probes", "Probes with an open stream.", "state")
)

// states are those of GetStatusResponse.state.
var states = [...]string{"restoring", "serving", "refusing", "draining"}

func collectLabelled(to chan<- prometheus.Metric, s *status) {
	one := func(d *prometheus.Desc, kind prometheus.ValueType, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(v), labels...)
	}
	one(buildInfo, prometheus.GaugeValue, 1, strings.ToValidUTF8(s.GetVersion(), "?"), runtime.Version())
	for _, name := range states {
		one(stateNow, prometheus.GaugeValue, truth(s.GetState() == name), name)
	}
	for _, e := range s.GetEvictions() {
		one(evictions, prometheus.CounterValue, e.GetCount(), short(e.GetCause().String(), "EVICTION_CAUSE_"))
	}
	for _, d := range s.GetDrops() {
		one(drops, prometheus.CounterValue, d.GetCount(), d.GetWhere())
	}
	for _, r := range s.GetRules() {
		severity := short(r.GetSeverity().String(), "SEVERITY_")
		one(rulesRaised, prometheus.CounterValue, r.GetRaised(), r.GetRule(), severity)
		one(rulesSuppressed, prometheus.CounterValue, r.GetSuppressed(), r.GetRule(), severity)
	}
}

// short is the value of an enumeration as people write it: idle.
func short(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }
