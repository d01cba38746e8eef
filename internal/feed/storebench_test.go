package feed

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/jet/jettest"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/tracker"
)

// BenchmarkOldReader: a subscriber that reads what is no longer in memory, per
// event.
func BenchmarkOldReader(b *testing.B) {
	messages := &jettest.Memory{}
	j := openStored(b, Config{MaxBytes: 256 << 20}, messages)
	const n = 100_000
	for range n {
		if _, err := j.Append(b.Context(), 1, &Event{Key: testKey(1), Body: body(1, 300)}); err != nil {
			b.Fatal(err)
		}
	}
	j.Close()
	j = withoutMemory(b, messages)
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		for r := j.ReadOldest(); ; {
			block, err := r.Next(b.Context(), 100, 1<<20)
			if err != nil {
				b.Fatal(err)
			}
			if block.Len() == 0 {
				break
			}
			events += block.Len()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

// BenchmarkStore: what an event costs that goes to a disk, S2 and syncs included,
// when as many come as it takes; events of 400 bytes that are not all alike.
func BenchmarkStore(b *testing.B) {
	j, err := Open(b.Context(), Config{}, jetStream(b, b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	bodies := make([][]byte, 1000)
	for i := range bodies {
		e := &tracker.Eviction{Cause: 1, EvictedAt: rnd.Int64()}
		tuple := recentTuple(i)
		tuple.SrcPort = uint16(rnd.Uint32())
		e.Connection.Src, e.Connection.SrcPort = tuple.Src, tuple.SrcPort
		e.Connection.Dst, e.Connection.DstPort = tuple.Dst, tuple.DstPort
		e.Connection.Protocol, e.Connection.Network = tuple.Protocol, "default"
		e.Connection.Key, _ = tuple.Key()
		e.Connection.PacketCount, e.Connection.ByteCount = rnd.Uint64N(1000), rnd.Uint64N(1<<20)
		e.Connection.ServerName = "example.org" + strings.Repeat("x", rnd.IntN(200))
		bodies[i] = wire.AppendEviction(nil, e)
	}
	key := testKey(1)
	before, bytes := cpu(), 0
	for i := 0; b.Loop(); i++ {
		p := bodies[i%len(bodies)]
		bytes += len(p)
		if _, err := j.Append(b.Context(), int64(i), &Event{Position: uint64(i), Key: key, Body: p}); err != nil {
			b.Fatal(err)
		}
	}
	j.Close()
	s := j.Stats()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N), "ns-CPU/event")
	b.ReportMetric(float64(bytes)/float64(b.N), "B/event")
	b.ReportMetric(float64(s.BlockBytes)/float64(b.N), "disk-B/event")
	b.ReportMetric(float64(s.EventBytes)/float64(s.Blocks), "B/block")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// cpu returns the CPU time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
