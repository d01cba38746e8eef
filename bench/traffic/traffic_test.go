package traffic

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

func sample(t testing.TB) *Sample {
	t.Helper()
	f, err := os.Open("../../examples/sample/sample.pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := ReadSample(f.Name(), f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var shapes = []Config{
	{Shape: Mixed, Packets: 60_000, Connections: 600},
	{Shape: Short, Packets: 60_000, Connections: 12_000},
	{Shape: Flood, Packets: 20_000},
	{Shape: Elephants, Packets: 40_000, Connections: 8},
	{Shape: UDP, Packets: 40_000, Connections: 100},
	{Shape: Steady, Packets: 60_000, Connections: 600},
}

// drain makes all packets and returns what there were.
func (g *Generator) drain(t testing.TB) Stats {
	t.Helper()
	var p capture.Packet
	for {
		if err := g.Next(&p); errors.Is(err, io.EOF) {
			return g.Stats()
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A probe finds in a capture exactly the packets and connections that were
// asked for, understands all of them, and finds fingerprints where there are
// handshakes.
func TestProbeFindsWhatWasAskedFor(t *testing.T) {
	s := sample(t)
	for _, cfg := range shapes {
		t.Run(cfg.Shape.String(), func(t *testing.T) {
			want := cfg.Connections
			if cfg.Shape == Flood {
				want = cfg.Packets
			}
			b, err := Bytes(cfg, s)
			if err != nil {
				t.Fatal(err)
			}
			src, err := capture.Read("made", bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Shape == Steady {
				g, err := New(cfg, s)
				if err != nil {
					t.Fatal(err)
				}
				want = int(g.drain(t).Connections)
			}
			types := map[ja4.Type]int{}
			totals, err := probe.Fingerprints(t.Context(), src, probe.Config{}, func(e *handshake.Event) error {
				types[e.Type]++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if totals.Packets != uint64(cfg.Packets) || totals.Connections != uint64(want) || totals.Undecodable+totals.Untracked != 0 {
				t.Errorf("%d packets, %d connections, %d not understood, %d not tracked; want %d, %d, 0, 0",
					totals.Packets, totals.Connections, totals.Undecodable, totals.Untracked, cfg.Packets, want)
			}
			var given uint64
			for _, n := range totals.Handshake.GivenUp {
				given += n
			}
			t.Logf("%v, given up %d: %+v", types, given, totals.Handshake)
			switch cfg.Shape {
			case Mixed, Short, Elephants, Steady:
				for _, typ := range []ja4.Type{ja4.TypeJA4, ja4.TypeJA4S, ja4.TypeJA4T, ja4.TypeJA4TS, ja4.TypeJA4L} {
					if types[typ] == 0 {
						t.Errorf("no %v among %v", typ, types)
					}
				}
				if given > 0 && cfg.Shape != Steady { // whose first connections are seen in their middle
					t.Errorf("the engine gave up %d times: %v", given, totals.Handshake.GivenUp)
				}
			case Flood:
				if types[ja4.TypeJA4T] != want {
					t.Errorf("%d ja4t of %d SYNs", types[ja4.TypeJA4T], want)
				}
			}
		})
	}
}

// The same Config gives the same bytes, another seed gives others, and it makes
// no difference whether they are read at once or while they are made.
func TestCapturesRepeat(t *testing.T) {
	s := sample(t)
	for _, cfg := range shapes {
		cfg.Packets /= 4
		cfg.Connections /= 4
		first, err := Bytes(cfg, s)
		if err != nil {
			t.Fatal(err)
		}
		g, err := New(cfg, s)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(g)
		if err != nil {
			t.Fatal(err)
		}
		second, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%v: %d bytes at once and %d read as they are made differ", cfg.Shape, len(first), len(second))
		}
		cfg.Seed++
		other, err := Bytes(cfg, s)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(first, other) {
			t.Errorf("%v: two seeds give the same capture", cfg.Shape)
		}
	}
}

// Each side's sequence numbers go on where its last segment ended, across
// handshake, data and end: nothing is missing and nothing comes twice.
func TestSequenceNumbersGoOn(t *testing.T) {
	g, err := New(Config{Shape: Mixed, Packets: 50_000, Connections: 400}, sample(t))
	if err != nil {
		t.Fatal(err)
	}
	checkSequences(t, g)
}

// What cannot be made is refused.
func TestConfigIsChecked(t *testing.T) {
	s := sample(t)
	for _, cfg := range []Config{
		{}, {Packets: -1}, {Packets: 10, Connections: 11}, {Packets: 1000, Connections: 500},
		{Packets: 1000, Shape: 9}, {Packets: 1000, Snap: 20}, {Packets: 10, Span: -time.Second},
		{Packets: 1 << 25, Connections: 1<<24 + 1}, {Shape: Elephants, Packets: 10, Connections: 1},
		{Shape: Steady, Packets: 10, Connections: 11}, {Shape: Steady, Packets: 10, Train: -1},
	} {
		if _, err := New(cfg, s); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	if _, err := ReadSample("empty", bytes.NewReader(nil)); err == nil || !errors.Is(err, capture.ErrNotCapture) {
		t.Errorf("a sample that is no capture: %v", err)
	}
}

// The batches of a capture hold each packet once.
func TestBatchesHoldEachPacketOnce(t *testing.T) {
	cfg := Config{Shape: Mixed, Packets: 30_000, Connections: 300}
	g, err := New(cfg, sample(t))
	if err != nil {
		t.Fatal(err)
	}
	batches, err := Batches(g, probe.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var packets, bytes uint64
	prints := 0
	for _, b := range batches {
		n, size := b.Packets()
		packets, bytes, prints = packets+n, bytes+size, prints+len(b.Fingerprints)
	}
	if st := g.Stats(); packets != st.Packets || bytes != st.WireBytes || prints == 0 {
		t.Errorf("%d packets of %d bytes and %d fingerprints in batches; made were %+v", packets, bytes, prints, st)
	}
}
