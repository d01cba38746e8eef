package service

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// cutConn is a connection that breaks after a number of bytes in either
// direction.
type cutConn struct {
	net.Conn
	left *atomic.Int64
}

var errCut = errors.New("cut")

func (c cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return c.count(n, err)
}

func (c cutConn) Write(p []byte) (int, error) {
	if left := c.left.Load(); int64(len(p)) > left && left > 0 {
		return c.count(c.Conn.Write(p[:left])) // half a frame arrives
	}
	return c.count(c.Conn.Write(p))
}

func (c cutConn) count(n int, err error) (int, error) {
	if c.left.Add(-int64(n)) <= 0 && err == nil {
		c.Conn.Close()
		return n, errCut
	}
	return n, err
}

// However often and wherever a connection is cut, each batch counts exactly
// once: the totals are those of a probe that was never cut.
func TestCutsLoseAndDoubleNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, Config{})

	const batches = 300
	encoded := make([][]byte, batches+1)
	var wantPackets uint64
	for i := 1; i <= batches; i++ {
		b := packets(uint64(i), time.Duration(i)*time.Millisecond, upTo(1+rng.IntN(40))...)
		wantPackets += uint64(b.Rows())
		encoded[i] = wire.AppendBatch(nil, b)
	}
	cuts := 0
	for applied := uint64(0); applied < batches; cuts++ {
		left := new(atomic.Int64)
		left.Store(1 + rng.Int64N(60_000))
		applied = max(applied, r.reportUntilCut(t, left, encoded, rng))
	}
	st := r.totals()
	if st.GetPacketsApplied() != wantPackets {
		t.Errorf("%d packets applied after %d cuts, want %d", st.GetPacketsApplied(), cuts, wantPackets)
	}
	if n := r.drop("ingest.batches_out_of_order"); n != 0 {
		t.Errorf("%d batches out of order, want 0", n)
	}
	t.Logf("%d connections for %d batches", cuts, batches)
}

// reportUntilCut runs a probe on a connection that breaks, and returns the
// sequence up to which the collector acknowledged.
func (r *rig) reportUntilCut(t *testing.T, left *atomic.Int64, encoded [][]byte, rng *rand.Rand) (applied uint64) {
	conn := r.dial(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := r.listener.DialContext(ctx)
		return cutConn{c, left}, err
	}))
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stream, err := whorlv1.NewIngestServiceClient(conn).Ingest(ctx)
	if err != nil {
		return 0
	}
	if stream.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-1", "s1")}}) != nil {
		return 0
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0
	}
	applied = resp.GetWelcome().GetAppliedSequence()
	// Sometimes a probe sends again what it need not.
	next := applied + 1 - min(applied, rng.Uint64N(3))
	for ; next < uint64(len(encoded)); next++ {
		b := new(whorlv1.Batch)
		if err := proto.Unmarshal(encoded[next], b); err != nil {
			t.Fatal(err)
		}
		if stream.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Batch{Batch: b}}) != nil {
			break
		}
	}
	_ = stream.CloseSend()
	for {
		resp, err := stream.Recv()
		if err != nil {
			return applied
		}
		applied = max(applied, resp.GetAck().GetAppliedSequence())
	}
}
