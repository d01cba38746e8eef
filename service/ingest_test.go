package service

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// What a probe reports is acknowledged as applied and durable, counted, and can
// be queried.
func TestIngestCountsWhatIsReported(t *testing.T) {
	r := newRig(t, Config{})
	p, w := r.report(helloOf("probe-1", "s1"))
	if w.GetAppliedSequence() != 0 || w.GetMaxUnackedBatches() == 0 || w.GetMaxUnackedBytes() == 0 || w.GetMaxBatchBytes() == 0 || w.GetCollectorEpoch() == "" {
		t.Errorf("welcome %v: want sequence 0 and windows", w)
	}
	p.batch(packets(1, 0, 1, 2, 3))
	p.batch(packets(2, 1, 1))
	if a := p.acked(2); a.GetDurableSequence() != 2 || a.GetMaxUnackedBatches() == 0 {
		t.Errorf("ack %v, want durable 2 and a window", a)
	}
	st := r.totals()
	if st.GetPacketsApplied() != 4 || st.GetBytesApplied() != 400 || st.GetConnections() != 3 {
		t.Errorf("applied %d packets, %d bytes, %d connections; want 4, 400, 3", st.GetPacketsApplied(), st.GetBytesApplied(), st.GetConnections())
	}
	resp, err := r.tracker.Get(t.Context(), &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: id(1)}})
	if err != nil || resp.GetConnection().GetPacketCount() != 2 {
		t.Errorf("get %s: %v, %v; want 2 packets", id(1), resp, err)
	}
	if last := p.finish(false); last.GetAppliedSequence() != 2 {
		t.Errorf("last ack %v, want applied 2", last)
	}
}

// A batch that comes again is acknowledged and not counted again, on the same
// stream and on the next.
func TestDuplicatesCountOnce(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	p.batch(packets(1, 0, 1))
	p.acked(1)
	p.batch(packets(1, 0, 1))
	p.acked(1)
	p.finish(false)
	p, w := r.report(helloOf("probe-1", "s1"))
	if w.GetAppliedSequence() != 1 {
		t.Errorf("welcome says applied %d, want 1", w.GetAppliedSequence())
	}
	p.batch(packets(1, 0, 1))
	p.batch(packets(2, 0, 1))
	p.acked(2)
	if n := r.totals().GetPacketsApplied(); n != 2 {
		t.Errorf("%d packets applied, want 2", n)
	}
}

// A skipped sequence is asked for again, once per run, and nothing of what came
// too early is counted.
func TestGapIsAskedForAgain(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	p.batch(packets(1, 0, 1))
	p.acked(1)
	p.batch(packets(3, 0, 1))
	p.batch(packets(4, 0, 1))
	rej := p.rejected()
	if rej.GetReason() != whorlv1.RejectReason_REJECT_REASON_OUT_OF_ORDER || rej.GetSequence() != 3 || !strings.Contains(rej.GetDetail(), "2 was next") {
		t.Errorf("reject %v, want out of order, 3, naming 2", rej)
	}
	for n := uint64(2); n <= 4; n++ {
		p.batch(packets(n, 0, 1))
	}
	p.acked(4)                // fails on a second reject
	p.batch(packets(9, 0, 1)) // another gap, another answer
	if rej := p.rejected(); rej.GetSequence() != 9 {
		t.Errorf("reject %v, want one of 9", rej)
	}
	if n := r.totals().GetPacketsApplied(); n != 4 {
		t.Errorf("%d packets applied, want 4", n)
	}
	if n := r.drop("ingest.batches_out_of_order"); n != 3 {
		t.Errorf("%d batches out of order, want 3", n)
	}
}

