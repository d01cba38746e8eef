package handshake

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync"

	"github.com/whorl-net/whorl/flow"
)

// key is flow.Key in five machine words: A and B as big-endian numbers, so
// that ordering them orders the addresses.
type key struct {
	aHi, aLo, bHi, bLo uint64
	ports              uint32 // A's port in the upper half
	protocol           flow.Protocol
	// flags are no part of the key: an entry keeps its flags in the hole that
	// alignment would leave here, and so fits into a cache line.
	flags flowFlags
}

// set makes k the canonical key of t and returns the side of its source: 0
// when t goes from A to B, 1 when it goes from B to A.
func (k *key) set(t *flow.Tuple) (side uint8) {
	srcHi, srcLo := binary.BigEndian.Uint64(t.Src[:8]), binary.BigEndian.Uint64(t.Src[8:])
	dstHi, dstLo := binary.BigEndian.Uint64(t.Dst[:8]), binary.BigEndian.Uint64(t.Dst[8:])
	k.protocol = t.Protocol
	if srcHi < dstHi || srcHi == dstHi && (srcLo < dstLo || srcLo == dstLo && t.SrcPort <= t.DstPort) {
		k.aHi, k.aLo, k.bHi, k.bLo = srcHi, srcLo, dstHi, dstLo
		k.ports = uint32(t.SrcPort)<<16 | uint32(t.DstPort)
		return 0
	}
	k.aHi, k.aLo, k.bHi, k.bLo = dstHi, dstLo, srcHi, srcLo
	k.ports = uint32(t.DstPort)<<16 | uint32(t.SrcPort)
	return 1
}

// tuple returns the 5-tuple of a packet that side sent.
func (k *key) tuple(side uint8) flow.Tuple {
	t := flow.Tuple{SrcPort: uint16(k.ports >> 16), DstPort: uint16(k.ports), Protocol: k.protocol}
	binary.BigEndian.PutUint64(t.Src[:8], k.aHi)
	binary.BigEndian.PutUint64(t.Src[8:], k.aLo)
	binary.BigEndian.PutUint64(t.Dst[:8], k.bHi)
	binary.BigEndian.PutUint64(t.Dst[8:], k.bLo)
	if side == 1 {
		return t.Reverse()
	}
	return t
}

// port returns the port of a side.
func (k *key) port(side uint8) uint16 { return uint16(k.ports >> (16 * (1 - side))) }

// An entry is what is known of a flow for as long as it lives: one cache line,
// without pointers, key included, so that a packet of an established flow
// costs one miss. What a handshake needs is a conn, elsewhere.
type entry struct {
	key
	packets uint64
	// seen is the coarse time of the last packet.
	seen uint32
	// ref is the number of the conn, the quiet or the sshFlow, whichever flag
	// of flagState is set; or the client's initial sequence number with flagISN.
	ref  uint32
	mark Mark
}

// flowFlags are the bits of an entry; 0 is a free one.
type flowFlags uint16

const (
	flagUsed   flowFlags = 1 << iota
	flagConn             // ref is a conn
	flagISN              // ref is the client's initial sequence number, there being no state
	flagClient           // side 1 is the client
	flagFIN0             // side 0 sent a FIN
	flagFIN1
	flagRST
	flagSent0 // side 0 sent a packet
	flagSent1
	flagSSH  // ref is an sshFlow, which decides when the flow ends, not the sweep
	flagDone // nothing more is wanted but a new SYN

	evidenceShift = 11 // how sure flagClient is: 3 bits

	flagQuiet flowFlags = 1 << 14 // ref is a quiet
	flagState           = flagConn | flagQuiet | flagSSH
)

// evidence is how it is known who the client is; a stronger one replaces a
// weaker one.
type evidence uint8

const (
	evidenceFirst  evidence = iota // sent the first packet
	evidencePort                   // the other side has the port of a server
	evidenceHello                  // sent a ClientHello or a request
	evidenceSYNACK                 // received a SYN-ACK
	evidenceSYN                    // sent the first SYN
)

func (e *entry) evidence() evidence { return evidence(e.flags >> evidenceShift & 7) }

func (e *entry) clientSide() uint8 {
	if e.flags&flagClient != 0 {
		return 1
	}
	return 0
}

func (e *entry) setClient(side uint8, ev evidence) {
	e.flags &^= flagClient | 7<<evidenceShift
	e.flags |= flowFlags(ev) << evidenceShift
	if side == 1 {
		e.flags |= flagClient
	}
}

func (e *entry) closed() bool {
	return e.flags&flagRST != 0 || e.flags&(flagFIN0|flagFIN1) == flagFIN0|flagFIN1
}

func (e *entry) twoWay() bool { return e.flags&(flagSent0|flagSent1) == flagSent0|flagSent1 }

