package tracker

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/flow"
	"github.com/zeebo/xxh3"
)

// The form of a head:
//
//	'H', version, number of shards, epoch, check of the seed,
//	position, log time,
//	networks, probes, pairs: number, then each
//	of each network its clock: set (byte), now, newest, setAt, hold
//
// and of a shard:
//
//	'S', version, shard, position,
//	how many networks, probes and pairs the head knew, those since as above
//	timeout of each class
//	opened, evicted, the tally
//	fresh, number of live connections, each in the order of slots
//	chain of free slots
//	number of networks, each: 0, or 1, clock, and of each class 0, or 1 and its ring
//	of each class the networks whose ring is not empty, in their order
//
// All numbers are varints where nothing else is said, those that may be negative
// in zigzag. A chain of slots is the differences from one to the next, the first
// from 0, and a 0 at its end.

const (
	headMark  = 'H'
	shardMark = 'S'
)

// seedCheck tells seeds from one another and says nothing about them.
func seedCheck(seed uint64) uint64 { return xxh3.HashStringSeed("whorl checkpoint", seed) }

// nameCounts is how many labels of each kind there are.
type nameCounts struct{ networks, probes, pairs int }

func (n *names) counts() nameCounts {
	return nameCounts{len(n.networks), len(n.probes), len(n.pairs)}
}

func (t *Tracker) appendHead(b []byte, n *names) []byte {
	b = append(b, headMark, checkpointVersion)
	b = binary.AppendUvarint(b, uint64(len(t.shards)))
	b = binary.AppendUvarint(b, uint64(t.cfg.Epoch))
	b = binary.AppendUvarint(b, seedCheck(t.cfg.HashSeed))
	b = binary.AppendUvarint(b, t.position)
	b = binary.AppendVarint(b, t.logTime)
	b = n.appendFrom(b, nameCounts{})
	for i := range n.networks {
		c := &t.clocks[i]
		b = appendBool(b, c.set)
		for _, v := range []int64{c.now, c.newest, c.setAt, c.hold} {
			b = binary.AppendVarint(b, v)
		}
	}
	return b
}