// A malformed batch is refused by name of the field, skipped for good, and the
// Ack passes over it.
func TestMalformedBatchesAreSkippedForGood(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(*whorlv1.Batch)
		want   string
		reason whorlv1.RejectReason
	}{
		{"flow reference out of range", func(b *whorlv1.Batch) { b.Packets.Flow[0] = 99 }, "packets.flow[0]", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"columns of different length", func(b *whorlv1.Batch) { b.Packets.WireLength = nil }, "packets.wire_length", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"flags of another length", func(b *whorlv1.Batch) { b.Packets.TcpFlags = []byte{1, 2, 3, 4, 5} }, "packets.tcp_flags", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"half a key", func(b *whorlv1.Batch) { b.Ipv4Flows = b.Ipv4Flows[:7] }, "ipv4_flows", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"half an IPv6 key", func(b *whorlv1.Batch) { b.Ipv6Flows = make([]byte, 36) }, "ipv6_flows", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"time before 1970", func(b *whorlv1.Batch) { b.Packets.TimeDeltaNs[0] = -1 << 62 }, "packets.time_delta_ns[0]", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"no such fingerprint type", func(b *whorlv1.Batch) {
			b.Fingerprints = []*whorlv1.FingerprintObservation{{Type: 99, Value: "x"}}
		}, "fingerprints[0].type", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"fingerprint of another flow", func(b *whorlv1.Batch) {
			b.Fingerprints = []*whorlv1.FingerprintObservation{{Flow: 7, Type: 1, Value: "x"}}
		}, "fingerprints[0].flow", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"fingerprint without value", func(b *whorlv1.Batch) {
			b.Fingerprints = []*whorlv1.FingerprintObservation{{Type: 1}}
		}, "fingerprints[0].value", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"value too long", func(b *whorlv1.Batch) {
			b.Fingerprints = []*whorlv1.FingerprintObservation{{Type: 1, Value: strings.Repeat("x", flow.MaxValueLen+1)}}
		}, "fingerprints[0].value", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"run of nothing", func(b *whorlv1.Batch) {
			b.Packets.RunPackets, b.Packets.RunSpanNs = []uint32{0}, []uint64{0}
		}, "packets.run_packets[0]", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"runs without spans", func(b *whorlv1.Batch) { b.Packets.RunPackets = []uint32{1} }, "packets.run_span_ns", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"lost backwards", func(b *whorlv1.Batch) {
			b.Packets, b.Ipv4Flows = nil, nil
			b.Lost = &whorlv1.Lost{FirstSequence: 9, LastSequence: 3}
		}, "lost", whorlv1.RejectReason_REJECT_REASON_INVALID},
		{"too large", func(b *whorlv1.Batch) { b.Ipv6Flows = make([]byte, maxBatchBytes+1) }, "want at most", whorlv1.RejectReason_REJECT_REASON_TOO_LARGE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			p, _ := r.report(helloOf("probe-1", "s1"))
			b := new(whorlv1.Batch)
			if err := proto.Unmarshal(wire.AppendBatch(nil, packets(1, 0, 1)), b); err != nil {
				t.Fatal(err)
			}
			tt.damage(b)
			p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Batch{Batch: b}})
			rej := p.rejected()
			if rej.GetReason() != tt.reason || rej.GetSequence() != 1 || !strings.Contains(rej.GetDetail(), tt.want) {
				t.Errorf("reject %v, want %v of 1, naming %q", rej, tt.reason, tt.want)
			}
			p.batch(packets(2, 0, 1))
			p.acked(2)
			if n := r.totals().GetPacketsApplied(); n != 1 {
				t.Errorf("%d packets applied, want 1", n)
			}
			if n := r.drop("ingest.batches_invalid") + r.drop("ingest.batches_too_large"); n != 1 {
				t.Errorf("%d batches counted as refused, want 1", n)
			}
		})
	}
}

