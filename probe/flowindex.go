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

// words returns the addresses of t.
func words(t *flow.Tuple) (srcHi, srcLo, dstHi, dstLo uint64) {
	return binary.LittleEndian.Uint64(t.Src[:8]), binary.LittleEndian.Uint64(t.Src[8:]),
		binary.LittleEndian.Uint64(t.Dst[:8]), binary.LittleEndian.Uint64(t.Dst[8:])
}

// hash is the same for both directions. Beside that, tuples with other addresses
// or ports collide by chance alone, but for pairs whose ports are exchanged.
func (x *flowIndex) hash(t *flow.Tuple) uint64 {
	srcHi, srcLo, dstHi, dstLo := words(t)
	h1, l1 := bits.Mul64(srcHi^x.seed[0], srcLo^x.seed[1])
	h2, l2 := bits.Mul64(dstHi^x.seed[0], dstLo^x.seed[1])
	ports := uint64(min(t.SrcPort, t.DstPort))<<16 | uint64(max(t.SrcPort, t.DstPort))
	h3, l3 := bits.Mul64((h1^l1)+(h2^l2)^x.seed[2], ports<<8^uint64(t.Protocol)^x.seed[3])
	return h3 ^ l3
}

// compare reports whether a and b are of one flow, and whether they go opposite
// ways. Which way packets go is anybody's guess, so it is no branch.
func compare(a, b *flow.Tuple) (reversed, same bool) {
	aSrcHi, aSrcLo, aDstHi, aDstLo := words(a)
	bSrcHi, bSrcLo, bDstHi, bDstLo := words(b)
	ahead := (aSrcHi ^ bSrcHi) | (aSrcLo ^ bSrcLo) | (aDstHi ^ bDstHi) | (aDstLo ^ bDstLo) |
		uint64(a.SrcPort^b.SrcPort) | uint64(a.DstPort^b.DstPort)
	back := (aSrcHi ^ bDstHi) | (aSrcLo ^ bDstLo) | (aDstHi ^ bSrcHi) | (aDstLo ^ bSrcLo) |
		uint64(a.SrcPort^b.DstPort) | uint64(a.DstPort^b.SrcPort)
	return ahead != 0, min(ahead, back)|uint64(a.Protocol^b.Protocol) == 0
}

// find returns the index of the flow of t among flows, and whether t goes the
// other way than it. When there is none it returns the index that the flow gets
// when it is put behind flows, and takes it for put there.
func (x *flowIndex) find(t *flow.Tuple, flows []flow.Tuple) (index uint32, reversed, known bool) {
	h := x.hash(t)
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
		if reversed, same := compare(t, &flows[index]); same {
			return index, reversed, true
		}
	}
}
