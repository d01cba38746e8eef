package ja4plus

import "strconv"

// TCP flags as in the low 8 bits of the header (RFC 9293 section 3.1).
const (
	flagSYN uint8 = 0x02
	flagRST uint8 = 0x04
	flagACK uint8 = 0x10
)

// Distances are the light distances that one packet completes. A string is
// empty when the packet completes none.
type Distances struct {
	// Client is a JA4L, Server a JA4LS: microseconds, TTL and, in the longer
	// form, the microseconds of the first exchange of the application.
	Client, Server string
}

// The points of time of a TCP connection. A value is as in seen.
const (
	pointA     uint8 = 1 << iota // first SYN
	pointB                       // first SYN-ACK
	pointC                       // first packet of the client that answers B
	pointD                       // first payload of the client behind C
	pointE                       // first payload of the server behind D
	latencyEnd                   // nothing more can come
)

// TCPLatency measures the light distances of one TCP connection: half the time
// from the server's SYN-ACK to the client's answer is what light needs between
// the point of capture and the client at most (JA4L), half the time from SYN
// to SYN-ACK the same for the server (JA4LS). The longer form of each adds half
// the time that the first exchange of data takes.
//
// The zero TCPLatency is ready for use. It has 32 bytes and no references;
// nothing but the returned strings is allocated. Not safe for concurrent use.
//
// Source: FoxIO's JA4L sheet and its withdrawn text. Of repeated packets the
// first counts. Differences are whole durations, not only their part below a
// second. A negative difference, from packets captured out of order, gives no
// value.
type TCPLatency struct {
	// Before C, server and client are the capture times of A and B in
	// nanoseconds; from C on half of the times from A to B and from B to C in
	// microseconds, negative when there is none. at is the capture time of D,
	// then of E.
	server, client, at   int64
	clientTTL, serverTTL uint8
	seen                 uint8
}

// Packet takes the next packet of the connection, in order of capture: who
// sent it, the low 8 flag bits of its TCP header, the length of its payload in
// bytes, its capture time in nanoseconds and the IPv4 TTL or IPv6 hop limit of
// the IP header around the TCP header.
func (l *TCPLatency) Packet(fromClient bool, flags uint8, payloadBytes int, captureTime int64, ttl uint8) Distances {
	switch {
	case l.seen&latencyEnd != 0:
	case flags&flagSYN != 0:
		l.open(fromClient, flags, captureTime, ttl)
	case l.seen&pointC != 0:
		if payloadBytes > 0 {
			return l.exchange(fromClient, captureTime)
		}
	case l.seen&pointB != 0 && fromClient && flags&flagACK != 0:
		l.seen |= pointC
		return l.handshake(captureTime)
	case payloadBytes > 0 && l.seen&(pointA|pointB) == 0:
		l.seen = latencyEnd // data before any SYN: the handshake was missed
	}
	return Distances{}
}

// Done reports whether nothing more can come of it, so that its owner can let
// go of it.
func (l *TCPLatency) Done() bool { return l.seen&latencyEnd != 0 }

// open takes a packet with SYN. A and B may be captured in either order.
func (l *TCPLatency) open(fromClient bool, flags uint8, captureTime int64, ttl uint8) {
	switch {
	case flags&flagRST != 0:
	case fromClient && flags&flagACK == 0 && l.seen&pointA == 0:
		l.server, l.clientTTL = captureTime, ttl
		l.seen |= pointA
	case !fromClient && flags&flagACK != 0 && l.seen&pointB == 0:
		l.client, l.serverTTL = captureTime, ttl
		l.seen |= pointB
	}
}

// handshake returns the two-part values, at C.
func (l *TCPLatency) handshake(c int64) (d Distances) {
	if l.seen&pointA == 0 {
		l.seen |= latencyEnd
		return d
	}
	a, b := l.server, l.client
	l.server, l.client = halfMicroseconds(a, b), halfMicroseconds(b, c)
	return Distances{Client: distance(l.client, l.clientTTL), Server: distance(l.server, l.serverTTL)}
}

// exchange takes a packet with payload behind C and returns the three-part
// values, JA4LS at E and JA4L at F. Who speaks first does not matter: D is the
// client's first payload also where the server greets.
func (l *TCPLatency) exchange(fromClient bool, captureTime int64) (d Distances) {
	switch {
	case fromClient && l.seen&pointD == 0:
		l.at = captureTime
		l.seen |= pointD
	case !fromClient && l.seen&(pointD|pointE) == pointD:
		d.Server = exchangeDistance(l.server, l.serverTTL, halfMicroseconds(l.at, captureTime))
		l.at = captureTime
		l.seen |= pointE
	case fromClient && l.seen&pointE != 0:
		d.Client = exchangeDistance(l.client, l.clientTTL, halfMicroseconds(l.at, captureTime))
		l.seen |= latencyEnd
	}
	return d
}

// distance returns half a time in microseconds and the TTL; "" for one below 0.
func distance(half int64, ttl uint8) string {
	if half < 0 {
		return ""
	}
	var b [24]byte
	return string(appendDistance(b[:0], half, ttl))
}

// exchangeDistance returns a distance with its third part.
func exchangeDistance(half int64, ttl uint8, exchange int64) string {
	if half < 0 || exchange < 0 {
		return ""
	}
	var b [44]byte
	dst := appendDistance(b[:0], half, ttl)
	dst = append(dst, '_')
	return string(strconv.AppendInt(dst, exchange, 10))
}

func appendDistance(b []byte, half int64, ttl uint8) []byte {
	b = strconv.AppendInt(b, half, 10)
	b = append(b, '_')
	return strconv.AppendUint(b, uint64(ttl), 10)
}

// halfMicroseconds returns half of to-from in microseconds, rounded down, and
// -1 when to is before from. The difference of any two times fits 64 bits
// unsigned, and half of it in microseconds 63.
func halfMicroseconds(from, to int64) int64 {
	if to < from {
		return -1
	}
	return int64((uint64(to) - uint64(from)) / 2000)
}
