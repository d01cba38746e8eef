package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// status is what all metrics but those of the fleet are read from.
type status = whorlv1.GetStatusResponse

// metric is one number of a status. ok is false when there is none now.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*status) (v float64, ok bool)
}

// counter is a metric that only rises within an epoch. By its name it ends in
// _total.
func counter(name, help string, get func(*status) uint64) metric {
	return metric{describe(name, help), prometheus.CounterValue, always(get)}
}

func gauge(name, help string, get func(*status) uint64) metric {
	return metric{describe(name, help), prometheus.GaugeValue, always(get)}
}

// moment is a gauge of a time, in seconds of Unix; there is none without a time.
func moment(name, help string, get func(*status) *timestamppb.Timestamp) metric {
	return metric{describe(name, help), prometheus.GaugeValue, func(s *status) (float64, bool) {
		t := get(s)
		return float64(t.AsTime().UnixNano()) / 1e9, t != nil
	}}
}

func always(get func(*status) uint64) func(*status) (float64, bool) {
	return func(s *status) (float64, bool) { return float64(get(s)), true }
}

// restoring is a gauge that exists while a collector restores.
func restoring(name, help string, get func(*whorlv1.RestoreStatus) uint64) metric {
	return metric{describe(name, help), prometheus.GaugeValue, func(s *status) (float64, bool) {
		return float64(get(s.GetRestore())), s.GetRestore() != nil
	}}
}

// truth is 1 or 0.
func truth(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

// largest is the greatest number of all elements, 0 without one.
func largest[T any](all []T, get func(T) uint64) uint64 {
	most := uint64(0)
	for _, v := range all {
		most = max(most, get(v))
	}
	return most
}

// statusMetrics are all without labels.
var statusMetrics = [...]metric{
	moment("start_time_seconds", "When this process started.", (*status).GetStartedAt),
	gauge("durable", "1 when what is acknowledged survives a restart.", func(s *status) uint64 { return truth(s.GetDurability() == "disk") }),

	gauge("tracker_connections", "Connections tracked now.", (*status).GetConnections),
	gauge("tracker_connections_limit", "Connections that fit.", (*status).GetMaxConnections),
	gauge("tracker_memory_bytes", "Memory of the table, histories included.", (*status).GetMemoryBytes),
	counter("tracker_connections_opened_total", "Connections opened: live and evicted ones.", (*status).GetConnectionsOpened),
	counter("tracker_packets_total", "Packets applied to the table.", (*status).GetPacketsApplied),
	counter("tracker_bytes_total", "Bytes on the wire of these packets.", (*status).GetBytesApplied),
	counter("tracker_late_packets_total", "Packets applied that were later than an idle timeout, or from the future: they moved no clock.", (*status).GetPacketsLate),
	gauge("tracker_queue_max_parts", "Parts of batches that wait for the shard where most wait.",
		func(s *status) uint64 { return largest(s.GetShards(), (*whorlv1.ShardStatus).GetQueueDepth) }),
	gauge("tracker_queue_limit_parts", "Parts of batches that may wait for a shard.",
		func(s *status) uint64 { return largest(s.GetShards(), (*whorlv1.ShardStatus).GetQueueCapacity) }),
	gauge("tracker_shard_max_connections", "Connections in the fullest shard.",
		func(s *status) uint64 { return largest(s.GetShards(), (*whorlv1.ShardStatus).GetConnections) }),

	counter("log_packets_total", "Packets acknowledged: those applied, and those of whorl_log_replaying_packets.", (*status).GetPacketsAcknowledged),
	gauge("log_replaying_packets", "Packets of the log that are yet to be applied.", (*status).GetPacketsReplaying),
	gauge("log_bytes", "Size of the log.", func(s *status) uint64 { return s.GetLog().GetBytes() }),
	gauge("log_limit_bytes", "Size at which nothing more is taken in.", func(s *status) uint64 { return s.GetLog().GetMaxBytes() }),
	gauge("log_last_position", "Newest record of the log.", func(s *status) uint64 { return s.GetLog().GetLastPosition() }),
	gauge("log_applied_position", "Newest record that is applied.", func(s *status) uint64 { return s.GetLog().GetAppliedPosition() }),
	counter("log_writes_total", "Writes made safe since the start, each of one or more batches.", func(s *status) uint64 { return s.GetLog().GetGroups() }),
	gauge("log_writable", "0 while nothing can be appended: probes hold back.", func(s *status) uint64 { return truth(s.GetLog().GetError() == "") }),

	moment("checkpoint_time_seconds", "When the newest checkpoint was complete.",
		func(s *status) *timestamppb.Timestamp { return s.GetCheckpoint().GetCompletedAt() }),
	gauge("checkpoint_bytes", "Size of the newest checkpoint.", func(s *status) uint64 { return s.GetCheckpoint().GetBytes() }),
	counter("checkpoint_failures_total", "Checkpoints that could not be written since the start.", func(s *status) uint64 { return s.GetCheckpoint().GetFailures() }),
	restoring("restore_position", "Record of the log that a restore has come to; only while it lasts.", (*whorlv1.RestoreStatus).GetPosition),
	restoring("restore_to_position", "Record of the log at which it serves; only while a restore lasts.", (*whorlv1.RestoreStatus).GetToPosition),

	gauge("feed_events", "Evictions that the feed holds.", func(s *status) uint64 { return s.GetFeed().GetHeldEvents() }),
	gauge("feed_bytes", "What they take.", func(s *status) uint64 { return s.GetFeed().GetHeldBytes() }),
	moment("feed_oldest_time_seconds", "When the oldest eviction that the feed holds was recorded.",
		func(s *status) *timestamppb.Timestamp { return s.GetFeed().GetOldestTime() }),
	gauge("feed_subscribers", "Open watches.", func(s *status) uint64 { return uint64(len(s.GetSubscribers())) }),
	gauge("feed_backlog_max_events", "Evictions that the subscriber furthest behind has yet to read.",
		func(s *status) uint64 { return largest(s.GetSubscribers(), (*whorlv1.SubscriberStatus).GetBacklog) }),

	gauge("enrichment_app_entries", "Table entries that name an application.", func(s *status) uint64 { return s.GetEnrichment().GetAppEntries() }),
	gauge("enrichment_bad_entries", "Table entries that condemn a connection.", func(s *status) uint64 { return s.GetEnrichment().GetBadEntries() }),
	gauge("enrichment_files_refused", "1 while the newest tables or rules are refused and those before are in force.",
		func(s *status) uint64 { return truth(s.GetEnrichment().GetRefused() != "") }),
	gauge("enrichment_known_fingerprints", "Fingerprints whose first sight is remembered.", func(s *status) uint64 { return s.GetEnrichment().GetFingerprintsKnown() }),
	counter("enrichment_forgotten_fingerprints_total", "Fingerprints forgotten for want of room: they will be new again.",
		func(s *status) uint64 { return s.GetEnrichment().GetFingerprintsForgotten() }),
	counter("enrichment_discoveries_total", "Past connections found to be bad by a newer table.", func(s *status) uint64 { return s.GetEnrichment().GetDiscoveries() }),
}
