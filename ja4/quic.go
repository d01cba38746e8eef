package ja4

// Versions of QUIC.
const (
	quicNegotiation = 0
	quicV1          = 0x00000001
	quicV2          = 0x6b3343cf
	quicDraft       = 0xff000000 // | number
)

// maxConnectionID is the longest connection id (RFC 9000 section 17.2).
const maxConnectionID = 20

// PacketKind is a kind of QUIC packet. The zero PacketKind is none.
type PacketKind uint8

// The kinds. PacketShort is a packet with a short header (1-RTT).
const (
	PacketInitial PacketKind = iota + 1
	PacketZeroRTT
	PacketHandshake
	PacketRetry
	PacketVersionNegotiation
	PacketShort
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

// longPacket is a packet with a long header, which aliases the datagram.
type longPacket struct {
	kind    PacketKind
	version uint32
	dst     []byte // connection ids
	src     []byte
	// all is the packet from its first byte to its end; number is where its
	// packet number begins. Both are zero unless kind has a length.
	all    []byte
	number int
}

// parseLong reads the first packet of p, which begins with a long header. It
// reports false when p cannot be one: a version that is not known, lengths
// that are not possible, or a packet that is cut short.
func parseLong(p []byte) (longPacket, bool) {
	r := reader{rest: p}
	first := r.uint8()
	l := longPacket{version: r.uint32()}
	l.dst, l.src = r.vector8(), r.vector8()
	if r.short || first&0x80 == 0 {
		return l, false
	}
	if l.version == quicNegotiation {
		l.kind = PacketVersionNegotiation
		return l, true
	}
	if !knownVersion(l.version) || len(l.dst) > maxConnectionID || len(l.src) > maxConnectionID {
		return l, false
	}
	l.kind = longKind(l.version, first)
	switch l.kind {
	case PacketRetry: // no length: it fills the datagram
		return l, true
	case PacketInitial:
		token := r.varint()
		if token > uint64(len(r.rest)) {
			return l, false
		}
		r.skip(int(token))
	}
	length := r.varint()
	if r.short || length > uint64(len(r.rest)) {
		return l, false
	}
	l.number = len(p) - len(r.rest)
	l.all = p[:l.number+int(length)]
	return l, true
}

// longKind returns the kind in the type bits, which version 2 has turned by
// one (RFC 9369 section 3.2).
func longKind(version uint32, first byte) PacketKind {
	bits := first >> 4 & 3
	if version == quicV2 {
		bits = (bits - 1) & 3
	}
	return PacketInitial + PacketKind(bits)
}

func knownVersion(v uint32) bool {
	return v == quicV1 || v == quicV2 || v >= quicDraft|23 && v <= quicDraft|34
}

// LooksLikeQUIC reports whether p can be the first datagram of a QUIC
// connection: an Initial packet of a known version with possible lengths. It
// decrypts nothing.
func LooksLikeQUIC(p []byte) bool {
	if len(p) < 7 || p[0]&0x80 == 0 {
		return false
	}
	l, ok := parseLong(p)
	return ok && l.kind == PacketInitial
}
