package ja4

import "github.com/whorl-net/whorl/ja4/internal/quicpacket"

// PacketKind is a kind of QUIC packet. The zero PacketKind is none.
type PacketKind uint8

// The kinds. PacketShort is a packet with a short header (1-RTT).
const (
	PacketInitial            = PacketKind(quicpacket.Initial)
	PacketZeroRTT            = PacketKind(quicpacket.ZeroRTT)
	PacketHandshake          = PacketKind(quicpacket.Handshake)
	PacketRetry              = PacketKind(quicpacket.Retry)
	PacketVersionNegotiation = PacketKind(quicpacket.VersionNegotiation)
	PacketShort              = PacketKind(quicpacket.Short)
)

var packetKindNames = [...]string{
	"none", "initial", "0-rtt", "handshake", "retry", "version-negotiation", "short",
}

// String returns the lower-case name of the kind, such as "initial".
func (k PacketKind) String() string {
	if int(k) < len(packetKindNames) {
		return packetKindNames[k]
	}
	return "unknown"
}

// maxCoalesced is how many packets of one datagram are looked at.
const maxCoalesced = 8

// QUICPackets are the kinds of the QUIC packets of one datagram, in order.
// The zero QUICPackets is empty.
type QUICPackets struct {
	n     uint8
	kinds [maxCoalesced]PacketKind
}

// Len returns the number of packets, 0 to 8.
func (q *QUICPackets) Len() int { return int(q.n) }

// At returns the kind of packet i; it panics unless 0 <= i < Len.
func (q *QUICPackets) At(i int) PacketKind { return q.kinds[:q.n][i] }

// Has reports whether a packet of kind k is among them.
func (q *QUICPackets) Has(k PacketKind) bool {
	for _, have := range q.kinds[:q.n] {
		if have == k {
			return true
		}
	}
	return false
}

func (q *QUICPackets) add(k PacketKind) {
	q.kinds[q.n] = k
	q.n++
}

// LooksLikeQUIC reports whether p can be the first datagram of a QUIC
// connection: an Initial packet of a known version with possible lengths. It
// decrypts nothing.
func LooksLikeQUIC(p []byte) bool {
	if len(p) < 7 || p[0]&0x80 == 0 {
		return false
	}
	l, ok := quicpacket.ParseLong(p)
	return ok && l.Kind == quicpacket.Initial
}
