package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running collector and a connection to it, all in memory.
type rig struct {
	t         *testing.T
	collector *Collector
	listener  *bufconn.Listener
	conn      *grpc.ClientConn
	stop      context.CancelFunc
	ended     chan error

	ingest  whorlv1.IngestServiceClient
	tracker whorlv1.TrackerServiceClient
	feed    whorlv1.FeedServiceClient
	status  whorlv1.StatusServiceClient
}

// newRig starts a collector. What it starts has ended when the test has.
func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	return newRigWith(t, cfg, nil)
}

// newRigWith is newRig with another log, unless that is nil.
func newRigWith(t *testing.T, cfg Config, l log.Log) *rig {
	t.Helper()
	if l == nil {
		memory, err := log.NewMemory(0)
		if err != nil {
			t.Fatal(err)
		}
		l = memory
	}
	r := &rig{t: t, listener: bufconn.Listen(256 << 10), ended: make(chan error, 1)}
	cfg.Listeners = []net.Listener{r.listener}
	if cfg.Tracker.Shards == 0 {
		cfg.Tracker.Shards = 4
	}
	if cfg.Tracker.MaxConnections == 0 {
		cfg.Tracker.MaxConnections = 20_000
	}
	var err error
	if cfg.DataDir != "" {
		if r.collector, err = New(cfg); err != nil {
			t.Fatal(err)
		}
	} else {
		r.collector = collectorWith(t, cfg, l)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- r.collector.Run(ctx) }()
	r.conn = r.dial()
	r.ingest = whorlv1.NewIngestServiceClient(r.conn)
	r.tracker = whorlv1.NewTrackerServiceClient(r.conn)
	r.feed = whorlv1.NewFeedServiceClient(r.conn)
	r.status = whorlv1.NewStatusServiceClient(r.conn)
	t.Cleanup(func() {
		r.conn.Close()
		stop()
		if err := <-r.ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.ended <- nil
	})
	return r
}

// collectorWith builds a collector around a log in memory.
func collectorWith(t *testing.T, cfg Config, l log.Log) *Collector {
	t.Helper()
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.withDefaults()
	s, err := inMemory(&cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCollector(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dial makes another connection.
func (r *rig) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	opts = append(append(rpc.DialOptions(nil), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return r.listener.DialContext(ctx)
	})), opts...)
	conn, err := grpc.NewClient("passthrough:///bufnet", opts...)
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// inBubble runs f where minutes are free and exact.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// probeStream is a probe as a test plays it.
type probeStream struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[whorlv1.IngestRequest, whorlv1.IngestResponse]
	cancel context.CancelFunc
	hello  *whorlv1.Hello
}

func sessionID(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:16]
}

func helloOf(probe, session string) *whorlv1.Hello {
	return &whorlv1.Hello{
		ProbeId: probe, SessionId: sessionID(session), Kind: whorlv1.SessionKind_SESSION_KIND_REPLAY,
		ProbeVersion: "test", Hostname: "host-" + probe, ProbeTime: timestamppb.Now(), SchemaVersion: 1,
	}
}

// open starts a stream without saying hello.
func (r *rig) open() *probeStream {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	stream, err := r.ingest.Ingest(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return &probeStream{t: r.t, stream: stream, cancel: cancel}
}

// report starts a stream and takes the Welcome.
func (r *rig) report(hello *whorlv1.Hello) (*probeStream, *whorlv1.Welcome) {
	r.t.Helper()
	p := r.open()
	p.hello = hello
	p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: hello}})
	resp := p.recv()
	if resp.GetWelcome() == nil {
		r.t.Fatalf("first answer %v, want a welcome", resp)
	}
	return p, resp.GetWelcome()
}

func (p *probeStream) send(m *whorlv1.IngestRequest) {
	p.t.Helper()
	if err := p.stream.Send(m); err != nil {
		_, why := p.stream.Recv()
		p.t.Fatalf("send: %v (%v)", err, why)
	}
}

func (p *probeStream) recv() *whorlv1.IngestResponse {
	p.t.Helper()
	resp, err := p.stream.Recv()
	if err != nil {
		p.t.Fatalf("recv: %v", err)
	}
	return resp
}

// fails receives until the stream ends and checks how.
func (p *probeStream) fails(want codes.Code, reason string) error {
	p.t.Helper()
	for {
		_, err := p.stream.Recv()
		if err == nil {
			continue
		}
		checkError(p.t, err, want, reason)
		return err
	}
}

