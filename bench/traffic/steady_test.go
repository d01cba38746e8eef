package traffic

import (
	"errors"
	"io"
	"math"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
)

// share is the part of packets that are recorded handshakes and ends.
func share(s Stats) float64 { return float64(s.Recorded) / float64(s.Packets) }

// Steady traffic has the share of handshakes and the new connections per packet
// of the mixed traffic it is like, in its first packets as in its last.
func TestSteadyIsSteadyFromItsBeginning(t *testing.T) {
	s := sample(t)
	mixed, err := New(Config{Shape: Mixed, Packets: likePackets, Connections: likeConnections}, s)
	if err != nil {
		t.Fatal(err)
	}
	want := share(mixed.drain(t))
	var p capture.Packet

	const live, parts = 20_000, 5
	g, err := New(Config{Shape: Steady, Packets: parts * live, Connections: live}, s)
	if err != nil {
		t.Fatal(err)
	}
	var before Stats
	for part := range parts {
		for range live {
			if err := g.Next(&p); err != nil {
				t.Fatal(err)
			}
		}
		now := g.Stats()
		got := Stats{Packets: now.Packets - before.Packets, Recorded: now.Recorded - before.Recorded}
		if part == 0 {
			before.Connections = live // they were there
		}
		begun := float64(now.Connections - before.Connections)
		if math.Abs(share(got)-want) > 0.01 {
			t.Errorf("part %d: %.1f %% recorded, mixed has %.1f %%", part, 100*share(got), 100*want)
		}
		// In the first part each speaks once: those that end are not followed yet.
		if want := float64(live) / (likePackets / likeConnections); part > 0 && math.Abs(begun-want) > want/4 {
			t.Errorf("part %d: %.0f connections begun, want about %.0f", part, begun, want)
		}
		before = now
	}
	if err := g.Next(&p); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last packet: %v", err)
	}
}

// All connections speak once before any speaks twice; after that no more than
// Train packets in a row come from one, and on average (Train + 1) / 2.
func TestSteadyTrains(t *testing.T) {
	s := sample(t)
	for _, train := range []int{1, 4, 9} {
		const live, packets = 2000, 20_000
		g, err := New(Config{Shape: Steady, Packets: packets, Connections: live, Train: train}, s)
		if err != nil {
			t.Fatal(err)
		}
		var p capture.Packet
		begun := g.begun
		turns := map[int]bool{}
		for range live {
			if err := g.Next(&p); err != nil {
				t.Fatal(err)
			}
			turns[g.turn] = true
		}
		if begun != live || len(turns) != live {
			t.Errorf("train %d: %d connections at the beginning, %d have spoken after one packet of each; want %d", train, begun, len(turns), live)
		}
		trains := 0
		for range packets - live {
			fresh := g.train == 0
			if err := g.Next(&p); err != nil {
				t.Fatal(err)
			}
			if fresh {
				trains++
			}
			if len(g.open) != live {
				t.Fatalf("%d connections are live, want %d", len(g.open), live)
			}
		}
		got, want := float64(packets-live)/float64(trains), float64(train+1)/2
		if math.Abs(got-want) > want/10 {
			t.Errorf("train %d: %.2f packets in a row, want %.2f", train, got, want)
		}
	}
}

// A connection that was under way goes on where it was: its sequence numbers
// have no holes, and what follows it has its own whole handshake.
func TestSteadyConnectionsGoOn(t *testing.T) {
	s := sample(t)
	cfg := Config{Shape: Steady, Packets: 60_000, Connections: 300}
	g, err := New(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	checkSequences(t, g)

	if g, err = New(cfg, s); err != nil {
		t.Fatal(err)
	}
	first := map[flow.Key]bool{}
	var in capture.Packet
	var out decode.Packet
	d := decode.New(decode.Config{})
	under, opened := 0, 0
	for n := 0; g.Next(&in) == nil; n++ {
		if d.Decode(&in, &out) != decode.Tracked {
			t.Fatalf("packet %d is not understood", n)
		}
		key, _ := out.Tuple.Key()
		if first[key] {
			continue
		}
		first[key] = true
		switch {
		case out.Tuple.Protocol != flow.TCP:
		case out.TCPFlags&(flow.SYN|flow.ACK) == flow.SYN:
			opened++
		case n < cfg.Connections:
			under++
		default:
			t.Errorf("packet %d: a connection begins with flags %#x", n, out.TCPFlags)
		}
	}
	if under < cfg.Connections*3/4 || opened < 100 {
		t.Errorf("%d connections of %d were under way, %d were opened", under, cfg.Connections, opened)
	}
	if len(first) != int(g.Stats().Connections) {
		t.Errorf("%d keys, %d connections", len(first), g.Stats().Connections)
	}
}

// What is left out at the beginning of a connection is as much as was said,
// wherever that is.
func TestSkipLeavesTheRest(t *testing.T) {
	templates := []*template{
		{packets: make([]recorded, 10), cut: 6}, {packets: make([]recorded, 2), cut: 2},
	}
	for _, c := range []struct {
		t        *template
		data     int32
		n        int
		at, left int32
	}{
		{templates[0], 5, 0, 0, 5}, {templates[0], 5, 6, 6, 5}, {templates[0], 5, 8, 6, 3},
		{templates[0], 5, 11, 6, 0}, {templates[0], 5, 13, 8, 0}, {templates[0], 5, 14, 9, 0}, {templates[1], 0, 1, 1, 0},
	} {
		got := conn{t: c.t, left: c.data}
		got.skip(c.n)
		if got.at != c.at || got.left != c.left {
			t.Errorf("%d of %d + %d packets: at %d, %d data left; want %d, %d", c.n, len(c.t.packets), c.data, got.at, got.left, c.at, c.left)
		}
	}
}
