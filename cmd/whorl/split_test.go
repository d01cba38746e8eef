package main

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// kept is a probe.Reporter that keeps what batches say, in words.
type kept struct {
	rows, fingerprints []string
	watermarks         []int64
	largest            int
}

type rowWords struct {
	tuple  flow.Tuple
	packet [5]int64
}

func sprint(r rowWords) string { return fmt.Sprint(r) }

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func (k *kept) Report(_ context.Context, b *flow.Batch) error {
	k.largest = max(k.largest, b.Rows())
	k.watermarks = append(k.watermarks, b.Watermark)
	for i, ref := range b.Flow {
		t := b.Flows[ref>>1]
		if ref&1 == 1 {
			t = t.Reverse()
		}
		run := int64(0)
		if len(b.RunPackets) > 0 {
			run = int64(b.RunPackets[i])<<32 | int64(b.RunSpan[i])
		}
		k.rows = append(k.rows, sprint(rowWords{t, [5]int64{b.Time[i], int64(b.WireLength[i]), int64(b.TCPFlags[i]), run}}))
	}
	for _, f := range b.Fingerprints {
		at := int64(-1)
		if f.Row > 0 {
			at = b.Time[f.Row-1]
		}
		k.fingerprints = append(k.fingerprints, sprint(rowWords{b.Flows[f.Flow], [5]int64{at}})+f.Value)
	}
	return nil
}

// The parts of a batch say together what the batch said, and none is larger than
// asked for; only the last has the watermark.
func TestSplitterSaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &flow.Batch{Watermark: 7}
		for i := range rapid.IntRange(1, 10).Draw(t, "flows") {
			b.AddFlow(flow.Tuple{SrcPort: uint16(i), DstPort: 443, Protocol: flow.TCP})
		}
		runs := rapid.Bool().Draw(t, "runs")
		rows := rapid.IntRange(1, 60).Draw(t, "rows")
		for i := range rows {
			b.AddPacket(uint32(rapid.IntRange(0, len(b.Flows)-1).Draw(t, "flow")), i%3 == 0, int64(1000+i), uint32(i), byte(i))
			if runs {
				b.RunPackets, b.RunSpan = append(b.RunPackets, uint32(i+1)), append(b.RunSpan, uint64(i))
			}
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "fingerprints") {
			row := uint32(rapid.IntRange(0, rows).Draw(t, "row"))
			f := flow.Fingerprint{Row: row, Event: ja4.Event{Type: ja4.TypeJA4, Value: string(rune('a' + i))}}
			if row > 0 {
				f.Flow = b.Flow[row-1] >> 1
			}
			b.Fingerprints = append(b.Fingerprints, f)
		}
		most := rapid.IntRange(1, 70).Draw(t, "most")
		var want, got kept
		if err := want.Report(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := (&splitter{to: &got, rows: most}).Report(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.rows, want.rows) || !sameSet(got.fingerprints, want.fingerprints) || got.largest > most {
			t.Fatalf("in parts of %d:\n got %v %v\nwant %v %v", most, got.rows, got.fingerprints, want.rows, want.fingerprints)
		}
		for i, w := range got.watermarks {
			if last := i == len(got.watermarks)-1; last != (w == 7) {
				t.Fatalf("watermarks %v, want 7 on the last part only", got.watermarks)
			}
		}
	})
}
