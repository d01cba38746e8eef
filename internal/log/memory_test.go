package log_test

import (
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/log/logtest"
	"github.com/whorl-net/whorl/ja4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// What was read and trimmed is let go of, what its reader was given included, as
// soon as the reader goes on.
func TestMemoryLetsGo(t *testing.T) {
	m := newMemory(t, 0)
	r, err := m.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	collected := make(chan struct{}, 2)
	for range 2 {
		b := new(flow.Batch)
		runtime.AddCleanup(b, func(int) { collected <- struct{}{} }, 0)
		p, err := m.Append(t.Context(), log.Record{Kind: log.KindBatch, Batch: b})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Trim(p); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	<-collected
	if s := m.Stats(); s.Bytes != 0 || s.First != s.Last+1 {
		t.Errorf("%+v", s)
	}
	runtime.KeepAlive(r)
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
