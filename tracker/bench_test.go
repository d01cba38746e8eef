package tracker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// benchRows is how many rows a batch of the benchmarks has: what fits 32 KiB
// on the wire.
const benchRows = 4096

// benchRig starts a Tracker without OnEvict, whose batches are not waited for.
func benchRig(b *testing.B, cfg Config) *Tracker {
	t, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { t.Run(ctx) })
	b.Cleanup(func() { stop(); wg.Wait() })
	return t
}

func drain(t *Tracker, logTime int64) {
	done := make(chan struct{})
	t.Flush(context.Background(), logTime, FlushRequest{Network: "nobody"}, func(int) { close(done) })
	<-done
}

func udp(n int) flow.Tuple {
	return flow.Tuple{
		Src: flow.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), SrcPort: uint16(n),
		Dst: flow.AddrFrom4([4]byte{192, 0, 2, byte(n >> 24)}), DstPort: 443, Protocol: flow.UDP,
	}
}

// fill opens n connections, all within a second of the clock.
func fill(t *Tracker, n int) {
	b := new(flow.Batch)
	for i := 0; i < n; {
		b.Reset()
		for ; i < n && b.Rows() < benchRows; i++ {
			b.AddPacket(b.AddFlow(udp(i)), i&1 == 1, epochTime+int64(i), 100, 0)
		}
		done := make(chan struct{})
		t.Submit(context.Background(), epochTime, Origin{}, b, func() { close(done) })
		<-done
	}
}

// pool makes batches of random packets on n connections; perFlow packets of a
// batch share a flow.
func pool(n, perFlow, batches int) []*flow.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]*flow.Batch, batches)
	for i := range all {
		b := new(flow.Batch)
		for f := range benchRows / perFlow {
			b.AddFlow(udp(r.IntN(n)))
			_ = f
		}
		for row := range benchRows {
			b.AddPacket(uint32(row%len(b.Flows)), row&1 == 1, epochTime+int64(time.Second), 100, 0)
		}
		all[i] = b
	}
	return all
}

// BenchmarkUpdate: one packet on an existing connection, chosen at random, all
// in: Submit, routing, queue, worker. One packet per flow and batch is the worst
// case, eight show what a batch-local flow index is worth.
func BenchmarkUpdate(b *testing.B) {
	for _, c := range []struct{ conns, perFlow, shards int }{
		{1 << 16, 1, 64}, {1_000_000, 1, 64}, {1_000_000, 8, 64}, {1_000_000, 1, 2}, {1_000_000, 8, 2},
	} {
		b.Run(fmt.Sprintf("conns=%d/perFlow=%d/shards=%d", c.conns, c.perFlow, c.shards), func(b *testing.B) {
			t := benchRig(b, Config{Shards: c.shards, MaxConnections: c.conns * 11 / 10})
			fill(t, c.conns)
			batches := pool(c.conns, c.perFlow, 512)
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += benchRows {
				t.Submit(context.Background(), epochTime, Origin{}, batches[i/benchRows%len(batches)], nil)
			}
			drain(t, epochTime)
			b.StopTimer()
			if n := t.Count().Live; n != uint64(c.conns) {
				b.Fatalf("%d connections, want %d", n, c.conns)
			}
		})
	}
}
