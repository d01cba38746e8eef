package probe

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/whorl-net/whorl/flow"
)

const (
	// leastFlowBytes is what the batcher's estimate counts for a flow and its
	// first row, at least.
	leastFlowBytes = 13 + 3 + 1 + 1
	maxBatchFlows  = maxBatchBytes/leastFlowBytes + 1
	// indexSlots is a power of two, and at least twice maxBatchFlows.
	indexSlots = 1 << 13
)

// Must not overflow: slots are half empty, and a number of a flow fits a slot.
const (
	_ = uint(indexSlots - 2*maxBatchFlows)
	_ = uint(1<<16 - 2 - maxBatchFlows)
)

// A flowIndex finds the flows of one batch by tuple, for who wants no
// fingerprints: then nothing has to be known of a flow beyond the batch. It has
// 32 KiB, however many flows there are on the network, and stays in the cache;
// a table of all of them would cost misses for nearly every packet of a million.
//
// The hash has a random seed: who chooses addresses cannot make them collide.
type flowIndex struct {
	seed [4]uint64
	// slots hold 16 bits of the hash and 1 + the index of a flow; 0 is free.
	// A flow is where its hash says, or behind that.
	slots [indexSlots]uint32
}

func newFlowIndex() *flowIndex {
	x := new(flowIndex)
	for i := range x.seed {
		x.seed[i] = rand.Uint64() | 1
	}
	return x
}

// reset forgets all flows.
func (x *flowIndex) reset() { clear(x.slots[:]) }

// ends are the words of a tuple.
type ends struct {
	srcHi, srcLo, dstHi, dstLo uint64
	srcPort, dstPort           uint16
}

func endsOf(t *flow.Tuple) ends {
	return ends{
		srcHi: binary.LittleEndian.Uint64(t.Src[:8]), srcLo: binary.LittleEndian.Uint64(t.Src[8:]),
		dstHi: binary.LittleEndian.Uint64(t.Dst[:8]), dstLo: binary.LittleEndian.Uint64(t.Dst[8:]),
		srcPort: t.SrcPort, dstPort: t.DstPort,
	}
}

// hash is the same for both directions. Beside that, tuples with other addresses
// or ports collide by chance alone, but for pairs whose ports are exchanged.
func (x *flowIndex) hash(e *ends, protocol flow.Protocol) uint64 {
	h1, l1 := bits.Mul64(e.srcHi^x.seed[0], e.srcLo^x.seed[1])
	h2, l2 := bits.Mul64(e.dstHi^x.seed[0], e.dstLo^x.seed[1])
	ports := uint64(min(e.srcPort, e.dstPort))<<16 | uint64(max(e.srcPort, e.dstPort))
	h3, l3 := bits.Mul64((h1^l1)+(h2^l2)^x.seed[2], ports<<8^uint64(protocol)^x.seed[3])
	return h3 ^ l3
}

// find returns the index of the flow of t among flows, and whether t goes the
// other way than it. When there is none it returns the index that the flow gets
// when it is put behind flows, and takes it for put there.
func (x *flowIndex) find(t *flow.Tuple, flows []flow.Tuple) (index uint32, reversed, known bool) {
	e := endsOf(t)
	h := x.hash(&e, t.Protocol)
	tag := uint32(h>>32) << 16
	for i := uint32(h); ; i++ {
		slot := &x.slots[i&(indexSlots-1)]
		if *slot == 0 {
			index = uint32(len(flows))
			*slot = tag | (index + 1)
			return index, false, false
		}
		if *slot&^0xffff != tag {
			continue
		}
		index = *slot&0xffff - 1
		f := &flows[index]
		g := endsOf(f)
		other := uint64(f.Protocol ^ t.Protocol)
		ahead := (e.srcHi ^ g.srcHi) | (e.srcLo ^ g.srcLo) | (e.dstHi ^ g.dstHi) | (e.dstLo ^ g.dstLo) |
			uint64(e.srcPort^g.srcPort) | uint64(e.dstPort^g.dstPort) | other
		back := (e.srcHi ^ g.dstHi) | (e.srcLo ^ g.dstLo) | (e.dstHi ^ g.srcHi) | (e.dstLo ^ g.srcLo) |
			uint64(e.srcPort^g.dstPort) | uint64(e.dstPort^g.srcPort) | other
		// Which way packets go is anybody's guess, so it is no branch.
		if min(ahead, back) == 0 {
			return index, ahead != 0, true
		}
	}
}