// appendFrom appends the labels behind those that base counts.
func (n *names) appendFrom(b []byte, base nameCounts) []byte {
	texts := func(all []string) {
		b = binary.AppendUvarint(b, uint64(len(all)))
		for _, s := range all {
			b = appendText(b, s)
		}
	}
	texts(n.networks[base.networks:])
	texts(n.probes[base.probes:])
	b = binary.AppendUvarint(b, uint64(len(n.pairs)-base.pairs))
	for _, p := range n.pairs[base.pairs:] {
		b = binary.AppendUvarint(b, uint64(p.network))
		b = binary.AppendUvarint(b, uint64(p.probe))
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendTo appends the image to dst in the form that RestoreShard takes, and
// returns it: some 50 bytes for a connection without fingerprints. Equal shards
// give equal bytes.
func (i *ShardImage) AppendTo(dst []byte) []byte {
	s := &i.shard
	b := append(dst, shardMark, checkpointVersion)
	b = binary.AppendUvarint(b, uint64(s.id))
	b = binary.AppendUvarint(b, i.position)
	for _, n := range []int{i.base.networks, i.base.probes, i.base.pairs} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = i.names.appendFrom(b, i.base)
	for _, t := range s.timeouts {
		b = binary.AppendVarint(b, t)
	}
	b = binary.AppendUvarint(b, s.opened)
	b = binary.AppendUvarint(b, s.evicted)
	for _, n := range s.tally.all() {
		b = binary.AppendUvarint(b, *n)
	}
	b = i.appendConnections(b)
	b = s.appendChain(b, s.free, func(slot uint32) uint32 { return s.meta(slot).next })
	b = s.appendWheels(b)
	for c := range s.open {
		b = binary.AppendUvarint(b, uint64(len(s.open[c])))
		for _, n := range s.open[c] {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

// all returns all counters, in the order in which they are saved.
func (t *tally) all() []*uint64 {
	all := []*uint64{
		&t.packets, &t.bytes, &t.late, &t.future, &t.capped, &t.noRoom, &t.orphaned, &t.observersCapped,
	}
	for i := range t.evicted {
		all = append(all, &t.evicted[i])
	}
	return all
}

// appendChain appends the slots from one on, until next says 0.
func (s *shard) appendChain(b []byte, slot uint32, next func(uint32) uint32) []byte {
	for before := uint32(0); slot != 0; slot = next(slot) {
		b = binary.AppendVarint(b, int64(slot)-int64(before))
		before = slot
	}
	return append(b, 0)
}

// appendWheels appends the clocks and wheels of the networks.
func (s *shard) appendWheels(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.nets)))
	for _, net := range s.nets {
		b = appendBool(b, net != nil)
		if net == nil {
			continue
		}
		b = binary.AppendVarint(b, net.clock)
		for _, r := range net.rings {
			b = appendBool(b, r != nil)
			if r != nil {
				b = s.appendRing(b, r)
			}
		}
	}
	return b
}

// appendRing appends where the sweep is, and each bucket that is not empty: 1 and
// its number, and its circle as a chain; then 0.
func (s *shard) appendRing(b []byte, r *ring) []byte {
	b = binary.AppendVarint(b, r.swept)
	b = binary.AppendUvarint(b, uint64(r.until))
	for i, head := range r.heads {
		if head == 0 {
			continue
		}
		b = binary.AppendUvarint(b, 1+uint64(i))
		b = s.appendChain(b, head, func(slot uint32) uint32 {
			if next := s.meta(slot).next; next != head {
				return next
			}
			return 0
		})
	}
	return append(b, 0)
}

// What a connection has, in the byte behind its slot.
const (
	hasIPv4     = 1 << iota // both addresses are IPv4: 4 bytes each instead of 16
	hasActivity             // it is off its clock
	hasObservers
	hasTexts // histories or a server name
)

// appendConnections appends fresh, the number of connections, and each:
//
//	slot, as the difference from the one before
//	what it has (byte), state (byte), protocol (byte)
//	addresses, ports (2 bytes each, big endian)
//	pair, last seen, span from first seen to last seen, number counted back from
//	the newest, packets of A and B, bytes of A and B
//	activity, if it is off its clock
//	observers: first and last seen of the first; number of others, each: pair,
//	packets and bytes of A and B, first and last seen
//	texts: number, each a type (byte; nameType: server name) and a value, or for
//	any other type the total, the number stored, and of each event value, seen at,
//	packet number and pair
//
// A value is its place among the values so far; a new one has the next place, and
// its text behind it. Times are relative to last seen, which is so to the one
// before.
func (i *ShardImage) appendConnections(b []byte) []byte {
	s := &i.shard
	i.order = resize(i.order, int(s.cells.fresh)+1)
	clear(i.order)
	values := uint32(0)
	b = binary.AppendUvarint(b, uint64(s.fresh))
	b = binary.AppendUvarint(b, uint64(s.live))
	slotBefore, seenBefore := uint32(0), int64(0)
	for slot := uint32(1); slot < s.fresh; slot++ {
		h := s.hot(slot)
		if h.pair == freePair {
			continue
		}
		b = binary.AppendUvarint(b, uint64(slot-slotBefore))
		b = s.appendRecord(b, slot, h, seenBefore)
		slotBefore, seenBefore = slot, h.lastSeen
		if s.meta(slot).cells != 0 {
			b = i.appendCells(b, slot, &values)
		}
	}
	return b
}

// appendRecord appends what is neither observers nor texts.
func (s *shard) appendRecord(b []byte, slot uint32, h *hot, seenBefore int64) []byte {
	m := s.meta(slot)
	has := byte(0)
	ip4 := isIPv4(h.key[0:16]) && isIPv4(h.key[16:32])
	if ip4 {
		has |= hasIPv4
	}
	if m.is(offClock) {
		has |= hasActivity
	}
	if m.is(multi) {
		has |= hasObservers
	}
	for i := m.cells; i != 0; i = s.cells.at(i).next {
		switch s.cells.at(i).tag {
		case tagEvent, tagHistory, tagName:
			has |= hasTexts
		}
	}
	b = append(b, has, byte(h.state&^slow), byte(h.proto()))
	if ip4 {
		b = append(b, h.key[12:16]...)
		b = append(b, h.key[28:32]...)
	} else {
		b = append(b, h.key[0:32]...)
	}
	b = append(b, h.key[32:36]...)
	b = binary.AppendUvarint(b, uint64(h.pair))
	b = binary.AppendVarint(b, h.lastSeen-seenBefore)
	b = binary.AppendVarint(b, h.lastSeen-m.firstSeen)
	b = binary.AppendUvarint(b, s.opened-m.number)
	c := s.firstCounted(slot)
	for _, n := range []uint64{c.packets[0], c.packets[1], c.bytes[0], c.bytes[1]} {
		b = binary.AppendUvarint(b, n)
	}
	if has&hasActivity != 0 {
		b = binary.AppendVarint(b, *s.activityAt(slot)-h.lastSeen)
	}
	return b
}

// firstCounted returns what the first observer counted.
func (s *shard) firstCounted(slot uint32) counted {
	var all [MaxObservers]counted
	s.observed(slot, &all)
	return all[0]
}

// mapped is how an IPv4 address begins in 16 bytes.
var mapped = flow.AddrFrom4([4]byte{})

func isIPv4(b []byte) bool { return [12]byte(b) == [12]byte(mapped[:12]) }

// nameType stands for a server name among types.
const nameType = 0

// appendCells appends observers and texts.
func (i *ShardImage) appendCells(b []byte, slot uint32, values *uint32) []byte {
	s := &i.shard
	h, m := s.hot(slot), s.meta(slot)
	if m.is(multi) {
		b = s.appendObservers(b, slot, h.lastSeen)
	}
	texts := 0
	for c := m.cells; c != 0; c = s.cells.at(c).next {
		switch s.cells.at(c).tag {
		case tagEvent, tagHistory, tagName:
			texts++
		}
	}
	if texts == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(texts))
	for at := m.cells; at != 0; {
		c := s.cells.at(at)
		at = c.next
		switch c.tag {
		case tagName:
			b = i.appendValue(append(b, nameType), uint32(c.x), values)
		case tagEvent:
			b = append(b, c.typ, 1, 1)
			b = i.appendEvent(b, c, h.lastSeen, values)
		case tagHistory:
			b = append(b, c.typ)
			b = binary.AppendUvarint(b, c.x>>16)
			b = binary.AppendUvarint(b, c.x&0xffff)
			newest := uint32(c.y >> 32)
			for e := s.cells.at(newest).next; ; e = s.cells.at(e).next {
				b = i.appendEvent(b, s.cells.at(e), h.lastSeen, values)
				if e == newest {
					break
				}
			}
		}
	}
	return b
}

func (s *shard) appendObservers(b []byte, slot uint32, lastSeen int64) []byte {
	var all [MaxObservers]counted
	n, _ := s.observed(slot, &all)
	b = append(b, byte(n-1))
	for i := range n {
		c := &all[i]
		if i > 0 { // of the first one these are known
			b = binary.AppendUvarint(b, uint64(c.pair))
			for _, v := range []uint64{c.packets[0], c.packets[1], c.bytes[0], c.bytes[1]} {
				b = binary.AppendUvarint(b, v)
			}
		}
		b = binary.AppendVarint(b, lastSeen-c.first)
		b = binary.AppendVarint(b, lastSeen-c.last)
	}
	return b
}

func (i *ShardImage) appendEvent(b []byte, c *cell, lastSeen int64, values *uint32) []byte {
	b = i.appendValue(b, valueOf(c), values)
	b = binary.AppendVarint(b, lastSeen-int64(c.x))
	b = binary.AppendUvarint(b, c.y&packetNumMask)
	return binary.AppendUvarint(b, uint64(c.a))
}

func (i *ShardImage) appendValue(b []byte, id uint32, values *uint32) []byte {
	v := &i.shard.values
	if at := i.order[id]; at != 0 {
		return binary.AppendUvarint(b, uint64(at-1))
	}
	b = binary.AppendUvarint(b, uint64(*values))
	*values++
	i.order[id] = *values
	b = binary.AppendUvarint(b, uint64(v.size(id)))
	return v.appendTo(b, id)
}
