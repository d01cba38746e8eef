package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Whatever cuts the stream, and wherever, before a batch is counted or after,
// each packet is counted exactly once, in order, and nothing is left over.
func TestReporterIsExactAcrossCuts(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			rng, faults := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			s := &ingest{window: 1 + uint32(rng.IntN(8))}
			s.cut = func(stream, _ int) bool { return stream < 20 && faults.IntN(6) == 0 }
			s.cutAck = func(stream, _ int) bool { return stream < 20 && faults.IntN(6) == 0 }
			r := mustReporter(t, serve(t, s.register), ReporterConfig{})
			ended := running(t, r)
			want := uint64(0)
			for range 100 {
				n := 1 + rng.IntN(50)
				want += uint64(n)
				if err := r.Report(t.Context(), testBatch(n)); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if rng.IntN(4) == 0 {
					time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond) // by the bubble's clock
				}
			}
			if err := r.Finish(t.Context(), false); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := <-ended; err != nil {
				t.Errorf("seed %d: Run: %v", seed, err)
			}
			stats := r.Stats()
			if s.packets != want || stats.DurablePackets != want || stats.HeldBatches != 0 || stats.HeldBytes != 0 {
				t.Errorf("seed %d: %d packets reported, the collector counted %d, stats %+v", seed, want, s.packets, stats)
			}
			if s.streams < 2 {
				t.Errorf("seed %d: the stream was never cut", seed)
			}
			balanced(t, stats)
		})
	}
}

// The window is kept: never more batches under way than the collector allows.
func TestReporterKeepsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{window: 3, hold: make(chan struct{})}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		running(t, r)
		for range 10 {
			if err := r.Report(t.Context(), testBatch(1)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		s.mu.Lock()
		got := s.unacked
		s.mu.Unlock()
		if got != 3 {
			t.Errorf("%d batches under way without an ack, want 3", got)
		}
	})
}

// A window of 0 stops the sending until the next Ack.
func TestReporterStopsAtWindowZero(t *testing.T) {
	r := &Reporter{ring: ring{maxBytes: 1 << 20, next: 1}, room: make(chan struct{})}
	r.ring.push(held{first: 1, last: 1, body: []byte{1}})
	r.window = window{batches: 0}
	if got, _, _ := r.step(false); got != stepWait {
		t.Errorf("with window 0 the next step is %v, want to wait", got)
	}
	r.acked(&whorlv1.Ack{MaxUnackedBatches: 1})
	if got, _, _ := r.step(false); got != stepBatch {
		t.Errorf("with window 1 the next step is %v, want a batch", got)
	}
}

// A full buffer holds a reporter of files up, until there is room again or the
// caller gives up, and then nothing of the batch was taken.
func TestReporterBlocksWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{hold: make(chan struct{}), window: 1000}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{BufferBytes: MinBufferBytes})
		ended := running(t, r)
		b := testBatch(4000)
		room := MinBufferBytes / encodedSize(b)
		for range room {
			if err := r.Report(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Report(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Report into a full buffer: %v, want the deadline", err)
		}
		if got := r.Stats(); got.Batches != uint64(room) || got.LostBatches != 0 {
			t.Errorf("after a refused Report: %+v, want %d batches and no loss", got, room)
		}
		reported := make(chan error, 1)
		go func() { reported <- r.Report(t.Context(), b) }()
		synctest.Wait()
		select {
		case err := <-reported:
			t.Fatalf("Report into a full buffer returned %v", err)
		default:
		}
		if got := r.Stats(); !got.Waiting || got.Away {
			t.Errorf("a Report waits for a collector that is there: %+v", got)
		}
		close(s.hold) // the next ProbeReport is answered with an Ack
		if err := <-reported; err != nil {
			t.Fatal(err)
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil || s.packets != 4000*uint64(room+1) {
			t.Errorf("Run: %v, %d packets counted, want %d", err, s.packets, 4000*(room+1))
		}
		if got := r.Stats(); got.Waiting || got.SentPackets != 4000*uint64(room+1) {
			t.Errorf("in the end %+v, want %d packets sent and nobody waiting", got, 4000*(room+1))
		}
	})
}