// What cannot be understood or comes out of turn ends the stream, by name.
func TestMessagesOutOfTurnEndTheStream(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(p *probeStream)
		code codes.Code
	}{
		{"a batch before the hello", func(p *probeStream) { p.batch(packets(1, 0, 1)) }, codes.InvalidArgument},
		{"an empty message before the hello", func(p *probeStream) { p.send(&whorlv1.IngestRequest{}) }, codes.InvalidArgument},
		{"closed before the hello", func(p *probeStream) { _ = p.stream.CloseSend() }, codes.InvalidArgument},
		{"two hellos", func(p *probeStream) {
			for range 2 {
				p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("p", "s")}})
			}
		}, codes.InvalidArgument},
		{"an empty message", func(p *probeStream) {
			p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("p", "s")}})
			p.send(&whorlv1.IngestRequest{})
		}, codes.InvalidArgument},
		{"a batch without a number", func(p *probeStream) {
			p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("p", "s")}})
			p.batch(packets(0, 0, 1))
		}, codes.InvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			p := r.open()
			tt.send(p)
			p.fails(tt.code, ReasonBadMessage)
			if n := r.totals().GetPacketsApplied(); n != 0 {
				t.Errorf("%d packets applied, want 0", n)
			}
		})
	}
}

// A hello is refused field by field.
func TestBadHellosNameTheField(t *testing.T) {
	for _, tt := range []struct {
		field  string
		damage func(*whorlv1.Hello)
	}{
		{"hello.probe_id", func(h *whorlv1.Hello) { h.ProbeId = "" }},
		{"hello.probe_id", func(h *whorlv1.Hello) { h.ProbeId = "a b" }},
		{"hello.probe_id", func(h *whorlv1.Hello) { h.ProbeId = "pröbe" }},
		{"hello.probe_id", func(h *whorlv1.Hello) { h.ProbeId = strings.Repeat("p", maxProbeIDLen+1) }},
		{"hello.session_id", func(h *whorlv1.Hello) { h.SessionId = []byte("short") }},
		{"hello.session_id", func(h *whorlv1.Hello) { h.SessionId = make([]byte, 16) }},
		{"hello.network", func(h *whorlv1.Hello) { h.Network = "no spaces" }},
		{"hello.schema_version", func(h *whorlv1.Hello) { h.SchemaVersion = 99 }},
		{"hello.kind", func(h *whorlv1.Hello) { h.Kind = 9 }},
		{"hello.probe_time", func(h *whorlv1.Hello) { h.ProbeTime = &timestamppb.Timestamp{Nanos: -1} }},
		{"hello.interfaces", func(h *whorlv1.Hello) { h.Interfaces = make([]string, maxInterfaces+1) }},
		{"hello.hostname", func(h *whorlv1.Hello) { h.Hostname = strings.Repeat("h", 300) }},
	} {
		t.Run(tt.field, func(t *testing.T) {
			r := newRig(t, Config{})
			hello := helloOf("probe-1", "s1")
			tt.damage(hello)
			p := r.open()
			p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: hello}})
			err := p.fails(codes.InvalidArgument, ReasonBadField)
			checkField(t, err, tt.field)
		})
	}
}

// A stream that never says hello is ended after 10 s.
func TestSilentStreamIsEnded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		p := r.open()
		start := time.Now()
		p.fails(codes.DeadlineExceeded, ReasonBadMessage)
		if d := time.Since(start); d != helloWithin {
			t.Errorf("ended after %v, want %v", d, helloWithin)
		}
	})
}

// Batches the probe had to give up take their numbers and are counted.
func TestLostRecordTakesItsNumbers(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	p.batch(packets(1, 0, 1))
	p.batch(&flow.Batch{Sequence: 2, Lost: &flow.Lost{FirstSequence: 2, LastSequence: 41, Packets: 1000, Bytes: 5000, Reason: "spool-full"}})
	p.batch(packets(42, 0, 1))
	p.acked(42)
	if n := r.drop("probe.packets_lost.spool-full"); n != 1000 {
		t.Errorf("%d packets lost, want 1000", n)
	}
	probes, err := r.status.ListProbes(t.Context(), &whorlv1.ListProbesRequest{})
	if err != nil || len(probes.GetProbes()) != 1 {
		t.Fatalf("probes %v, %v; want one", probes, err)
	}
	if pr := probes.GetProbes()[0]; pr.GetPacketsLost() != 1000 || pr.GetPacketsApplied() != 2 || pr.GetAppliedSequence() != 42 {
		t.Errorf("probe %v: want 1000 lost, 2 applied, sequence 42", pr)
	}
}

