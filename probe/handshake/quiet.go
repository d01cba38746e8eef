package handshake

import (
	"math"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4/ja4plus"
	"github.com/whorl-net/whorl/probe/decode"
)

// A quiet is a conn that holds no bytes of its connection: half-open, between
// two requests of HTTP or within a body, or of a protocol that is none of ours,
// as yet. Connections stay so for long, and there may be many: it has 56 bytes
// and no references.
type quiet struct {
	http ja4plus.HTTPRest
	// latency is the number of what measures round trips, 0 when that is over.
	latency uint32
	// table is the number of the header table of HTTP/2, 0 when there is none.
	table uint32
	// isn are the initial sequence numbers where quietISN is set, else the
	// numbers before the first that was seen.
	isn    [2]uint32
	next   [2]uint32
	acks   ja4plus.BareACKs
	looked [2]uint16
	sides  [2]uint8
	holes  [2]uint8
	flags  uint8
}

const (
	quietBytes   = int64(unsafe.Sizeof(quiet{})) + refBytes
	latencyBytes = int64(unsafe.Sizeof(ja4plus.TCPLatency{})) + refBytes
)

// quietBytes returns the memory that q holds.
func (g *Engine) quietBytes(q *quiet) int64 {
	n := quietBytes + g.tables.bytes(q.table)
	if q.latency != 0 {
		n += latencyBytes
	}
	return n
}

// removeQuiet frees a quiet and what it refers to.
func (g *Engine) removeQuiet(ref uint32) {
	q := g.quiets.at(ref)
	g.used -= g.quietBytes(q)
	if q.latency != 0 {
		g.latencies.remove(q.latency)
	}
	g.tables.remove(q.table)
	g.quiets.remove(ref)
}

// What is true of a side of a quiet.
const (
	quietISN uint8 = 1 << iota
	quietStarted
	quietDone
	quietPaused
	quietMidway
	quietHTTP
	quietHTTPRuns
)

// What is true of a quiet.
const (
	quietOpened     uint8 = 1 << iota
	quietOpening          // nothing but SYNs so far
	quietBegun            // conn.started
	quietStreams          // there are streams
	quietInsideDone       // conn.insideDone
)

// bit returns mask if b.
func bit(b bool, mask uint8) uint8 {
	if b {
		return mask
	}
	return 0
}

// restful reports whether all there is to know of c fits into a quiet.
func (g *Engine) restful(c *conn) bool {
	if c.inside != nil || c.quic != nil || c.dtls != nil {
		return false
	}
	if c.opened && g.want.synack && !c.retries.Done() || !c.started {
		return !c.started && c.retries == ja4plus.SYNACKRetries{} // else the rest of the handshake is near
	}
	if c.streams == nil {
		return true
	}
	a, b := &c.streams[0], &c.streams[1]
	return a.restful() && b.restful() && (a.http == nil || b.http == nil)
}

func (s *stream) restful() bool {
	return s.tls == nil && !s.sealed && len(s.held) == 0 && len(s.prefix) == 0 && s.looked <= math.MaxUint16 &&
		(s.http == nil || s.http.Resting())
}

// rest makes the conn c of e, which is restful, a quiet.
func (g *Engine) rest(e *entry, c *conn) {
	ref := g.quiets.add()
	q := g.quiets.at(ref)
	q.acks, q.isn, q.table = c.acks, c.isn, c.table
	if c.opened && g.want.latency && !c.latency.Done() {
		q.latency = g.latencies.add()
		*g.latencies.at(q.latency) = c.latency
	}
	var table []byte
	q.flags = bit(c.opened, quietOpened) | bit(c.opened && !c.started, quietOpening) | bit(c.started, quietBegun) | bit(c.insideDone, quietInsideDone)
	for i := range q.sides {
		q.sides[i] = bit(c.isnKnown[i], quietISN)
	}
	if c.streams != nil {
		q.flags |= quietStreams
		for i := range c.streams {
			s := &c.streams[i]
			q.sides[i] |= bit(s.started, quietStarted) | bit(s.done, quietDone) | bit(s.paused, quietPaused) |
				bit(s.midway, quietMidway) | bit(s.http != nil, quietHTTP) | bit(s.httpRuns, quietHTTPRuns)
			q.next[i], q.looked[i], q.holes[i] = s.next, uint16(s.looked), s.holes
			if !c.isnKnown[i] {
				q.isn[i] = s.base - 1
			}
			if s.http != nil {
				q.http, _ = s.http.Rest()
				table = s.http.HeaderTable()
			}
		}
	}
	if old := g.tables.at(c.table); len(old) != len(table) || len(old) > 0 && &old[0] != &table[0] {
		q.table = g.tables.put(table) // which may be a part of the old one
		g.tables.remove(c.table)
	}
	if c.streams != nil {
		g.shelf.put(c.streams)
	}
	g.used += g.quietBytes(q) - c.charged
	g.unlate(e.ref, c)
	g.conns.remove(e.ref)
	e.ref = ref
	e.flags ^= flagConn | flagQuiet
}

