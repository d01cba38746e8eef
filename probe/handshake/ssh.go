package handshake

import (
	"math"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// An sshFlow is an SSH connection: its window, and what tells new payload from
// payload that was sent again. Its bytes are not looked at. It has 72 bytes.
type sshFlow struct {
	hash   uint64 // of its entry
	window ja4plus.SSHWindow
	// lastTime is the capture time of the last packet, for a window that time
	// closes.
	lastTime int64
	more     *sshMore  // nil when there is nothing
	next     [2]uint32 // sequence numbers behind what was seen, by side
	isn      uint32    // of the client

	prev, after uint32 // in the list
	list        uint8
	nextKnown   [2]bool
	isnKnown    bool
}

// An sshMore is what an SSH connection needs at its beginning and while bytes
// of it are missing.
type sshMore struct {
	opening bool // latency and retries have something to measure
	latency ja4plus.TCPLatency
	retries ja4plus.SYNACKRetries
	missing [2]missing // by side
}

const (
	sshBytes     = int64(unsafe.Sizeof(sshFlow{})) + refBytes
	sshMoreBytes = int64(unsafe.Sizeof(sshMore{}))
)

func (s *sshFlow) bytes() int64 {
	n := sshBytes + int64(s.window.Held())
	if s.more != nil {
		n += sshMoreBytes
	}
	return n
}

// The lists of SSH connections, each in order of their last packets.
const (
	sshOpen   = iota // with a window that has begun
	sshIdle          // whose window was reported, for want of packets
	sshClosed        // by FIN or RST
	numSSHLists
)

const portSSH = 22

// beginSSH makes c an SSH connection once the packet in work is done with.
func (g *Engine) beginSSH(c *conn) {
	e := g.e
	if e.evidence() < evidencePort {
		for side := range uint8(2) {
			if e.port(side) == portSSH && e.port(side^1) != portSSH {
				g.setClient(e, side^1, evidencePort)
			}
		}
	}
	c.ssh = g.sshs.add()
	f := g.sshs.at(c.ssh)
	f.hash = g.table.hash(&e.key)
	for side := range c.streams {
		switch s := &c.streams[side]; {
		case s.started:
			f.next[side], f.nextKnown[side] = s.next, true
		case c.isnKnown[side] && !s.midway:
			f.next[side], f.nextKnown[side] = c.isn[side]+1, true
		}
	}
	g.early = g.early[:0]
	for side := range c.streams {
		for _, h := range c.streams[side].held {
			g.early = append(g.early, earlySSH{uint8(side), h.seq, len(h.data)})
		}
	}
	// The segment that told is in order; it is yet to be counted.
	f.next[g.side] = g.p.Seq
	g.shelf.put(c.streams)
	c.streams, c.inside = nil, nil
}

// becomeSSH makes c, the conn of e, the sshFlow that it has begun.
func (g *Engine) becomeSSH(e *entry, c *conn) {
	f := g.sshs.at(c.ssh)
	f.window.Begin(g.cfg.SSHWindow, c.acks)
	f.isn, f.isnKnown = g.clientISN(e)
	if c.opened && !g.timesDone(c) {
		f.more = &sshMore{opening: true, latency: c.latency, retries: c.retries}
	}
	ref := c.ssh
	g.used += f.bytes() - c.charged
	g.unlate(e.ref, c)
	g.tables.remove(c.table)
	g.conns.remove(e.ref)
	e.ref = ref
	e.flags ^= flagConn | flagSSH
	f.lastTime = g.p.Time
	g.ssh[sshOpen].pushBack(&g.sshs, ref)
	g.sshDue = min(g.sshDue, g.p.Time+g.sshAfter[sshOpen])
	held := f.bytes()
	g.countSSH(e, f)
	for _, h := range g.early {
		g.countSSHPacket(e, f, h.side, flow.ACK|flow.PSH, h.seq, h.length)
	}
	g.used += f.bytes() - held
}

// An earlySSH is a segment that was captured before the one that told that the
// connection is SSH, and stands behind it. It is counted then.
type earlySSH struct {
	side   uint8
	seq    uint32
	length int
}

// sshPacket takes the packet in work of an SSH connection that was known as
// one before.
func (g *Engine) sshPacket(e *entry) {
	s := g.sshs.at(e.ref)
	held := s.bytes()
	if s.more != nil && s.more.opening {
		g.openingTimes(e, &s.more.latency, &s.more.retries, true)
		s.more.opening = !g.timesOver(&s.more.latency, &s.more.retries)
		s.trim()
	}
	g.countSSH(e, s)
	g.used += s.bytes() - held
	if g.used > g.cfg.MaxBytes && !g.reclaim(0) {
		g.giveUp(e, ReasonMemory)
	}
}

// countSSH counts the packet in work.
func (g *Engine) countSSH(e *entry, s *sshFlow) {
	p := g.p
	s.lastTime = p.Time
	if e.closed() {
		g.listSSH(e.ref, sshClosed)
	} else {
		g.listSSH(e.ref, sshOpen)
	}
	g.countSSHPacket(e, s, g.side, p.TCPFlags, p.Seq, p.PayloadLength)
}

// countSSHPacket counts one of side, unless its payload was counted before.
func (g *Engine) countSSHPacket(e *entry, s *sshFlow, side, flags uint8, seq uint32, payload int) {
	if payload > 0 && !s.fresh(side, seq, uint32(payload)) {
		return
	}
	if ev, ok := s.window.Packet(side == e.clientSide(), flags, payload); ok {
		g.event(ev)
	}
}

// listSSH puts an SSH connection at the end of a list.
func (g *Engine) listSSH(ref uint32, list uint8) {
	s := g.sshs.at(ref)
	if list != s.list {
		g.sshDue = min(g.sshDue, s.lastTime+g.sshAfter[list])
	}
	g.ssh[s.list].remove(&g.sshs, ref)
	s.list = list
	g.ssh[list].pushBack(&g.sshs, ref)
}

// flushSSH reports the open window of e, an SSH connection, as an event of the
// past.
func (g *Engine) flushSSH(e *entry) {
	s := g.sshs.at(e.ref)
	held := s.bytes()
	ev, ok := s.window.Flush()
	g.used += s.bytes() - held
	if !ok {
		return
	}
	g.stats.Events++
	g.out.Ended = append(g.out.Ended, EndEvent{
		Event: Event{Event: ev, Time: s.lastTime, PacketNum: e.packets, Tuple: e.tuple(e.clientSide())},
		Mark:  e.mark,
	})
}

// endSSH reports the windows whose time is over at packet time now, and forgets
// the connections whose time is. The sweep would find them too, but in an order
// that depends on the seed of the table.
func (g *Engine) endSSH(now int64) {
	g.sshDue = math.MaxInt64
	for list, idle := range g.sshAfter {
		for ref := g.ssh[list].head; ref != 0; ref = g.ssh[list].head {
			if due := g.sshs.at(ref).lastTime + idle; now <= due {
				g.sshDue = min(g.sshDue, due)
				break
			}
			e := g.entryOf(ref)
			if list == sshOpen {
				g.flushSSH(e)
				g.listSSH(ref, sshIdle)
				continue
			}
			g.end(e)
			e.flags |= flagDone
		}
	}
}

// entryOf returns the entry of an SSH connection, which it has as long as it
// lives.
func (g *Engine) entryOf(ref uint32) *entry {
	h := g.sshs.at(ref).hash
	s := g.table.segment(h)
	for i := uint32(h) & segmentMask; ; i = (i + 1) & segmentMask {
		if e := &s.entries[i]; e.ref == ref && e.flags&flagSSH != 0 {
			return e
		}
	}
}

// An sshList orders SSH connections by their last packet.
type sshList struct{ head, tail uint32 }

func (l *sshList) pushBack(all *slab[sshFlow], ref uint32) {
	s := all.at(ref)
	s.prev, s.after = l.tail, 0
	if l.tail != 0 {
		all.at(l.tail).after = ref
	} else {
		l.head = ref
	}
	l.tail = ref
}

func (l *sshList) remove(all *slab[sshFlow], ref uint32) {
	s := all.at(ref)
	if s.prev != 0 {
		all.at(s.prev).after = s.after
	} else {
		l.head = s.after
	}
	if s.after != 0 {
		all.at(s.after).prev = s.prev
	} else {
		l.tail = s.prev
	}
	s.prev, s.after = 0, 0
}

// missing are ranges of sequence numbers that were not seen, in the order in
// which they were found to be missing. When there are more than it can keep,
// the oldest counts as seen.
type missing struct {
	n      uint8
	ranges [4]struct{ from, to uint32 }
}

// fresh takes a range of n bytes from seq that side sent and reports whether
// any of it is new.
func (s *sshFlow) fresh(side uint8, seq, n uint32) bool {
	end := seq + n
	if !s.nextKnown[side] || s.next[side] == seq {
		s.next[side], s.nextKnown[side] = end, true
		return true
	}
	fresh := before(s.next[side], end)
	if fresh {
		if before(s.next[side], seq) {
			if s.more == nil {
				s.more = new(sshMore)
			}
			s.more.missing[side].add(s.next[side], seq)
		}
		s.next[side] = end
	}
	if s.more != nil && s.more.missing[side].n > 0 {
		fresh = s.more.missing[side].fill(seq, end) || fresh
		s.trim()
	}
	return fresh
}

// trim lets go of what is not needed any more.
func (s *sshFlow) trim() {
	if m := s.more; !m.opening && m.missing[0].n == 0 && m.missing[1].n == 0 {
		s.more = nil
	}
}

func (m *missing) add(from, to uint32) {
	if int(m.n) == len(m.ranges) {
		copy(m.ranges[:], m.ranges[1:])
		m.n--
	}
	m.ranges[m.n].from, m.ranges[m.n].to = from, to
	m.n++
}

// fill takes the range from seq to end and reports whether any of it was
// missing.
func (m *missing) fill(seq, end uint32) (any bool) {
	kept := uint8(0)
	for _, r := range m.ranges[:m.n] {
		if before(seq, r.to) && before(r.from, end) {
			any = true
			switch {
			case !before(r.from, seq) && !before(end, r.to): // filled
				continue
			case !before(r.from, seq):
				r.from = end
			case !before(end, r.to):
				r.to = seq
			default: // a piece in the middle: the part before it counts as seen
				r.from = end
			}
		}
		m.ranges[kept] = r
		kept++
	}
	m.n = kept
	return any
}