// A probe whose oldest batch is beyond what was applied has lost some without a
// record: they are counted as missing and the numbering moves on.
func TestMissingBatchesAreCounted(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	p.batch(packets(1, 0, 1))
	p.acked(1)
	p.finish(false)
	hello := helloOf("probe-1", "s1")
	hello.OldestSequence = 11
	p, w := r.report(hello)
	if w.GetAppliedSequence() != 10 {
		t.Errorf("welcome says applied %d, want 10", w.GetAppliedSequence())
	}
	p.batch(packets(11, 0, 1))
	p.acked(11)
	if n := r.drop("ingest.batches_missing"); n != 9 {
		t.Errorf("%d batches missing, want 9", n)
	}
}

// A session this collector never saw goes on where the probe says it can.
func TestUnknownSessionStartsWhereItCan(t *testing.T) {
	r := newRig(t, Config{})
	hello := helloOf("probe-1", "s1")
	hello.OldestSequence = 101
	p, w := r.report(hello)
	if w.GetAppliedSequence() != 100 {
		t.Errorf("welcome says applied %d, want 100", w.GetAppliedSequence())
	}
	p.batch(packets(101, 0, 1))
	p.acked(101)
	if n := r.drop("ingest.batches_missing"); n != 0 {
		t.Errorf("%d batches missing, want 0", n)
	}
}

// Finish with flush evicts the session's connections, and those alone, before
// the stream ends.
func TestFinishFlushEvictsTheSessionsConnections(t *testing.T) {
	r := newRig(t, Config{})
	other, _ := r.report(helloOf("probe-2", "s2"))
	other.batch(packets(1, 0, 7))
	other.acked(1)
	p, _ := r.report(helloOf("probe-1", "s1"))
	p.batch(packets(1, 0, 1, 2))
	p.finish(true)
	st := r.totals()
	if st.GetConnections() != 1 || st.GetFeed().GetHeldEvents() != 2 {
		t.Errorf("%d connections and %d evictions, want 1 and 2", st.GetConnections(), st.GetFeed().GetHeldEvents())
	}
}

// A new stream of the same session ends the old one, waits for what that one
// admitted, and goes on behind it.
func TestNewStreamFencesTheOld(t *testing.T) {
	r := newRig(t, Config{})
	old, _ := r.report(helloOf("probe-1", "s1"))
	const n = 40
	for i := uint64(1); i <= n; i++ {
		old.batch(packets(i, 0, int(i)))
	}
	p, w := r.report(helloOf("probe-1", "s1"))
	old.fails(codes.Aborted, ReasonSuperseded)
	if st := r.totals(); st.GetPacketsApplied() != w.GetAppliedSequence() {
		t.Errorf("%d packets applied where the welcome says %d", st.GetPacketsApplied(), w.GetAppliedSequence())
	}
	for i := w.GetAppliedSequence() + 1; i <= n; i++ {
		p.batch(packets(i, 0, int(i)))
	}
	p.finish(false)
	if got := r.totals().GetPacketsApplied(); got != n {
		t.Errorf("%d packets applied, want %d", got, n)
	}
}

// gatedLog is a log whose records are read only while its gate is open: an
// applier that is behind.
type gatedLog struct {
	log.Log
	gate chan struct{}
}

type gatedReader struct {
	log.Reader
	gate chan struct{}
}

func (g gatedLog) Reader(after log.Position) (log.Reader, error) {
	r, err := g.Log.Reader(after)
	return gatedReader{r, g.gate}, err
}

