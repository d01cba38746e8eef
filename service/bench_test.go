package service

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/checkpoint"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// BenchmarkIngest: batches of 4,000 packets of 400 flows through a whole
// collector, in one process over memory: encode, gRPC, decode, log, tracker, Ack.
// Both sides count: on one core this is the cost of a packet on both together.
// With a disk the log is on it, synced before it is applied, and checkpoints come
// as they do by default.
func BenchmarkIngest(b *testing.B) {
	for _, kept := range []string{"memory", "disk"} {
		for _, flows := range []int{1_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/flows=%d", kept, flows), func(b *testing.B) {
				cfg := Config{}
				if kept == "disk" {
					cfg.DataDir = b.TempDir()
				}
				c, stream := benchStream(b, cfg)
				b.ReportAllocs()
				var sequence, applied uint64
				begun := cpuTime()
				for b.Loop() {
					sequence++
					applied = benchBatch(b, stream, sequence, flows, applied, 60)
				}
				packets := float64(b.N) * benchRows
				b.ReportMetric(float64((cpuTime()-begun).Nanoseconds())/packets, "cpu-ns/packet")
				b.ReportMetric(packets/b.Elapsed().Seconds(), "packets/s")
				if st := c.log.Stats(); st.Durable {
					b.ReportMetric(float64(st.GroupBytes)/packets, "log-B/packet")
					b.ReportMetric(float64(st.Groups)/b.Elapsed().Seconds(), "fsyncs/s")
				}
			})
		}
	}
}

const benchRows = 4000

// benchBatch sends batch number sequence, waits until all but the newest behind
// are applied, and returns up to where that is. So far it is applied.
func benchBatch(b *testing.B, stream benchIngest, sequence uint64, flows int, applied, behind uint64) uint64 {
	batch := &flow.Batch{Sequence: sequence}
	for k := range benchRows / 10 {
		batch.AddFlow(tuple((int(sequence)*400 + k) % flows))
	}
	at := epochStart + int64(sequence)*benchRows*1000
	for i := range benchRows {
		at += 1000
		batch.AddPacket(uint32(i%(benchRows/10)), i&1 == 1, at, uint32(60+i*37%1400), flow.ACK)
	}
	encoded := wire.AppendBatch(nil, batch)
	if err := stream.SendMsg(wire.Pieces{wire.AppendIngestHeader(nil, len(encoded)), encoded}); err != nil {
		b.Fatal(err)
	}
	for applied+behind < sequence {
		applied = benchAck(b, stream)
	}
	return applied
}

// benchAck returns what the next Ack says is applied.
func benchAck(b *testing.B, stream benchIngest) uint64 {
	for {
		resp, err := stream.Recv()
		if err != nil {
			b.Fatal(err)
		}
		if resp.GetAck() != nil {
			return resp.GetAck().GetAppliedSequence()
		}
	}
}

// BenchmarkRestart: from the start of a collector with a million connections to
// the first answer, after a crash with a minute of log behind the newest
// checkpoint at 100,000 packets/s, and after a proper stop.
func BenchmarkRestart(b *testing.B) {
	const flows, behind = 1_000_000, 6_000_000 / benchRows
	for _, crash := range []bool{true, false} {
		b.Run(fmt.Sprintf("crash=%v", crash), func(b *testing.B) {
			cfg := Config{DataDir: b.TempDir(), CheckpointEvery: time.Hour, DrainTimeout: time.Minute}
			cfg.Tracker.MaxConnections = 2 * flows
			c, stream := benchStream(b, cfg)
			var sequence, applied uint64
			for range flows / 400 {
				sequence++
				applied = benchBatch(b, stream, sequence, flows, applied, 60)
			}
			for applied < sequence {
				applied = benchAck(b, stream)
			}
			if crash {
				if err := c.checkpointer.round(b.Context()); err != nil {
					b.Fatal(err)
				}
				for range behind {
					sequence++
					applied = benchBatch(b, stream, sequence, flows, applied, 60)
				}
			}
			newest := c.finish(crash)
			live, begun := 0.0, cpuTime()
			for b.Loop() {
				b.StopTimer()
				b.StartTimer()
				again, err := New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				again.cfg.Listeners = []net.Listener{bufconn.Listen(1)}
				ended := make(chan error, 1)
				go func() { ended <- again.Run(context.Background()) }()
				<-again.Ready()
				b.StopTimer()
				live = float64(again.tracker.Count().Live)
				again.parts.fail(errCrash)
				<-ended
				b.StartTimer()
			}
			b.ReportMetric((cpuTime()-begun).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(live, "connections")
			b.ReportMetric(float64(newest.Bytes)/float64(newest.Connections), "checkpoint-B/connection")
		})
	}
}

// finish ends the collector, properly or not, and returns the newest checkpoint.
func (c *benchCollector) finish(crash bool) checkpoint.Summary {
	if crash {
		c.parts.fail(errCrash)
	} else {
		c.stop()
	}
	c.ended <- <-c.ended
	newest, _, _ := c.checkpointer.state()
	return newest
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type benchIngest = grpc.BidiStreamingClient[whorlv1.IngestRequest, whorlv1.IngestResponse]

// benchCollector is a collector and how to end it.
type benchCollector struct {
	*Collector
	stop  context.CancelFunc
	ended chan error
}

func benchStream(b *testing.B, cfg Config) (*benchCollector, benchIngest) {
	b.Helper()
	l := bufconn.Listen(1 << 20)
	cfg.Listeners = []net.Listener{l}
	c, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	bc := &benchCollector{Collector: c, stop: stop, ended: make(chan error, 1)}
	go func() { bc.ended <- c.Run(ctx) }()
	<-c.Ready()
	conn, err := grpc.NewClient("passthrough:///bufnet", append(rpc.DialOptions(nil),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		stop()
		<-bc.ended
	})
	stream, err := whorlv1.NewIngestServiceClient(conn).Ingest(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-1", "s1")}}); err != nil {
		b.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		b.Fatal(err)
	}
	return bc, stream
}
