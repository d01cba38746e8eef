// Package quicpacket reads QUIC packets: the headers that are in clear, the
// protection of what is not, and the frames inside. It keeps no connection:
// who sent what, and which keys exist, is its caller's business.
package quicpacket

import "github.com/whorl-net/whorl/ja4/internal/wire"

// Versions of QUIC.
const (
	Negotiation = 0
	V1          = 0x00000001
	V2          = 0x6b3343cf
	Draft       = 0xff000000 // | number
)

// MaxConnectionID is the longest connection id (RFC 9000 section 17.2).
const MaxConnectionID = 20

// Kind is a kind of packet. The zero Kind is none.
type Kind uint8

// The kinds; the first four in the order of their type bits.
const (
	Initial Kind = iota + 1
	ZeroRTT
	Handshake
	Retry
	VersionNegotiation
	Short
)

// Known reports whether a version is one whose packets can be read.
func Known(version uint32) bool {
	return version == V1 || version == V2 || version >= Draft|23 && version <= Draft|34
}

// Packet is a packet with a long header, or one with a short header whose
// connection id has a known length. It aliases the datagram.
type Packet struct {
	Kind    Kind
	Version uint32 // 0 with a short header
	Dst     []byte // connection ids
	Src     []byte
	// All is the packet from its first byte to its end; Number is where its
	// packet number begins. Retry and VersionNegotiation have neither.
	All    []byte
	Number int
}

// ParseLong reads the first packet of p, which begins with a long header. It
// reports false when p cannot be one: a version that is not known, lengths
// that are not possible, or a packet that is cut short.
func ParseLong(p []byte) (Packet, bool) {
	r := wire.Reader{Rest: p}
	first := r.Uint8()
	l := Packet{Version: r.Uint32()}
	l.Dst, l.Src = r.Vector8(), r.Vector8()
	if r.Short || first&0x80 == 0 {
		return l, false
	}
	if l.Version == Negotiation {
		l.Kind = VersionNegotiation
		return l, true
	}
	if !Known(l.Version) || len(l.Dst) > MaxConnectionID || len(l.Src) > MaxConnectionID {
		return l, false
	}
	l.Kind = longKind(l.Version, first)
	switch l.Kind {
	case Retry: // no length: it fills the datagram
		return l, true
	case Initial:
		token := r.Varint()
		if token > uint64(len(r.Rest)) {
			return l, false
		}
		r.Skip(int(token))
	}
	length := r.Varint()
	if r.Short || length > uint64(len(r.Rest)) {
		return l, false
	}
	l.Number = len(p) - len(r.Rest)
	l.All = p[:l.Number+int(length)]
	return l, true
}

// ParseShort reads p as one packet with a short header and a connection id of
// the given length.
func ParseShort(p []byte, connectionID int) (Packet, bool) {
	if len(p) < 1+connectionID || p[0]&0xc0 != 0x40 {
		return Packet{}, false
	}
	return Packet{Kind: Short, Dst: p[1 : 1+connectionID], All: p, Number: 1 + connectionID}, true
}

// longKind returns the kind in the type bits, which version 2 has turned by
// one (RFC 9369 section 3.2).
func longKind(version uint32, first byte) Kind {
	bits := first >> 4 & 3
	if version == V2 {
		bits = (bits - 1) & 3
	}
	return Initial + Kind(bits)
}