func (g gatedReader) Next(ctx context.Context) ([]log.Record, error) {
	select {
	case <-g.gate:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return g.Reader.Next(ctx)
}

// A new stream waits until what the old one admitted is applied, however far
// the applier is behind, and nothing of it is asked for again; Acks say what is
// applied, not what is admitted.
func TestFencingWaitsForTheApplier(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		memory, err := log.NewMemory(0)
		if err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		r := newRigWith(t, Config{}, gatedLog{memory, gate})
		old, _ := r.report(helloOf("probe-1", "s1"))
		for i := uint64(1); i <= 10; i++ {
			old.batch(packets(i, 0, int(i)))
		}
		synctest.Wait()
		if n := r.totals().GetPacketsApplied(); n != 0 {
			t.Fatalf("%d packets applied behind a closed gate", n)
		}
		p := r.open()
		p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-1", "s1")}})
		time.Sleep(time.Minute)
		close(gate)
		if w := p.recv().GetWelcome(); w.GetAppliedSequence() != 10 || w.GetDurableSequence() != 10 {
			t.Errorf("welcome %v, want applied and durable 10", w)
		}
		if n := r.totals().GetPacketsApplied(); n != 10 {
			t.Errorf("%d packets applied at the welcome, want 10", n)
		}
		p.finish(false)
	})
}

// A log that is full holds the probe back and loses nothing.
func TestFullLogHoldsTheProbeBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		memory, err := log.NewMemory(4096)
		if err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		r := newRigWith(t, Config{}, gatedLog{memory, gate})
		p, _ := r.report(helloOf("probe-1", "s1"))
		const n = maxUnackedBatches
		for i := uint64(1); i <= n; i++ {
			p.batch(packets(i, 0, int(i)))
		}
		time.Sleep(10 * time.Second)
		if st := memory.Stats(); st.Last >= n || st.Bytes > st.MaxBytes {
			t.Errorf("log %+v: want fewer than %d records, within its bound", st, n)
		}
		close(gate)
		if a := p.acked(n); a.GetAppliedSequence() != n {
			t.Errorf("ack %v, want %d", a, n)
		}
		p.finish(false)
	})
}

// Another session of a live probe id is refused until the first has been silent
// for 15 s, to the second; a session that ended makes room at once.
func TestProbeIDIsTakenWhileItsSessionLives(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		first, _ := r.report(helloOf("probe-1", "s1"))
		refused := func() {
			t.Helper()
			p := r.open()
			p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-1", "s2")}})
			p.fails(codes.AlreadyExists, ReasonProbeTaken)
		}
		refused()
		time.Sleep(10 * time.Second)
		first.batch(packets(1, 0, 1))
		first.acked(1)
		time.Sleep(takeoverSilence - time.Millisecond)
		refused()
		time.Sleep(time.Millisecond)
		second, _ := r.report(helloOf("probe-1", "s2"))
		first.fails(codes.Aborted, ReasonSuperseded)
		second.finish(false)
		third, _ := r.report(helloOf("probe-1", "s3"))
		third.finish(false)
		if n := r.drop("ingest.probes_refused"); n != 2 {
			t.Errorf("%d probes refused, want 2", n)
		}
	})
}

// One probe more than MaxProbes is refused, and let in when one has left.
func TestTooManyProbes(t *testing.T) {
	r := newRig(t, Config{MaxProbes: 2})
	a, _ := r.report(helloOf("probe-1", "s1"))
	r.report(helloOf("probe-2", "s2"))
	p := r.open()
	p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-3", "s3")}})
	p.fails(codes.ResourceExhausted, ReasonTooManyProbes)
	a.finish(false)
	p, _ = r.report(helloOf("probe-3", "s3"))
	p.finish(false)
}

// Names are refused at the door when the tracker would have no room for them.
func TestTooManyNames(t *testing.T) {
	cfg := Config{}
	cfg.Tracker.MaxProbes = 2
	r := newRig(t, cfg)
	for i := range 2 {
		p, _ := r.report(helloOf(fmt.Sprintf("probe-%d", i), "s"))
		p.finish(false)
	}
	p := r.open()
	p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-9", "s")}})
	p.fails(codes.ResourceExhausted, ReasonTooManyNames)
	again, _ := r.report(helloOf("probe-0", "s"))
	again.finish(false)
}