// segmentEntries is the size of a table segment, 128 KiB: splitting one moves
// at most that much at once, some 50 µs.
const (
	segmentEntries = 2048
	segmentMask    = segmentEntries - 1
	segmentFull    = segmentEntries * 7 / 8
)

// A segment holds entries where their hash says, or behind that. Of each it has
// a byte of the hash, the tag, so that a flow that is not there, as all are in a
// flood, costs a look at tags and not at one entry after the other.
type segment struct {
	// entries are apart, so that a segment is a whole number of pages.
	entries *[segmentEntries]entry
	live    int
	depth   uint8 // bits of the hash that all its entries share
	hand    uint32
	// tags are 0 where entries are free. The first ones are there again at the
	// end, for who reads eight at once.
	tags [segmentEntries + tagsAtOnce]uint8
}

const (
	tagsAtOnce = 8
	lowBits    = 0x0101010101010101
	highBits   = 0x8080808080808080
)

// tagOf returns the tag of an entry: 1 to 255, of bits of the hash that choose
// neither segment nor place.
func tagOf(h uint64) uint8 { return max(uint8(h>>24), 1) }

// zeroBytes returns the high bit of each byte of w that is 0, and maybe of some
// above the lowest such.
func zeroBytes(w uint64) uint64 { return (w - lowBits) &^ w & highBits }

func newSegment(depth uint8) *segment {
	return &segment{entries: new([segmentEntries]entry), depth: depth}
}

// tagsFrom returns eight tags from place i on, the first in the lowest byte.
func (s *segment) tagsFrom(i uint32) uint64 {
	return binary.LittleEndian.Uint64(s.tags[i : i+tagsAtOnce])
}

func (s *segment) setTag(i uint32, tag uint8) {
	s.tags[i] = tag
	if i < tagsAtOnce {
		s.tags[segmentEntries+i] = tag
	}
}

// room returns the first free place for an entry of hash h.
func (s *segment) room(h uint64) uint32 {
	for i := uint32(h) & segmentMask; ; i = (i + tagsAtOnce) & segmentMask {
		if free := zeroBytes(s.tagsFrom(i)); free != 0 {
			return (i + uint32(bits.TrailingZeros64(free))/8) & segmentMask
		}
	}
}

// A table finds entries by key. It grows by splitting one segment at a time
// (extendible hashing), so no packet pays for moving the whole table, and an
// idle probe stays small. The hash has a random seed: who chooses addresses
// cannot choose segments.
//
// An *entry is valid until the next insert or remove.
type table struct {
	seed     [4]uint64
	dir      []*segment
	segments []*segment
	depth    uint8
	maxDepth uint8
	live     int
	max      int
}

// scratches are for what a segment held before it was split.
var scratches = sync.Pool{New: func() any { return new([segmentEntries]entry) }}

func newTable(maxFlows int) *table {
	t := &table{max: maxFlows, dir: make([]*segment, 1), segments: make([]*segment, 1)}
	for i := range t.seed {
		t.seed[i] = rand.Uint64() | 1
	}
	t.dir[0] = newSegment(0)
	t.segments[0] = t.dir[0]
	t.maxDepth = uint8(bits.Len(uint(maxFlows/segmentFull)) + 1)
	return t
}

// reset empties t and lets go of what it has grown by.
func (t *table) reset() {
	first := t.segments[0]
	clear(first.entries[:])
	*first = segment{entries: first.entries}
	t.dir, t.segments = []*segment{first}, []*segment{first}
	t.depth, t.live = 0, 0
}

func (t *table) hash(k *key) uint64 {
	h1, l1 := bits.Mul64(k.aHi^k.bHi^t.seed[0], k.aLo^t.seed[1])
	h2, l2 := bits.Mul64(k.bLo^t.seed[2], k.bHi^uint64(k.ports)<<8^uint64(k.protocol)^t.seed[3])
	h3, l3 := bits.Mul64(h1^l2^t.seed[1], l1^h2^t.seed[2])
	return h3 ^ l3
}

func (t *table) segment(h uint64) *segment { return t.dir[h>>(64-t.depth)] } // a shift by 64 gives 0

// find returns the entry of k, nil when there is none.
func (t *table) find(k *key, h uint64) *entry {
	s := t.segment(h)
	tag := uint64(tagOf(h)) * lowBits
	for i := uint32(h) & segmentMask; ; i = (i + tagsAtOnce) & segmentMask {
		tags := s.tagsFrom(i)
		for same := zeroBytes(tags ^ tag); same != 0; same &= same - 1 {
			e := &s.entries[(i+uint32(bits.TrailingZeros64(same))/8)&segmentMask]
			if e.ports == k.ports && e.aLo == k.aLo && e.bLo == k.bLo && e.aHi == k.aHi && e.bHi == k.bHi && e.protocol == k.protocol && e.flags != 0 {
				return e
			}
		}
		if zeroBytes(tags) != 0 {
			return nil
		}
	}
}

