package client

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a gRPC server in memory and returns a client of it. Both end with
// the test. It works inside a synctest bubble.
func serve(t *testing.T, register func(*grpc.Server), opts ...Option) *Client {
	t.Helper()
	return serveOn(t, bufconn.Listen(1<<20), register, opts...)
}

func serveOn(t *testing.T, listener *bufconn.Listener, register func(*grpc.Server), opts ...Option) *Client {
	t.Helper()
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	register(server)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	opts = append([]Option{WithLazy(), WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return listener.DialContext(ctx)
	})}, opts...)
	c, err := Dial(t.Context(), "localhost:4750", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		server.Stop()
		wg.Wait()
	})
	return c
}

// ingest is a collector's side of Ingest as the contract has it, with faults
// that tests turn on. It keeps what it counted.
type ingest struct {
	whorlv1.UnimplementedIngestServiceServer

	mu       sync.Mutex // guards what follows
	last     uint64     // newest sequence that was counted
	known    bool       // a session was seen: the first batch of none may begin anywhere
	packets  uint64     // counted
	lost     uint64     // said to be lost
	records  []*whorlv1.Lost
	reports  []*whorlv1.ProbeReport
	hellos   []*whorlv1.Hello
	finishes []*whorlv1.Finish
	unacked  int // batches received and not acknowledged, and its maximum
	maximum  int
	streams  int

	epoch   string                       // of every Welcome
	window  uint32                       // max_unacked_batches; 0 is 16
	cut     func(stream, batch int) bool // end the stream instead of taking this batch
	cutAck  func(stream, batch int) bool // count this batch, then end without an Ack
	refuse  func(stream int) error
	reject  func(b *whorlv1.Batch) bool
	refuses []string      // types of fingerprints that are not kept
	hold    chan struct{} // when not nil, nothing is acknowledged until it is closed
	drainAt int           // send Drain before this batch of the first stream
	endTime time.Duration // how long the end of a session takes
}

func (s *ingest) register(srv *grpc.Server) { whorlv1.RegisterIngestServiceServer(srv, s) }

var errCut = status.Error(codes.Unavailable, "cut")

func (s *ingest) Ingest(st grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse]) error {
	stream, err := s.greet(st)
	if err != nil {
		return err
	}
	for n := 1; ; {
		req, err := st.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := req.GetMessage().(type) {
		case *whorlv1.IngestRequest_Report:
			s.mu.Lock()
			s.reports = append(s.reports, m.Report)
			s.mu.Unlock()
			if s.holding() {
				continue
			}
			if err := s.ack(st); err != nil {
				return err
			}
		case *whorlv1.IngestRequest_Finish:
			s.mu.Lock()
			s.finishes = append(s.finishes, m.Finish)
			s.mu.Unlock()
			time.Sleep(s.endTime) // by the bubble's clock
			return s.ack(st)
		case *whorlv1.IngestRequest_Batch:
			if s.drainAt == n && stream == 1 {
				drain := &whorlv1.Drain{Reason: "test"}
				if err := st.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Drain{Drain: drain}}); err != nil {
					return err
				}
			}
			if s.cut != nil && s.asked(func() bool { return s.cut(stream, n) }) {
				return errCut
			}
			if err := s.batch(st, m.Batch); err != nil {
				return err
			}
			if s.cutAck != nil && s.asked(func() bool { return s.cutAck(stream, n) }) {
				return errCut
			}
			n++
			if s.holding() {
				continue
			}
			if err := s.ack(st); err != nil {
				return err
			}
		}
	}
}