// With JA4+ refused its fingerprints are taken out and counted by type; JA4 and
// the packets stay.
func TestJA4PlusCanBeRefused(t *testing.T) {
	r := newRig(t, Config{NoJA4Plus: true})
	p, welcome := r.report(helloOf("probe-1", "s1"))
	if refused := welcome.GetRefusedTypes(); !slices.Contains(refused, "ja4t") || slices.Contains(refused, "ja4") || slices.Contains(refused, "ja4_o") {
		t.Errorf("the probe is told that %q are refused, want all but ja4 and ja4_o", refused)
	}
	b := packets(1, 0, 1)
	withFingerprint(b, ja4.TypeJA4, "t13d1516h2_8daaf6152771_02713d6af862")
	withFingerprint(b, ja4.TypeJA4T, "64240_2-1-3-1-1-4_1460_8")
	withFingerprint(b, ja4.TypeJA4H, "ge11nn07enus_a_b_c")
	p.batch(b)
	p.acked(1)
	resp, err := r.tracker.Get(t.Context(), &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: id(1)}})
	if err != nil {
		t.Fatal(err)
	}
	if fps := resp.GetConnection().GetFingerprints(); len(fps) != 1 || fps["ja4"] == nil || resp.GetConnection().GetPacketCount() != 1 {
		t.Errorf("connection %v: want 1 packet and ja4 alone", resp.GetConnection())
	}
	for _, typ := range []string{"ja4t", "ja4h"} {
		if n := r.drop("ingest.ja4plus_refused." + typ); n != 1 {
			t.Errorf("%d %s refused, want 1", n, typ)
		}
	}
}

// Whatever a probe sends without reading, the collector reads no more than the
// window ahead of what is applied, and a probe that reads sees all of it.
func TestWindowBoundsWhatIsUnderWay(t *testing.T) {
	s := newStream(logSession("p"), false, func(error) {})
	for i := uint64(1); !s.full(); i++ {
		if i > maxUnackedBatches {
			t.Fatalf("not full after %d batches", i)
		}
		s.admit(i, 1)
	}
	if s.admitted != maxUnackedBatches {
		t.Errorf("full after %d batches, want %d", s.admitted, maxUnackedBatches)
	}
	s.done(1, 1)
	if s.full() {
		t.Error("full after one was applied")
	}
	s.admit(s.admitted+1, maxUnackedBytes)
	s.done(2, 1)
	if !s.full() {
		t.Error("not full with a whole window of bytes under way")
	}
}

// Many more batches than the window flow through while nobody reads the Acks.
func TestProbeThatReadsNoAcksIsCountedAllTheSame(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	const n = 10 * maxUnackedBatches
	for i := uint64(1); i <= n; i++ {
		p.batch(packets(i, 0, int(i%100)))
	}
	if last := p.finish(false); last.GetAppliedSequence() != n {
		t.Errorf("last ack %v, want applied %d", last, n)
	}
	if got := r.totals().GetPacketsApplied(); got != n {
		t.Errorf("%d packets applied, want %d", got, n)
	}
}

// readSequence finds the number of a batch that is otherwise nonsense, and never
// panics.
func TestReadSequence(t *testing.T) {
	good := wire.AppendBatch(nil, packets(77, 0, 1))
	if got := readSequence(good); got != 77 {
		t.Errorf("sequence %d, want 77", got)
	}
	if got := readSequence(append(bytes.Clone(good), 0xff)); got != 77 {
		t.Errorf("with rubbish behind: sequence %d, want 77", got)
	}
	if got := readSequence([]byte{0xff, 0xff}); got != 0 {
		t.Errorf("rubbish: sequence %d, want 0", got)
	}
}

func FuzzReadSequence(f *testing.F) {
	f.Add(wire.AppendBatch(nil, packets(77, 0, 1)))
	f.Add([]byte{8, 0x80})
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzguard.Watch(t)
		var b whorlv1.Batch
		if proto.Unmarshal(p, &b) == nil && readSequence(p) != b.GetSequence() {
			t.Errorf("sequence %d, protobuf says %d", readSequence(p), b.GetSequence())
		}
	})
}