// touch reads the entry that is most likely that of hash h, or where it would
// be put.
func (t *table) touch(h uint64) uint32 {
	s := t.segment(h)
	i := uint32(h) & segmentMask
	tags := s.tagsFrom(i)
	at := zeroBytes(tags ^ uint64(tagOf(h))*lowBits)
	if at == 0 {
		at = zeroBytes(tags)
	}
	return s.entries[(i+uint32(bits.TrailingZeros64(at))/8)&segmentMask].seen // of 64, when there is neither: 8 further
}

// full reports whether an entry of hash h needs another to leave first.
func (t *table) full(h uint64) bool {
	return t.live >= t.max || t.segment(h).live >= segmentFull && t.segment(h).depth >= t.maxDepth
}

// insert adds k, which must not be there, and returns its entry, flagUsed set.
// The caller has made room when full.
func (t *table) insert(k *key, h uint64) *entry {
	for t.segment(h).live >= segmentFull && t.segment(h).depth < t.maxDepth {
		t.split(h)
	}
	s := t.segment(h)
	i := s.room(h)
	s.setTag(i, tagOf(h))
	s.live++
	t.live++
	e := &s.entries[i]
	*e = entry{key: *k}
	e.flags = flagUsed
	return e
}

// split gives half of the segment of h to a new one.
func (t *table) split(h uint64) {
	old := t.segment(h)
	if old.depth == t.depth {
		dir := make([]*segment, 2*len(t.dir))
		for i, s := range t.dir {
			dir[2*i], dir[2*i+1] = s, s
		}
		t.dir = dir
		t.depth++
	}
	// What stays is put into the same memory again.
	scratch := scratches.Get().(*[segmentEntries]entry)
	defer scratches.Put(scratch)
	*scratch = *old.entries
	clear(old.entries[:])
	*old = segment{entries: old.entries, depth: old.depth + 1}
	low, high := old, newSegment(old.depth)
	for i := range scratch {
		e := &scratch[i]
		if e.flags == 0 {
			continue
		}
		eh := t.hash(&e.key)
		s := low
		if eh>>(64-old.depth)&1 == 1 {
			s = high
		}
		j := s.room(eh)
		s.entries[j] = *e
		s.setTag(j, tagOf(eh))
		s.live++
	}
	// The directory entries of both are a run of 2^(depth+1-old.depth).
	run := 1 << (t.depth + 1 - old.depth)
	first := int(h>>(64-t.depth)) &^ (run - 1)
	for i := run / 2; i < run; i++ {
		t.dir[first+i] = high
	}
	t.segments = append(t.segments, high)
}

// remove frees e, which lies in s, and moves up what was behind it.
func (t *table) remove(s *segment, e *entry) {
	i := uint32(0)
	{
		h := t.hash(&e.key)
		for i = uint32(h) & segmentMask; &s.entries[i] != e; i = (i + 1) & segmentMask {
		}
	}
	t.removeAt(s, i)
}

func (t *table) removeAt(s *segment, i uint32) {
	for j := i; ; {
		j = (j + 1) & segmentMask
		e := &s.entries[j]
		if e.flags == 0 {
			break
		}
		home := uint32(t.hash(&e.key)) & segmentMask
		if (j-home)&segmentMask >= (j-i)&segmentMask {
			s.entries[i] = *e
			s.setTag(i, s.tags[j])
			i = j
		}
	}
	s.entries[i] = entry{}
	s.setTag(i, 0)
	s.live--
	t.live--
}

// victim returns the entry of the segment of h that is given up first among a
// few: closed before one-way before the rest, longest silent first. It never
// returns nil while the segment has entries.
func (t *table) victim(h uint64, now uint32) (*segment, *entry) {
	s := t.segment(h)
	if s.live == 0 { // the table is full elsewhere
		for _, s = range t.segments {
			if s.live > 0 {
				break
			}
		}
	}
	var best *entry
	var bestScore int64
	const sample = 16
	for n, i := 0, s.hand; n < sample; i = (i + 1) & segmentMask {
		e := &s.entries[i]
		s.hand = (i + 1) & segmentMask
		if e.flags == 0 {
			continue
		}
		score := int64(int32(now - e.seen))
		switch {
		case e.closed():
			score += 2 << 32
		case !e.twoWay():
			score += 1 << 32
		}
		if best == nil || score > bestScore {
			best, bestScore = e, score
		}
		if n++; n >= s.live {
			break
		}
	}
	return s, best
}
