package handshake

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// What is remembered of a SYN is what its JA4T is, whatever came before: also
// with options that are broken, and with timestamps in places where they are
// none.
func TestRememberedJA4T(t *testing.T) {
	pieces := [][]byte{
		{2, 4, 5, 180}, {3, 3, 7}, {4, 2}, {8, 10, 1, 2, 3, 4, 5, 6, 7, 8}, {8, 10, 9, 9, 9, 9, 9, 9, 9, 9}, {1}, {0}, {8, 9, 1},
		{8}, {2, 4}, {3, 3, 8}, {253, 3, 1}, {5, 0}, {2, 10, 1, 2, 3, 4, 5, 6, 7, 8}, {30, 12, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
	}
	r := rand.New(rand.NewPCG(1, 2))
	var v tcpValues
	for range 200_000 {
		var options []byte
		for range r.IntN(7) {
			options = append(options, pieces[r.IntN(len(pieces))]...)
		}
		for i := range options {
			if r.IntN(20) == 0 {
				options[i] = byte(r.IntN(12))
			}
		}
		window := []uint16{0, 1024, 64240, 65535}[r.IntN(4)]
		if got, want := v.of(window, options), ja4plus.SYN(window, options); got != want {
			t.Fatalf("window %d, options % x: %s, want %s", window, options, got, want)
		}
	}
}

// SYNs that differ in their timestamps alone are one string and cost no
// allocation.
func TestRememberedJA4TDoesNotAllocate(t *testing.T) {
	options := []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7}
	v := new(tcpValues)
	want := v.of(64240, bytes.Clone(options))
	if n := testing.AllocsPerRun(100, func() {
		options[9]++
		if v.of(64240, options) != want {
			t.Fatal("another value")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
