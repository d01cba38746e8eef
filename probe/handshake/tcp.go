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
		default:
			// No SYN so far: this one may come late, behind its first bytes.
			again = e.fragmentsOnly() || g.saidFirst(e, side, seq+1)
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

// beginACK is begin for a SYN-ACK. That of a new connection whose SYN was not
// captured acknowledges another sequence number.
func (g *Engine) beginACK(e *entry) {
	if e.packets == 0 {
		return
	}
	p, side := g.p, g.side
	var again bool
	switch isn, known := g.clientISN(e); {
	case known && side != e.clientSide():
		again = p.Ack-1-isn < maxSYNData
	case known:
		again = p.Seq == isn // of two that opened at once
	default:
		again = g.nothingSaid(e) || g.saidFirst(e, side, p.Seq+1) || g.saidFirst(e, side^1, p.Ack)
	}
	if !again {
		g.restart(e)
	}
}

// maxSYNData is more than a SYN carries (RFC 7413).
const maxSYNData = 1 << 16

// fragmentsOnly reports whether all packets so far were parts of one, the
// first; e has no known sequence number.
func (e *entry) fragmentsOnly() bool { return e.flags&(flagState|flagDone) == 0 }

// nothingSaid reports whether one end has sent all packets so far, and no
// payload: an ACK may be captured before the SYN-ACK that it answers. e has no
// known sequence number.
func (g *Engine) nothingSaid(e *entry) bool {
	if e.twoWay() || e.flags&(flagFIN0|flagFIN1|flagRST|flagDone) != 0 {
		return false
	}
	switch e.flags & flagState {
	case flagConn:
		return !g.conns.at(e.ref).started
	case flagQuiet:
		return g.quiets.at(e.ref).flags&quietBegun == 0
	}
	return e.flags&flagState == 0
}

// saidFirst reports whether seq is the sequence number that the bytes of side
// begin at.
func (g *Engine) saidFirst(e *entry, side uint8, seq uint32) bool {
	switch e.flags & flagState {
	case flagConn:
		s := g.conns.at(e.ref).streams
		return s != nil && s[side].started && s[side].base == seq
	case flagQuiet:
		q := g.quiets.at(e.ref)
		return q.sides[side]&quietStarted != 0 && q.isn[side] == seq-1
	}
	return false
}

// clientISN returns the client's initial sequence number.
func (g *Engine) clientISN(e *entry) (isn uint32, known bool) {
	side := e.clientSide()
	switch e.flags & flagState {
	case flagConn:
		c := g.conns.at(e.ref)
		return c.isn[side], c.isnKnown[side]
	case flagQuiet:
		q := g.quiets.at(e.ref)
		return q.isn[side], q.sides[side]&quietISN != 0
	case flagSSH:
		s := g.sshs.at(e.ref)
		return s.isn, s.isnKnown
	}
	return e.ref, e.flags&flagISN != 0
}

// setISN takes note of the initial sequence number of side.
func (g *Engine) setISN(e *entry, side uint8, isn uint32) {
	switch e.flags & flagState {
	case flagConn:
		c := g.conns.at(e.ref)
		c.isn[side], c.isnKnown[side] = isn, true
	case flagQuiet:
		q := g.quiets.at(e.ref)
		q.isn[side] = isn
		q.sides[side] |= quietISN
	case flagSSH:
		if side == e.clientSide() {
			s := g.sshs.at(e.ref)
			s.isn, s.isnKnown = isn, true
		}
	default:
		if side == e.clientSide() {
			e.ref = isn
			e.flags |= flagISN
		}
	}
}