// A probe's counters, clock and lag are shown.
func TestListProbesShowsHowTheyAre(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		hello := helloOf("probe-1", "s1")
		hello.Kind = whorlv1.SessionKind_SESSION_KIND_LIVE
		hello.ProbeTime = timestamppb.New(time.Now().Add(time.Minute))
		hello.Network = "lab"
		p, _ := r.report(hello)
		replay, _ := r.report(helloOf("probe-2", "s2"))
		replay.finish(false)
		b := &flow.Batch{Sequence: 1, Watermark: time.Now().Add(time.Minute - time.Hour).UnixNano()}
		p.batch(b)
		p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Report{Report: &whorlv1.ProbeReport{
			PacketsReceived: 10, PacketsDroppedKernel: 1, PacketsDroppedInterface: 2, PacketsDroppedProbe: 3, SpoolBatches: 5,
		}}})
		p.acked(1)
		time.Sleep(time.Second)
		resp, err := r.status.ListProbes(t.Context(), &whorlv1.ListProbesRequest{IncludeGone: true})
		if err != nil || len(resp.GetProbes()) != 2 {
			t.Fatalf("probes %v, %v; want two", resp, err)
		}
		got, gone := resp.GetProbes()[0], resp.GetProbes()[1]
		if got.GetState() != whorlv1.ProbeState_PROBE_STATE_LAGGING || got.GetLag().AsDuration() < time.Hour {
			t.Errorf("state %v, lag %v; want lagging by an hour", got.GetState(), got.GetLag().AsDuration())
		}
		if got.GetClockOffset().AsDuration() != time.Minute || got.GetPacketsDropped() != 6 || got.GetPacketsReceived() != 10 || got.GetSpoolBatches() != 5 || got.GetNetwork() != "lab" {
			t.Errorf("probe %v: want offset 1m, 6 dropped of 10, spool 5, network lab", got)
		}
		if gone.GetState() != whorlv1.ProbeState_PROBE_STATE_GONE {
			t.Errorf("state %v of a probe that finished, want gone", gone.GetState())
		}
	})
}

// A collector that shuts down asks probes to leave, counts what it admitted,
// acknowledges it once more and says UNAVAILABLE; everything leaves through the
// feed.
func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		w, err := r.feed.Watch(t.Context(), &whorlv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Header(); err != nil {
			t.Fatal(err)
		}
		p, _ := r.report(helloOf("probe-1", "s1"))
		p.batch(packets(1, 0, 1, 2, 3))
		p.acked(1)
		start := time.Now()
		r.stop()
		drain := p.recv().GetDrain()
		if drain == nil || drain.GetGrace().AsDuration() <= 0 {
			t.Fatalf("drain %v, want one with a grace", drain)
		}
		p.batch(packets(2, 0, 4)) // still in time
		if a := p.acked(2); a.GetAppliedSequence() != 2 {
			t.Errorf("ack %v, want applied 2", a)
		}
		p.fails(codes.Unavailable, ReasonDraining)
		if d := time.Since(start); d != drain.GetGrace().AsDuration() {
			t.Errorf("ended after %v, want the grace of %v", d, drain.GetGrace().AsDuration())
		}
		seen := 0
		for {
			resp, err := w.Recv()
			if err != nil {
				checkError(t, err, codes.Unavailable, ReasonDraining)
				break
			}
			for _, e := range resp.GetEvictions() {
				if e.GetCause() != whorlv1.EvictionCause_EVICTION_CAUSE_FLUSH {
					t.Errorf("cause %v, want flush", e.GetCause())
				}
				seen++
			}
		}
		if seen != 4 {
			t.Errorf("%d evictions at the shutdown, want 4", seen)
		}
		if err := <-r.ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.ended <- nil
	})
}

// New probes and pushes are refused while the collector drains.
func TestNothingNewWhileDraining(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		p, _ := r.report(helloOf("probe-1", "s1"))
		r.stop()
		if p.recv().GetDrain() == nil {
			t.Fatal("no drain")
		}
		late := r.open()
		late.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-2", "s2")}})
		late.fails(codes.Unavailable, ReasonDraining)
		_, err := r.ingest.Push(context.Background(), &whorlv1.PushRequest{ProbeId: "p"})
		checkError(t, err, codes.Unavailable, ReasonDraining)
		p.finish(false)
	})
}
