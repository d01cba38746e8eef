package wire

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ingestServer answers each batch with an ack of its sequence.
type ingestServer struct {
	whorlv1.UnimplementedIngestServiceServer
	got []flow.Batch
}

func (s *ingestServer) Ingest(stream grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse]) error {
	var f Frame
	for {
		if err := stream.RecvMsg(&f); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		p, other, err := SplitIngest(f.Data)
		if err != nil {
			return err
		}
		if p == nil {
			hello := other.GetHello().GetProbeId()
			if err := stream.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Welcome{Welcome: &whorlv1.Welcome{CollectorId: hello}}}); err != nil {
				return err
			}
			continue
		}
		var b flow.Batch
		if err := DecodeBatch(p, &b); err != nil {
			return err
		}
		s.got = append(s.got, b)
		ack, err := proto.Marshal(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Ack{Ack: &whorlv1.Ack{AppliedSequence: b.Sequence}}})
		if err != nil {
			return err
		}
		// In pieces of one byte, and none at all: the cut does not show.
		pieces := Pieces{nil}
		for i := range ack {
			pieces = append(pieces, ack[i:i+1])
		}
		if err := stream.SendMsg(pieces); err != nil {
			return err
		}
	}
}

// Over a real connection, frames and pieces are what generated messages are, and
// generated messages go on working beside them, on either side.
func TestCodecOverGRPC(t *testing.T) {
	listener := bufconn.Listen(1 << 20)
	service := new(ingestServer)
	server := grpc.NewServer(grpc.ForceServerCodecV2(Codec{}))
	whorlv1.RegisterIngestServiceServer(server, service)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		<-served
	})

	stream, err := whorlv1.NewIngestServiceClient(conn).Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: &whorlv1.Hello{ProbeId: "edge1"}}}); err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetWelcome().GetCollectorId() != "edge1" {
		t.Fatalf("welcome %v, error %v", m, err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		// From a few bytes to more than one HTTP/2 frame.
		b := randomBatch(r, 1+i*500, true)
		encoded := AppendBatch(nil, b)
		if err := stream.SendMsg(Pieces{AppendIngestHeader(nil, len(encoded)), encoded}); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil || m.GetAck().GetAppliedSequence() != b.Sequence {
			t.Fatalf("ack %v, error %v", m, err)
		}
		if !equalBatches(inWireOrder(b), &service.got[i]) {
			t.Fatalf("batch %d arrived as another", i)
		}
	}
}

// A frame keeps its memory for the next message, but not a giant's.
func TestFrameMemory(t *testing.T) {
	var f Frame
	receive := func(n int) *byte {
		t.Helper()
		want := bytes.Repeat([]byte{7}, n)
		if err := (Codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(want[:n/2]), mem.SliceBuffer(want[n/2:])}, &f); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.Data, want) {
			t.Fatalf("got %d bytes, want %d", len(f.Data), n)
		}
		return &f.Data[:1][0]
	}
	first := receive(1000)
	if receive(10) != first {
		t.Error("a smaller message took new memory")
	}
	giant := receive(2 << 20)
	if receive(10) == giant {
		t.Error("the memory of a giant was kept")
	}
}
