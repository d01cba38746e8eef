package tracker

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

// fuzzBatch reads a batch from bytes, without care for what is legal.
func fuzzBatch(p []byte) *flow.Batch {
	next := func() uint64 {
		if len(p) == 0 {
			return 0
		}
		b := p[0]
		p = p[1:]
		return uint64(b)
	}
	b := new(flow.Batch)
	for range next() % 8 {
		tu := flow.Tuple{SrcPort: uint16(next()), DstPort: uint16(next()), Protocol: flow.Protocol(next())}
		tu.Src[15], tu.Dst[15] = byte(next()), byte(next())
		b.AddFlow(tu)
	}
	runs := next()%4 == 0
	for len(p) > 4 && b.Rows() < 200 {
		b.Flow = append(b.Flow, uint32(next()%20))
		b.Time = append(b.Time, int64(next()<<(next()%64)))
		b.WireLength = append(b.WireLength, uint32(next()<<24))
		b.TCPFlags = append(b.TCPFlags, uint8(next()))
		if runs {
			b.RunPackets = append(b.RunPackets, uint32(next()<<24))
			b.RunSpan = append(b.RunSpan, next()<<(next()%64))
		}
		if next()%8 == 0 {
			n := next()
			b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
				Flow: uint32(next() % 8), Row: uint32(next() % 30),
				Event: ja4.Event{Type: ja4.Type(next() % 16), Value: string(slices.Repeat([]byte{'v'}, int(n))), Raw: string(p[:min(len(p), int(n))])},
			})
		}
	}
	return b
}

// No batch, however strange, breaks the table: it is refused, or applied.
func FuzzSubmit(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		p := make([]byte, r.IntN(600))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		f.Add(p, p, int64(r.Uint64()))
	}
	f.Fuzz(func(t *testing.T, one, two []byte, logTime int64) {
		fuzzguard.Watch(t)
		rig := newRig(t, Config{MaxConnections: 6, Shards: 2, MaxMemoryBytes: 512 << 10})
		for i, p := range [][]byte{one, two, one} {
			o, err := rig.Origin("", string(rune('a'+i)), i == 1)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			if rig.Submit(context.Background(), Entry{LogTime: logTime}, o, fuzzBatch(p), func() { close(done) }) == nil {
				<-done
			}
			rig.checkInvariants()
		}
		rig.tick(logTime)
		rig.checkInvariants()
		n := rig.Count()
		if opened := n.Live + n.Evicted[CauseIdle] + n.Evicted[CauseClosed] + n.Evicted[CauseCapacity]; opened != n.Opened {
			t.Fatalf("%+v: live and evicted are %d", n, opened)
		}
		if got := uint64(rig.flush(logTime, FlushRequest{})); got != rig.Count().Evicted[CauseFlush] {
			t.Fatalf("flushed %d, %+v", got, rig.Count())
		}
		rig.checkInvariants()
	})
}

// A text that reads as a UID is the text of that UID.
func FuzzParseUID(f *testing.F) {
	f.Add(makeUID(1, 2, 3, 4).String())
	f.Add("7zzzzzzzzzzzzzzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, s string) {
		fuzzguard.Watch(t)
		if u, err := ParseUID(s); err == nil && u.String() != s {
			t.Errorf("%q reads as %v", s, u)
		}
	})
}
