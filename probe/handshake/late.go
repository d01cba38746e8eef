package handshake

import (
	"math"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/decode"
)

// Bytes that are missing may never come: what captures packets loses some. A
// hole in a TCP stream is stepped over after lateAcknowledged when the other
// end has acknowledged what is behind it, or the connection is closed: the
// missing bytes arrived there and were not captured. Otherwise they may be sent
// again, and are waited for some retransmission timeouts (RFC 6298) long. Both are
// packet time. What waited behind the hole gives EndEvents.
const (
	lateAcknowledgedAfter = time.Second
	lateWaitingAfter      = 30 * time.Second
)

// maxLateGap is how many bytes that nobody acknowledged may be missing. What
// lies further ahead was sent by somebody else, or on an older connection.
const maxLateGap = 1 << 20

// The lists of connections with holes, each in order of lateLink.since.
const (
	lateAcknowledged = iota
	lateWaiting
	numLateLists
)

// notLate is the list of a conn without holes.
const notLate = 0

// A lateLink is a conn's place in a list.
type lateLink struct {
	hash        uint64 // of its entry
	since       int64  // packet time
	prev, after uint32
	list        uint8 // 1 + the list; notLate when in none
	// acknowledged says that the other end has got what is missing.
	acknowledged bool
}

type lateList struct{ head, tail uint32 }

var lateAfter = [numLateLists]int64{
	lateAcknowledged: int64(lateAcknowledgedAfter), lateWaiting: int64(lateWaitingAfter),
}

// lateOrNot puts c, the conn of e, into a list when its streams have got a
// hole, and out of it when they have none any more.
func (g *Engine) lateOrNot(e *entry, c *conn) {
	holes := c.streams != nil && len(c.streams[0].held)+len(c.streams[1].held) > 0
	switch {
	case holes && c.late.list == notLate:
		g.lateSince(e, c, lateWaiting, g.p.Time)
	case !holes:
		g.unlate(e.ref, c)
	}
}

// lateMore looks whether the packet in work says that missing bytes of the
// other side arrived.
func (g *Engine) lateMore(e *entry, c *conn) {
	if c.late.list != 1+lateWaiting {
		return
	}
	s := &c.streams[g.side^1]
	acknowledged := g.p.TCPFlags&flow.ACK != 0 && len(s.held) > 0 && !before(g.p.Ack, s.held[0].seq)
	if acknowledged || e.closed() {
		g.unlate(e.ref, c)
		c.late.acknowledged = acknowledged
		g.lateSince(e, c, lateAcknowledged, g.p.Time)
	}
}

func (g *Engine) lateSince(e *entry, c *conn, list uint8, since int64) {
	l, ref := &g.late[list], e.ref
	c.late.list, c.late.since, c.late.hash = 1+list, since, g.table.hash(&e.key)
	c.late.prev, c.late.after = l.tail, 0
	if l.tail != 0 {
		g.conns.at(l.tail).late.after = ref
	} else {
		l.head = ref
	}
	l.tail = ref
	g.lateDue = min(g.lateDue, since+lateAfter[list])
}

// unlate takes c out of the list that it is in.
func (g *Engine) unlate(ref uint32, c *conn) {
	link := &c.late
	if link.list == notLate {
		return
	}
	l := &g.late[link.list-1]
	if link.prev != 0 {
		g.conns.at(link.prev).late.after = link.after
	} else {
		l.head = link.after
	}
	if link.after != 0 {
		g.conns.at(link.after).late.prev = link.prev
	} else {
		l.tail = link.prev
	}
	*link = lateLink{}
}

// endLate steps over the holes whose time is over at packet time now.
func (g *Engine) endLate(now int64) {
	g.lateDue = math.MaxInt64
	for list, after := range lateAfter {
		for ref := g.late[list].head; ref != 0; ref = g.late[list].head {
			if due := g.conns.at(ref).late.since + after; now <= due {
				g.lateDue = min(g.lateDue, due)
				break
			}
			g.stepOver(g.lateEntry(ref))
		}
	}
}

// lateEntry returns the entry of a conn with holes.
func (g *Engine) lateEntry(ref uint32) *entry {
	h := g.conns.at(ref).late.hash
	s := g.table.segment(h)
	for i := uint32(h) & segmentMask; ; i = (i + 1) & segmentMask {
		if e := &s.entries[i]; e.ref == ref && e.flags&flagConn != 0 {
			return e
		}
	}
}

// stepOver steps over all holes of e, which has some, and hands on what waited
// behind them as if it came now, with the times at which it came.
func (g *Engine) stepOver(e *entry) {
	p, inWork, conn, side := g.p, g.e, g.c, g.side
	defer func() {
		g.p, g.e, g.c, g.side, g.inLate = p, inWork, conn, side, false
	}()
	c := g.conns.at(e.ref)
	acknowledged := c.late.acknowledged
	g.unlate(e.ref, c)
	g.e, g.c, g.inLate = e, c, true
	for side := range uint8(2) {
		for c.streams != nil && len(c.streams[side].held) > 0 {
			g.side = side
			g.latePacket = decode.Packet{Tuple: e.tuple(side), TCPFlags: flow.ACK}
			g.p = &g.latePacket
			if s := &c.streams[side]; !acknowledged && s.held[0].seq-s.next > maxLateGap {
				s.held, s.heldBytes = nil, 0
				continue
			}
			g.hole(c, side, c.streams[side].held[0].seq)
			g.drain(c, side)
		}
	}
	g.closeStreams(c)
	g.settle(e, c)
}
