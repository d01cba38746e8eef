package probe

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/capture"
)

// randomTuple returns one of few tuples, so that flows come again, in both
// directions, and differ from others in one field only.
func randomTuple(r *rand.Rand, v6 bool) flow.Tuple {
	addr := func() flow.Addr {
		a := flow.AddrFrom4([4]byte{10, 0, byte(r.IntN(3)), byte(r.IntN(4))})
		if v6 {
			a[0], a[7], a[8] = 0x20, byte(r.IntN(2)), byte(r.IntN(2))
		}
		return a
	}
	return flow.Tuple{
		Src: addr(), Dst: addr(), SrcPort: uint16(r.IntN(4)), DstPort: uint16(r.IntN(4)),
		Protocol: []flow.Protocol{flow.TCP, flow.UDP}[r.IntN(2)],
	}
}

// An index is a map from keys to the order in which flows came, and knows which
// way the first packet of each went.
func TestFlowIndexIsAMap(t *testing.T) {
	x := newFlowIndex()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		x.reset()
		model := map[flow.Key]uint32{}
		var flows []flow.Tuple
		for range 20000 {
			tuple := randomTuple(r, r.IntN(2) == 0)
			key, _ := tuple.Key()
			want, wantKnown := model[key]
			if !wantKnown && len(flows) == maxBatchFlows {
				continue
			}
			index, reversed, known := x.find(&tuple, flows)
			if !wantKnown {
				want = uint32(len(flows))
				model[key] = want
				flows = append(flows, tuple)
			}
			if index != want || known != wantKnown {
				t.Fatalf("seed %d: %v has index %d (known %v), want %d (%v)", seed, key, index, known, want, wantKnown)
			}
			if wantReversed := flows[index] != tuple; reversed != wantReversed {
				t.Fatalf("seed %d: %v is reversed %v to %v", seed, tuple, reversed, flows[index])
			}
		}
		if len(flows) < 1000 {
			t.Fatalf("seed %d: %d flows only", seed, len(flows))
		}
	}
}

// The longest batch of flows that come once each fills no more of the index than
// it is made for.
func TestFlowsOfABatchFitTheIndex(t *testing.T) {
	packets := traffic(30000, 30000)
	for i := range packets {
		packets[i].Time = epoch
	}
	c, _ := mustRun(t, Config{Types: ja4.NoTypes}, &list{packets: packets})
	most := 0
	for _, b := range c.batches {
		most = max(most, len(b.Flows))
	}
	if most > maxBatchFlows || most < maxBatchFlows*9/10 {
		t.Errorf("%d flows in a batch, want nearly %d", most, maxBatchFlows)
	}
}

// A probe that only counts reports the rows of one that fingerprints, fragments
// among them, however packets are lent; the cuts may lie elsewhere.
func TestCountingReportsTheSameRows(t *testing.T) {
	type row struct {
		Key      flow.Key
		From     flow.Addr
		FromPort uint16
		Time     int64
		Length   uint32
		Flags    uint8
	}
	rowsOf := func(c *collector) (rows []row) {
		for _, b := range c.batches {
			for i, ref := range b.Flow {
				tuple := b.Flows[ref>>1]
				if ref&1 == 1 {
					tuple = tuple.Reverse()
				}
				key, _ := tuple.Key()
				rows = append(rows, row{key, tuple.Src, tuple.SrcPort, b.Time[i], b.WireLength[i], b.TCPFlags[i]})
			}
		}
		return rows
	}
	eachCapture(t, func(t *testing.T, packets []capture.Packet) {
		pieces, _ := fragmented(packets, false)
		turned, _ := fragmented(packets, true)
		packets = slices.Concat(pieces, turned, traffic(500, 20))
		for i := range packets {
			packets[i].Time = epoch + int64(i)*1000
		}
		with, want := mustRun(t, Config{}, &blocks{packets: packets})
		counted, got := mustRun(t, Config{Types: ja4.NoTypes}, &blocks{packets: packets, random: rand.New(rand.NewPCG(1, 0))})
		if !reflect.DeepEqual(rowsOf(counted), rowsOf(with)) {
			t.Error("other rows")
		}
		if got.Fingerprints != 0 || len(fingerprints(counted.batches)) != 0 {
			t.Errorf("%d fingerprints", got.Fingerprints)
		}
		want.Batches, want.Fingerprints, want.Connections, want.Handshake = got.Batches, 0, 0, got.Handshake
		if got != want {
			t.Errorf("totals %+v\nwant %+v", got, want)
		}
	})
}

// The same with runs: what they add up to.
func TestCountingCoalesces(t *testing.T) {
	packets := traffic(60000, 600)
	for i := range packets {
		packets[i].Time = epoch + int64(i)*int64(time.Microsecond)
	}
	plain, _ := mustRun(t, Config{}, &list{packets: slices.Clone(packets)})
	runs, _ := mustRun(t, Config{Types: ja4.NoTypes, Coalesce: 100 * time.Millisecond}, &list{packets: packets})
	if got, want := connections(t, runs.batches), connections(t, plain.batches); !reflect.DeepEqual(got, want) {
		t.Error("connections differ")
	}
	rows := 0
	for _, b := range runs.batches {
		rows += b.Rows()
	}
	if rows > len(packets)/5 {
		t.Errorf("%d rows for %d packets", rows, len(packets))
	}
}
