package tracker

import (
	"testing"

	"github.com/whorl-net/whorl/flow"
)

// checkInvariants fails if a shard's slabs, index, wheels or interned values
// contradict one another. Nothing may be applied meanwhile.
func (r *rig) checkInvariants() {
	r.Helper()
	for _, s := range r.shards {
		s.worker.gate.enter()
		checkSlots(r.TB, s, r.names.Load().pairs)
		checkWheels(r.TB, s)
		checkCells(r.TB, s)
		checkPrints(r.TB, s)
		s.worker.gate.leave()
	}
}

// Each live connection is found by its key and nothing else is in the index;
// every slot is live or on the free chain.
func checkSlots(t testing.TB, s *shard, pairs []pair) {
	t.Helper()
	live := 0
	for slot := uint32(1); slot < s.fresh; slot++ {
		h := s.hot(slot)
		if h.pair == freePair {
			continue
		}
		live++
		k := h.in(pairs[h.pair].network)
		if got := s.find(s.hash(&k), &k, pairs); got != slot {
			t.Fatalf("shard %d: slot %d holds %v, which is found in slot %d", s.id, slot, h.flowKey(), got)
		}
		if c := s.meta(slot).class(); c != h.class() {
			t.Fatalf("shard %d: slot %d is listed in class %d, is of class %d", s.id, slot, c, h.class())
		}
	}
	indexed, over := 0, 0
	for i := range s.index {
		over += int(s.index[i].over())
		for e := range bucketSlots {
			if s.index[i].tag(e) != 0 {
				indexed++
			}
		}
	}
	free := 0
	for slot := s.free; slot != 0; slot = s.meta(slot).next {
		free++
	}
	if live != s.live || indexed != live || free+live != int(s.fresh)-1 {
		t.Fatalf("shard %d: %d live slots, %d counted, %d indexed, %d free of %d",
			s.id, live, s.live, indexed, free, s.fresh-1)
	}
	if live > s.maxLive {
		t.Fatalf("shard %d: %d connections, at most %d", s.id, live, s.maxLive)
	}
	if live == 0 && over != 0 {
		t.Fatalf("shard %d: %d entries passed by in an empty index", s.id, over)
	}
}

// Each live connection is in one wheel, in a bucket that is swept before its
// deadline has passed by a bucket's width.
func checkWheels(t testing.TB, s *shard) {
	t.Helper()
	listed := 0
	for n, net := range s.nets {
		if net == nil {
			continue
		}
		for c, r := range net.rings {
			if r == nil {
				continue
			}
			inRing := 0
			for b := range r.heads {
				bit := b < ringBuckets && r.used[b/64]>>(b%64)&1 == 1
				if b < ringBuckets && bit != (r.heads[b] != 0) {
					t.Fatalf("shard %d network %d class %d: bucket %d is used %v, has head %d", s.id, n, c, b, bit, r.heads[b])
				}
				if r.heads[b] == 0 {
					continue
				}
				for slot, first := r.heads[b], true; first || slot != r.heads[b]; slot, first = s.meta(slot).next, false {
					m := s.meta(slot)
					if s.hot(slot).pair == freePair || int(m.bucket()) != b || m.class() != class(c) || s.meta(m.next).prev != slot {
						t.Fatalf("shard %d network %d class %d: bucket %d holds slot %d, %+v", s.id, n, c, b, slot, m)
					}
					inRing++
				}
			}
			if inRing != r.n {
				t.Fatalf("shard %d network %d class %d: %d connections, %d counted", s.id, n, c, inRing, r.n)
			}
			open := 0
			for _, o := range s.open[c] {
				if int(o) == n {
					open++
				}
			}
			if open != min(1, r.n) {
				t.Fatalf("shard %d network %d class %d: %d connections, open %d times", s.id, n, c, r.n, open)
			}
			listed += inRing
		}
	}
	if listed != s.live {
		t.Fatalf("shard %d: %d connections listed, %d live", s.id, listed, s.live)
	}
}

