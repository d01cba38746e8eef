package tracker

// Cells that hang on a connection:
//
//	tagEvent    x seen at, y value<<36 | packet number, a pair, typ type
//	tagHistory  x total<<16 | stored, y newest event<<32 | the 100th event, typ type
//	tagName     x value
//
// A history with one event is that event. With more it is a head, and the
// events are a circle behind it: the newest one's next is the oldest. Once
// there are MaxHistory, a new event takes the cell of the oldest behind the
// 100th.
const (
	// rawType is set in typ for raw forms.
	rawType = 0x80
	// packetNumBits bounds packet numbers: the largest stands for all beyond.
	packetNumBits = 36
	packetNumMask = 1<<packetNumBits - 1
)

// roomTries bounds the connections evicted for the memory of one fingerprint.
const roomTries = 8

// record adds a fingerprint, its raw form and its server name to a connection.
func (s *shard) record(j *job, slot uint32, f *print, seenAt int64) {
	e := &j.b.Fingerprints[f.index]
	num := min(s.packetNum(slot, j.origin), packetNumMask)
	before, recorded := s.addEvent(j, slot, uint8(e.Type), e.Value, seenAt, num)
	if recorded && s.worker.events && j.eventTypes.Has(e.Type) {
		s.tellPrinted(slot, e.Flow, f.index, seenAt, num, before)
	}
	if e.Raw != "" {
		s.addEvent(j, slot, uint8(e.Type)|rawType, e.Raw, seenAt, num)
	}
	if e.ServerName != "" {
		s.setName(j, slot, e.ServerName)
	}
}

// addEvent appends an event to the history of type typ, unless its value is
// the newest one's, or there is no room. before is the value that was newest, 0
// if there was none.
func (s *shard) addEvent(j *job, slot uint32, typ uint8, value string, seenAt int64, num uint64) (before uint32, recorded bool) {
	hash := s.values.hash(typ, value)
	id := s.values.find(typ, value, hash)
	at := s.findCell(slot, func(c *cell) bool {
		return (c.tag == tagEvent || c.tag == tagHistory) && c.typ == typ
	})
	if at != 0 {
		newest := at
		if c := s.cells.at(at); c.tag == tagHistory {
			newest = uint32(c.y >> 32)
		}
		before = valueOf(s.cells.at(newest))
		if id == before {
			return before, false
		}
	}
	// At most: the value, the event, and a head for the history.
	id, ok := s.intern(j, slot, id, typ, value, hash, 2)
	if !ok {
		s.tally.noRoom++
		return before, false
	}
	ev := cell{x: uint64(seenAt), y: uint64(id)<<packetNumBits | num, a: j.origin, tag: tagEvent, typ: typ}
	if at == 0 {
		i, c := s.cells.alloc()
		*c = ev
		s.hang(slot, i)
		s.meta(slot).weigh(1)
		s.values.single(typ, id, 1)
		return before, true
	}
	s.appendEvent(slot, at, ev)
	return before, true
}

// appendEvent puts ev behind the newest event of the history at cell number at.
func (s *shard) appendEvent(slot, at uint32, ev cell) {
	m := s.meta(slot)
	c := s.cells.at(at)
	if c.tag == tagEvent { // the second event: the first moves behind a head
		i, first := s.cells.alloc()
		*first = *c
		first.next = i
		*c = cell{x: 1<<16 | 1, y: uint64(i) << 32, tag: tagHistory, typ: c.typ, next: c.next}
		m.weigh(1)
		s.values.single(c.typ, valueOf(first), -1)
		s.values.prints.several(c.typ, slot, true)
	}
	newest, hundredth := uint32(c.y>>32), uint32(c.y)
	stored := c.x & 0xffff
	total := min(c.x>>16+1, 1<<48-1)
	tail := s.cells.at(newest)

	var i uint32
	if stored < MaxHistory {
		i, _ = s.cells.alloc()
		m.weigh(1)
		stored++
	} else {
		mark := s.cells.at(hundredth)
		i = mark.next
		old := s.cells.at(i)
		m.weigh(-valueCells(s.values.size(valueOf(old))))
		s.values.letGo(valueOf(old))
		mark.next = old.next
		s.tally.capped++
	}
	ev.next = tail.next
	*s.cells.at(i) = ev
	tail.next = i
	if stored == historyFirst {
		hundredth = i
	}
	c.x, c.y = total<<16|stored, uint64(i)<<32|uint64(hundredth)
}

