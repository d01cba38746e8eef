package handshake

import (
	"math"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// A quiet is a conn that holds no bytes of its connection: half-open, between
// two requests of HTTP/1 or within a body, or of a protocol that is none of
// ours, as yet. Connections stay so for long, and there may be many: it has 80
// bytes and no references.
type quiet struct {
	latency ja4plus.TCPLatency
	http    ja4plus.HTTPRest
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

const quietBytes = int64(unsafe.Sizeof(quiet{})) + refBytes

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
	q.latency, q.acks, q.isn = c.latency, c.acks, c.isn
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
			}
		}
		g.shelf.put(c.streams)
	}
	g.used += quietBytes - c.charged
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
	c.latency, c.acks, c.isn = q.latency, q.acks, q.isn
	c.opened = q.flags&quietOpened != 0
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
				s.http.Resume(q.http)
			}
		}
	}
	g.used -= quietBytes
	g.quiets.remove(ref)
	n := c.bytes()
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
		if q.flags&quietBegun == 0 || q.flags&quietStreams != 0 && q.sides[g.side]&(quietDone|quietPaused) == 0 {
			return false
		}
	}
	fromClient := g.side == e.clientSide()
	q.acks.Packet(fromClient, p.TCPFlags, p.PayloadLength)
	if g.want.latency && q.flags&quietOpened != 0 && !q.latency.Done() {
		g.distances(q.latency.Packet(fromClient, p.TCPFlags, p.PayloadLength, p.Time, p.TTL))
		if q.latency.Done() && q.flags&quietStreams == 0 {
			g.release(e)
			e.flags |= flagDone
		}
	}
	return true
}
