package numbered

import (
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/flow"
)

// Each number is a flow of its own, also numbers that are far apart.
func TestNumbersAreDistinctFlows(t *testing.T) {
	seen := make(map[flow.Tuple]int)
	for _, from := range []int{0, 1 << 16, 1 << 26, 1<<32 - 20_000} {
		for n := from; n < from+20_000; n++ {
			if was, ok := seen[UDPFlow(n)]; ok {
				t.Fatalf("%d and %d are both %v", was, n, UDPFlow(n))
			}
			seen[UDPFlow(n)] = n
		}
	}
}

// Rows are those asked for, in order, in batches of BatchRows.
func TestRowsAreTheNumbersAskedFor(t *testing.T) {
	odd := func(n int) bool { return n&1 == 1 }
	all := Rows{From: 10, To: 10 + 4*BatchRows, Only: odd, Of: TCPFlow, Flags: flow.SYN}.Batches()
	if len(all) != 2 || Packets(all) != 2*BatchRows {
		t.Fatalf("%d batches of %d rows, want 2 of %d", len(all), Packets(all), 2*BatchRows)
	}
	next := 11
	for _, b := range all {
		for i, f := range b.Flow {
			if b.Flows[f>>1] != TCPFlow(next) || f&1 != 0 || b.Time[i] != Epoch || b.TCPFlags[i] != flow.SYN {
				t.Fatalf("row %d is %v at %d with flags %d", i, b.Flows[f>>1], b.Time[i], b.TCPFlags[i])
			}
			next += 2
		}
	}
}

// Of the 8 packets of a flow in a batch of updates, half come from each side.
func TestUpdatesComeFromBothSides(t *testing.T) {
	for _, b := range Updates(rand.New(rand.NewPCG(1, 2)), 2*BatchRows, 1000, 8) {
		back, rows := make([]int, len(b.Flows)), make([]int, len(b.Flows))
		for _, f := range b.Flow {
			rows[f>>1]++
			back[f>>1] += int(f & 1)
		}
		for i := range rows {
			if rows[i] < 8 || rows[i] > 9 || back[i] < 4 || back[i] > 5 {
				t.Fatalf("flow %d has %d rows, %d of them back", i, rows[i], back[i])
			}
		}
	}
}

// Fingerprints belong to the newest row, and no table refuses them for their size.
func TestPrintsBelongToTheNewestRow(t *testing.T) {
	b, prints := new(flow.Batch), NewPrints()
	for n := range 3 {
		b.AddPacket(b.AddFlow(UDPFlow(n)), false, Epoch, 100, 0)
		prints.Add(b, n+2*Distinct)
	}
	if len(b.Fingerprints) != 9 {
		t.Fatalf("%d fingerprints, want 9", len(b.Fingerprints))
	}
	for i, f := range b.Fingerprints {
		want := prints.Of(i / 3)[i%3]
		if int(f.Flow) != i/3 || int(f.Row) != i/3+1 || f.Event != want {
			t.Errorf("fingerprint %d: %+v, want %v of flow %d behind row %d", i, f, want, i/3, i/3+1)
		}
		if len(f.Value) > flow.MaxValueLen || len(f.Raw) > flow.MaxRawLen || f.Value == "" {
			t.Errorf("%v has %d and %d bytes", f.Type, len(f.Value), len(f.Raw))
		}
	}
}
