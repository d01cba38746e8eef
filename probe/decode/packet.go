package decode

import "github.com/whorl-net/whorl/flow"

// Packet is what the headers of one packet said. It is filled in place by
// Decoder.Decode; its slices alias the captured bytes (or the decoder's
// reassembly buffer) and are valid until the next Decode.
type Packet struct {
	// Tuple goes from the sender to the receiver of this packet: the innermost
	// TCP, UDP, SCTP or ICMP header and the IP header around it, or the
	// outermost with Config.Outer.
	Tuple flow.Tuple
	// Time and WireLength are those of the captured packet.
	Time       int64
	WireLength uint32
	// TTL is the IPv4 TTL or IPv6 hop limit of the header around the transport.
	TTL uint8
	// IPv6 says that this header is IPv6.
	IPv6 bool
	// Fragment says that this packet is an IP fragment other than the one that
	// completed its datagram. It has a tuple when the ports are known (else the
	// Verdict is Held), and never flags, options or payload.
	Fragment bool
	// Held are fragments that came before and whose verdict was Held then: now
	// their tuple is known, and it is this packet's. Each was one captured
	// packet of this direction of the connection, to be counted once.
	Held []HeldFragment

	// TCPFlags, Window, Seq, Ack and TCPOptions are those of a TCP header, zero otherwise.
	// TCPFlags holds the low 8 flag bits. TCPOptions are the raw option bytes,
	// from byte 20 of the header to its end, as far as captured. TCPCut says that
	// the header was broken or not captured to its end: what is not there is zero,
	// which says nothing of the sender.
	TCPFlags   uint8
	Window     uint16
	Seq, Ack   uint32
	TCPOptions []byte
	TCPCut     bool

	// Payload is the transport payload without link-layer padding, as far as
	// captured; PayloadLength its full length by the IP header (but no more
	// than the packet had on the wire), so a PayloadLength beyond len(Payload)
	// means that the capture was cut short. Of a datagram that came in
	// fragments it is the whole, with the packet that completed it. Both are
	// zero when the transport header is broken or not captured. The payload of ICMP and ICMPv6
	// begins behind type, code and checksum.
	Payload       []byte
	PayloadLength int
}

// HeldFragment is an IP fragment that was captured before its ports were known.
type HeldFragment struct {
	Time       int64
	WireLength uint32
}
