//go:build unix

package tracker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
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

// cpuTime returns the processor time that the process has used, which a busy
// machine distorts less than the time that passed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports the processor time per operation since start.
func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
}

func drain(t *Tracker, logTime int64) {
	done := make(chan struct{})
	t.Flush(context.Background(), Entry{LogTime: logTime}, FlushRequest{Network: "nobody"}, func(int) { close(done) })
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
		t.Submit(context.Background(), Entry{LogTime: epochTime}, Origin{}, b, func() { close(done) })
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
		{1 << 16, 1, 16}, {1_000_000, 1, 16}, {1_000_000, 8, 16}, {1_000_000, 1, 2}, {1_000_000, 8, 2},
	} {
		b.Run(fmt.Sprintf("conns=%d/perFlow=%d/shards=%d", c.conns, c.perFlow, c.shards), func(b *testing.B) {
			t := benchRig(b, Config{Shards: c.shards, MaxConnections: c.conns * 11 / 10})
			fill(t, c.conns)
			batches := pool(c.conns, c.perFlow, 512)
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			start := cpuTime()
			for i := 0; i < b.N; i += benchRows {
				t.Submit(context.Background(), Entry{LogTime: epochTime}, Origin{}, batches[i/benchRows%len(batches)], nil)
			}
			drain(t, epochTime)
			b.StopTimer()
			reportCPU(b, start)
			if n := t.Count().Live; n != uint64(c.conns) {
				b.Fatalf("%d connections, want %d", n, c.conns)
			}
		})
	}
}

// BenchmarkFlood: one SYN of a new connection into a full table of 1 M, which
// evicts another: told to OnEvict, put out in order, and with the opened one, too.
// An encoded departure has 200 bytes, and nobody waits for a batch.
func BenchmarkFlood(b *testing.B) {
	left := make([]int, 64*8) // one cache line for each shard
	body := make([]byte, 200)
	items := 0
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"evict", Config{OnEvict: func(shard int, e *Eviction) { left[shard*8]++ }}},
		{"encode", Config{OnEvict: func(shard int, e *Eviction) { left[shard*8] += len(append(body[:0], body...)) }}},
		{"output", Config{OnOutput: func(o *Output) { items += len(o.Items) }}},
		{"output+encode", Config{OnOutput: func(o *Output) { items += len(o.Items) }, Encode: func(dst []byte, _ *Eviction) []byte { return append(dst, body...) }}},
		{"output+encode+events", Config{Events: true, OnOutput: func(o *Output) { items += len(o.Items) }, Encode: func(dst []byte, _ *Eviction) []byte { return append(dst, body...) }}},
	} {
		b.Run(c.name, func(b *testing.B) { benchFlood(b, c.cfg) })
	}
}

