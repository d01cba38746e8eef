package probe

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// hostile runs everything over the bytes of a file. Nothing may panic, no fault
// be counted, and an error names the file and the byte.
func hostile(t *testing.T, name string, data []byte) {
	t.Helper()
	src, err := capture.Read(name, bytes.NewReader(data))
	if err == nil {
		var totals Totals
		cfg := Config{OnPanic: func(_ *capture.Packet, cause any, stack []byte) { t.Errorf("%s: panic: %v\n%s", name, cause, stack) }}
		totals, err = Fingerprints(t.Context(), src, cfg, func(*handshake.Event) error { return nil })
		if n := totals.Decode.Verdicts; totals.Packets < totals.Undecodable+totals.Untracked {
			t.Errorf("%s: %d packets, %d undecodable, %d untracked: %v", name, totals.Packets, totals.Undecodable, totals.Untracked, n)
		}
		src.Close()
	}
	if err == nil {
		return
	}
	var file *capture.FileError
	if !errors.As(err, &file) || !strings.Contains(err.Error(), name) {
		t.Errorf("%s: %v: want an error of the file", name, err)
	}
	if errors.Is(err, capture.ErrTruncated) && !strings.Contains(err.Error(), "byte ") {
		t.Errorf("%s: %v: want the byte", name, err)
	}
}

// Flipped bits and cut ends of real captures cost nothing but themselves: no
// panic, no fault, bounded memory.
func TestDamagedCaptures(t *testing.T) {
	flips := 200
	thin := testing.Short() || raced // make e2e runs all of them, without the race detector
	if thin {
		flips = 5
	}
	files := append(captures(t), filepath.Join("..", "examples", "sample", "sample.pcap"))
	// What is garbage must not be taken for what is held where the collector
	// gets too little of a busy machine.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(192 << 20))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		r := rand.New(rand.NewPCG(11, uint64(len(whole))))
		n := flips
		if len(whole) > 100<<10 {
			n = max(5, flips/10) // time, not memory
		}
		for range n {
			damaged := bytes.Clone(whole)
			for range 1 + r.IntN(8) {
				bit := r.IntN(len(damaged) * 8)
				damaged[bit/8] ^= 1 << (bit % 8)
			}
			hostile(t, name, damaged)
		}
		if len(whole) < 4<<10 {
			for n := range len(whole) {
				if thin && n%97 != 0 {
					continue
				}
				hostile(t, name, whole[:n])
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapInuse > before.HeapInuse+64<<20 {
		t.Errorf("%d MiB in use after it, %d before", after.HeapInuse>>20, before.HeapInuse>>20)
	}
	if after.Sys > 256<<20 && before.Sys < 128<<20 {
		t.Errorf("%d MiB were asked of the system, want at most 256", after.Sys>>20)
	}
}
