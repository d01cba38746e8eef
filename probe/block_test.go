package probe

import (
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// blocks lends packets in blocks of random sizes, and overwrites what it lent
// before.
type blocks struct {
	packets []capture.Packet
	random  *rand.Rand // nil lends them one by one
	lent    [][]byte
}

func (b *blocks) Next(p *capture.Packet) error {
	one := make([]capture.Packet, 1)
	_, err := b.NextBlock(one)
	*p = one[0]
	return err
}

func (b *blocks) NextBlock(ps []capture.Packet) (int, error) {
	for _, data := range b.lent {
		for i := range data {
			data[i] = 0xee
		}
	}
	b.lent = b.lent[:0]
	if len(b.packets) == 0 {
		return 0, io.EOF
	}
	n := 1
	if b.random != nil {
		n = copy(ps[:1+b.random.IntN(len(ps))], b.packets)
	}
	for i, p := range b.packets[:n] {
		p.Data = slices.Clone(p.Data)
		b.lent = append(b.lent, p.Data)
		ps[i] = p
	}
	b.packets = b.packets[n:]
	return n, nil
}

func (b *blocks) Close() error { return nil }

// How many packets a source lends at a time changes nothing: not the batches,
// not the counters, not what Fingerprints finds. Fragments, of which the decoder
// lends its own memory, are among the packets.
func TestBlocksChangeNothing(t *testing.T) {
	eachCapture(t, func(t *testing.T, packets []capture.Packet) {
		pieces, _ := fragmented(packets, false)
		turned, _ := fragmented(packets, true)
		packets = slices.Concat(pieces, turned, traffic(500, 20))
		for i := range packets { // so that no flow expires: when that is noticed is random
			packets[i].Time = epoch + int64(i)*1000
		}
		type outcome struct {
			Batches any
			Totals  Totals
			Values  values
		}
		run := func(seed uint64) outcome {
			source := func() capture.Source {
				if seed == 0 {
					return &blocks{packets: packets}
				}
				return &blocks{packets: packets, random: rand.New(rand.NewPCG(seed, 0))}
			}
			c, totals := mustRun(t, Config{Types: everyType}, source())
			return outcome{c.batches, totals, valuesOf(t, source())}
		}
		want := run(0)
		for seed := range uint64(3) {
			got := run(1 + seed)
			if got.Totals != want.Totals {
				t.Errorf("seed %d: totals %+v\nwant %+v", seed, got.Totals, want.Totals)
			}
			if diff := want.Values.differs(got.Values); diff != "" {
				t.Errorf("seed %d:\n%s", seed, diff)
			}
			if !reflect.DeepEqual(got.Batches, want.Batches) {
				t.Errorf("seed %d: other batches", seed)
			}
		}
	})
}

// A packet in the middle of a block that hits a bug of ours takes none of its
// neighbours with it. Here it is taken when the engine is none, which the event
// of the packet before has seen to.
func TestPanicWithinBlock(t *testing.T) {
	packets := traffic(1000, 10)
	var told, due int
	var w *worker
	var engine *handshake.Engine
	cfg := Config{
		OnEvent: func(*handshake.Event) error {
			due++
			w.engine = new(handshake.Engine)
			return nil
		},
		OnPanic: func(in *capture.Packet, cause any, stack []byte) {
			told++
			if in != w.in && in != &w.block.in[w.block.decoded-1] {
				t.Errorf("told of another packet")
			}
			w.engine = engine
		},
	}
	p, err := New(cfg, &collector{}, &blocks{packets: packets, random: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		t.Fatal(err)
	}
	w = p.workers[0]
	engine = w.engine
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	totals := p.Totals()
	if told < 5 || told != due || totals.Packets != 1000 ||
		totals.Panics != uint64(told) || totals.Undecodable != uint64(told) || totals.Reported != 1000-uint64(told) {
		t.Errorf("told of %d bugs, %d were due, totals %+v; want each counted once, and the rest reported", told, due, totals)
	}
}

// A packet that cannot be decoded, for a bug of ours, is counted once, and those
// behind it in the block are decoded.
func TestPanicInDecode(t *testing.T) {
	var packets []capture.Packet
	for _, p := range traffic(1000, 10) {
		p.Data = append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, p.Data...)
		p.WireLength += 14
		p.LinkType = capture.Ethernet
		packets = append(packets, p)
	}
	var told int
	p, err := New(Config{OnPanic: func(*capture.Packet, any, []byte) { told++ }}, &collector{}, &faulty{blocks{packets: packets, random: rand.New(rand.NewPCG(1, 2))}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	totals := p.Totals()
	if told != 100 || totals.Panics != 100 || totals.Undecodable != 100 || totals.Reported != 900 || totals.Packets != 1000 {
		t.Errorf("told of %d, totals %+v; want 100 panics, 900 reported", told, totals)
	}
}

// faulty lends each tenth packet in memory that is not there.
type faulty struct{ blocks }

func (f *faulty) NextBlock(ps []capture.Packet) (int, error) {
	n, err := f.blocks.NextBlock(ps)
	for i := range ps[:n] {
		if (len(f.packets)+n-i)%10 == 0 {
			data := &ps[i].Data
			*(*uintptr)(unsafe.Pointer(data)) = 0 // the length stays
		}
	}
	return n, err
}
