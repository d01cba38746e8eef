package handshake

import (
	"unsafe"

	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// A conn is what is needed of a connection while it may yield a fingerprint
// with any packet. Most are gone once their handshake is over; what may come
// later is kept in smaller forms, quiet and sshFlow.
type conn struct {
	latency ja4plus.TCPLatency
	retries ja4plus.SYNACKRetries
	acks    ja4plus.BareACKs
	// isn are the initial sequence numbers of sides 0 and 1, as far as known.
	isn      [2]uint32
	isnKnown [2]bool
	// opened says that the first packet was a SYN or SYN-ACK, so that latency
	// and retries have something to measure.
	opened bool
	// insideDone: inside has been there. started: streams has.
	insideDone, started bool
	// ssh is the sshFlow that this conn has turned out to be, 0 when none.
	ssh uint32
	// table is the number of the header table that an HTTPStream was resumed
	// with and may still use, 0 when there is none.
	table uint32
	late  lateLink
	// charged is what the conn holds of Config.MaxBytes.
	charged int64

	streams *streams // nil when no payload is wanted (yet)
	inside  *opened  // nil when nothing in there is looked at (any more)
	quic    *quicFlow
	dtls    *dtlsFlow
}

const (
	refBytes    = 4 // of a slab's free list
	connBytes   = int64(unsafe.Sizeof(conn{})) + refBytes
	streamBytes = int64(unsafe.Sizeof(streams{}))
	quicBytes   = int64(unsafe.Sizeof(quicFlow{}))
	dtlsBytes   = int64(unsafe.Sizeof(dtlsFlow{}))
)

// connBytes returns the memory that c holds.
func (g *Engine) connBytes(c *conn) int64 {
	n := connBytes + g.tables.bytes(c.table)
	if c.streams != nil {
		n += streamBytes
		for i := range c.streams {
			n += c.streams[i].bytes()
		}
	}
	if c.inside != nil {
		n += c.inside.bytes()
	}
	if c.quic != nil {
		n += quicBytes + int64(c.quic.flow.Held()+cap(c.quic.early))
		if c.quic.opened != nil {
			n += c.quic.opened.bytes()
		}
	}
	if c.dtls != nil {
		n += dtlsBytes + int64(c.dtls[0].stream.Held()+c.dtls[1].stream.Held())
	}
	return n
}

// connOf returns the conn of e and makes one when e has none; nil when there
// is no memory for it.
func (g *Engine) connOf(e *entry) *conn {
	if e.flags&flagConn != 0 {
		return g.conns.at(e.ref)
	}
	if g.used+connBytes > g.cfg.MaxBytes && !g.reclaim(connBytes) {
		g.stats.GivenUp[ReasonMemory]++
		return nil
	}
	isn, known := e.ref, e.flags&flagISN != 0
	c := g.addConn(e)
	if known {
		side := e.clientSide()
		c.isn[side], c.isnKnown[side] = isn, true
	}
	return c
}

// addConn gives e, which has no state, a new conn.
func (g *Engine) addConn(e *entry) *conn {
	e.ref = g.conns.add()
	e.flags |= flagConn
	c := g.conns.at(e.ref)
	c.charged = connBytes
	g.used += connBytes
	return c
}

// release frees the state of e. A client's sequence number stays in the entry.
func (g *Engine) release(e *entry) {
	isn, known := g.clientISN(e)
	switch e.flags & flagState {
	case flagConn:
		c := g.conns.at(e.ref)
		g.used -= c.charged
		if c.streams != nil {
			g.shelf.put(c.streams)
		}
		g.unlate(e.ref, c)
		g.tables.remove(c.table)
		g.conns.remove(e.ref)
	case flagQuiet:
		g.removeQuiet(e.ref)
	case flagSSH:
		s := g.sshs.at(e.ref)
		g.used -= s.bytes()
		g.ssh[s.list].remove(&g.sshs, e.ref)
		g.sshs.remove(e.ref)
	}
	e.ref = 0
	e.flags &^= flagState | flagISN
	if known {
		e.ref = isn
		e.flags |= flagISN
	}
}

// charge accounts for what the conn of e holds after a packet, and gives it up
// when that is more than there is.
func (g *Engine) charge(e *entry, c *conn) {
	n := g.connBytes(c)
	g.used += n - c.charged
	c.charged = n
	if g.used > g.cfg.MaxBytes && !g.reclaim(0) {
		g.giveUp(e, ReasonMemory)
	}
}

// giveUp stops fingerprinting e.
func (g *Engine) giveUp(e *entry, why Reason) {
	g.stats.GivenUp[why]++
	if e.flags&flagConn != 0 {
		g.unlate(e.ref, g.conns.at(e.ref)) // what waits goes, too
	}
	g.end(e)
	e.flags |= flagDone
}

// reclaimSample is how many flows a call of reclaim looks at.
const reclaimSample = 64

// reclaim makes room for n bytes by giving up connections that only one end
// has spoken on: a flood of SYNs must not blind the probe for the rest. It
// reports whether there is room now.
func (g *Engine) reclaim(n int64) bool {
	at := &g.reclaimed
	for range reclaimSample {
		if at.index++; at.index >= segmentEntries {
			at.index = 0
			at.segment++
		}
		if at.segment >= len(g.table.segments) {
			at.segment = 0
		}
		e := &g.table.segments[at.segment].entries[at.index]
		if e.flags&flagState == 0 || e == g.e || e.twoWay() {
			continue
		}
		g.giveUp(e, ReasonMemory)
		if g.used+n <= g.cfg.MaxBytes {
			return true
		}
	}
	return g.used+n <= g.cfg.MaxBytes
}
