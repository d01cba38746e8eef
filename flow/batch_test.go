package flow_test

import (
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Packets counts rows, or the packets of runs when there are any.
func TestPackets(t *testing.T) {
	var b flow.Batch
	i := b.AddFlow(tuple(t, flow.UDP, "10.0.0.1:1", "10.0.0.2:2"))
	b.AddPacket(i, false, 1, 60, 0)
	b.AddPacket(i, true, 2, 40, 0)
	if p, n := b.Packets(); p != 2 || n != 100 {
		t.Errorf("%d packets, %d bytes; want 2, 100", p, n)
	}
	if b.Flow[1] != i<<1|1 {
		t.Errorf("the second row refers to %d, want flow %d from its destination", b.Flow[1], i)
	}
	b.RunPackets = []uint32{5, 7}
	if p, _ := b.Packets(); p != 12 {
		t.Errorf("%d packets in runs, want 12", p)
	}
}

// Reset empties a batch, keeps its memory and lets go of its strings.
func TestReset(t *testing.T) {
	var b flow.Batch
	b.Sequence, b.Watermark, b.Lost = 9, 9, &flow.Lost{}
	i := b.AddFlow(tuple(t, flow.UDP, "10.0.0.1:1", "10.0.0.2:2"))
	b.AddPacket(i, false, 1, 60, 0)
	b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Event: ja4.Event{Type: ja4.TypeJA4, Value: "v"}})
	held := b.Fingerprints[:1]
	b.Reset()
	if b.Rows() != 0 || len(b.Flows) != 0 || len(b.Fingerprints) != 0 || b.Sequence != 0 || b.Watermark != 0 || b.Lost != nil {
		t.Errorf("after Reset: %+v", b)
	}
	if cap(b.Flow) == 0 || held[0].Value != "" {
		t.Errorf("Reset kept %d rows of memory and the string %q", cap(b.Flow), held[0].Value)
	}
}