// wake makes the quiet of e a conn again.
func (g *Engine) wake(e *entry) *conn {
	ref := e.ref
	q := g.quiets.at(ref)
	e.flags &^= flagQuiet
	c := g.addConn(e)
	c.acks, c.isn, c.table = q.acks, q.isn, q.table
	c.opened = q.flags&quietOpened != 0
	switch {
	case q.latency != 0:
		c.latency = *g.latencies.at(q.latency)
	case g.want.latency: // all is measured, if there was anything
		c.opened = false
	}
	c.started = q.flags&quietBegun != 0
	c.insideDone = q.flags&quietInsideDone != 0
	for i, bits := range q.sides {
		c.isnKnown[i] = bits&quietISN != 0
	}
	if c.started {
		c.retries.Answered()
	}
	if q.flags&quietStreams != 0 {
		c.streams = g.shelf.take()
		for i, bits := range q.sides {
			s := &c.streams[i]
			s.base, s.next, s.looked, s.holes = q.isn[i]+1, q.next[i], int(q.looked[i]), q.holes[i]
			s.started, s.done = bits&quietStarted != 0, bits&quietDone != 0
			s.paused, s.midway = bits&quietPaused != 0, bits&quietMidway != 0
			s.httpRuns = bits&quietHTTPRuns != 0
			if bits&quietHTTP != 0 {
				s.http = &s.httpState
				s.http.Resume(q.http, g.tables.at(q.table))
			}
		}
	}
	q.table = 0 // it is the conn's now
	g.used -= g.tables.bytes(c.table)
	g.removeQuiet(ref)
	n := g.connBytes(c)
	g.used += n - c.charged
	c.charged = n
	return c
}

// quietPacket takes the packet in work if it adds nothing but to what the quiet
// of e counts and measures. It reports false, having done nothing, when the
// conn has to be there.
func (g *Engine) quietPacket(e *entry) bool {
	p, q := g.p, g.quiets.at(e.ref)
	if q.flags&quietOpening != 0 || p.TCPFlags&flow.SYN != 0 {
		return false
	}
	if p.PayloadLength > 0 {
		ignored := q.flags&quietStreams == 0 || q.sides[g.side]&(quietDone|quietPaused) != 0
		if q.flags&quietBegun == 0 || !ignored && !q.body(p, g.side) {
			return false
		}
	}
	fromClient := g.side == e.clientSide()
	q.acks.Packet(fromClient, p.TCPFlags, p.PayloadLength)
	if q.latency == 0 {
		return true
	}
	latency := g.latencies.at(q.latency)
	g.distances(latency.Packet(fromClient, p.TCPFlags, p.PayloadLength, p.Time, p.TTL))
	if latency.Done() {
		g.latencies.remove(q.latency)
		q.latency = 0
		g.used -= latencyBytes
		if q.flags&quietStreams == 0 {
			g.release(e)
			e.flags |= flagDone
		}
	}
	return true
}

// body takes the payload of p, which side sent, if it is the next of a body and
// does not end it. Else it reports false and does nothing.
func (q *quiet) body(p *decode.Packet, side uint8) bool {
	const inOrder = quietHTTPRuns | quietStarted
	if q.sides[side]&inOrder != inOrder || p.Seq != q.next[side] || len(p.Payload) != p.PayloadLength || !q.http.Skip(uint64(p.PayloadLength)) {
		return false
	}
	q.next[side] += uint32(p.PayloadLength)
	return true
}
