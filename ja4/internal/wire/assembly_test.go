package wire

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// In any order, with overlaps and repetitions that contradict each other, the
// assembly gives what a table with one entry per byte gives, and holds spans
// that are sorted and apart.
func TestAssemblyAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Assembly
		model := make([]int, 400) // byte + 1, 0 unknown
		base := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			offset := rapid.IntRange(0, 300).Draw(t, "offset")
			data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
			full := len(a.spans) == maxSpans
			if !a.Insert(uint64(offset), data) && !full {
				t.Fatalf("Insert(%d, %d bytes) refused", offset, len(data))
			}
			for i, c := range data {
				if offset+i >= base && model[offset+i] == 0 {
					model[offset+i] = int(c) + 1
				}
			}
			var want []byte
			for _, v := range model[base:] {
				if v == 0 {
					break
				}
				want = append(want, byte(v-1))
			}
			if got := a.Prefix(); !bytes.Equal(got, want) {
				t.Fatalf("prefix from %d: %x\nwant %x", base, got, want)
			}
			for i, s := range a.spans {
				if s.start >= s.end || s.start < 0 || i > 0 && s.start <= a.spans[i-1].end {
					t.Fatalf("spans %v", a.spans)
				}
			}
			if len(want) > 0 && rapid.Bool().Draw(t, "advance") {
				n := rapid.IntRange(1, len(want)).Draw(t, "n")
				a.Advance(n)
				base += n
			}
		}
	})
}

// The bounds hold: how far ahead, how much, how many pieces.
func TestAssemblyBounds(t *testing.T) {
	var a Assembly
	if a.Insert(maxGapBytes+1, []byte{1}) {
		t.Error("took a piece beyond the gap")
	}
	if a.Insert(0, make([]byte, MaxBytes+1)) {
		t.Error("took more than the bound")
	}
	if a.Held() != 0 {
		t.Errorf("holds %d bytes of what it refused", a.Held())
	}
	for i := range maxSpans {
		if !a.Insert(uint64(2*i+1), []byte{1}) {
			t.Fatalf("refused piece %d", i+1)
		}
	}
	if a.Insert(2*maxSpans+1, []byte{1}) {
		t.Error("took one piece too many")
	}
	if !a.Insert(2, []byte{2}) || !a.Insert(0, []byte{0}) {
		t.Error("refused a piece that touches others")
	}
	if got := a.Prefix(); !slices.Equal(got, []byte{0, 1, 2, 1}) {
		t.Errorf("prefix %x", got)
	}
}

// Offsets up to the greatest of QUIC are refused or taken, never wrapped.
func TestAssemblyFarOffsets(t *testing.T) {
	var a Assembly
	for _, offset := range []uint64{1<<62 - 1, 1 << 63, 1<<64 - 1} {
		if a.Insert(offset, []byte{1, 2, 3}) {
			t.Errorf("took offset %d", offset)
		}
	}
	a.Insert(0, []byte{1, 2, 3})
	a.Advance(3)
	if !a.Insert(0, []byte{9, 9, 9, 4}) || !bytes.Equal(a.Prefix(), []byte{4}) || a.Offset() != 3 {
		t.Errorf("prefix %x at %d, want 04 at 3", a.Prefix(), a.Offset())
	}
}