func valueOf(event *cell) uint32 { return uint32(event.y >> packetNumBits) }

// setName makes name the connection's server name.
func (s *shard) setName(j *job, slot uint32, name string) {
	hash := s.values.hash(nameType, name)
	id := s.values.find(nameType, name, hash)
	at := s.findCell(slot, func(c *cell) bool { return c.tag == tagName })
	if at != 0 && uint64(id) == s.cells.at(at).x {
		return
	}
	id, ok := s.intern(j, slot, id, nameType, name, hash, 1)
	if !ok {
		s.tally.noRoom++
		return
	}
	if at != 0 {
		c := s.cells.at(at)
		s.meta(slot).weigh(-valueCells(s.values.size(uint32(c.x))))
		s.values.letGo(uint32(c.x))
		c.x = uint64(id)
		return
	}
	i, c := s.cells.alloc()
	c.tag, c.x = tagName, uint64(id)
	s.hang(slot, i)
	s.meta(slot).weigh(1)
}

// intern returns the value of a kind that is equal to text with one more
// reference, charged to the connection: id, which values.find has just returned, or a
// new one if that is 0. It makes room for it and for extra cells beside it, if need
// be by evicting other connections; false says that there is none.
func (s *shard) intern(j *job, slot, id uint32, kind uint8, text string, hash uint32, extra int) (uint32, bool) {
	size := valueCells(len(text))
	if s.meta(slot).weight()+uint32(size+extra) > s.weightMax {
		return 0, false
	}
	if id != 0 {
		s.values.retain(id) // before anybody leaves who may hold the last reference
		if !s.roomFor(j, slot, extra) {
			s.values.letGo(id)
			return 0, false
		}
	} else {
		if !s.roomFor(j, slot, size+extra) {
			return 0, false
		}
		id = s.values.add(kind, text, hash)
		s.values.retain(id)
	}
	s.meta(slot).weigh(size)
	return id, true
}

// roomFor sees to it that n cells can be had, by evicting connections in the
// order of makeRoom. Established ones and two-way UDP have to go only if they
// hold cells themselves. It gives up after roomTries, or when it would be the
// turn of the connection in slot.
func (s *shard) roomFor(j *job, slot uint32, n int) bool {
	for range roomTries {
		if s.cells.room(n) {
			return true
		}
		v, ok := s.victim(j)
		if !ok || v == slot || s.meta(v).class() >= classUDP && s.meta(v).cells == 0 {
			return false
		}
		s.evictVictim(j, v)
	}
	return s.cells.room(n)
}

// findCell returns the number of the first cell of a connection that satisfies
// want, 0 if none does.
func (s *shard) findCell(slot uint32, want func(*cell) bool) uint32 {
	for i := s.meta(slot).cells; i != 0; {
		c := s.cells.at(i)
		if want(c) {
			return i
		}
		i = c.next
	}
	return 0
}

// hang puts cell i at the end of the connection's chain, so that types stay in
// the order in which they were first seen.
func (s *shard) hang(slot, i uint32) {
	p := &s.meta(slot).cells
	for *p != 0 {
		p = &s.cells.at(*p).next
	}
	*p = i
}

// dropCells frees everything that hangs on a connection.
func (s *shard) dropCells(slot uint32, m *meta) {
	for i := m.cells; i != 0; {
		c := s.cells.at(i)
		next := c.next
		switch c.tag {
		case tagEvent:
			s.values.single(c.typ, valueOf(c), -1)
			s.values.letGo(valueOf(c))
		case tagName:
			s.values.letGo(uint32(c.x))
		case tagHistory:
			s.values.prints.several(c.typ, slot, false)
			s.dropEvents(uint32(c.y >> 32))
		}
		s.cells.release(i)
		i = next
	}
	m.cells = 0
	m.weigh(-int(m.weight()))
}

// dropEvents frees a circle of events.
func (s *shard) dropEvents(newest uint32) {
	for i := s.cells.at(newest).next; ; {
		c := s.cells.at(i)
		next, last := c.next, i == newest
		s.values.letGo(valueOf(c))
		s.cells.release(i)
		if last {
			return
		}
		i = next
	}
}