// While the collector is away a live reporter gives up its oldest batches, as
// one Lost record whose numbers and packets are exact.
func TestReporterDropsOldestAsOneLostRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		away := true
		s.refuse = func(int) error {
			if away {
				return status.Error(codes.Unavailable, "away")
			}
			return nil
		}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{BufferBytes: MinBufferBytes, Full: DropOldest, Live: true})
		ended := running(t, r)
		b := testBatch(4000)
		const batches = 100
		for range batches {
			if err := r.Report(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			balanced(t, r.Stats())
		}
		kept := MinBufferBytes / encodedSize(b)
		if got := r.Stats(); got.LostBatches != uint64(batches-kept) {
			t.Errorf("%d batches given up of %d, want %d: %d fit", got.LostBatches, batches, batches-kept, kept)
		}
		s.mu.Lock()
		away = false
		s.mu.Unlock()
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-ended
		if len(s.records) != 1 {
			t.Fatalf("%d Lost records, want 1: %v", len(s.records), s.records)
		}
		want := &whorlv1.Lost{FirstSequence: 1, LastSequence: uint64(batches - kept),
			Packets: 4000 * uint64(batches-kept), Bytes: 400_000 * uint64(batches-kept), Reason: "ring-full"}
		if !proto.Equal(s.records[0], want) {
			t.Errorf("Lost record %v, want %v", s.records[0], want)
		}
		if got := r.Stats(); got.LostPackets != s.lost || got.LostBatches != uint64(batches-kept) {
			t.Errorf("stats %+v, want %d packets lost, as the record says", got, s.lost)
		}
		if s.packets+s.lost != 4000*batches {
			t.Errorf("%d counted + %d lost, want %d", s.packets, s.lost, 4000*batches)
		}
		balanced(t, r.Stats())
	})
}

// What was sent and not answered is never said to be lost: the collector may
// have counted it. Only the Welcome knows.
func TestReporterNeverGivesUpWhatMayBeCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{window: 4, hold: make(chan struct{})}
		s.cutAck = func(stream, n int) bool { return stream == 1 && n == 4 }
		s.refuse = func(stream int) error {
			if stream > 1 && stream < 6 {
				return status.Error(codes.Unavailable, "away")
			}
			return nil
		}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{BufferBytes: MinBufferBytes, Full: DropOldest})
		ended := running(t, r)
		b := testBatch(4000)
		for i := range 60 {
			if err := r.Report(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if i == 10 {
				synctest.Wait() // four are counted, no Ack said so
			}
		}
		close(s.hold)
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-ended
		if s.packets+s.lost != 60*4000 {
			t.Errorf("%d counted + %d lost, want %d", s.packets, s.lost, 60*4000)
		}
		if len(s.records) == 0 || s.records[0].FirstSequence != 5 {
			t.Errorf("Lost records %v, want the first to begin at 5, behind what was counted", s.records)
		}
		balanced(t, r.Stats())
	})
}

// A batch that the collector refuses for good is counted and passed over.
func TestReporterCountsRejectedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{reject: func(b *whorlv1.Batch) bool { return b.GetSequence() == 2 }}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		ended := running(t, r)
		for i := range 3 {
			if err := r.Report(t.Context(), testBatch(10*(i+1))); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got := r.Stats(); got.RejectedBatches != 1 || got.RejectedPackets != 20 || got.DurablePackets != 40 {
			t.Errorf("stats %+v, want 1 batch of 20 packets rejected, 40 packets durable", got)
		}
		balanced(t, r.Stats())
	})
}

// Drain makes the reporter wait for its acks and come back.
func TestReporterReconnectsAfterDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{drainAt: 2, window: 2}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		ended := running(t, r)
		for range 6 {
			if err := r.Report(t.Context(), testBatch(5)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Finish(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		<-ended
		if s.streams != 2 || s.packets != 30 {
			t.Errorf("%d streams and %d packets, want 2 and 30", s.streams, s.packets)
		}
		if len(s.finishes) != 1 || !s.finishes[0].GetFlush() {
			t.Errorf("finishes %v, want one with flush", s.finishes)
		}
	})
}

// A probe that was killed gets its name back when the collector lets go of the
// old session; a name that stays taken ends Run with AlreadyExists.
func TestReporterWaitsForATakenName(t *testing.T) {
	taken := status.Error(codes.AlreadyExists, "probe id is in use")
	t.Run("freed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{}
			begin := time.Now()
			s.refuse = func(int) error {
				if time.Since(begin) < 15*time.Second {
					return taken
				}
				return nil
			}
			r := mustReporter(t, serve(t, s.register), ReporterConfig{MustConnect: true})
			ended := running(t, r)
			if err := r.Finish(t.Context(), false); err != nil {
				t.Error(err)
			}
			<-ended
		})
	})
	t.Run("not freed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{refuse: func(int) error { return taken }}
			begin := time.Now()
			r := mustReporter(t, serve(t, s.register), ReporterConfig{})
			err := <-running(t, r)
			if took := time.Since(begin); status.Code(err) != codes.AlreadyExists || took < takenPatience || took > 2*takenPatience {
				t.Errorf("Run returned %v after %v, want AlreadyExists after %v", err, took, takenPatience)
			}
		})
	})
}

