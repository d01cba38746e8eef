package tracker

// Cells of counters and observers:
//
//	tagCarry     x packets of A<<32 | packets of B, y the same of bytes, each
//	             the high half of the counter in the hot record
//	tagFirst     x first seen, y last seen of the first observer
//	tagObserver  x packets of A, y packets of B, a pair; followed by
//	  tagMore    x bytes of A, y bytes of B, and
//	  tagMore    x first seen, y last seen
//
// tagFirst and the observers stand before all other cells of a connection, so
// that a packet finds them in a few steps.

// observerCells is how many cells a further observer takes.
const observerCells = 3

// carry adds the overflow of a counter in the hot record. It never fails: in
// the worst case a cell more than the bound is taken per 4 GiB of traffic.
func (s *shard) carry(slot, side uint32, packets, bytes bool) {
	i := s.findCell(slot, func(c *cell) bool { return c.tag == tagCarry })
	if i == 0 {
		n, c := s.cells.alloc()
		c.tag = tagCarry
		s.hang(slot, n)
		m := s.meta(slot)
		m.weigh(1)
		m.word |= carried
		i = n
	}
	c := s.cells.at(i)
	one := uint64(1) << (32 * (1 - side))
	if packets {
		c.x += one
	}
	if bytes {
		c.y += one
	}
}

// countObserved counts a packet of a connection that has several observers, or
// gets its second one now, or is off its clock. It reports whether the other
// side has sent something, whoever saw it.
func (s *shard) countObserved(j *job, slot uint32, h *hot, p *packet) bool {
	side := uint32(p.side)
	if h.pair == j.origin {
		n, b := h.packets[side]+p.packets, h.bytes[side]+p.bytes
		if n < p.packets || b < p.bytes {
			s.carry(slot, side, n < p.packets, b < p.bytes)
		}
		h.packets[side], h.bytes[side] = n, b
		if i := s.firstCell(slot); i != 0 {
			c := s.cells.at(i)
			c.x, c.y = uint64(min(int64(c.x), p.first)), uint64(max(int64(c.y), p.last))
		}
	} else if i := s.observer(j, slot, h, p); i != 0 {
		s.countAt(i, p)
	} else {
		s.tally.observersCapped += uint64(p.packets)
	}
	return h.packets[side^1] != 0 || s.sawOther(slot, side)
}

// countAt counts a packet for the observer in cell i.
func (s *shard) countAt(i uint32, p *packet) {
	c := s.cells.at(i)
	b := s.cells.at(c.next)
	t := s.cells.at(b.next)
	if p.side == 0 {
		c.x += uint64(p.packets)
		b.x += uint64(p.bytes)
	} else {
		c.y += uint64(p.packets)
		b.y += uint64(p.bytes)
	}
	t.x, t.y = uint64(min(int64(t.x), p.first)), uint64(max(int64(t.y), p.last))
}

// firstCell returns the tagFirst cell of a connection, 0 if there is none.
func (s *shard) firstCell(slot uint32) uint32 {
	i := s.meta(slot).cells
	if i != 0 && s.cells.at(i).tag == tagFirst {
		return i
	}
	return 0
}

// observer returns the cell of the batch's probe, which is not the first
// observer, and makes it if need be; 0 if there is no room.
func (s *shard) observer(j *job, slot uint32, h *hot, p *packet) uint32 {
	first := s.firstCell(slot)
	at, n := first, 1 // the cell behind which a new observer goes
	if first != 0 {
		for i := s.cells.at(first).next; i != 0; {
			c := s.cells.at(i)
			if c.tag != tagObserver {
				break
			}
			if c.a == j.origin {
				return i
			}
			at = s.cells.at(c.next).next
			i = s.cells.at(at).next
			n++
		}
	}
	if n == MaxObservers || !s.roomFor(j, slot, observerCells+1) {
		return 0
	}
	m := s.meta(slot)
	if first == 0 {
		i, c := s.cells.alloc()
		*c = cell{x: uint64(m.firstSeen), y: uint64(h.lastSeen), tag: tagFirst, next: m.cells}
		m.cells, at = i, i
		m.word |= multi
		m.weigh(1)
		h.state |= slow
	}
	a, ca := s.cells.alloc()
	b, cb := s.cells.alloc()
	t, ct := s.cells.alloc()
	prev := s.cells.at(at)
	*ca = cell{tag: tagObserver, a: j.origin, next: b}
	*cb = cell{tag: tagMore, next: t}
	*ct = cell{x: uint64(p.first), y: uint64(p.last), tag: tagMore, next: prev.next}
	prev.next = a
	m.weigh(observerCells)
	return a
}

// sawOther reports whether a further observer saw a packet of the other side.
func (s *shard) sawOther(slot, side uint32) bool {
	first := s.firstCell(slot)
	if first == 0 {
		return false
	}
	for i := s.cells.at(first).next; i != 0; {
		c := s.cells.at(i)
		if c.tag != tagObserver {
			break
		}
		if side == 0 && c.y != 0 || side == 1 && c.x != 0 {
			return true
		}
		i = s.cells.at(s.cells.at(c.next).next).next
	}
	return false
}

// counted is what one observer counted.
type counted struct {
	pair           uint16
	packets, bytes [2]uint64 // sent by A, sent by B
	first, last    int64
}

// observed fills all with what each observer counted and returns how many
// there are, and which of them saw most packets.
func (s *shard) observed(slot uint32, all *[MaxObservers]counted) (n, most int) {
	h, m := s.hot(slot), s.meta(slot)
	all[0] = counted{
		pair: h.pair, first: m.firstSeen, last: h.lastSeen,
		packets: [2]uint64{uint64(h.packets[0]), uint64(h.packets[1])},
		bytes:   [2]uint64{uint64(h.bytes[0]), uint64(h.bytes[1])},
	}
	n = 1
	if !m.is(multi | carried) { // its cells are texts, which mostly lie far away
		return 1, 0
	}
	for i := m.cells; i != 0; {
		c := s.cells.at(i)
		switch c.tag {
		case tagFirst:
			all[0].first, all[0].last = int64(c.x), int64(c.y)
		case tagObserver:
			b := s.cells.at(c.next)
			t := s.cells.at(b.next)
			all[n] = counted{
				pair: c.a, packets: [2]uint64{c.x, c.y}, bytes: [2]uint64{b.x, b.y},
				first: int64(t.x), last: int64(t.y),
			}
			n++
			c = t
		case tagCarry:
			all[0].packets[0] += c.x >> 32 << 32
			all[0].packets[1] += c.x << 32
			all[0].bytes[0] += c.y >> 32 << 32
			all[0].bytes[1] += c.y << 32
		}
		i = c.next
	}
	for i := 1; i < n; i++ {
		if all[i].packets[0]+all[i].packets[1] > all[most].packets[0]+all[most].packets[1] {
			most = i
		}
	}
	return n, most
}

// packetNum returns how many packets the probe of pair has seen of a
// connection; of a probe that is none of its observers, how many the first has.
func (s *shard) packetNum(slot uint32, pair uint16) uint64 {
	h := s.hot(slot)
	if h.pair == pair && !s.meta(slot).is(multi|carried) {
		return uint64(h.packets[0]) + uint64(h.packets[1])
	}
	var all [MaxObservers]counted
	n, _ := s.observed(slot, &all)
	at := 0
	for i := range n {
		if all[i].pair == pair {
			at = i
		}
	}
	return all[at].packets[0] + all[at].packets[1]
}
