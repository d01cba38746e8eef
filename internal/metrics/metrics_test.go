package metrics

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collectorWith runs a collector in memory to which a probe has reported n
// packets of one connection.
func collectorWith(t *testing.T, n int) *service.Collector {
	t.Helper()
	inside := bufconn.Listen(1 << 20)
	col, err := service.New(service.Config{Listeners: []net.Listener{inside}, Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- col.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-col.Ready()
	cl, err := client.Dial(ctx, client.DefaultAddr, client.WithDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return inside.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	r, err := cl.Reporter(client.ReporterConfig{ProbeID: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	reported := make(chan error, 1)
	go func() { reported <- r.Run(ctx) }()
	b := &flow.Batch{}
	i := b.AddFlow(flow.Tuple{Src: flow.AddrFrom4([4]byte{192, 0, 2, 1}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 2}), SrcPort: 1, DstPort: 2, Protocol: flow.UDP})
	for range n {
		b.AddPacket(i, false, time.Now().UnixNano(), 100, 0)
	}
	if err := r.Report(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(ctx, true); err != nil {
		t.Fatal(err)
	}
	if err := <-reported; err != nil {
		t.Fatal(err)
	}
	return col
}

// scrape returns the samples of a scrape by their name with labels.
func scrape(t *testing.T, src Source) map[string]float64 {
	t.Helper()
	rec := httptest.NewRecorder()
	Handler(src, slog.New(slog.DiscardHandler)).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("a scrape answers %d: %s", rec.Code, rec.Body)
	}
	samples := map[string]float64{}
	lines := bufio.NewScanner(rec.Body)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		samples[line[:at]] = v
	}
	return samples
}

// What a scrape of a real collector says is what its status says.
func TestScrapeSaysWhatStatusSays(t *testing.T) {
	col := collectorWith(t, 7)
	got := scrape(t, col)
	says(t, got, map[string]float64{
		"whorl_tracker_packets_total":                     7,
		"whorl_tracker_bytes_total":                       700,
		"whorl_log_packets_total":                         7,
		"whorl_tracker_connections_opened_total":          1,
		"whorl_tracker_connections":                       0,
		"whorl_tracker_connections_limit":                 float64(col.Status(false).GetMaxConnections()),
		`whorl_tracker_evictions_total{cause="flush"}`:    1,
		`whorl_tracker_evictions_total{cause="idle"}`:     0,
		`whorl_tracker_evictions_total{cause="capacity"}`: 0,
		"whorl_feed_events":                               1,
		"whorl_durable":                                   0,
		"whorl_log_writable":                              1,
		`whorl_state{state="serving"}`:                    1,
		`whorl_state{state="draining"}`:                   0,
		`whorl_probes{state="connected"}`:                 0,
		"whorl_start_time_seconds":                        float64(col.Status(false).GetStartedAt().AsTime().UnixNano()) / 1e9,
	})
	for _, name := range []string{"whorl_restore_position", "whorl_checkpoint_time_seconds"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s is %v, want none: nothing restores, nothing is kept", name, v)
		}
	}
	if got["go_goroutines"] == 0 {
		t.Error("the Go runtime says nothing")
	}
}

// full is a Source in which everything is set.
type full struct{}

func (full) Status(bool) *whorlv1.GetStatusResponse {
	return &whorlv1.GetStatusResponse{
		Version: "v\xff", State: "restoring",
		Restore:   &whorlv1.RestoreStatus{Position: 3, ToPosition: 9},
		Evictions: []*whorlv1.EvictionCounter{{Cause: whorlv1.EvictionCause_EVICTION_CAUSE_IDLE, Count: 4}},
		Drops:     []*whorlv1.DropCounter{{Where: "ingest.batches_invalid", Count: 5}},
		Rules:     []*whorlv1.RuleStatus{{Rule: "port-scan", Severity: whorlv1.Severity_SEVERITY_HIGH, Raised: 6, Suppressed: 7}},
		Shards:    []*whorlv1.ShardStatus{{Connections: 1, QueueDepth: 2, QueueCapacity: 8}, {Connections: 5, QueueDepth: 1, QueueCapacity: 8}},
		Subscribers: []*whorlv1.SubscriberStatus{
			{Backlog: 10}, {Backlog: 30},
		},
		Log: &whorlv1.LogStatus{Error: "no space left on device"},
	}
}

func (full) Probes() []*whorlv1.Probe {
	return []*whorlv1.Probe{
		{ProbeId: "p1", State: whorlv1.ProbeState_PROBE_STATE_CONNECTED, PacketsBuffered: 2, ClockOffset: durationpb.New(-3 * time.Second),
			PacketsReceived: 11, PacketsApplied: 12, PacketsDropped: 13, PacketsLost: 14},
		{ProbeId: "p\xff", State: whorlv1.ProbeState_PROBE_STATE_LAGGING, PacketsBuffered: 5, Lag: durationpb.New(12 * time.Second), ClockOffset: durationpb.New(time.Second)},
	}
}

// Labels are the words of the API, sums and maxima are over all, and what only
// lasts for a while is there while it does.
func TestLabelsAndMaxima(t *testing.T) {
	got := scrape(t, full{})
	says(t, got, map[string]float64{
		`whorl_tracker_evictions_total{cause="idle"}`:                   4,
		`whorl_drops_total{where="ingest.batches_invalid"}`:             5,
		`whorl_rule_anomalies_total{rule="port-scan",severity="high"}`:  6,
		`whorl_rule_suppressed_total{rule="port-scan",severity="high"}`: 7,
		"whorl_tracker_queue_max_parts":                                 2,
		"whorl_tracker_queue_limit_parts":                               8,
		"whorl_tracker_shard_max_connections":                           5,
		"whorl_feed_backlog_max_events":                                 30,
		"whorl_feed_subscribers":                                        2,
		"whorl_log_writable":                                            0,
		"whorl_restore_position":                                        3,
		"whorl_restore_to_position":                                     9,
		`whorl_state{state="restoring"}`:                                1,
		`whorl_probes{state="connected"}`:                               1,
		`whorl_probes{state="lagging"}`:                                 1,
		"whorl_probes_buffered_packets":                                 7,
		"whorl_probes_lag_max_seconds":                                  12,
		"whorl_probes_clock_offset_max_seconds":                         3,
		`whorl_probe_received_packets_total{probe="p1"}`:                11,
		`whorl_probe_applied_packets_total{probe="p1"}`:                 12,
		`whorl_probe_dropped_packets_total{probe="p1"}`:                 13,
		`whorl_probe_lost_packets_total{probe="p1"}`:                    14,
		`whorl_probe_buffered_packets{probe="p1"}`:                      2,
		`whorl_probe_lag_seconds{probe="p?"}`:                           12,
	})
}

// The names follow the rules of Prometheus.
func TestNamesFollowConventions(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(New(full{}))
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Every metric is in the list that operators read, and the list has no other.
func TestOperatorsListIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(whorl_[a-z_]+)").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
	}
	descs := make(chan *prometheus.Desc, 100)
	New(full{}).Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		m := name.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("no name in %s", d)
		}
		if !listed[m[1]] {
			t.Errorf("docs/operations.md has no line for %s", m[1])
		}
		delete(listed, m[1])
	}
	for n := range listed {
		t.Errorf("docs/operations.md has %s, which does not exist", n)
	}
}

// says checks that got has these values.
func says(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, want := range want {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, want)
		}
	}
}

// crowd is a Source with more probes than have series of their own.
type crowd struct{ full }

func (crowd) Probes() (probes []*whorlv1.Probe) {
	for i := range maxProbes + 5 {
		probes = append(probes, &whorlv1.Probe{ProbeId: "p" + strconv.Itoa(i), State: whorlv1.ProbeState_PROBE_STATE_CONNECTED})
	}
	return probes
}

// The series of probes are bounded, and the sums know those beyond the bound.
func TestSeriesOfProbesAreBounded(t *testing.T) {
	got, series := scrape(t, crowd{}), 0
	for name := range got {
		if strings.HasPrefix(name, "whorl_probe_lag_seconds{") {
			series++
		}
	}
	if series != maxProbes || got[`whorl_probes{state="connected"}`] != maxProbes+5 {
		t.Errorf("%d series, %v probes; want %d and %d", series, got[`whorl_probes{state="connected"}`], maxProbes, maxProbes+5)
	}
}