// What no retry can mend ends Run at once, and Report and Finish say why.
func TestReporterEndsOnPermanentErrors(t *testing.T) {
	for _, code := range []codes.Code{codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.Unimplemented} {
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{refuse: func(int) error { return status.Error(code, "no") }}
			r := mustReporter(t, serve(t, s.register), ReporterConfig{})
			if err := <-running(t, r); status.Code(err) != code {
				t.Errorf("Run: %v, want %v", err, code)
			}
			if err := r.Report(t.Context(), testBatch(1)); !errors.Is(err, ErrFinished) || status.Code(err) == codes.OK {
				t.Errorf("Report after Run: %v, want ErrFinished and the reason", err)
			}
			if err := r.Finish(t.Context(), false); status.Code(err) != code {
				t.Errorf("Finish after Run: %v, want %v", err, code)
			}
			if s.streams != 1 {
				t.Errorf("%d streams, want 1", s.streams)
			}
		})
	}
}

// Finish gives up when its context ends; what is held is still counted as held.
func TestFinishEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{refuse: func(int) error { return status.Error(codes.Unavailable, "away") }}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		running(t, r)
		if err := r.Report(t.Context(), testBatch(7)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Finish(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Finish: %v, want the deadline", err)
		}
		if got := r.Stats(); got.HeldPackets != 7 || got.HeldBatches != 1 {
			t.Errorf("stats %+v, want 7 packets held", got)
		}
		if err := r.Report(t.Context(), testBatch(1)); !errors.Is(err, ErrFinished) {
			t.Errorf("Report after Finish: %v, want ErrFinished", err)
		}
	})
}

// Nothing is sent behind the end, however long the collector takes over it.
func TestFinishIsTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{endTime: time.Minute}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		running(t, r)
		if err := r.Report(t.Context(), testBatch(3)); err != nil {
			t.Fatal(err)
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Error(err)
		}
		if s.streams != 1 || len(s.finishes) != 1 || s.packets != 3 {
			t.Errorf("%d streams, %d ends, %d packets; want one stream, one end, 3 packets", s.streams, len(s.finishes), s.packets)
		}
	})
}

// A quiet probe still speaks: one ProbeReport per interval, with the counters of
// the capture, from the welcome on.
func TestReporterSendsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{Counters: func() Counters {
			return Counters{Received: 11, DroppedKernel: 2, DroppedInterface: 3, DroppedProbe: 4, Undecodable: 5, Untracked: 6}
		}})
		running(t, r)
		if err := r.Report(t.Context(), testBatch(9)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(16 * time.Second) // by the bubble's clock
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.reports) != 4 {
			t.Fatalf("%d reports after 16 s, want 4: one at once and one every 5 s", len(s.reports))
		}
		got := s.reports[3]
		want := &whorlv1.ProbeReport{ProbeTime: got.GetProbeTime(), PacketsReceived: 11, PacketsDroppedKernel: 2,
			PacketsDroppedInterface: 3, PacketsDroppedProbe: 4, PacketsUndecodable: 5, PacketsUntracked: 6,
			PacketsReported: 9, PacketsAcknowledged: 9, SpoolCapacityBytes: DefaultBufferBytes}
		if !proto.Equal(got, want) {
			t.Errorf("report %v, want %v", got, want)
		}
	})
}

// A collector that lost its memory is told where the session goes on.
func TestReporterSaysItsOldestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		s.cut = func(stream, n int) bool { return stream == 1 && n == 4 }
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		ended := running(t, r)
		for range 3 {
			if err := r.Report(t.Context(), testBatch(1)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		s.mu.Lock()
		s.known = false // a restart without a log
		s.mu.Unlock()
		if err := r.Report(t.Context(), testBatch(1)); err != nil {
			t.Fatal(err)
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-ended
		if n := len(s.hellos); n != 2 || s.hellos[0].GetOldestSequence() != 1 || s.hellos[1].GetOldestSequence() != 4 {
			t.Errorf("hellos %v, want the second to say that 4 is the oldest", s.hellos)
		}
		if s.packets != 4 {
			t.Errorf("%d packets counted, want 4", s.packets)
		}
	})
}