func (p *probeStream) batch(b *flow.Batch) {
	p.t.Helper()
	p.raw(wire.AppendBatch(nil, b))
}

// raw sends an encoded batch.
func (p *probeStream) raw(batch []byte) {
	p.t.Helper()
	m := new(whorlv1.IngestRequest)
	wireBatch := new(whorlv1.Batch)
	if err := proto.Unmarshal(batch, wireBatch); err != nil {
		p.t.Fatalf("batch: %v", err)
	}
	m.Message = &whorlv1.IngestRequest_Batch{Batch: wireBatch}
	p.send(m)
}

// acked receives until the applied sequence is at least n.
func (p *probeStream) acked(n uint64) *whorlv1.Ack {
	p.t.Helper()
	for {
		resp := p.recv()
		if resp.GetReject() != nil {
			p.t.Fatalf("rejected: %v", resp.GetReject())
		}
		if a := resp.GetAck(); a != nil && a.GetAppliedSequence() >= n {
			return a
		}
	}
}

// rejected receives until a Reject.
func (p *probeStream) rejected() *whorlv1.Reject {
	p.t.Helper()
	for {
		if r := p.recv().GetReject(); r != nil {
			return r
		}
	}
}

// finish ends the session, checks that the stream ends well, and returns the
// last Ack.
func (p *probeStream) finish(flush bool) *whorlv1.Ack {
	p.t.Helper()
	p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Finish{Finish: &whorlv1.Finish{Flush: flush}}})
	var last *whorlv1.Ack
	for {
		resp, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			p.t.Fatalf("after finish: %v", err)
		}
		if resp.GetAck() != nil {
			last = resp.GetAck()
		}
	}
}

// checkError compares a status with a row of the error table.
func checkError(t *testing.T, err error, want codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != want || reasonOf(err) != reason {
		t.Errorf("error %v, reason %q; want %v, reason %q", err, reasonOf(err), want, reason)
	}
}

// tuple makes a TCP flow whose client is 10.0.0.0 + n.
func tuple(n int) flow.Tuple {
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return flow.Tuple{
		Src: flow.AddrFrom(a), Dst: flow.AddrFrom(netip.MustParseAddr("192.0.2.1")),
		SrcPort: uint16(40000 + n%1000), DstPort: 443, Protocol: flow.TCP,
	}
}

// epochStart is where capture times of tests begin.
var epochStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// packets makes batch number sequence: one packet of 100 bytes for each flow.
func packets(sequence uint64, at time.Duration, flows ...int) *flow.Batch {
	b := &flow.Batch{Sequence: sequence}
	for i, n := range flows {
		b.AddPacket(b.AddFlow(tuple(n)), false, epochStart+int64(at)+int64(i), 100, flow.ACK)
	}
	b.Watermark = epochStart + int64(at)
	return b
}

// withFingerprint adds an event on the last row.
func withFingerprint(b *flow.Batch, typ ja4.Type, value string) *flow.Batch {
	row := b.Rows()
	b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
		Flow: b.Flow[row-1] >> 1, Row: uint32(row), Event: ja4.Event{Type: typ, Value: value},
	})
	return b
}

func id(n int) string {
	t := tuple(n)
	key, _ := t.Key()
	return key.ID("")
}

// totals asks for the status.
func (r *rig) totals() *whorlv1.GetStatusResponse {
	r.t.Helper()
	resp, err := r.status.GetStatus(r.t.Context(), &whorlv1.GetStatusRequest{IncludeShards: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func (r *rig) drop(where string) uint64 {
	r.t.Helper()
	for _, d := range r.totals().GetDrops() {
		if d.GetWhere() == where {
			return d.GetCount()
		}
	}
	return 0
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func logSession(probe string) log.Session {
	return log.Session{Probe: probe, Network: flow.DefaultNetwork, ID: [16]byte{1}}
}

// checkField compares the field that a BadRequest names.
func checkField(t *testing.T, err error, want string) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			if got := bad.GetFieldViolations()[0].GetField(); got != want {
				t.Errorf("field %q, want %q (%v)", got, want, err)
			}
			return
		}
	}
	t.Errorf("no field named in %v, want %q", err, want)
}

func errorInfo(err error) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i
		}
	}
	return nil
}
