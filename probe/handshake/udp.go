package handshake

import (
	"bytes"
	"encoding/binary"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// A quicFlow is a QUIC connection until its light distances are known.
type quicFlow struct {
	flow      ja4.QUICFlow
	latency   ja4plus.QUICLatency
	datagrams uint16
	id        uint32      // idOf the datagram that began it
	newest    [2]uint32   // by side: idOf the last datagram that had one
	newestAt  [2]int64    // when the first such was captured
	random    uint64      // the beginning of the client's, 0 before its hello
	anew      bool        // the datagram in work completed the hello of another connection
	early     []byte      // a datagram that waits for the client's first
	earlySide uint8       // who sent it
	done      bool        // hellos and distances are
	opened    *openedQUIC // nil when nothing inside is looked at (any more)
}

// A dtlsFlow is a DTLS association until both hellos and what is in clear
// behind them are seen.
type dtlsFlow [2]struct {
	stream ja4.DTLSStream
	done   bool
}

// maxEarlyDatagram bounds a datagram that waits for another.
const maxEarlyDatagram = 2048

// maxQUICDatagrams is how long a QUIC connection may take to show its hellos
// and the client's first Handshake packet; 0-RTT data counts.
const maxQUICDatagrams = 512

const (
	portDHCPServer   = 67
	portDHCPClient   = 68
	portDHCPv6Client = 546
	portDHCPv6Server = 547
)

// udp takes the UDP packet in work, which has been counted.
func (g *Engine) udp(e *entry) {
	p := g.p
	b := p.Payload
	if len(b) == 0 || p.Fragment {
		return
	}
	if g.want.dhcp {
		src, dst := p.Tuple.SrcPort, p.Tuple.DstPort
		switch {
		case src == portDHCPClient, src == portDHCPServer, dst == portDHCPClient, dst == portDHCPServer:
			if ev, err := ja4plus.DHCP(b); err == nil {
				g.event(ev)
				return
			}
		case src == portDHCPv6Client, src == portDHCPv6Server, dst == portDHCPv6Client, dst == portDHCPv6Server:
			if ev, err := ja4plus.DHCPv6(b); err == nil {
				g.event(ev)
				return
			}
		}
	}
	if !g.want.quic || e.flags&flagDone != 0 && !g.beginUDP(e, b) {
		return
	}
	if e.flags&flagConn == 0 {
		// Both tests look at the first bytes only, so a flow may begin with
		// something else (STUN before DTLS) and costs next to nothing.
		quic := b[0]&0x80 != 0 && ja4.LooksLikeQUIC(b)
		if !quic && (b[0] != 22 || !ja4.LooksLikeDTLS(b)) {
			return
		}
		c := g.connOf(e)
		if c == nil {
			e.flags |= flagDone
			return
		}
		if quic {
			c.quic = &quicFlow{opened: g.newOpenedQUIC(), id: idOf(b)}
		} else {
			c.dtls = new(dtlsFlow)
		}
	}
	c := g.conns.at(e.ref)
	g.c = c
	var done bool
	if c.quic != nil {
		done = g.quicDatagram(e, c.quic, b)
	} else {
		done = g.dtlsDatagram(c.dtls, b)
	}
	if done {
		again := againOf(c.quic)
		g.release(e)
		e.flags |= flagDone
		e.ref = again
	} else {
		g.charge(e, c)
	}
}

const (
	minFirstDatagram = 1200 // bytes of a client's first (RFC 9000 section 14.1)
	dtlsHelloAt      = 13   // where the type of the first message is
	dtlsClientHello  = 1
	// An entry whose QUIC connection is done holds the lower bits of its
	// quicFlow.id in ref, and above them how many datagrams looked like the
	// beginning of another and were none; at maxAgain it is not tried again.
	againShift = 28
	maxAgain   = 15
)

// beginUDP reports whether b begins another connection between the same ports,
// and makes e ready for it.
func (g *Engine) beginUDP(e *entry, b []byte) bool {
	switch {
	case b[0] == 22:
		if len(b) <= dtlsHelloAt || b[dtlsHelloAt] != dtlsClientHello || !ja4.LooksLikeDTLS(b) {
			return false
		}
	case b[0]&0xc0 != 0xc0 || len(b) < minFirstDatagram || e.ref>>againShift == maxAgain || !ja4.LooksLikeQUIC(b):
		return false
	default:
		id := idOf(b)
		if id == 0 || id == e.ref&(1<<againShift-1) {
			return false // what is sent again of the connection that is done
		}
		var probe ja4.QUICFlow
		probe.Datagram(g.side, b, func(uint8, ja4.Message) {})
		if _, known := probe.Client(); !known {
			e.ref += 1 << againShift
			return false
		}
	}
	e.flags &^= flagDone
	e.ref = 0
	return true
}

// againOf returns what the entry of a connection that is done holds in ref.
func againOf(q *quicFlow) uint32 {
	switch {
	case q == nil:
		return maxAgain << againShift
	case q.id == 0:
		return 0
	}
	if _, known := q.flow.Client(); !known {
		return maxAgain << againShift // it never was QUIC
	}
	return q.id
}

// idOf returns a hash of the connection id that a datagram with a long header
// is for, in the lower 28 bits; 0 when it is none that a client begins with.
func idOf(b []byte) uint32 {
	const at, least = 6, 8 // RFC 9000 sections 17.2 and 7.2
	if len(b) < at || len(b) < at+int(b[at-1]) || b[at-1] < least {
		return 0
	}
	h := uint32(2166136261) // FNV-1a
	for _, c := range b[at : at+int(b[at-1])] {
		h = (h ^ uint32(c)) * 16777619
	}
	return max(h>>(32-againShift), 1)
}

// quicDatagram reports whether nothing more is wanted of the flow.
func (g *Engine) quicDatagram(e *entry, q *quicFlow, b []byte) bool {
	q.done = q.done || g.quicHandshake(e, q, b)
	if q.opened != nil {
		g.openQUIC(q, b)
	}
	return q.done && q.opened == nil
}

// quicHandshake reports whether nothing more is wanted of what is in clear.
func (g *Engine) quicHandshake(e *entry, q *quicFlow, b []byte) bool {
	if id := idOf(b); b[0]&0x80 != 0 && id != 0 && id != q.newest[g.side] {
		q.newest[g.side], q.newestAt[g.side] = id, g.p.Time
	}
	packets, status := q.flow.Datagram(g.side, b, g.onQUIC)
	if status == ja4.StatusInvalid {
		q.opened = nil
		return true
	}
	client, known := q.flow.Client()
	switch {
	case known:
		g.setClient(e, client, evidenceHello)
		if q.early != nil && q.earlySide != client && status == ja4.StatusMore {
			_, status = q.flow.Datagram(q.earlySide, q.early, g.onQUIC)
		}
		q.early = nil
	case q.early == nil && q.datagrams == 0 && len(b) <= maxEarlyDatagram:
		// The answer may have been captured before the question.
		q.early, q.earlySide = bytes.Clone(b), g.side
	}
	if q.anew {
		q.begin(client, g.p.TTL)
	}
	if g.want.latency {
		for i := range packets.Len() {
			g.distances(q.latency.Packet(g.side == e.clientSide(), packets.At(i), g.p.Time, g.p.TTL))
		}
	}
	if q.datagrams++; q.datagrams > maxQUICDatagrams {
		return true
	}
	if status == ja4.StatusTooLarge {
		g.stats.GivenUp[ReasonTooLarge]++
		return true
	}
	return status == ja4.StatusDone && (!g.want.latency || q.latency.Done())
}

// helloRandomAt is where the random of a client's hello begins. It is the same
// in the hellos of one connection, also behind a Retry and a retry request.
const helloRandomAt = 2

// begin forgets what was measured of a connection that was not finished when
// the client, whose packets have that TTL, began another between the same ports.
func (q *quicFlow) begin(client, ttl uint8) {
	q.anew, q.datagrams, q.id = false, 0, q.newest[client]
	q.latency = ja4plus.QUICLatency{}
	q.latency.Packet(true, ja4.PacketInitial, q.newestAt[client], ttl)
}

// quicMessage takes a hello of the packet in work. side may be the other one:
// a server's hello can wait for the keys that the client's first packet gives.
func (g *Engine) quicMessage(side uint8, m ja4.Message) {
	if m.Type == ja4.MessageClientHello && len(m.Body) >= helloRandomAt+8 {
		q := g.c.quic
		random := max(binary.BigEndian.Uint64(m.Body[helloRandomAt:]), 1)
		q.anew = q.random != 0 && q.random != random
		q.random = random
	}
	packetSide := g.side
	g.side = side
	g.message(m)
	g.side = packetSide
}

// dtlsDatagram reports whether nothing more is wanted of the flow.
func (g *Engine) dtlsDatagram(d *dtlsFlow, b []byte) bool {
	s := &d[g.side]
	if s.done {
		return false
	}
	switch s.stream.Datagram(b, g.onMessage) {
	case ja4.StatusMore:
	case ja4.StatusTooLarge:
		g.stats.GivenUp[ReasonTooLarge]++
		s.done = true
	default:
		s.done = true
	}
	return d[0].done && d[1].done
}
