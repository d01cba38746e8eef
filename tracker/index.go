package tracker

import "math/bits"

// An index finds slots by hash. Its buckets are one cache line each and hold
// ten entries, six on average when the shard is full, so insert and delete
// touch one line and leave no tombstone: an entry that found its home bucket
// full lies in a later one, and every bucket it passed counts it in over.
type index []bucket

type bucket struct {
	tags  [bucketSlots]uint16 // 0: free
	over  uint16              // entries that passed by; stays at the top once there
	_     uint16
	slots [bucketSlots]uint32
}

const (
	bucketSlots = 10
	bucketLoad  = 6
	bucketBytes = 64
)

// newIndex returns an index for up to n entries. It never grows: its pages are
// touched on demand, 11 bytes per connection it is made for.
func newIndex(n int) index { return make(index, (n+bucketLoad-1)/bucketLoad+1) }

func (x index) home(hash uint64) uint64 {
	hi, _ := bits.Mul64(hash, uint64(len(x)))
	return hi
}

// tagOf takes the low bits; home takes the high ones.
func tagOf(hash uint64) uint16 {
	if t := uint16(hash); t != 0 {
		return t
	}
	return 1
}

// candidate returns a slot that may be that of hash, and is if any in this
// bucket is but for one time in thousands; 0 if the bucket has none.
func (b *bucket) candidate(hash uint64) uint32 {
	tag := tagOf(hash)
	for i := range b.tags {
		if b.tags[i] == tag {
			return b.slots[i]
		}
	}
	return 0
}

// insert adds an entry that is not there. The index has room, since the shard
// keeps fewer connections than it was made for.
func (x index) insert(hash uint64, slot uint32) {
	tag := tagOf(hash)
	for i := x.home(hash); ; {
		b := &x[i]
		for e := range b.tags {
			if b.tags[e] == 0 {
				b.tags[e], b.slots[e] = tag, slot
				return
			}
		}
		if b.over != 1<<16-1 {
			b.over++
		}
		if i++; i == uint64(len(x)) {
			i = 0
		}
	}
}

// remove deletes an entry that is there.
func (x index) remove(hash uint64, slot uint32) {
	tag := tagOf(hash)
	for i := x.home(hash); ; {
		b := &x[i]
		for e := range b.tags {
			if b.tags[e] == tag && b.slots[e] == slot {
				b.tags[e], b.slots[e] = 0, 0
				return
			}
		}
		if b.over != 1<<16-1 {
			b.over--
		}
		if i++; i == uint64(len(x)) {
			i = 0
		}
	}
}
