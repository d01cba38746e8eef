package wire

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

func amendments() []tracker.Anomaly {
	return []tracker.Anomaly{
		{Rule: "new-fingerprint", Severity: tracker.SeverityLow, Description: "ja4 a_b_c is new", RaisedAt: 5e9, PacketNum: 4,
			Evidence: []tracker.Evidence{{Type: 1, Value: "a_b_c", PacketNum: 4, Probe: "p", SeenAt: 5e9}}},
		{Rule: "port-scan", Severity: tracker.SeverityMedium, Description: "ports", RaisedAt: 6e9, Evidence: []tracker.Evidence{{Value: "21"}}},
	}
}

// An amended eviction is the one that was decoded, completed and encoded again,
// for us and for generated code, and what lies before it in dst stays.
func TestAmendEviction(t *testing.T) {
	for name, e := range map[string]*tracker.Eviction{
		"full":  {Cause: tracker.CauseIdle, EvictedAt: 7e9, Connection: *randomSnapshot(rand.New(rand.NewPCG(1, 2)))},
		"empty": {Cause: tracker.CauseFlush, EvictedAt: 7e9},
	} {
		e.Connection.New, e.Connection.Anomalies = false, nil
		body := AppendEviction(nil, e)
		got, ok := AmendEviction([]byte("before"), body, true, amendments())
		if !ok || !bytes.HasPrefix(got, []byte("before")) {
			t.Fatalf("%s: %v, %q", name, ok, got)
		}
		got = got[len("before"):]
		e.Connection.New, e.Connection.Anomalies = true, amendments()
		want := AppendEviction(nil, e)
		var a, b whorlv1.Eviction
		if err := proto.Unmarshal(got, &a); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(want, &b); err != nil || !proto.Equal(&a, &b) {
			t.Errorf("%s: generated code reads\n%v\nwant\n%v", name, &a, &b)
		}
		var x, y tracker.Eviction
		if _, err := DecodeEviction(got, tracker.Full, &x); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeEviction(want, tracker.Full, &y); err != nil || !reflect.DeepEqual(x, y) {
			t.Errorf("%s: read\n%+v\nwant\n%+v", name, x, y)
		}
		if _, ok := AmendEviction(nil, got, true, amendments()); ok {
			t.Errorf("%s: amended twice", name)
		}
		for n := range body {
			if out, ok := AmendEviction(nil, body[:n], true, nil); ok && len(out) > n+2 {
				t.Errorf("%s: %d of %d bytes are taken for an eviction", name, n, len(body))
			}
		}
	}
}

// With room in dst an amendment allocates nothing.
func TestAmendEvictionDoesNotAllocate(t *testing.T) {
	e := &tracker.Eviction{Cause: tracker.CauseIdle, EvictedAt: 7e9, Connection: *randomSnapshot(rand.New(rand.NewPCG(1, 2)))}
	e.Connection.New, e.Connection.Anomalies = false, nil
	body, more := AppendEviction(nil, e), amendments()
	dst := make([]byte, 0, 2*len(body)+4096)
	if n := testing.AllocsPerRun(100, func() { AmendEviction(dst, body, true, more) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAmendEviction beside decoding and encoding again.
func BenchmarkAmendEviction(b *testing.B) {
	e := &tracker.Eviction{Cause: tracker.CauseIdle, EvictedAt: 7e9, Connection: *randomSnapshot(rand.New(rand.NewPCG(1, 2)))}
	e.Connection.New, e.Connection.Anomalies = false, nil
	body, more := AppendEviction(nil, e), amendments()[:1]
	var dst []byte
	b.Run("amend", func(b *testing.B) {
		for b.Loop() {
			dst, _ = AmendEviction(dst[:0], body, true, more)
		}
	})
	b.Run("decode and encode", func(b *testing.B) {
		var d tracker.Eviction
		for b.Loop() {
			if _, err := DecodeEviction(body, tracker.Full, &d); err != nil {
				b.Fatal(err)
			}
			d.Connection.New, d.Connection.Anomalies = true, append(d.Connection.Anomalies, more...)
			dst = AppendEviction(dst[:0], &d)
		}
	})
}