// What Report puts into the buffer is the message that protobuf would make.
func TestIngestRequestIsProtobuf(t *testing.T) {
	b := testBatch(100)
	for _, sequence := range []uint64{1, 127, 128, 1 << 40} {
		got := ingestRequest(nil, sequence, wire.AppendBatch(nil, b))
		var req whorlv1.IngestRequest
		if err := proto.Unmarshal(got, &req); err != nil {
			t.Fatal(err)
		}
		if req.GetBatch().GetSequence() != sequence || len(req.GetBatch().GetPackets().GetFlow()) != 100 {
			t.Errorf("sequence %d: decoded as batch %d with %d packets", sequence, req.GetBatch().GetSequence(), len(req.GetBatch().GetPackets().GetFlow()))
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&req)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("sequence %d: %x, want %x", sequence, got, want)
		}
		if len(got)-len(wire.AppendBatch(nil, b)) > frameBytes {
			t.Errorf("sequence %d: the frame takes more than %d bytes", sequence, frameBytes)
		}
	}
}

// A buffer too small to work is refused with a sentence.
func TestReporterConfigIsChecked(t *testing.T) {
	c, err := Dial(t.Context(), "localhost:1", WithLazy())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, cfg := range []ReporterConfig{{BufferBytes: 1000}, {Network: "two words"}} {
		if _, err := c.Reporter(cfg); err == nil {
			t.Errorf("Reporter(%+v) accepted it", cfg)
		}
	}
}

// BenchmarkReport: one batch of 4,000 packets into a full buffer that drops its
// oldest: encode, copy once, give one up.
func BenchmarkReport(b *testing.B) {
	c, err := Dial(b.Context(), "localhost:1", WithLazy())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r, err := c.Reporter(ReporterConfig{BufferBytes: MinBufferBytes, Full: DropOldest})
	if err != nil {
		b.Fatal(err)
	}
	batch := testBatch(4000)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Report(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(4000*float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}

// What a collector acknowledged and took along when it died is neither durable
// nor held: it is counted, once for each epoch that ended.
func TestReporterCountsWhatDiedWithTheCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{epoch: "a"}
		died := false
		s.cut = func(_, n int) bool {
			if !died && n == 4 {
				died = true
				s.epoch, s.known, s.packets = "b", false, 0 // started anew, with nothing
				return true
			}
			return false
		}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		ended := running(t, r)
		for range 10 {
			if err := r.Report(t.Context(), testBatch(5)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // by the bubble's clock
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		stats := r.Stats()
		if stats.ForgottenPackets != 15 || stats.DurablePackets != 35 || s.packets != 35 {
			t.Errorf("%d forgotten, %d durable, the collector has %d; want 15, 35 and 35", stats.ForgottenPackets, stats.DurablePackets, s.packets)
		}
		balanced(t, stats)
	})
}

// A probe id that another session holds is waited for, and said once, as is
// that the collector is there in the end.
func TestReporterSaysThatItsNameIsTakenAndThatItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		s.refuse = func(stream int) error {
			if stream < 5 {
				return status.Error(codes.AlreadyExists, "taken")
			}
			return nil
		}
		var taken, back int
		r := mustReporter(t, serve(t, s.register), ReporterConfig{
			OnTaken: func(time.Duration) { taken++ }, OnBack: func(time.Duration) { back++ }})
		ended := running(t, r)
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil || taken != 1 || back != 1 {
			t.Errorf("%v; said %d times that the name is taken and %d times that the collector is back, want 1 and 1", err, taken, back)
		}
	})
}

// Compressed messages are fewer bytes on the wire, and as exact.
func TestReporterCompresses(t *testing.T) {
	sent := make(map[bool]int64)
	for _, compress := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{}
			var wire atomic.Int64
			listener := bufconn.Listen(1 << 20)
			c := serveOn(t, listener, s.register, WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := listener.DialContext(ctx)
				return &countingConn{conn, &wire}, err
			}))
			r := mustReporter(t, c, ReporterConfig{Compress: compress})
			ended := running(t, r)
			for range 10 {
				if err := r.Report(t.Context(), testBatch(500)); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Finish(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
			if s.packets != 5000 {
				t.Errorf("compressed %v: the collector counted %d of 5,000 packets", compress, s.packets)
			}
			sent[compress] = wire.Load()
		})
	}
	if plain, packed := sent[false], sent[true]; packed*2 > plain {
		t.Errorf("%d bytes compressed, %d plain: want less than half of batches that are alike", packed, plain)
	}
}

// countingConn counts what is written.
type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}
