//go:build unix

package tracker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// fingerprintAll fingerprints every connection that fill has opened: three types, with
// raw forms, of a thousand values each.
func fingerprintAll(t *Tracker, conns int) {
	for from := 0; from < conns; from += benchRows {
		b := new(flow.Batch)
		for i := from; i < min(conns, from+benchRows); i++ {
			f := b.AddFlow(udp(i))
			for p := range 3 {
				b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Event: ja4.Event{
					Type: ja4.Type(1 + p), Value: fmt.Sprintf("t13d1516h2_8daaf6152771_%012d", i%1000),
					Raw: fmt.Sprintf("t13d1516h2_002f,0035,009c,009d,1301,1302,1303_%d", i%1000),
				}})
			}
		}
		t.Submit(context.Background(), Entry{LogTime: epochTime}, Origin{}, b, nil)
	}
	drain(t, epochTime)
}

// BenchmarkCheckpoint: a head and all shards of a table of 1 M connections, saved
// one shard after another, and restored on all cores. hold is how long a worker
// stands still for the copy of one shard, µs.
func BenchmarkCheckpoint(b *testing.B) {
	const conns = 1_000_000
	for _, prints := range []bool{false, true} {
		cfg := Config{MaxConnections: conns * 11 / 10, Shards: 64}
		t := benchRig(b, cfg)
		fill(t, conns)
		if prints {
			fingerprintAll(t, conns)
		}
		var s saved
		b.Run(fmt.Sprintf("save/fingerprints=%v", prints), func(b *testing.B) {
			start := cpuTime()
			bytes := 0
			var hold, worst time.Duration
			for b.Loop() {
				s = saved{head: t.SaveHead(nil)}
				bytes = len(s.head)
				for i := range t.shards {
					got := make(chan *ShardImage, 1)
					began := time.Now()
					t.SaveShard(context.Background(), i, func(i *ShardImage) { got <- i })
					image := <-got
					took := time.Since(began)
					hold, worst = hold+took, max(worst, took)
					s.shards = append(s.shards, image.AppendTo(nil))
					image.Release()
					bytes += len(s.shards[i])
				}
			}
			reportCPU(b, start)
			b.ReportMetric(float64(bytes)/conns, "B/conn")
			b.ReportMetric(float64(hold.Microseconds())/float64(len(t.shards)*b.N), "hold-µs")
			b.ReportMetric(float64(worst.Microseconds()), "worst-hold-µs")
		})
		b.Run(fmt.Sprintf("restore/fingerprints=%v", prints), func(b *testing.B) {
			start := cpuTime()
			for b.Loop() {
				again, err := New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				if err := again.RestoreHead(s.head); err != nil {
					b.Fatal(err)
				}
				var wg sync.WaitGroup
				for _, half := range []int{0, 1} {
					wg.Go(func() {
						for i := half; i < len(s.shards); i += 2 {
							if _, err := again.RestoreShard(i, s.shards[i]); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				if n := again.Count().Live; n != conns {
					b.Fatalf("%d connections", n)
				}
			}
			reportCPU(b, start)
		})
	}
}