// asked calls a switch of a test, one at a time.
func (s *ingest) asked(f func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

// holding reports whether acknowledgements are held back.
func (s *ingest) holding() bool {
	if s.hold == nil {
		return false
	}
	select {
	case <-s.hold:
		return false
	default:
		return true
	}
}

func (s *ingest) greet(st grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse]) (stream int, err error) {
	req, err := st.Recv()
	if err != nil {
		return 0, err
	}
	if req.GetHello() == nil {
		return 0, status.Error(codes.InvalidArgument, "no hello")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	s.unacked = 0
	s.hellos = append(s.hellos, req.GetHello())
	if s.refuse != nil {
		if err := s.refuse(s.streams); err != nil {
			return 0, err
		}
	}
	if !s.known {
		s.known, s.last = true, req.GetHello().GetOldestSequence()-1
	}
	if s.window == 0 {
		s.window = 16
	}
	return s.streams, st.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Welcome{Welcome: &whorlv1.Welcome{
		CollectorId: "test", CollectorEpoch: s.epoch, AppliedSequence: s.last, DurableSequence: s.last, MaxUnackedBatches: s.window,
		RefusedTypes: s.refuses,
	}}})
}

// batch counts b by the rules of the contract.
func (s *ingest) batch(st grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse], b *whorlv1.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unacked++
	s.maximum = max(s.maximum, s.unacked)
	first, last := b.GetSequence(), b.GetSequence()
	if l := b.GetLost(); l != nil {
		first, last = l.GetFirstSequence(), l.GetLastSequence()
	}
	if first != s.last+1 {
		return status.Errorf(codes.Internal, "batch %d to %d after %d: a reporter sends what comes next and nothing twice", first, last, s.last)
	}
	s.last = last
	if s.reject != nil && s.reject(b) {
		return st.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Reject{Reject: &whorlv1.Reject{
			Sequence: b.GetSequence(), Reason: whorlv1.RejectReason_REJECT_REASON_INVALID, Detail: "test"}}})
	}
	s.packets += uint64(len(b.GetPackets().GetFlow()))
	if b.GetLost() != nil {
		s.lost += b.GetLost().GetPackets()
		s.records = append(s.records, b.GetLost())
	}
	return nil
}

func (s *ingest) ack(st grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unacked = 0
	return st.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Ack{Ack: &whorlv1.Ack{
		AppliedSequence: s.last, DurableSequence: s.last, MaxUnackedBatches: s.window}}})
}

// testBatch has n packets of one flow and about 3 bytes for each.
func testBatch(n int) *flow.Batch {
	b := &flow.Batch{}
	i := b.AddFlow(flow.Tuple{
		Src: flow.AddrFrom4([4]byte{192, 0, 2, 1}), Dst: flow.AddrFrom4([4]byte{198, 51, 100, 9}),
		SrcPort: 40000, DstPort: 443, Protocol: flow.TCP,
	})
	for k := range n {
		b.AddPacket(i, k%2 == 1, 1_700_000_000_000_000_000+int64(k)*1000, 100, flow.ACK)
	}
	return b
}

// encodedSize is what a batch takes in the buffer.
func encodedSize(b *flow.Batch) int { return len(ingestRequest(nil, 1, wire.AppendBatch(nil, b))) }

// running runs r until the test ends and returns the error of Run.
func running(t *testing.T, r *Reporter) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	// In a bubble an hour is nothing; without an end a reporter that never gives
	// up would keep the clock of the bubble running for ever.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return ended
}

func mustReporter(t *testing.T, c *Client, cfg ReporterConfig) *Reporter {
	t.Helper()
	r, err := c.Reporter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// balanced checks the law of ReporterStats.
func balanced(t *testing.T, s ReporterStats) {
	t.Helper()
	lost := uint64(0)
	for _, n := range s.LostByReason {
		lost += n
	}
	if lost != s.LostPackets {
		t.Errorf("%d packets lost, by reason %v", s.LostPackets, s.LostByReason)
	}
	if sum := s.DurablePackets + s.HeldPackets + s.LostPackets + s.RejectedPackets + s.ForgottenPackets; sum != s.Packets+s.ResumedPackets {
		t.Errorf("%d packets reported, but %d durable + %d held + %d lost + %d rejected + %d forgotten = %d",
			s.Packets+s.ResumedPackets, s.DurablePackets, s.HeldPackets, s.LostPackets, s.RejectedPackets, s.ForgottenPackets, sum)
	}
}
