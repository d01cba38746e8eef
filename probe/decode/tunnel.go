package decode

import "github.com/whorl-net/whorl/flow"

// tunnel walks a tunnel without ports: the protocol number says that it is one.
func (d *Decoder) tunnel(ip *ipHeader, protocol uint8, b []byte, wire int) Verdict {
	if !d.open() {
		d.found(ip, flow.Protocol(protocol), 0, 0)
		return Tracked
	}
	v := Malformed
	switch {
	case !d.enter():
	case protocol == protoIPv4:
		v = d.ip4(b, wire)
	case protocol == protoIPv6:
		v = d.ip6(b, wire)
	case protocol == protoGRE:
		v = d.gre(b, wire)
	case protocol == protoMPLS:
		v = d.mpls(b, wire)
	case protocol == protoEtherIP:
		v = d.etherIP(b, wire)
	}
	d.depth--
	if v == NonIP {
		return IPOther // around it is IP, after all
	}
	return v
}

// open goes into a tunnel, if it may; the caller takes d.depth back.
func (d *Decoder) open() bool {
	if d.outer {
		return false
	}
	if d.depth == maxDepth {
		if !d.partial {
			d.stats.DepthExceeded++
		}
		return false
	}
	d.depth++
	return true
}

// etherIP walks an EtherIP header (RFC 3378).
func (d *Decoder) etherIP(b []byte, wire int) Verdict {
	if len(b) < 2 {
		return short(wire, 2)
	}
	if b[0]>>4 != 3 {
		return IPOther
	}
	return d.ethernet(b[2:], wire-2)
}

// gre walks a GRE header: version 0 (RFC 2784, 2890) and 1 (PPTP, RFC 2637).
func (d *Decoder) gre(b []byte, wire int) Verdict {
	const checksum, routing, key, sequence, ack = 0x8000, 0x4000, 0x2000, 0x1000, 0x0080
	if len(b) < 4 {
		return short(wire, 4)
	}
	flags, t := be16(b), be16(b[2:])
	version := flags & 7
	if version > 1 || flags&routing != 0 {
		return IPOther
	}
	head := 4
	for _, f := range [...]uint16{checksum, key, sequence} {
		if flags&f != 0 {
			head += 4
		}
	}
	if version == 1 {
		if flags&ack != 0 {
			head += 4
		}
		if flags&sequence == 0 || t != etherPPP {
			return IPOther // an acknowledgement alone
		}
	}
	if len(b) < head {
		return short(wire, head)
	}
	b, wire = b[head:], wire-head
	switch t {
	case etherERSPAN:
		if flags&sequence == 0 {
			return d.ethernet(b, wire) // type I has no header
		}
		return d.erspan(b, wire)
	case etherERSPAN3:
		return d.erspan(b, wire)
	}
	return d.etherType(t, b, wire)
}

// erspan walks an ERSPAN header of type II or III
// (draft-foschiano-erspan).
func (d *Decoder) erspan(b []byte, wire int) Verdict {
	if len(b) < 8 {
		return short(wire, 8)
	}
	switch b[0] >> 4 {
	case 1:
		return d.ethernet(b[8:], wire-8)
	case 2:
		head := 12
		if len(b) < head {
			return short(wire, head)
		}
		if b[11]&1 != 0 { // a platform specific subheader
			head += 8
		}
		if len(b) < head {
			return short(wire, head)
		}
		frame := b[10] >> 2 & 31
		switch b, wire = b[head:], wire-head; frame {
		case 0:
			return d.ethernet(b, wire)
		case 2:
			return d.rawIP(b, wire)
		}
	}
	return IPOther
}

// tunnelKind is a tunnel in UDP.
type tunnelKind uint8

const (
	noTunnel tunnelKind = iota
	vxlan
	geneve
	gtpUser
	l2tp
	teredo
	mplsUDP
)

// tunnelPort returns the tunnel that either port may mean.
func tunnelPort(src, dst uint16) tunnelKind {
	if k := tunnelOf(dst); k != noTunnel {
		return k
	}
	return tunnelOf(src)
}

func tunnelOf(port uint16) tunnelKind {
	switch port {
	case 4789, 8472, 4790: // IANA, Linux before it, GPE
		return vxlan
	case 6081:
		return geneve
	case 2152:
		return gtpUser
	case 1701:
		return l2tp
	case 3544:
		return teredo
	case 6635: // RFC 7510
		return mplsUDP
	}
	return noTunnel
}

