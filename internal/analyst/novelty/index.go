package novelty

import (
	"hash/maphash"

	"github.com/whorl-net/whorl/ja4"
)

// index finds entries by what they are of: an open table of tags, at most half
// full, so that a look-up reads one line of it and, when the tag is there, the
// entry. The seed of its hashes is drawn anew in each process; nothing that can
// be seen depends on it.
type index struct {
	seed  maphash.Seed
	slots []indexSlot // a power of two
	used  int
	// network is that of the newest hash, and its own hash: most come in rows.
	network     string
	networkHash uint64
}

// indexSlot is an entry's place in the slab, 0: free, and part of its hash, which
// also says where it belongs.
type indexSlot struct {
	tag  uint32
	slot int32
}

const minIndexSlots = 1 << 8

func newIndex() index {
	return index{seed: maphash.MakeSeed(), slots: make([]indexSlot, minIndexSlots)}
}

// hash is that of a fingerprint.
func (ix *index) hash(network string, t ja4.Type, value string) uint32 {
	const odd = 0x9e3779b97f4a7c15
	if ix.network != network || ix.networkHash == 0 {
		ix.network, ix.networkHash = network, maphash.String(ix.seed, network)
	}
	h := maphash.String(ix.seed, value) ^ (ix.networkHash+uint64(t))*odd
	return uint32(h ^ h>>32)
}

// find returns where the entry with this hash lies for which is reports true, -1
// if there is none.
func (ix *index) find(hash uint32, is func(slot int32) bool) int {
	mask := uint32(len(ix.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := ix.slots[i]
		if s.slot == 0 {
			return -1
		}
		if s.tag == hash && is(s.slot) {
			return int(i)
		}
	}
}

// first returns the entry that find looks at first, 0 if there is none.
func (ix *index) first(hash uint32) int32 {
	mask := uint32(len(ix.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if s := ix.slots[i]; s.slot == 0 || s.tag == hash {
			return s.slot
		}
	}
}

// insert files an entry that is not there.
func (ix *index) insert(hash uint32, slot int32) {
	if 2*(ix.used+1) > len(ix.slots) {
		old := ix.slots
		ix.slots = make([]indexSlot, 2*len(old))
		for _, s := range old {
			if s.slot != 0 {
				ix.file(s)
			}
		}
	}
	ix.file(indexSlot{hash, slot})
	ix.used++
}

func (ix *index) file(s indexSlot) {
	mask := uint32(len(ix.slots) - 1)
	i := s.tag & mask
	for ix.slots[i].slot != 0 {
		i = (i + 1) & mask
	}
	ix.slots[i] = s
}

// remove empties the place at, as find returned it, and moves up what lies behind
// it and belongs further to the front.
func (ix *index) remove(at int) {
	mask := uint32(len(ix.slots) - 1)
	hole := uint32(at)
	for i := (hole + 1) & mask; ix.slots[i].slot != 0; i = (i + 1) & mask {
		home := ix.slots[i].tag & mask
		if (i-home)&mask >= (i-hole)&mask {
			ix.slots[hole] = ix.slots[i]
			hole = i
		}
	}
	ix.slots[hole] = indexSlot{}
	ix.used--
}