// setClient takes note of who the client is unless it is known better.
func (g *Engine) setClient(e *entry, side uint8, ev evidence) {
	if e.packets > 0 && ev <= e.evidence() {
		return
	}
	if side != e.clientSide() {
		switch e.flags & flagState {
		case flagConn:
			a := &g.conns.at(e.ref).acks
			a.Client, a.Server = a.Server, a.Client
		case flagQuiet:
			a := &g.quiets.at(e.ref).acks
			a.Client, a.Server = a.Server, a.Client
		}
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
		if isSYN(flags) && !p.TCPCut && g.types.Has(ja4.TypeJA4T) {
			g.event(ja4.Event{Type: ja4.TypeJA4T, Value: g.syns.of(p.Window, p.TCPOptions)})
		}
	}
	if e.flags&flagDone != 0 || p.Fragment {
		return
	}
	switch {
	case !g.want.tcp:
		e.flags |= flagDone
		return
	case e.flags&flagSSH != 0:
		g.sshPacket(e)
		return
	case e.flags&flagQuiet != 0:
		if g.quietPacket(e) {
			return
		}
		g.wake(e)
	}
	first := e.flags&flagState == 0
	c := g.connOf(e)
	if c == nil {
		e.flags |= flagDone
		return
	}
	g.c = c
	if first {
		c.opened = flags&flow.SYN != 0
	}
	if isSYNACK(flags) {
		c.opened = c.opened || !c.started                                                    // an ACK was captured before it
		if c.opened && c.retries.Done() && !c.isnKnown[side] && g.want.synack && !p.TCPCut { // so was the answer to it
			g.event(ja4.Event{Type: ja4.TypeJA4TS, Value: ja4plus.SYNACK(p.Window, p.TCPOptions)})
		}
		g.setClient(e, side^1, evidenceSYNACK)
		c.isn[side], c.isnKnown[side] = p.Seq, true
		if !c.isnKnown[side^1] {
			c.isn[side^1], c.isnKnown[side^1] = p.Ack-1, true
		}
	}
	if c.opened {
		g.openingTimes(e, &c.latency, &c.retries, c.isnKnown[e.clientSide()^1])
	}
	c.acks.Packet(side == e.clientSide(), flags, p.PayloadLength)
	if p.PayloadLength > 0 && g.want.payload {
		if !c.started {
			c.started = true
			c.streams = g.shelf.take()
		}
		if c.streams != nil {
			g.segment(c)
			g.lateOrNot(e, c)
		}
	}
	if c.late.list != notLate {
		g.lateMore(e, c)
	}
	g.settle(e, c)
}

// settle puts what is known of e into the form that fits, after a packet.
func (g *Engine) settle(e *entry, c *conn) {
	switch {
	case c.ssh != 0:
		g.becomeSSH(e, c)
	case c.streams == nil && (c.started || !g.want.payload) && g.timesDone(c):
		g.release(e)
		e.flags |= flagDone
	case g.restful(c):
		g.rest(e, c)
		if g.used > g.cfg.MaxBytes && !g.reclaim(0) { // a header table has grown
			g.giveUp(e, ReasonMemory)
		}
	case g.p.PayloadLength > 0 || g.inLate: // what was late may be gone
		g.charge(e, c)
	}
}

// openingTimes feeds what measures SYNs, SYN-ACKs and round trips. Before the
// server is known to have opened, a bare ACK is no answer to it: it was captured
// out of turn.
func (g *Engine) openingTimes(e *entry, latency *ja4plus.TCPLatency, retries *ja4plus.SYNACKRetries, serverOpened bool) {
	p := g.p
	fromClient := g.side == e.clientSide()
	if g.want.synack && !retries.Done() {
		flags := p.TCPFlags
		var value string
		switch {
		case fromClient && flags&flow.SYN == 0:
			if serverOpened || p.PayloadLength > 0 || flags != flow.ACK {
				retries.Answered()
			}
		case fromClient:
		case flags&flow.RST != 0:
			value, _ = retries.Reset(p.Time)
		case isSYNACK(flags) && !p.TCPCut:
			value, _ = retries.SYNACK(p.Time, p.Window, p.TCPOptions)
		}
		g.event(ja4.Event{Type: ja4.TypeJA4TS, Value: value})
	}
	if g.want.latency && !latency.Done() {
		g.distances(latency.Packet(fromClient, p.TCPFlags, p.PayloadLength, p.Time, p.TTL))
	}
}

func (g *Engine) distances(d ja4plus.Distances) {
	g.event(ja4.Event{Type: ja4.TypeJA4L, Value: d.Client})
	g.event(ja4.Event{Type: ja4.TypeJA4LS, Value: d.Server})
}

func (g *Engine) timesDone(c *conn) bool { return !c.opened || g.timesOver(&c.latency, &c.retries) }

func (g *Engine) timesOver(latency *ja4plus.TCPLatency, retries *ja4plus.SYNACKRetries) bool {
	return (!g.want.synack || retries.Done()) && (!g.want.latency || latency.Done())
}
