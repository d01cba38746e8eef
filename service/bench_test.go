package service

import (
	"context"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// BenchmarkIngest: batches of 4,000 packets of 400 flows through a whole
// collector, in one process over memory: encode, gRPC, decode, log, tracker, Ack.
// Both sides count: on one core this is the cost of a packet on both together.
func BenchmarkIngest(b *testing.B) {
	for _, flows := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			const rows = 4000
			stream := benchStream(b)
			batch := &flow.Batch{}
			b.ReportAllocs()
			sequence, at := uint64(0), epochStart
			for b.Loop() {
				sequence++
				batch.Reset()
				batch.Sequence = sequence
				for k := range rows / 10 {
					batch.AddFlow(tuple((int(sequence)*400 + k) % flows))
				}
				for i := range rows {
					at += 1000
					batch.AddPacket(uint32(i%(rows/10)), i&1 == 1, at, 900, flow.ACK)
				}
				encoded := wire.AppendBatch(nil, batch)
				header := wire.AppendIngestHeader(nil, len(encoded))
				if err := stream.SendMsg(wire.Pieces{header, encoded}); err != nil {
					b.Fatal(err)
				}
				for applied := sequence - min(sequence, 32); applied > 0; {
					resp, err := stream.Recv()
					if err != nil {
						b.Fatal(err)
					}
					if resp.GetAck().GetAppliedSequence() >= applied {
						break
					}
				}
			}
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "packets/s")
		})
	}
}

func benchStream(b *testing.B) grpc.BidiStreamingClient[whorlv1.IngestRequest, whorlv1.IngestResponse] {
	b.Helper()
	l := bufconn.Listen(1 << 20)
	c, err := New(Config{Listeners: []net.Listener{l}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	conn, err := grpc.NewClient("passthrough:///bufnet", append(rpc.DialOptions(nil),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		stop()
		<-ended
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
	return stream
}
