package handshake

import (
	"unsafe"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// A conn is what is needed of a connection only as long as it may yield a
// fingerprint. Most are gone once their handshake is over; SSH and HTTP keep
// theirs.
type conn struct {
	key key
	// isn are the initial sequence numbers of sides 0 and 1, as far as known.
	isn      [2]uint32
	isnKnown [2]bool
	// opened says that the first packet was a SYN or SYN-ACK, so that latency
	// and retries have something to measure.
	opened bool
	// charged is what the conn holds of Config.MaxBytes.
	charged int64

	latency ja4plus.TCPLatency
	retries ja4plus.SYNACKRetries
	acks    ja4plus.BareACKs

	// inside is nil when nothing in there is looked at (any more), insideDone
	// says that it has been there.
	inside     *opened
	insideDone bool

	streams *streams // nil when no payload is wanted (yet)
	started bool     // streams has been there
	ssh     *sshFlow
	quic    *quicFlow
	dtls    *dtlsFlow
}

const (
	connBytes   = int64(unsafe.Sizeof(conn{})) + 16
	streamBytes = int64(unsafe.Sizeof(streams{}))
	sshBytes    = int64(unsafe.Sizeof(sshFlow{})+unsafe.Sizeof(ja4plus.SSHWindow{})) + 4*ja4plus.DefaultSSHWindow
	quicBytes   = int64(unsafe.Sizeof(quicFlow{}))
	dtlsBytes   = int64(unsafe.Sizeof(dtlsFlow{}))
	tlsBytes    = int64(unsafe.Sizeof(ja4.TLSStream{}))
	httpBytes   = int64(unsafe.Sizeof(ja4plus.HTTPStream{}))
)

// bytes returns the memory that c holds.
func (c *conn) bytes() int64 {
	n := connBytes
	if c.streams != nil {
		n += streamBytes
		for i := range c.streams {
			n += c.streams[i].bytes()
		}
	}
	if c.inside != nil {
		n += c.inside.bytes()
	}
	if c.ssh != nil {
		n += sshBytes
	}
	if c.quic != nil {
		n += quicBytes + int64(c.quic.flow.Held())
		if c.quic.opened != nil {
			n += c.quic.opened.bytes()
		}
	}
	if c.dtls != nil {
		n += dtlsBytes + int64(c.dtls[0].stream.Held()+c.dtls[1].stream.Held())
	}
	return n
}

// conn returns the conn of e and makes one when it has none; nil when there is
// no memory for it.
func (g *Engine) connOf(e *entry) *conn {
	if e.flags&flagConn != 0 {
		return g.conns[e.ref-1]
	}
	if g.used+connBytes > g.cfg.MaxBytes && !g.reclaim(connBytes) {
		g.stats.GivenUp[ReasonMemory]++
		return nil
	}
	c := &conn{key: e.key, charged: connBytes}
	if e.flags&flagISN != 0 {
		side := e.clientSide()
		c.isn[side], c.isnKnown[side] = e.ref, true
	}
	g.used += connBytes
	var i uint32
	if n := len(g.free); n > 0 {
		i = g.free[n-1]
		g.free = g.free[:n-1]
		g.conns[i] = c
	} else {
		i = uint32(len(g.conns))
		g.conns = append(g.conns, c)
	}
	e.ref = i + 1
	e.flags |= flagConn
	return c
}

// entryOf returns the entry of c, which it has as long as it lives.
func (g *Engine) entryOf(c *conn) *entry { return g.table.find(&c.key, g.table.hash(&c.key)) }

// release frees the conn of e. A client's sequence number stays in the entry.
func (g *Engine) release(e *entry) {
	i := e.ref - 1
	c := g.conns[i]
	if c.ssh != nil {
		g.ssh[c.ssh.list].remove(c)
	}
	g.used -= c.charged
	g.conns[i] = nil
	g.free = append(g.free, i)
	e.flags &^= flagConn | flagHeld | flagISN
	if client := e.clientSide(); c.isnKnown[client] {
		e.ref = c.isn[client]
		e.flags |= flagISN
	}
}

// charge accounts for what the conn of e holds after a packet, and gives it up
// when that is more than there is.
func (g *Engine) charge(e *entry, c *conn) {
	n := c.bytes()
	g.used += n - c.charged
	c.charged = n
	if g.used > g.cfg.MaxBytes && !g.reclaim(0) {
		g.giveUp(e, ReasonMemory)
	}
}

// giveUp stops fingerprinting e.
func (g *Engine) giveUp(e *entry, why Reason) {
	g.stats.GivenUp[why]++
	g.end(e)
	e.flags |= flagDone
}

// reclaimSample is how many conns a call of reclaim looks at.
const reclaimSample = 32

// reclaim makes room for n bytes by giving up connections that only one end
// has spoken on: a flood of SYNs must not blind the probe for the rest. It
// reports whether there is room now.
func (g *Engine) reclaim(n int64) bool {
	for range min(reclaimSample, len(g.conns)) {
		if g.connHand++; g.connHand >= len(g.conns) {
			g.connHand = 0
		}
		c := g.conns[g.connHand]
		if c == nil || c == g.c {
			continue
		}
		e := g.entryOf(c)
		if e.twoWay() {
			continue
		}
		g.giveUp(e, ReasonMemory)
		if g.used+n <= g.cfg.MaxBytes {
			return true
		}
	}
	return g.used+n <= g.cfg.MaxBytes
}
