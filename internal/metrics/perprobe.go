package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// maxProbes bounds the probes that have series of their own; a collector may be
// told to serve more. The sums over all know them.
const maxProbes = 1000

// probeMetric is one number about one connected probe, labelled with its id.
// A probe id is a name that its operator gave, of at most --max-probes.
type probeMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*whorlv1.Probe) float64
}

// probeCounter counts what a probe's session saw: a new session begins at 0.
func probeCounter(name, help string, get func(*whorlv1.Probe) uint64) probeMetric {
	return probeMetric{describe(name, help, "probe"), prometheus.CounterValue, func(p *whorlv1.Probe) float64 { return float64(get(p)) }}
}

var probeMetrics = [...]probeMetric{
	probeCounter("probe_received_packets_total", "Packets that reached the probe in its session, as it last reported.", (*whorlv1.Probe).GetPacketsReceived),
	probeCounter("probe_applied_packets_total", "Packets of its session that are applied to the table.", (*whorlv1.Probe).GetPacketsApplied),
	probeCounter("probe_dropped_packets_total", "Packets that its kernel, its interface and itself dropped in its session.", (*whorlv1.Probe).GetPacketsDropped),
	probeCounter("probe_lost_packets_total", "Packets in batches that it had to give up in its session.", (*whorlv1.Probe).GetPacketsLost),
	{describe("probe_buffered_packets", "Packets that it holds back, as it last reported.", "probe"), prometheus.GaugeValue,
		func(p *whorlv1.Probe) float64 { return float64(p.GetPacketsBuffered()) }},
	{describe("probe_lag_seconds", "Age of its newest packet that is applied.", "probe"), prometheus.GaugeValue,
		func(p *whorlv1.Probe) float64 { return p.GetLag().AsDuration().Seconds() }},
}

// collectProbes sends the series of each of the first maxProbes.
func collectProbes(to chan<- prometheus.Metric, probes []*whorlv1.Probe) {
	for _, p := range probes[:min(len(probes), maxProbes)] {
		id := strings.ToValidUTF8(p.GetProbeId(), "?")
		for i := range probeMetrics {
			m := &probeMetrics[i]
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(p), id)
		}
	}
}
