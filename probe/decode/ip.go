package decode

import "github.com/whorl-net/whorl/flow"

// IP protocol numbers that are not transports of ours.
const (
	protoHopByHop    = 0
	protoIPv4        = 4
	protoIPv6        = 41
	protoRouting     = 43
	protoFragment    = 44
	protoGRE         = 47
	protoAH          = 51
	protoDestination = 60
	protoNone        = 59
	protoEtherIP     = 97
	protoMobility    = 135
	protoMPLS        = 137
	protoHIP         = 139
	protoShim6       = 140
)

// ipHeader is what an IP header says about what it carries.
type ipHeader struct {
	src, dst flow.Addr
	ttl      uint8
	v6       bool
}

// ip4 walks an IPv4 header.
func (d *Decoder) ip4(b []byte, wire int) Verdict {
	if len(b) < 20 {
		return short(wire, 20)
	}
	head := int(b[0]&15) * 4
	if b[0]>>4 != 4 || head < 20 {
		return Malformed
	}
	total := int(be16(b[2:]))
	if total < head {
		// A zero is what segmentation offload leaves of lengths that the
		// network card fills in. Frames so short that they may be padded need
		// no offload.
		if total != 0 || wire <= 46 {
			return Malformed
		}
		total = wire
	}
	if total < wire { // Ethernet padding, or a trailer behind it
		wire = total
		if len(b) > wire {
			b = b[:wire]
		}
	}
	if len(b) < head {
		return short(wire, head)
	}
	ip := ipHeader{ttl: b[8]}
	ip.src = flow.AddrFrom4([4]byte(b[12:16]))
	ip.dst = flow.AddrFrom4([4]byte(b[16:20]))
	protocol, offset := b[9], be16(b[6:])
	if offset&0x3fff != 0 { // more fragments, or not the first
		key := fragmentKey{src: ip.src, dst: ip.dst, id: uint32(be16(b[4:])), protocol: protocol}
		return d.fragment(&ip, key, protocol, int(offset&0x1fff)*8, offset&0x2000 != 0, b[head:], wire-head)
	}
	return d.transport(&ip, protocol, b[head:], wire-head)
}

// ip6 walks an IPv6 header.
func (d *Decoder) ip6(b []byte, wire int) Verdict {
	const head = 40
	if len(b) < head {
		return short(wire, head)
	}
	if b[0]>>4 != 6 {
		return Malformed
	}
	length, next := int(be16(b[4:])), b[6]
	ip := ipHeader{ttl: b[7], v6: true}
	ip.src = flow.Addr(b[8:24])
	ip.dst = flow.Addr(b[24:40])
	b, wire = b[head:], wire-head
	// A zero is a jumbogram (RFC 2675: its length is in a hop-by-hop option),
	// or a long packet that segmentation offload has not given its length yet.
	jumbo := length == 0 && wire > 0xffff
	if length < wire && !jumbo {
		wire = length
		b = b[:min(len(b), wire)]
	}
	return d.extensions(&ip, next, b, wire)
}

// extensions walks the headers between IPv6 and the transport (and the
// authentication header, which IPv4 has too). Routing headers do not change the
// destination: it is the one the packet has on this wire.
func (d *Decoder) extensions(ip *ipHeader, next uint8, b []byte, wire int) Verdict {
	for {
		var length int
		switch next {
		case protoHopByHop, protoRouting, protoDestination, protoMobility, protoHIP, protoShim6:
			if len(b) < 8 {
				return short(wire, 8)
			}
			length = (int(b[1]) + 1) * 8
		case protoAH:
			if len(b) < 8 {
				return short(wire, 8)
			}
			length = (int(b[1]) + 2) * 4
		case protoFragment:
			return d.fragmentHeader(ip, b, wire)
		default:
			return d.transport(ip, next, b, wire)
		}
		if !d.enter() {
			return Malformed
		}
		if len(b) < length {
			return short(wire, length)
		}
		next, b, wire = b[0], b[length:], wire-length
		if !ip.v6 {
			return d.transport(ip, next, b, wire)
		}
	}
}

// fragmentHeader walks an IPv6 fragment header. An atomic fragment is whole
// (RFC 6946).
func (d *Decoder) fragmentHeader(ip *ipHeader, b []byte, wire int) Verdict {
	if len(b) < 8 {
		return short(wire, 8)
	}
	if !d.enter() {
		return Malformed
	}
	next, offset, id := b[0], be16(b[2:]), be32(b[4:])
	b, wire = b[8:], wire-8
	if offset&0xfff9 == 0 {
		return d.extensions(ip, next, b, wire)
	}
	key := fragmentKey{src: ip.src, dst: ip.dst, id: id, v6: true}
	return d.fragment(ip, key, next, int(offset&0xfff8), offset&1 != 0, b, wire)
}
