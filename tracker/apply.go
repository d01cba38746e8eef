package tracker

import (
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// applyBlock is how many rows the worker's lock is held for.
const applyBlock = 256

// counting returns the numbers from 0 to n - 1.
func (w *worker) counting(n int) []uint16 {
	for i := len(w.numbers); i < n; i++ {
		w.numbers = append(w.numbers, uint16(i))
	}
	return w.numbers[:n]
}

// flowsOf and rowsOf return the numbers of what a batch has for a worker.
func (j *job) flowsOf(w *worker) []uint16 {
	if len(j.t.workers) > 1 {
		return j.flowAt[w.id]
	}
	return w.counting(len(j.b.Flows))
}

func (j *job) rowsOf(w *worker) []uint16 {
	if len(j.t.workers) > 1 {
		return j.rowAt[w.id]
	}
	return w.counting(len(j.b.Flow))
}

// apply applies the worker's part of a batch, row by row over all its shards.
func (w *worker) apply(j *job) {
	w.batches++
	w.opens.reset()
	w.flows = resize(w.flows, len(j.b.Flows))
	removed := w.removed
	rows, flows, prints := j.rowsOf(w), j.flowsOf(w), j.prints
	for len(rows) > 0 {
		block := rows[:min(len(rows), applyBlock)]
		rows = rows[len(block):]
		last := uint32(0)
		for _, row := range block {
			last = max(last, j.b.Flow[row]>>1)
		}
		for len(flows) > 0 && uint32(flows[0]) <= last {
			n := min(len(flows), touchBlock)
			w.touch(j, flows[:n]) // no lock: it only reads what only we write
			flows = flows[n:]
		}
		w.touchVictims()
		w.gate.lock()
		for len(block) > 0 {
			if w.flows[j.b.Flow[block[0]]>>1].hot != nil {
				block = block[w.applyFast(j, block, prints, removed):]
				if len(block) == 0 {
					break
				}
			}
			prints = w.applyRow(j, int(block[0]), prints, removed)
			block = block[1:]
		}
		if w.part != nil && w.part.full() {
			w.announce(j)
		}
		w.gate.unlock() // for as long as it takes to look up the next flows
	}
	for ; len(flows) > 0; flows = flows[min(len(flows), touchBlock):] {
		w.touch(j, flows[:min(len(flows), touchBlock)])
	}
	w.finish(j, prints)
}

// finish does what there is to do behind the rows of a batch.
func (w *worker) finish(j *job, prints []print) {
	w.gate.lock()
	for _, s := range w.shards {
		if s.batch == w.batches {
			net := s.net(j.network)
			net.clock = max(net.clock, j.endClock)
		}
	}
	for _, p := range prints {
		if f := j.b.Fingerprints[p.index].Flow; p.row == noRow && w.owns(j, f) {
			w.order = orderUnplaced + uint64(p.index)
			w.fingerprintOfNone(j, &w.flows[f], p)
		}
	}
	for _, s := range w.shards {
		if s.batch == w.batches {
			w.order = orderShards + uint64(s.id)
			s.sweepPassed(j)
			s.publish()
		}
	}
	w.gate.unlock()
}

// owns reports whether a flow of the batch is of a shard of the worker.
func (w *worker) owns(j *job, flow uint32) bool {
	return len(j.t.workers) == 1 || j.t.shards[j.shardAt[flow]].worker == w
}

// applyRow applies one row and the fingerprints that its packet completed, the
// first of prints that are the worker's and not of rows before. It returns the
// others. It skips what a shard has applied before it was restored.
func (w *worker) applyRow(j *job, row int, prints []print, removed uint64) []print {
	f := &w.flows[j.b.Flow[row]>>1]
	s := j.t.shards[f.shard]
	restored := s.appliedTo >= j.entry.Position
	w.order = uint64(row)
	if !restored {
		s.packet(j, row, f, removed)
	}
	for len(prints) > 0 && prints[0].row <= uint32(row) {
		if prints[0].row == uint32(row) && !restored {
			s.fingerprintOfRow(j, row, f, prints[0])
		}
		prints = prints[1:]
	}
	return prints
}

// applyFast applies rows as long as they are of the common sort: a packet, on
// time and in order, without a fingerprint, of an established connection that
// one probe sees and that goes on. It returns how many there were. What it does
// is what applyRow would do.
func (w *worker) applyFast(j *job, rows []uint16, prints []print, removed uint64) int {
	b := j.b
	if len(b.RunPackets) > 0 || len(j.rowClocks) > 0 || w.removed != removed {
		return 0
	}
	next := uint32(noRow)
	if len(prints) > 0 {
		next = prints[0].row
	}
	refs := b.Flow
	times, lengths, flags := b.Time[:len(refs)], b.WireLength[:len(refs)], b.TCPFlags[:len(refs)]
	flows, shards, origin := w.flows, j.t.shards, j.origin
	timeouts := &w.shards[0].timeouts
	tcp, udp := timeouts[classEstablished], timeouts[classUDP]
	for i, row := range rows {
		ref := refs[row]
		f := &flows[ref>>1]
		h := f.hot
		if h == nil || h.pair != origin || h.state&(slow|phaseMask) != phaseEstablished ||
			flags[row]&(flow.SYN|flow.FIN|flow.RST) != 0 || uint32(row) >= next {
			return i
		}
		timeout := tcp
		if h.proto() != flow.TCP {
			timeout = udp
		}
		at, last := times[row], h.lastSeen
		if at < last || at > j.latest || max(j.floor, at)-last > timeout {
			return i
		}
		side := (ref ^ uint32(f.side)) & 1
		packets, bytes := h.packets[side]+1, h.bytes[side]+lengths[row]
		if packets == 0 || bytes < lengths[row] {
			return i
		}
		h.packets[side], h.bytes[side], h.lastSeen = packets, bytes, at
		t := &shards[f.shard].tally
		t.packets++
		t.bytes += uint64(lengths[row])
	}
	return len(rows)
}

// sweepPassed evicts what lies in buckets that the clock of the batch's network
// has passed, a bounded number of them.
func (s *shard) sweepPassed(j *job) {
	budget := sweepPart
	for c := range numClasses {
		for budget > 0 && !s.sweep(j, j.network, c, sweepSlice, false) {
			budget -= sweepSlice
			s.worker.yield(j)
		}
	}
}

// packet is one row, complete: a packet, or a run of packets of one direction.
type packet struct {
	first, last int64
	clock       int64 // the network's
	packets     uint32
	bytes       uint32
	flags       uint8
	side        uint8 // who sent it: 0 is the key's A side
	future      bool
}

// complete fills in p from a row.
func (p *packet) complete(j *job, row int, f *seen) {
	b := j.b
	p.first, p.packets, p.bytes, p.flags = b.Time[row], 1, b.WireLength[row], b.TCPFlags[row]
	p.last, p.side = p.first, uint8(b.Flow[row]&1)^f.side
	if len(b.RunPackets) > 0 {
		p.packets = b.RunPackets[row]
		p.last += int64(b.RunSpan[row])
	}
	p.future = p.last > j.latest
	p.clock = max(j.floor, p.last)
	if len(j.rowClocks) > 0 {
		p.clock = j.rowClocks[row]
	}
}

// packet applies one row, of flow f. removed is what worker.removed was when the
// flows of the batch were looked up.
func (s *shard) packet(j *job, row int, f *seen, removed uint64) {
	var p packet
	p.complete(j, row, f)
	s.net(j.network).clock = p.clock
	s.tally.packets += uint64(p.packets)
	s.tally.bytes += uint64(p.bytes)

	flow := j.b.Flow[row] >> 1
	var k keyIn
	if f.hot == nil {
		// Not there when it was looked up: perhaps another flow of the batch is
		// the same.
		k.putTuple(&j.b.Flows[flow], j.network)
		if s.worker.opens.may(f.hash) {
			if f.slot = s.find(f.hash, &k, j.names.pairs); f.slot != 0 {
				f.hot = s.hot(f.slot)
			}
		}
	} else if s.worker.removed != removed {
		k.putTuple(&j.b.Flows[flow], j.network)
		if !f.hot.is(&k, j.names.pairs) {
			f.hot = nil
			if f.slot = s.find(f.hash, &k, j.names.pairs); f.slot != 0 {
				f.hot = s.hot(f.slot)
			}
		}
	}
	if f.hot != nil {
		if !s.ended(j, f.slot, f.hot, &p) {
			s.update(j, f.slot, f.hot, &p)
			return
		}
		k.putTuple(&j.b.Flows[flow], j.network)
	}
	slot, h := s.add(j, &k, f.hash, &p)
	s.worker.opens.note(f.hash)
	f.slot, f.hot = slot, h
	h.advance(&p, false)
	if s.worker.events {
		s.worker.opened(s.subject(slot, h, flow), &p, row)
	}
	c := h.class()
	activity := p.last
	if p.future || p.clock-p.last > s.timeouts[c] {
		activity = p.clock
		s.offClock(slot, h, activity)
		s.countOff(&p)
	}
	s.list(slot, j.network, c, activity)
}

// ended reports whether the packet finds its connection at its end, and has
// evicted it then: because its network's clock is beyond its deadline, because
// the packet itself comes after too long a gap, or because it is a SYN on a
// closed connection. The clock decides as the sweep would have.
func (s *shard) ended(j *job, slot uint32, h *hot, p *packet) bool {
	c := h.class()
	timeout := s.timeouts[c]
	if p.clock-s.activity(slot, h) > timeout || p.first-h.lastSeen > timeout && !p.future {
		s.evictIdle(j, slot)
		return true
	}
	if c != classClosed || p.flags&(flow.SYN|flow.ACK) != flow.SYN || p.future {
		return false
	}
	// A second probe reports the first SYN of a connection that the first
	// probe has already seen closed: only a later one is new.
	if p.first < h.lastSeen || p.first == h.lastSeen && h.pair != j.origin {
		return false
	}
	s.evict(j, slot, CauseClosed, p.first)
	return true
}

// update counts a packet of a connection that goes on.
func (s *shard) update(j *job, slot uint32, h *hot, p *packet) {
	before := h.class()
	side := uint32(p.side)
	var bothSeen bool
	if h.pair == j.origin && h.state&slow == 0 {
		n, b := h.packets[side]+p.packets, h.bytes[side]+p.bytes
		if n < p.packets || b < p.bytes {
			s.carry(slot, side, n < p.packets, b < p.bytes)
		}
		h.packets[side], h.bytes[side] = n, b
		bothSeen = h.packets[side^1] != 0
	} else {
		bothSeen = s.countObserved(j, slot, h, p)
	}
	if p.first < h.lastSeen {
		if m := s.meta(slot); p.first < m.firstSeen {
			m.firstSeen = p.first
		}
	}
	h.lastSeen = max(h.lastSeen, p.last)
	h.advance(p, bothSeen)
	after := h.class()

	activity := h.lastSeen
	if p.future || p.clock-p.last > s.timeouts[after] {
		activity = p.clock
		s.offClock(slot, h, activity)
		s.countOff(p)
	} else if h.state&slow != 0 {
		activity = s.backOnClock(slot, h, p.last)
	}
	if after != before {
		s.unlist(slot, j.network)
		s.list(slot, j.network, after, activity)
	}
}

// offClock says that the connection's last activity on the network's clock is
// not its LastSeen: its newest packet came late, or from the future.
func (s *shard) offClock(slot uint32, h *hot, activity int64) {
	*s.activityAt(slot) = activity
	s.meta(slot).word |= offClock
	h.state |= slow
}

// backOnClock returns the last activity after a packet at last that is neither
// late nor from the future.
func (s *shard) backOnClock(slot uint32, h *hot, last int64) int64 {
	m := s.meta(slot)
	if !m.is(offClock) {
		return h.lastSeen
	}
	activity := s.activityAt(slot)
	*activity = max(*activity, last)
	if *activity != h.lastSeen {
		return *activity
	}
	m.word &^= offClock
	if !m.is(multi) {
		h.state &^= slow
	}
	return h.lastSeen
}

func (s *shard) countOff(p *packet) {
	if p.future {
		s.tally.future += uint64(p.packets)
		return
	}
	s.tally.late += uint64(p.packets)
}

// fingerprintOfRow records a fingerprint that the packet of a row completed.
func (s *shard) fingerprintOfRow(j *job, row int, f *seen, at print) {
	var p packet
	p.complete(j, row, f)
	e := &j.b.Fingerprints[at.index]
	if e.Type == ja4.TypeJA4 || e.Type == ja4.TypeJA4H {
		s.hot(f.slot).state.initiate(p.side, byHello)
	}
	s.record(j, f.slot, &at, p.last)
}

// fingerprintOfNone records a fingerprint that no packet of the batch
// completed, at the newest packet of its connection so far.
func (w *worker) fingerprintOfNone(j *job, f *seen, at print) {
	s := j.t.shards[f.shard]
	if s.appliedTo >= j.entry.Position {
		return
	}
	var k keyIn
	k.putTuple(&j.b.Flows[j.b.Fingerprints[at.index].Flow], j.network)
	slot := s.find(f.hash, &k, j.names.pairs)
	if slot == 0 || s.expired(slot, j.network) {
		s.tally.orphaned++
		return
	}
	s.record(j, slot, &at, s.hot(slot).lastSeen)
}