func benchFlood(b *testing.B, cfg Config) {
	const conns = 1_000_000
	cfg.MaxConnections, cfg.Shards = conns, 16
	t := benchRig(b, cfg)
	next := 0
	free := make(chan *flow.Batch, 8)
	for range cap(free) {
		free <- new(flow.Batch)
	}
	submit := func() {
		batch := <-free
		batch.Reset()
		for range benchRows {
			tu := udp(next)
			tu.Protocol = flow.TCP
			batch.AddPacket(batch.AddFlow(tu), false, epochTime+int64(next)*1000, 60, flow.SYN)
			next++
		}
		t.Submit(context.Background(), Entry{LogTime: epochTime}, Origin{}, batch, func() { free <- batch })
	}
	for next < conns*11/10 {
		submit()
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime()
	for i := 0; i < b.N; i += benchRows {
		submit()
	}
	drain(t, epochTime)
	b.StopTimer()
	reportCPU(b, start)
	if n := t.Count(); n.Evicted[CauseCapacity]+n.Evicted[CauseIdle] < uint64(b.N) {
		b.Fatalf("%d evictions, want %d", n.Evicted[CauseCapacity], b.N)
	}
}

// BenchmarkTick: a tick over a table of 1 M connections of which 1,000 have
// expired; ns/op includes opening them again.
func BenchmarkTick(b *testing.B) {
	const conns, dying = 1_000_000, 1000
	t := benchRig(b, Config{MaxConnections: conns * 11 / 10, Timeouts: Timeouts{UDP: time.Hour, UDPOneWay: time.Hour, Other: time.Second}})
	fill(t, conns)
	batch := new(flow.Batch)
	var sweep time.Duration
	for n := 0; b.Loop(); n++ {
		batch.Reset()
		for i := range dying {
			tu := udp(i)
			tu.Protocol = flow.SCTP
			batch.AddPacket(batch.AddFlow(tu), false, epochTime+int64(n)*int64(time.Millisecond)*1100, 60, 0)
		}
		batch.AddPacket(batch.AddFlow(udp(1)), false, epochTime+int64(n)*int64(time.Millisecond)*1100+int64(time.Millisecond)*1050, 60, 0)
		done := make(chan struct{})
		t.Submit(context.Background(), Entry{LogTime: epochTime}, Origin{}, batch, func() { close(done) })
		<-done
		start := time.Now()
		done = make(chan struct{})
		t.Tick(context.Background(), Entry{LogTime: epochTime}, func() { close(done) })
		<-done
		sweep += time.Since(start)
	}
	b.ReportMetric(float64(sweep.Microseconds())/float64(b.N), "µs/tick")
}

// BenchmarkPage: a walk over 1 M connections, bare, while nothing else happens.
func BenchmarkPage(b *testing.B) {
	const conns = 1_000_000
	for _, d := range []Detail{Bare, Newest} {
		b.Run(fmt.Sprintf("detail=%d", d), func(b *testing.B) {
			t := benchRig(b, Config{MaxConnections: conns * 11 / 10})
			fill(t, conns)
			var page []Snapshot
			b.ReportAllocs()
			start := cpuTime()
			for b.Loop() {
				var c Cursor
				n := 0
				for more := true; more; {
					page, c, more = t.Page(c, d, 500, page)
					n += len(page)
				}
				if n != conns {
					b.Fatalf("%d connections", n)
				}
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkGet: one connection of 1 M, chosen at random, idle and under load.
func BenchmarkGet(b *testing.B) {
	const conns = 1_000_000
	for _, busy := range []bool{false, true} {
		b.Run(fmt.Sprintf("busy=%v", busy), func(b *testing.B) {
			t := benchRig(b, Config{MaxConnections: conns * 11 / 10})
			fill(t, conns)
			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			if busy {
				batches := pool(conns, 1, 64)
				wg.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						t.Submit(ctx, Entry{LogTime: epochTime}, Origin{}, batches[i%len(batches)], nil)
						time.Sleep(time.Millisecond / 2)
					}
				})
			}
			r := rand.New(rand.NewPCG(3, 4))
			var s Snapshot
			b.ReportAllocs()
			for b.Loop() {
				tu := udp(r.IntN(conns))
				k, _ := tu.Key()
				if !t.Get(k, "", Bare, &s) {
					b.Fatal("not tracked")
				}
			}
			stop()
			wg.Wait()
		})
	}
}

// BenchmarkMemory: bytes for a connection of 1 M, bare and with three
// fingerprints and their raw forms, and what a full garbage collection costs.
func BenchmarkMemory(b *testing.B) {
	const conns = 1_000_000
	for _, prints := range []int{0, 3} {
		b.Run(fmt.Sprintf("fingerprints=%d", prints), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			t := benchRig(b, Config{MaxConnections: conns * 11 / 10})
			fill(t, conns)
			for from := 0; prints > 0 && from < conns; from += benchRows {
				batch := new(flow.Batch)
				for i := from; i < min(conns, from+benchRows); i++ {
					f := batch.AddFlow(udp(i))
					for p := range prints {
						batch.Fingerprints = append(batch.Fingerprints, flow.Fingerprint{Flow: f, Event: ja4.Event{
							Type: ja4.Type(1 + p), Value: fmt.Sprintf("t13d1516h2_8daaf6152771_%012d", i%1000), Raw: fmt.Sprintf("t13d1516h2_002f,0035,009c,009d,1301,1302,1303_%d", i%1000),
						}})
					}
				}
				t.Submit(context.Background(), Entry{LogTime: epochTime}, Origin{}, batch, nil)
			}
			drain(t, epochTime)
			runtime.GC()
			runtime.ReadMemStats(&after)
			start := cpuTime()
			for b.Loop() {
				runtime.GC()
			}
			reportCPU(b, start)
			b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/conns, "B/conn")
			if t.Count().Live != conns {
				b.Fatal("too few connections")
			}
		})
	}
}
