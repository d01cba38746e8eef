package tracker

import "github.com/whorl-net/whorl/flow"

// connections reads all connections and gives them their places in slabs and
// index.
func (r *restorer) connections() {
	s := r.s
	// Each slot takes a byte at least, as a connection or on the free chain.
	fresh := r.upTo(min(maxShardSlots, uint64(len(r.p))+1), "number of slots")
	live := r.upTo(fresh, "number of connections")
	r.want(fresh > 0 && live < fresh, "%d connections in %d slots", live, fresh)
	if r.err != nil {
		return
	}
	s.fresh, s.live = uint32(fresh), int(live)
	if s.live > s.maxLive { // the limit was greater: the table shrinks in time
		s.index = newIndex(s.live)
	}
	for fresh > 1 && len(s.chunks)*chunkSlots < int(fresh) {
		s.grow()
	}
	r.listed = make([]bool, fresh)
	slot, seen := uint64(0), int64(0)
	for range live {
		slot += r.upTo(fresh, "distance between slots")
		r.want(slot > 0 && slot < fresh, "slot %d of %d", slot, fresh)
		if r.err != nil {
			return
		}
		r.want(s.hot(uint32(slot)).pair == freePair, "slot %d is there twice", slot)
		seen = r.connection(uint32(slot), seen)
		if r.err != nil {
			return
		}
	}
}

// connection reads one connection and returns its last seen.
func (r *restorer) connection(slot uint32, seenBefore int64) int64 {
	s := r.s
	h, m := s.hot(slot), s.meta(slot)
	*h, *m = hot{pair: freePair}, meta{}
	has := r.byte()
	r.want(has < hasTexts<<1, "a connection with %#x", has)
	h.state = state(r.byte())
	r.want(h.state&slow == 0, "a state of %#x", uint8(h.state))
	protocol := r.byte()
	if has&hasIPv4 != 0 {
		copy(h.key[0:], mapped[:12])
		copy(h.key[16:], mapped[:12])
		copy(h.key[12:16], r.bytes(4))
		copy(h.key[28:32], r.bytes(4))
	} else {
		copy(h.key[0:32], r.bytes(32))
	}
	copy(h.key[32:36], r.bytes(4))
	h.key[keyBytes-1] = protocol
	pair := r.pair()
	h.lastSeen = r.time(seenBefore, "last seen")
	m.firstSeen = r.before(h.lastSeen, "first seen")
	back := r.uvarint()
	r.want(back < s.opened, "connection %d counted back from %d", back, s.opened)
	m.number = s.opened - back
	var c counted
	r.counters(&c)
	if has&hasActivity != 0 {
		*s.activityAt(slot) = r.time(h.lastSeen, "activity")
		m.word |= offClock
		h.state |= slow
	}
	if r.err != nil {
		return 0
	}
	network := r.names.pairs[pair].network
	k := h.in(network)
	key := h.flowKey()
	tu := flow.Tuple{Src: key.A, SrcPort: key.APort, Dst: key.B, DstPort: key.BPort, Protocol: key.Protocol}
	canonical, _ := tu.Key()
	r.want(canonical == key, "key %v is not canonical", key)
	r.want(r.t.shardOf(&k, &r.seeds[network]) == uint32(s.id), "%v belongs to another shard", key)
	hash := s.hash(&k)
	r.want(r.err != nil || s.find(hash, &k, r.names.pairs) == 0, "%v is there twice", key)
	if r.err != nil {
		return 0
	}
	h.pair = pair
	s.index.insert(hash, slot)
	for side := range c.packets {
		h.packets[side], h.bytes[side] = uint32(c.packets[side]), uint32(c.bytes[side])
	}
	if has&hasObservers != 0 {
		r.observers(slot)
	}
	r.carry(slot, &c)
	if has&hasTexts != 0 {
		r.texts(slot)
	}
	r.want(m.weight() < 2*maxWeight, "slot %d holds %d cells", slot, m.weight())
	return h.lastSeen
}

func (r *restorer) pair() uint16 {
	return uint16(r.upTo(uint64(len(r.names.pairs)-1), "number of a probe in a network"))
}

// counters reads packets and bytes.
func (r *restorer) counters(c *counted) {
	for _, n := range []*uint64{&c.packets[0], &c.packets[1], &c.bytes[0], &c.bytes[1]} {
		*n = r.uvarint()
	}
}

// observers reads the observers beside the first.
func (r *restorer) observers(slot uint32) {
	s := r.s
	h, m := s.hot(slot), s.meta(slot)
	n := r.byte()
	r.want(n >= 1 && n < MaxObservers, "%d observers beside the first", n)
	if r.err != nil {
		return
	}
	m.word |= multi
	h.state |= slow
	i, first := s.cells.alloc()
	*first = cell{tag: tagFirst}
	first.x = uint64(r.before(h.lastSeen, "first seen"))
	first.y = uint64(r.before(h.lastSeen, "last seen"))
	s.hang(slot, i)
	m.weigh(1)
	for range n {
		pair := r.pair()
		var c counted
		r.counters(&c)
		c.first, c.last = r.before(h.lastSeen, "first seen"), r.before(h.lastSeen, "last seen")
		for _, v := range []cell{
			{tag: tagObserver, a: pair, x: c.packets[0], y: c.packets[1]},
			{tag: tagMore, x: c.bytes[0], y: c.bytes[1]},
			{tag: tagMore, x: uint64(c.first), y: uint64(c.last)},
		} {
			i, to := s.cells.alloc()
			*to = v
			s.hang(slot, i)
		}
		m.weigh(observerCells)
	}
}

// carry keeps what of the counters does not fit the hot record.
func (r *restorer) carry(slot uint32, c *counted) {
	high := func(a, b uint64) uint64 { return a>>32<<32 | b>>32 }
	x, y := high(c.packets[0], c.packets[1]), high(c.bytes[0], c.bytes[1])
	if x|y == 0 {
		return
	}
	i, to := r.s.cells.alloc()
	*to = cell{tag: tagCarry, x: x, y: y}
	r.s.hang(slot, i)
	m := r.s.meta(slot)
	m.weigh(1)
	m.word |= carried
}
