package ja4plus

import "github.com/whorl-net/whorl/ja4"

// QUICLatency measures the light distances of one QUIC connection: JA4LS is
// half the time from the client's first Initial packet (A) to the server's
// first (B), JA4L half the time from the last Handshake packet of the server
// (C) before the client's first Handshake packet (D) to that one. JA4LS comes at
// B and JA4L at D; a connection that is cut after B has a JA4LS alone.
//
// The zero QUICLatency is ready for use. It has 32 bytes and no references;
// nothing but the returned strings is allocated. Not safe for concurrent use.
//
// Source: FoxIO's JA4L sheet and its withdrawn text, where implementations
// differ on B and C. A negative difference, from packets captured out of
// order, gives no value.
type QUICLatency struct {
	// a, b and c are capture times in nanoseconds.
	a, b, c   int64
	clientTTL uint8
	seen      uint8
}

// Packet takes the next QUIC packet of the connection in order of capture,
// each packet of a coalesced datagram by itself: who sent it, its kind, the
// capture time of its datagram in nanoseconds, and the IPv4 TTL or IPv6 hop
// limit.
func (l *QUICLatency) Packet(fromClient bool, kind ja4.PacketKind, captureTime int64, ttl uint8) (d Distances) {
	switch {
	case l.seen&latencyEnd != 0:
	case kind == ja4.PacketInitial && fromClient:
		if l.seen&pointA == 0 {
			l.a, l.clientTTL = captureTime, ttl
			l.seen |= pointA
		}
	case kind == ja4.PacketInitial:
		if l.seen&(pointA|pointB) == pointA {
			l.b = captureTime
			l.seen |= pointB
			d.Server = distance(halfMicroseconds(l.a, l.b), ttl)
		}
	case kind == ja4.PacketHandshake && !fromClient:
		l.c = captureTime
		l.seen |= pointC
	case kind == ja4.PacketHandshake:
		if l.seen&(pointA|pointC) == pointA|pointC {
			d.Client = distance(halfMicroseconds(l.c, captureTime), l.clientTTL)
		}
		l.seen |= latencyEnd
	}
	return d
}

// Done reports whether nothing more can come of it, so that its owner can let
// go of it.
func (l *QUICLatency) Done() bool { return l.seen&latencyEnd != 0 }
