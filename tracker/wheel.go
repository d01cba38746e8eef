package tracker

import (
	"math/bits"
	"time"
)

// A ring is the timing wheel of one class in one network of one shard. A
// connection lies in the bucket of its deadline when it was put there; a packet
// only writes the time, and whoever comes upon the connection puts it where it
// now belongs. So the true deadline is never before the bucket's time, the
// oldest bucket holds the least recently used ones, and within a bucket the
// first come is the first to go.
//
// When time jumps by more than a turn, buckets hold connections of several
// turns until they are swept; that costs order, never correctness, because a
// sweep looks at each true deadline.
type ring struct {
	// grain is the width of a bucket in nanoseconds: the timeout is 254 of
	// them, so a full turn reaches further than any deadline.
	grain int64
	// inverse is 2^64 / grain, see position.
	inverse uint64
	// timeout is what a deadline is ahead of the activity; expires is false
	// for a class that never expires, which turns once an hour for its order.
	timeout int64
	expires bool
	// swept is the position (time divided by grain) of the oldest bucket that
	// may hold anything.
	swept int64
	// until is the last connection that a sweep of bucket swept, broken off,
	// has still to look at; 0 when none is under way.
	until uint32
	n     int
	used  [ringBuckets / 64]uint64
	// heads are circles of slots in order of arrival. The last is for what
	// never expires and came due: it is older than all others.
	heads [ringBuckets + 1]uint32
}

const (
	ringBuckets = 256
	parked      = ringBuckets
	ringBytes   = 4*(ringBuckets+1) + 96
	// idleTurn stands for the timeout of a class that never expires.
	idleTurn = int64(time.Hour)
)

func newRing(timeout int64) *ring {
	r := &ring{timeout: timeout, expires: timeout != never}
	if !r.expires {
		r.timeout = idleTurn
	}
	r.grain = r.timeout/(ringBuckets-2) + 1
	r.inverse = ^uint64(0) / uint64(r.grain)
	return r
}

// position returns t / grain. t is not negative, so the product is too small by
// one at most; it takes a third of the time of a division.
func (r *ring) position(t int64) int64 {
	q, _ := bits.Mul64(uint64(t), r.inverse)
	if uint64(t)-q*uint64(r.grain) >= uint64(r.grain) {
		q++
	}
	return int64(q)
}

// bucketOf returns the bucket of a deadline.
func (r *ring) bucketOf(deadline int64) uint16 { return uint16(r.position(deadline) % ringBuckets) }

// advance moves swept over empty buckets that the clock has passed. What is
// listed then lies less than a turn ahead of it, and so looks newer than what
// is there.
func (r *ring) advance(clock int64) {
	for now := r.position(clock); r.swept < now && r.heads[r.swept%ringBuckets] == 0; {
		r.swept++
	}
}

// oldest returns the bucket to take a victim from. The ring is not empty.
func (r *ring) oldest(clock int64) uint16 {
	if r.heads[parked] != 0 {
		return parked
	}
	r.advance(clock)
	from := uint(r.swept % ringBuckets)
	for i := range uint(len(r.used) + 1) {
		w := (from/64 + i) % uint(len(r.used))
		word := r.used[w]
		if i == 0 {
			word &= ^uint64(0) << (from % 64)
		}
		if word != 0 {
			return uint16(w*64) + uint16(bits.TrailingZeros64(word))
		}
	}
	return parked // not reached: n > 0 means that a bit is set
}

// age returns how long ago, at clock, the activity was that put connections
// into bucket b.
func (r *ring) age(b uint16, clock int64) int64 {
	if b == parked {
		return never
	}
	ahead := (int64(b) - r.swept%ringBuckets + ringBuckets) % ringBuckets
	return clock - ((r.swept+ahead)*r.grain - r.timeout)
}

// link puts slot at the end of the circle of bucket b.
func (s *shard) link(r *ring, slot uint32, b uint16) {
	m := s.meta(slot)
	m.setBucket(b)
	r.n++
	head := r.heads[b]
	if head == 0 {
		m.next, m.prev = slot, slot
		r.heads[b] = slot
		if b != parked {
			r.used[b/64] |= 1 << (b % 64)
		}
		return
	}
	hm := s.meta(head)
	m.next, m.prev = head, hm.prev
	s.meta(hm.prev).next = slot
	hm.prev = slot
}

// unlink takes slot out of r. A sweep that was to end there starts its bucket
// anew.
func (s *shard) unlink(r *ring, slot uint32) {
	m := s.meta(slot)
	b := m.bucket()
	r.n--
	if r.until == slot {
		r.until = 0
	}
	if m.next == slot {
		r.heads[b] = 0
		if b != parked {
			r.used[b/64] &^= 1 << (b % 64)
		}
		return
	}
	s.meta(m.prev).next = m.next
	s.meta(m.next).prev = m.prev
	if r.heads[b] == slot {
		r.heads[b] = m.next
	}
}