// udpTunnel walks the payload of a UDP packet to a tunnel port. Any client may
// use such a port for something else, so it returns NonIP unless what is inside
// proves that it is the tunnel; the packet is then a UDP packet of its own. So
// is one whose inner headers were not captured: it must count somewhere.
func (d *Decoder) udpTunnel(kind tunnelKind, b []byte, wire int) Verdict {
	if !d.open() {
		return NonIP
	}
	v := Malformed
	switch {
	case !d.enter():
	case kind == vxlan:
		v = d.vxlan(b, wire)
	case kind == geneve:
		v = d.geneve(b, wire)
	case kind == gtpUser:
		v = d.gtpUser(b, wire)
	case kind == l2tp:
		v = d.l2tp(b, wire)
	case kind == teredo:
		v = d.teredo(b, wire)
	case kind == mplsUDP:
		v = d.mpls(b, wire)
	}
	d.depth--
	if v.recognised() || v == Truncated && d.partial {
		return v
	}
	return NonIP
}

// vxlan walks a VXLAN header (RFC 7348), also of the generic protocol
// extension.
func (d *Decoder) vxlan(b []byte, wire int) Verdict {
	const head, hasNetwork, hasProtocol = 8, 0x08, 0x04
	if len(b) < head {
		return short(wire, head)
	}
	flags, next := b[0], b[3]
	if flags&hasNetwork == 0 {
		return NonIP
	}
	b, wire = b[head:], wire-head
	if t, known := nextProtocol(next); known && flags&hasProtocol != 0 {
		return d.etherType(t, b, wire)
	}
	return d.ethernet(b, wire)
}

// l2tp walks the header of an L2TP data message (RFC 2661 section 3.1). Control
// messages are no tunnel.
func (d *Decoder) l2tp(b []byte, wire int) Verdict {
	const control, hasLength, hasSequence, hasOffset, version = 0x8000, 0x4000, 0x0800, 0x0200, 2
	if len(b) < 6 {
		return short(wire, 6)
	}
	flags := be16(b)
	if flags&control != 0 || flags&0xf != version {
		return NonIP
	}
	head := 6
	if flags&hasLength != 0 {
		head += 2
	}
	if flags&hasSequence != 0 {
		head += 4
	}
	if flags&hasOffset != 0 {
		if len(b) < head+2 {
			return short(wire, head+2)
		}
		head += 2 + int(be16(b[head:]))
	}
	if len(b) < head {
		return short(wire, head)
	}
	return d.ppp(b[head:], wire-head)
}

// teredo walks what may stand before IPv6 in Teredo: who the sender is, and
// where it seems to be (RFC 4380 sections 5.1.1 and 5.2.9).
func (d *Decoder) teredo(b []byte, wire int) Verdict {
	const authentication, origin = 1, 0
	if len(b) >= 4 && be16(b) == authentication {
		head := 4 + int(b[2]) + int(b[3]) + 8 + 1
		if len(b) < head {
			return short(wire, head)
		}
		b, wire = b[head:], wire-head
	}
	if len(b) >= 2 && be16(b) == origin {
		if len(b) < 8 {
			return short(wire, 8)
		}
		b, wire = b[8:], wire-8
	}
	return d.ip6(b, wire)
}

// geneve walks a Geneve header and its options (RFC 8926).
func (d *Decoder) geneve(b []byte, wire int) Verdict {
	if len(b) < 8 {
		return short(wire, 8)
	}
	if b[0]>>6 != 0 {
		return NonIP
	}
	head, t := 8+int(b[0]&0x3f)*4, be16(b[2:])
	if len(b) < head {
		return short(wire, head)
	}
	return d.etherType(t, b[head:], wire-head)
}

// gtpUser walks a GTPv1 user plane header with its extensions (3GPP TS 29.281).
// Only what carries a user's packet is a tunnel; echoes and errors are not.
func (d *Decoder) gtpUser(b []byte, wire int) Verdict {
	const userPacket, anyOptional, hasExtension, maxExtensions = 255, 0x07, 0x04, 8
	if len(b) < 8 {
		return short(wire, 8)
	}
	flags := b[0]
	if flags>>4 != 0x3 || b[1] != userPacket { // version 1, not GTP'
		return NonIP
	}
	b, wire = b[8:], wire-8
	if flags&anyOptional != 0 {
		if len(b) < 4 {
			return short(wire, 4)
		}
		next := b[3]
		b, wire = b[4:], wire-4
		if flags&hasExtension == 0 {
			next = 0
		}
		for n := 0; next != 0; n++ {
			if len(b) < 4 {
				return short(wire, 4)
			}
			length := int(b[0]) * 4
			if length == 0 || n == maxExtensions {
				return Malformed
			}
			if len(b) < length {
				return short(wire, length)
			}
			next, b, wire = b[length-1], b[length:], wire-length
		}
	}
	return d.rawIP(b, wire)
}
