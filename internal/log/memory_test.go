package log_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/log/logtest"
	"github.com/whorl-net/whorl/ja4"
)

func newMemory(t testing.TB, maxBytes int64) *log.Memory {
	t.Helper()
	m, err := log.NewMemory(maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMemory(t *testing.T) {
	logtest.Run(t, func(t *testing.T, maxBytes int64) log.Log { return newMemory(t, maxBytes) })
}

func TestNewMemoryRefuses(t *testing.T) {
	if _, err := log.NewMemory(-1); err == nil {
		t.Error("a negative size was taken")
	}
	if s := newMemory(t, 0).Stats(); s.MaxBytes != log.DefaultMaxBytes || s.Durable {
		t.Errorf("%+v", s)
	}
}

// collect runs the garbage collector until it has found n of what collected
// tells. Cleanups run on a goroutine of their own, hence more than once.
func collect(t *testing.T, collected <-chan string, n int) {
	t.Helper()
	for range 1000 {
		if len(collected) >= n {
			return
		}
		runtime.GC()
	}
	t.Fatalf("%d of %d were collected", len(collected), n)
}

// What was read and trimmed is let go of while later records are held, and what
// a reader was given as soon as it goes on.
func TestMemoryLetsGo(t *testing.T) {
	m := newMemory(t, 0)
	r, err := m.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	collected := make(chan string, 16)
	add := func(n int) {
		for range n {
			data, b := make([]byte, 64), new(flow.Batch)
			runtime.AddCleanup(&data[0], func(what string) { collected <- what }, "data")
			runtime.AddCleanup(b, func(what string) { collected <- what }, "batch")
			if _, err := m.Append(t.Context(), log.Record{Kind: log.KindBatch, Data: data, Batch: b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := func() {
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(5)
	next()
	if err := m.Trim(2); err != nil {
		t.Fatal(err)
	}
	add(1)
	next()
	collect(t, collected, 5+2) // five batches, and the data of two trimmed records
	if s := m.Stats(); s.First != 3 || s.Last != 6 {
		t.Errorf("%+v", s)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(m)
}

// The bound counts what batches hold, and lets all of it go again even if the
// batch was changed by whoever applied it.
func TestMemoryCountsBatches(t *testing.T) {
	m := newMemory(t, 0)
	b := new(flow.Batch)
	f := b.AddFlow(flow.Tuple{})
	for range 1000 {
		b.AddPacket(f, false, 1, 60, 0)
	}
	b.Fingerprints = []flow.Fingerprint{{Event: ja4.Event{Type: 1, Value: "v", Raw: strings.Repeat("r", 8000)}}}
	p, err := m.Append(t.Context(), log.Record{Kind: log.KindBatch, Batch: b, Data: make([]byte, 7000)})
	if err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Bytes < 17_000+8000+7000 {
		t.Errorf("counts %d bytes", s.Bytes)
	}
	r, err := m.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	records, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records[0].Batch.Reset()
	if err := m.Trim(p); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Bytes != 0 {
		t.Errorf("%d bytes are left of nothing", s.Bytes)
	}
}

func TestKindNames(t *testing.T) {
	for k, want := range map[log.Kind]string{log.KindBatch: "batch", log.KindTick: "tick", log.KindFlush: "flush", log.KindClose: "close", 9: "kind(9)"} {
		if k.String() != want || k.Valid() != (k != 9) {
			t.Errorf("%d: %s, valid %v", k, k, k.Valid())
		}
	}
}

// BenchmarkMemory: one batch through the log, append to trim.
func BenchmarkMemory(b *testing.B) {
	m := newMemory(b, 0)
	r, err := m.Reader(0)
	if err != nil {
		b.Fatal(err)
	}
	batch := new(flow.Batch)
	b.ReportAllocs()
	for b.Loop() {
		p, err := m.Append(b.Context(), log.Record{Kind: log.KindBatch, Batch: batch})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := m.Trim(p); err != nil {
			b.Fatal(err)
		}
	}
}
