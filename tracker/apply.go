package tracker

import (
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

const (
	// touchBlock is how many flows are looked up together: a cache miss that
	// is waited for costs 150 ns and more, one that overlaps with others 14 ns.
	touchBlock = 256
	// applyBlock is how many rows the shard's lock is held for.
	applyBlock = 256
)

// apply applies the worker's part of a batch, row by row over all its shards.
func (w *worker) apply(j *job) {
	for _, s := range w.shards {
		from, to := j.flowStarts.of(int(s.id))
		flows, found := j.flows[from:to], j.found[from:to]
		for i := 0; i < len(flows); i += touchBlock {
			end := min(i+touchBlock, len(flows))
			s.touch(flows[i:end], found[i:end]) // no lock: it only reads what only we write
		}
	}
	from, to := j.rowStarts.of(int(w.id))
	rows := j.rows[from:to]
	from, to = j.printStarts.of(int(w.id))
	prints := j.prints[from:to]

	w.mu.Lock()
	for i := range rows {
		r := &rows[i]
		s := w.t.shards[r.shard]
		w.order = uint64(r.index)
		slot := s.packet(j, s.net(j.network), r)
		for len(prints) > 0 && prints[0].row == uint32(r.index) {
			s.fingerprintOfRow(j, slot, r, &prints[0])
			prints = prints[1:]
		}
		if i%applyBlock == applyBlock-1 {
			w.yield(j)
		}
	}
	for _, s := range w.shards {
		if s.concerned(j) {
			net := s.net(j.network)
			net.clock = max(net.clock, j.endClock)
		}
	}
	for i := range prints {
		w.order = orderUnplaced + uint64(prints[i].index)
		w.t.shards[prints[i].shard].fingerprintOfNone(j, &prints[i])
	}
	for _, s := range w.shards {
		if s.concerned(j) {
			w.order = orderShards + uint64(s.id)
			s.sweepPassed(j)
			s.publish()
		}
	}
	w.mu.Unlock()
}

// concerned reports whether the shard has a flow in the batch and has not
// applied it before it was restored.
func (s *shard) concerned(j *job) bool {
	return !j.flowStarts.empty(int(s.id)) && s.appliedTo < j.entry.Position
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

// touch finds where the connections of flows may lie. It goes over the flows
// several times, so that in each pass cache misses overlap.
func (s *shard) touch(flows []keyIn, in []found) {
	var homes, slots [touchBlock]uint32
	for i := range flows {
		in[i].hash = s.hash(&flows[i])
		homes[i] = uint32(s.index.home(in[i].hash))
	}
	var sum uint32
	for _, home := range homes[:len(flows)] {
		sum += uint32(s.index[home].lanes[0])
	}
	unknown := 0
	for i := range in {
		slot := s.index[homes[i]].candidate(in[i].hash)
		in[i].slot, slots[i] = slot, slot
		if slot == 0 {
			unknown++
		}
	}
	if s.fresh > 1 { // else there is no slot 0 to read
		for _, slot := range slots[:len(flows)] {
			sum += uint32(s.hot(slot).state)
		}
	}
	s.touched += sum
	if n := s.live + unknown - s.maxLive; n > 0 {
		s.touchVictims(n)
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
func (p *packet) complete(r *row, j *job) {
	*p = packet{
		first: r.first, last: r.first, clock: r.clock, packets: 1, bytes: r.bytes, flags: r.flags,
		side: uint8(r.flow & 1), future: r.marks&markFuture != 0,
	}
	if r.marks&markRun != 0 {
		p.packets = j.b.RunPackets[r.index]
		p.last += int64(j.b.RunSpan[r.index])
	}
}

// packet applies one row and returns the slot of its connection.
func (s *shard) packet(j *job, net *shardNet, r *row) uint32 {
	var p packet
	p.complete(r, j)
	k, f := &j.flows[r.flow>>1], &j.found[r.flow>>1]
	net.clock = p.clock
	s.tally.packets += uint64(p.packets)
	s.tally.bytes += uint64(p.bytes)

	slot := f.slot
	if slot == 0 || !s.hot(slot).is(k, j.names.pairs) {
		slot = s.find(f.hash, k, j.names.pairs)
	}
	if slot != 0 {
		if h := s.hot(slot); !s.ended(j, slot, h, &p) {
			f.slot = slot
			s.update(j, slot, h, &p)
			return slot
		}
	}
	slot, h := s.add(j, k, f.hash, &p)
	f.slot = slot
	h.advance(&p, false)
	if s.worker.events {
		s.worker.opened(s.subject(slot, h, r.flow>>1), &p, r)
	}
	c := h.class()
	activity := p.last
	if p.future || p.clock-p.last > s.timeouts[c] {
		activity = p.clock
		s.offClock(slot, h, activity)
		s.countOff(&p)
	}
	s.list(slot, j.network, c, activity)
	return slot
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
	m := s.meta(slot)
	m.activity = activity
	m.flags |= offClock
	h.state |= slow
}

// backOnClock returns the last activity after a packet at last that is neither
// late nor from the future.
func (s *shard) backOnClock(slot uint32, h *hot, last int64) int64 {
	m := s.meta(slot)
	if m.flags&offClock == 0 {
		return h.lastSeen
	}
	m.activity = max(m.activity, last)
	if m.activity != h.lastSeen {
		return m.activity
	}
	m.flags &^= offClock
	if m.flags == 0 {
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

// advance moves the connection's state on for a packet. bothSeen says that the other side has sent something, too.
func (h *hot) advance(p *packet, bothSeen bool) {
	if h.proto() != flow.TCP {
		if bothSeen && h.proto() == flow.UDP {
			h.state |= phaseEstablished
		}
		return
	}
	if p.flags&flow.SYN != 0 {
		if p.flags&flow.ACK == 0 {
			h.state.initiate(p.side, bySYN)
		} else if p.packets == 1 { // the flags of a run may be those of several packets
			h.state.initiate(p.side^1, bySYNACK)
		}
	}
	phase := h.state & phaseMask
	if phase == phaseClosed {
		return
	}
	if phase == phaseOpening && (p.flags&flow.SYN == 0 || p.packets > 1) {
		phase = phaseTalking
	}
	if phase == phaseTalking && bothSeen {
		phase = phaseEstablished
	}
	if p.flags&flow.FIN != 0 {
		h.state |= finA << p.side
	}
	if p.flags&flow.RST != 0 || h.state&(finA|finB) == finA|finB {
		phase = phaseClosed
	}
	h.state = h.state&^phaseMask | phase
}

// fingerprintOfRow records a fingerprint that the packet of a row completed.
func (s *shard) fingerprintOfRow(j *job, slot uint32, r *row, f *print) {
	var p packet
	p.complete(r, j)
	e := &j.b.Fingerprints[f.index]
	if e.Type == ja4.TypeJA4 || e.Type == ja4.TypeJA4H {
		s.hot(slot).state.initiate(p.side, byHello)
	}
	s.record(j, slot, f, p.last)
}

// fingerprintOfNone records a fingerprint that no packet of the batch
// completed, at the newest packet of its connection so far.
func (s *shard) fingerprintOfNone(j *job, f *print) {
	slot := s.find(j.found[f.flow].hash, &j.flows[f.flow], j.names.pairs)
	if slot == 0 || s.expired(slot, j.network) {
		s.tally.orphaned++
		return
	}
	s.record(j, slot, f, s.hot(slot).lastSeen)
}
