package ja4

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
		var a assembly
		model := make([]int, 400) // byte + 1, 0 unknown
		base := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			offset := rapid.IntRange(0, 300).Draw(t, "offset")
			data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
			full := len(a.spans) == maxSpans
			if !a.insert(offset, data) && !full {
				t.Fatalf("insert(%d, %d bytes) refused", offset, len(data))
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
			if got := a.prefix(); !bytes.Equal(got, want) {
				t.Fatalf("prefix from %d: %x\nwant %x", base, got, want)
			}
			for i, s := range a.spans {
				if s.start >= s.end || s.start < a.base || i > 0 && s.start <= a.spans[i-1].end {
					t.Fatalf("spans %v from base %d", a.spans, a.base)
				}
			}
			if len(want) > 0 && rapid.Bool().Draw(t, "advance") {
				n := rapid.IntRange(1, len(want)).Draw(t, "n")
				a.advance(n)
				base += n
			}
		}
	})
}

// The bounds hold: how far ahead, how much, how many pieces.
func TestAssemblyBounds(t *testing.T) {
	var a assembly
	if a.insert(maxGapBytes+1, []byte{1}) {
		t.Error("took a piece beyond the gap")
	}
	if a.insert(0, make([]byte, MaxHandshakeBytes+1)) {
		t.Error("took more than the bound")
	}
	if a.held() != 0 {
		t.Errorf("holds %d bytes of what it refused", a.held())
	}
	for i := range maxSpans {
		if !a.insert(2*i+1, []byte{1}) {
			t.Fatalf("refused piece %d", i+1)
		}
	}
	if a.insert(2*maxSpans+1, []byte{1}) {
		t.Error("took one piece too many")
	}
	if !a.insert(2, []byte{2}) || !a.insert(0, []byte{0}) {
		t.Error("refused a piece that touches others")
	}
	if got := a.prefix(); !slices.Equal(got, []byte{0, 1, 2, 1}) {
		t.Errorf("prefix %x", got)
	}
}
