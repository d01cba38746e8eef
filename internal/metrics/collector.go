package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Source is a collector as a scrape sees it. Its methods may be called at any
// time and by several goroutines.
type Source interface {
	// Status is the answer to GetStatus; with shards, one ShardStatus for each.
	Status(shards bool) *whorlv1.GetStatusResponse
	// Probes are those that are connected.
	Probes() []*whorlv1.Probe
}

// Collector is a prometheus.Collector of a Source. Use New.
type Collector struct{ src Source }

// New returns a Collector that asks src at each scrape.
func New(src Source) *Collector { return &Collector{src: src} }

// Describe sends the descriptions of all metrics.
func (*Collector) Describe(to chan<- *prometheus.Desc) {
	for i := range statusMetrics {
		to <- statusMetrics[i].desc
	}
	for i := range fleetMetrics {
		to <- fleetMetrics[i].desc
	}
	for i := range probeMetrics {
		to <- probeMetrics[i].desc
	}
	for _, d := range []*prometheus.Desc{buildInfo, stateNow, evictions, drops, rulesRaised, rulesSuppressed, probesByState} {
		to <- d
	}
}

// Collect asks the source once and sends what it said.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	s := c.src.Status(true)
	for i := range statusMetrics {
		m := &statusMetrics[i]
		if v, ok := m.value(s); ok {
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, v)
		}
	}
	collectLabelled(to, s)
	probes := c.src.Probes()
	collectProbes(to, probes)
	f := sumUp(probes)
	for i := range fleetMetrics {
		m := &fleetMetrics[i]
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&f))
	}
	to <- prometheus.MustNewConstMetric(probesByState, prometheus.GaugeValue, float64(f.connected), "connected")
	to <- prometheus.MustNewConstMetric(probesByState, prometheus.GaugeValue, float64(f.lagging), "lagging")
}

// fleet is what the connected probes are together.
type fleet struct {
	connected, lagging int
	buffered           uint64
	lag, clockOffset   time.Duration // the largest; an offset without its sign
}

func sumUp(probes []*whorlv1.Probe) fleet {
	var f fleet
	for _, p := range probes {
		if p.GetState() == whorlv1.ProbeState_PROBE_STATE_LAGGING {
			f.lagging++
		} else {
			f.connected++
		}
		f.buffered += p.GetPacketsBuffered()
		f.lag = max(f.lag, p.GetLag().AsDuration())
		f.clockOffset = max(f.clockOffset, p.GetClockOffset().AsDuration().Abs())
	}
	return f
}

// fleetMetric is one number about all connected probes.
type fleetMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*fleet) float64
}

var fleetMetrics = [...]fleetMetric{
	{describe("probes_buffered_packets", "Packets that connected probes hold back, as they last reported."), prometheus.GaugeValue,
		func(f *fleet) float64 { return float64(f.buffered) }},
	{describe("probes_lag_max_seconds", "Age of the newest applied packet of the probe where it is oldest."), prometheus.GaugeValue,
		func(f *fleet) float64 { return f.lag.Seconds() }},
	{describe("probes_clock_offset_max_seconds", "Largest difference between the clock of a probe and the collector's, without sign."), prometheus.GaugeValue,
		func(f *fleet) float64 { return f.clockOffset.Seconds() }},
}

// describe makes the description of whorl_NAME.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("whorl_"+name, help, labels, nil)
}
