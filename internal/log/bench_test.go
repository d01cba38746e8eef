package log_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/probe"
)

// mixedBatches are what a probe makes of web traffic.
func mixedBatches(b *testing.B) []*flow.Batch {
	b.Helper()
	path := filepath.Join("..", "..", "examples", "sample", "sample.pcap")
	f, err := os.Open(path)
	if err != nil {
		b.Skip(err)
	}
	defer f.Close()
	sample, err := traffic.ReadSample(path, f)
	if err != nil {
		b.Fatal(err)
	}
	src, err := traffic.New(traffic.Config{Packets: 400_000, Connections: 8_000}, sample)
	if err != nil {
		b.Fatal(err)
	}
	batches, err := traffic.Batches(src, probe.Config{})
	if err != nil {
		b.Fatal(err)
	}
	return batches
}

// cpu returns the CPU time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStored: what it costs to keep a million packets a second on a disk, with
// their batches as they came, a reader that trims behind itself, and nothing else.
// One operation is one batch.
func BenchmarkStored(b *testing.B) {
	const packetsPerSecond = 1_000_000
	batches := mixedBatches(b)
	encoded := make([][]byte, len(batches))
	packets := make([]uint64, len(batches))
	rnd := rand.New(rand.NewPCG(1, 1))
	for i, batch := range batches {
		batch.Sequence = rnd.Uint64N(1 << 20)
		encoded[i] = wire.AppendBatch(nil, batch)
		packets[i], _ = batch.Packets()
	}
	server, err := jet.Start(jet.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	messages, err := server.Open(b.Context(), log.Stream(0))
	if err != nil {
		b.Fatal(err)
	}
	l, err := log.Open(b.Context(), messages, log.Config{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := l.Reader(0)
	if err != nil {
		b.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			records, err := r.Next(context.Background())
			if err != nil {
				return
			}
			if last := records[len(records)-1].Position; last > 1000 {
				if err := l.Trim(last - 1000); err != nil {
					b.Error(err)
				}
			}
		}
	}()
	sent := uint64(0)
	before, start := cpu(), time.Now()
	for i := 0; b.Loop(); i++ {
		k := i % len(encoded)
		_, err := l.Submit(b.Context(), nil, log.Record{
			LogTime: time.Now().UnixNano(), Kind: log.KindBatch, Batch: batches[k], Data: encoded[k],
			Session: log.Session{Probe: "edge", Network: "lab", Live: true},
		})
		if err != nil {
			b.Fatal(err)
		}
		sent += packets[k]
		if ahead := time.Duration(float64(sent)/packetsPerSecond*1e9) - time.Since(start); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	used, took := cpu()-before, time.Since(start)
	<-read
	s := l.Stats()
	b.ReportMetric(float64(used.Nanoseconds())/float64(sent), "ns-CPU/packet")
	b.ReportMetric(float64(s.RecordBytes)/float64(sent), "B/packet")
	b.ReportMetric(float64(s.GroupBytes)/float64(sent), "disk-B/packet")
	b.ReportMetric(float64(s.Groups)/took.Seconds(), "fsync/s")
	b.ReportMetric(float64(sent)/took.Seconds()/1e6, "Mpackets/s")
	b.ReportMetric(float64(sent)/float64(b.N), "packets/batch")
}

// BenchmarkIdleAppend: how long one record takes after a pause.
func BenchmarkIdleAppend(b *testing.B) {
	l, err := log.Open(b.Context(), jetStream(b, b.TempDir(), 0), log.Config{GroupEvery: time.Nanosecond})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		r, err := l.Reader(0)
		for err == nil {
			_, err = r.Next(context.Background())
		}
	}()
	for b.Loop() {
		if _, err := l.Append(b.Context(), record(1)); err != nil {
			b.Fatal(err)
		}
	}
}
