package handshake

import (
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// isSYN and isSYNACK tell the packets that open a connection.
func isSYN(flags uint8) bool { return flags&(flow.SYN|flow.ACK|flow.RST) == flow.SYN }
func isSYNACK(flags uint8) bool {
	return flags&(flow.SYN|flow.ACK|flow.FIN|flow.RST) == flow.SYN|flow.ACK
}

// begin looks at a SYN before it is counted: it may be the first packet of a
// new connection on a known 5-tuple.
func (g *Engine) begin(e *entry) {
	seq, side := g.p.Seq, g.side
	if e.packets > 0 {
		again := false // the SYN belongs to the connection that is known
		switch isn, known := g.clientISN(e); {
		case known && side == e.clientSide():
			again = seq == isn
		case known:
			again = !e.twoWay() // both ends open at once
		case e.flags&flagConn != 0:
			// No SYN so far: this one may come late, behind its first bytes.
			s := g.conns[e.ref-1].streams
			again = s != nil && s[side].started && s[side].base == seq+1
		}
		if !again {
			g.restart(e)
		} else if e.evidence() == evidenceSYN {
			return
		}
	}
	g.setClient(e, side, evidenceSYN)
	g.setISN(e, side, seq)
}

// clientISN returns the client's initial sequence number.
func (g *Engine) clientISN(e *entry) (isn uint32, known bool) {
	if e.flags&flagConn != 0 {
		c := g.conns[e.ref-1]
		return c.isn[e.clientSide()], c.isnKnown[e.clientSide()]
	}
	return e.ref, e.flags&flagISN != 0
}

func (g *Engine) setISN(e *entry, side uint8, isn uint32) {
	if e.flags&flagConn != 0 {
		c := g.conns[e.ref-1]
		c.isn[side], c.isnKnown[side] = isn, true
	} else if side == e.clientSide() {
		e.ref = isn
		e.flags |= flagISN
	}
}

// setClient takes note of who the client is unless it is known better.
func (g *Engine) setClient(e *entry, side uint8, ev evidence) {
	if e.packets > 0 && ev <= e.evidence() {
		return
	}
	if side != e.clientSide() && e.flags&flagConn != 0 {
		c := g.conns[e.ref-1]
		c.acks.Client, c.acks.Server = c.acks.Server, c.acks.Client
	}
	e.setClient(side, ev)
}

// tcp takes the TCP packet in work, which has been counted.
func (g *Engine) tcp(e *entry) {
	p, side := g.p, g.side
	flags := p.TCPFlags
	if flags&(flow.SYN|flow.FIN|flow.RST) != 0 {
		if flags&flow.FIN != 0 {
			e.flags |= flagFIN0 << side
		}
		if flags&flow.RST != 0 {
			e.flags |= flagRST
		}
		if isSYN(flags) && g.types.Has(ja4.TypeJA4T) {
			g.e = e
			g.event(ja4.Event{Type: ja4.TypeJA4T, Value: ja4plus.SYN(p.Window, p.TCPOptions)})
		}
	}
	if e.flags&flagDone != 0 || p.Fragment {
		return
	}
	if !g.want.tcp {
		e.flags |= flagDone
		return
	}
	c := g.connOf(e)
	if c == nil {
		e.flags |= flagDone
		return
	}
	g.e, g.c = e, c
	if e.packets == 1+uint64(len(p.Held)) {
		c.opened = flags&flow.SYN != 0
	}
	if isSYNACK(flags) {
		g.setClient(e, side^1, evidenceSYNACK)
		c.isn[side], c.isnKnown[side] = p.Seq, true
		if !c.isnKnown[side^1] {
			c.isn[side^1], c.isnKnown[side^1] = p.Ack-1, true
		}
	}
	if c.opened {
		g.handshakeTimes(e, c)
	}
	if c.ssh == nil {
		c.acks.Packet(side == e.clientSide(), flags, p.PayloadLength)
	}
	if p.PayloadLength > 0 && g.want.payload {
		if !c.started {
			c.started = true
			c.streams = new(streams)
		}
		if c.streams != nil {
			g.segment(c)
		}
	}
	if c.ssh != nil {
		g.sshPacket(e, c)
	}
	if c.streams == nil && c.ssh == nil && (c.started || !g.want.payload) && g.timesDone(c) {
		g.release(e)
		e.flags |= flagDone
		return
	}
	if p.PayloadLength > 0 {
		g.charge(e, c)
	}
}

// handshakeTimes feeds what measures SYNs, SYN-ACKs and round trips.
func (g *Engine) handshakeTimes(e *entry, c *conn) {
	p := g.p
	fromClient := g.side == e.clientSide()
	if g.want.synack && !c.retries.Done() {
		flags := p.TCPFlags
		var value string
		switch {
		case fromClient && flags&flow.SYN == 0:
			c.retries.Answered()
		case fromClient:
		case flags&flow.RST != 0:
			value, _ = c.retries.Reset(p.Time)
		case isSYNACK(flags):
			value, _ = c.retries.SYNACK(p.Time, p.Window, p.TCPOptions)
		}
		g.event(ja4.Event{Type: ja4.TypeJA4TS, Value: value})
	}
	if g.want.latency && !c.latency.Done() {
		d := c.latency.Packet(fromClient, p.TCPFlags, p.PayloadLength, p.Time, p.TTL)
		g.distances(d)
	}
}

func (g *Engine) distances(d ja4plus.Distances) {
	g.event(ja4.Event{Type: ja4.TypeJA4L, Value: d.Client})
	g.event(ja4.Event{Type: ja4.TypeJA4LS, Value: d.Server})
}

func (g *Engine) timesDone(c *conn) bool {
	return !c.opened || (!g.want.synack || c.retries.Done()) && (!g.want.latency || c.latency.Done())
}
