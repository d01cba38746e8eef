package tracker

import "math/bits"

// An index finds slots by hash. Its buckets are one cache line each and hold
// ten entries, six on average when the shard is full, so insert and delete
// touch one line and leave no tombstone: an entry that found its home bucket
// full lies in a later one, and every bucket it passed counts it in over.
type index []bucket

// bucket holds the tags of its entries in ten lanes of 16 bits, of which 0 is
// free, and over in the eleventh: so all are compared in three steps.
type bucket struct {
	lanes [3]uint64
	slots [bucketSlots]uint32
}

const (
	bucketSlots = 10
	bucketLoad  = 6
	bucketBytes = 64

	overWord  = 2
	overShift = 32
	overMax   = 1<<16 - 1
)

// newIndex returns an index for up to n entries. It never grows: its pages are
// touched on demand, 11 bytes per connection it is made for.
func newIndex(n int) index { return make(index, (n+bucketLoad-1)/bucketLoad+1) }

// home takes the high bits of a hash; tagOf takes the low ones.
func (x index) home(hash uint64) uint64 {
	hi, _ := bits.Mul64(hash, uint64(len(x)))
	return hi
}

func tagOf(hash uint64) uint16 {
	if t := uint16(hash); t != 0 {
		return t
	}
	return 1
}

// over returns how many entries passed by. Once at overMax it stays there.
func (b *bucket) over() uint16 { return uint16(b.lanes[overWord] >> overShift) }

func (b *bucket) tag(e int) uint16 { return uint16(b.lanes[e/4] >> (e % 4 * 16)) }

func (b *bucket) set(e int, tag uint16, slot uint32) {
	shift := e % 4 * 16
	b.lanes[e/4] = b.lanes[e/4]&^(0xffff<<shift) | uint64(tag)<<shift
	b.slots[e] = slot
}

// matches returns a bit for each entry that may have tag: bit e for entry e. The
// lowest one has it; a higher one may be next to it and not have it.
func (b *bucket) matches(tag uint16) uint32 {
	const ones, tops = 0x0001000100010001, 0x8000800080008000
	all := ones * uint64(tag)
	x, y, z := b.lanes[0]^all, b.lanes[1]^all, b.lanes[2]^all
	x = (x - ones) &^ x & tops
	y = (y - ones) &^ y & tops
	z = (z - ones) &^ z & (tops & 0xffffffff)
	if x|y|z == 0 {
		return 0
	}
	return gather(x) | gather(y)<<4 | gather(z)<<8
}

// gather turns the top bits of four lanes into bits 0 to 3.
func gather(x uint64) uint32 {
	const spread = 1<<48 | 1<<33 | 1<<18 | 1<<3
	return uint32(x >> 15 * spread >> 48 & 0xf)
}

// candidate returns a slot that may be that of hash, and is if any in this
// bucket is but for one time in thousands; 0 if the bucket has none.
func (b *bucket) candidate(hash uint64) uint32 {
	m := b.matches(tagOf(hash))
	if m == 0 {
		return 0
	}
	return b.slots[bits.TrailingZeros32(m)]
}

// next returns the bucket behind i.
func (x index) next(i uint64) uint64 {
	if i++; i == uint64(len(x)) {
		return 0
	}
	return i
}

// insert adds an entry that is not there. The index has room, since the shard
// keeps fewer connections than it was made for.
func (x index) insert(hash uint64, slot uint32) {
	for i := x.home(hash); ; i = x.next(i) {
		b := &x[i]
		if free := b.matches(0); free != 0 {
			b.set(bits.TrailingZeros32(free), tagOf(hash), slot)
			return
		}
		if b.over() != overMax {
			b.lanes[overWord] += 1 << overShift
		}
	}
}

// remove deletes an entry that is there.
func (x index) remove(hash uint64, slot uint32) {
	tag := tagOf(hash)
	for i := x.home(hash); ; i = x.next(i) {
		b := &x[i]
		for m := b.matches(tag); m != 0; m &= m - 1 {
			if e := bits.TrailingZeros32(m); b.slots[e] == slot {
				b.set(e, 0, 0)
				return
			}
		}
		if b.over() != overMax {
			b.lanes[overWord] -= 1 << overShift
		}
	}
}