// Each cell is free or in use by one connection or value, each value has as
// many references as there are, and each connection's weight is right.
func checkCells(t testing.TB, s *shard) {
	t.Helper()
	used := 0
	refs := map[uint32]int{}
	for slot := uint32(1); slot < s.fresh; slot++ {
		if s.hot(slot).pair == freePair {
			continue
		}
		weight := 0
		value := func(id uint32) {
			refs[id]++
			weight += valueCells(s.values.size(id))
		}
		for i := s.meta(slot).cells; i != 0; i = s.cells.at(i).next {
			c := s.cells.at(i)
			used++
			weight++
			switch c.tag {
			case tagFree:
				t.Fatalf("shard %d: slot %d holds free cell %d", s.id, slot, i)
			case tagEvent:
				value(valueOf(c))
			case tagName:
				value(uint32(c.x))
			case tagHistory:
				stored := 0
				newest := uint32(c.y >> 32)
				for e := s.cells.at(newest).next; ; e = s.cells.at(e).next {
					value(valueOf(s.cells.at(e)))
					used++
					weight++
					stored++
					if e == newest {
						break
					}
				}
				if stored != int(c.x&0xffff) || stored > MaxHistory {
					t.Fatalf("shard %d: slot %d has a history of %d events, counted %d", s.id, slot, stored, c.x&0xffff)
				}
			}
		}
		if m := s.meta(slot); weight != int(m.weight()) {
			t.Fatalf("shard %d: slot %d has weight %d, counted %d", s.id, slot, weight, m.weight())
		}
	}
	values := 0
	for _, id := range s.values.heads {
		for ; id != 0; id = s.cells.at(id).next {
			values++
			used += valueCells(s.values.size(id))
			if n := int(uint32(s.cells.at(id).x)); n != refs[id] {
				t.Fatalf("shard %d: value %d has %d references, counted %d", s.id, id, refs[id], n)
			}
		}
	}
	if values != len(refs) || used != s.cells.inUse {
		t.Fatalf("shard %d: %d values of %d referred to, %d cells of %d in use", s.id, values, len(refs), used, s.cells.inUse)
	}
}

// Counters keep 64 bits: what overflows the 32 of the hot record is carried.
func TestCountersCarry(t *testing.T) {
	for _, observers := range []int{1, 2} {
		testCountersCarry(t, observers)
	}
}

func testCountersCarry(t *testing.T, observers int) {
	r := newRig(t, Config{Shards: 1})
	b := new(flow.Batch)
	f := b.AddFlow(tuple(1))
	for p := range observers { // the counters under test are those of the first
		r.submit(epochTime, r.origin("", string(rune('a'+p))), batchOf(pkt{flow: tuple(1), flags: flow.ACK}))
	}
	for i := range 6 {
		b.AddPacket(f, i%3 == 2, epochTime, 1<<32-10, flow.ACK)
		b.RunPackets = append(b.RunPackets, 1<<31)
		b.RunSpan = append(b.RunSpan, 0)
	}
	r.submit(epochTime, r.origin("", "a"), b)
	r.checkInvariants()
	s := r.get(tuple(1), "")
	if s.PacketCount != 6<<31+1 || s.SrcPacketCount != 4<<31+1 {
		t.Errorf("%d packets, %d of the source; want %d, %d", s.PacketCount, s.SrcPacketCount, uint64(6<<31+1), uint64(4<<31+1))
	}
	if s.ByteCount != 6*(1<<32-10)+100 || s.SrcByteCount != 4*(1<<32-10)+100 {
		t.Errorf("%d bytes, %d of the source; want %d, %d", s.ByteCount, s.SrcByteCount, uint64(6*(1<<32-10)+100), uint64(4*(1<<32-10)+100))
	}
	if got := r.flush(epochTime, FlushRequest{}); got != 1 {
		t.Errorf("%d flushed, want 1", got)
	}
	r.checkInvariants()
}
