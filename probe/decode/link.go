package decode

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/probe/capture"
)

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4     = 0x0800
	etherARP      = 0x0806
	etherBridge   = 0x6558 // Ethernet, in GRE and Geneve
	etherRARP     = 0x8035
	etherVLAN     = 0x8100
	etherIPv6     = 0x86dd
	etherPPP      = 0x880b // in GRE
	etherMPLS     = 0x8847
	etherMPLSMany = 0x8848 // multicast
	etherPPPoE    = 0x8864
	etherQinQ     = 0x88a8
	etherERSPAN   = 0x88be // types I and II, in GRE
	etherERSPAN3  = 0x22eb
	etherISID     = 0x88e7 // Ethernet, behind a tag of a provider's backbone
	etherNSH      = 0x894f
	etherQinQOld  = 0x9100
	etherQinQOld2 = 0x9200

	etherLeast = 0x0600 // below: the length of an 802.3 frame
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// short is the verdict on a header of need bytes that is not all there: it
// was not on the wire, or it was not captured.
func short(wire, need int) Verdict {
	if wire < need {
		return Malformed
	}
	return Truncated
}

// enter takes one header from the budget of the packet. It reports false when
// there are more than any honest packet has.
func (d *Decoder) enter() bool {
	d.budget--
	return d.budget >= 0
}

// link walks the link header. Here and below b is what was captured from this
// header on, and wire, never less than len(b), how much there was of it.
func (d *Decoder) link(in *capture.Packet) Verdict {
	b := in.Data
	// No frame is longer than maxFrame, whatever a file says.
	wire := max(int(min(in.WireLength, maxFrame)), len(b))
	switch in.LinkType {
	case capture.Ethernet:
		return d.ethernet(b, wire)
	case capture.Raw, capture.RawOld, capture.RawBSD:
		return d.rawIP(b, wire)
	case capture.IPv4:
		return d.ip4(b, wire)
	case capture.IPv6:
		return d.ip6(b, wire)
	case capture.Null, capture.Loop:
		return d.null(b, wire)
	case capture.LinuxSLL:
		if len(b) < 16 {
			return short(wire, 16)
		}
		return d.cooked(be16(b[2:]), be16(b[14:]), b[16:], wire-16)
	case capture.SLL2:
		if len(b) < 20 {
			return short(wire, 20)
		}
		return d.cooked(be16(b[8:]), be16(b), b[20:], wire-20)
	case capture.PPP, capture.PPPHDLC:
		return d.ppp(b, wire)
	case capture.IEEE80211:
		return d.wifi(b, wire, false)
	case capture.Radiotap:
		return d.radiotap(b, wire)
	case capture.PFLog:
		return d.pflog(b, wire)
	}
	if d.stats.Verdicts[UnknownLink] == 0 {
		d.stats.UnknownLink = in.LinkType
	}
	return UnknownLink
}

// rawIP tells the versions of IP apart.
func (d *Decoder) rawIP(b []byte, wire int) Verdict {
	if len(b) == 0 {
		return short(wire, 1)
	}
	switch b[0] >> 4 {
	case 4:
		return d.ip4(b, wire)
	case 6:
		return d.ip6(b, wire)
	}
	return Malformed
}

// null walks the header of BSD loopback: an address family in the byte order
// of the host that captured (DLT_NULL) or of the network (DLT_LOOP). Files mix
// them up, and families are small, so either order is taken for either.
func (d *Decoder) null(b []byte, wire int) Verdict {
	if len(b) < 4 {
		return short(wire, 4)
	}
	family := be32(b)
	if family > 0xffff {
		family = binary.LittleEndian.Uint32(b)
	}
	switch family {
	case 2: // everywhere
		return d.ip4(b[4:], wire-4)
	case 24, 28, 30, 10: // NetBSD and OpenBSD, FreeBSD, macOS, Linux
		return d.ip6(b[4:], wire-4)
	}
	return NonIP
}

// cooked walks what follows a Linux cooked header. hardware is its ARPHRD
// type, protocol an EtherType unless the hardware is of a kind of its own.
func (d *Decoder) cooked(hardware, protocol uint16, b []byte, wire int) Verdict {
	const (
		netlink   = 824
		frameRaw  = 0x0001 // Novell 802.3 without LLC
		frame8022 = 0x0004
	)
	switch {
	case hardware == netlink, protocol == frameRaw:
		return NonIP
	case protocol == frame8022:
		return d.etherType(0, b, wire)
	case protocol < etherLeast:
		return NonIP
	}
	return d.etherType(protocol, b, wire)
}

// ethernet walks an Ethernet frame.
func (d *Decoder) ethernet(b []byte, wire int) Verdict {
	if len(b) < 14 {
		return short(wire, 14)
	}
	return d.etherType(be16(b[12:]), b[14:], wire-14)
}

// etherType walks what an EtherType announces, tags included.
func (d *Decoder) etherType(t uint16, b []byte, wire int) Verdict {
	for {
		switch t {
		case etherIPv4:
			return d.ip4(b, wire)
		case etherIPv6:
			return d.ip6(b, wire)
		case etherARP, etherRARP:
			return ARP
		case etherVLAN, etherQinQ, etherQinQOld, etherQinQOld2:
			if len(b) < 4 {
				return short(wire, 4)
			}
			t, b, wire = be16(b[2:]), b[4:], wire-4
		case etherMPLS, etherMPLSMany:
			return d.mpls(b, wire)
		case etherPPPoE:
			return d.pppoe(b, wire)
		case etherPPP:
			return d.ppp(b, wire)
		case etherNSH:
			return d.nsh(b, wire)
		case etherBridge, etherISID:
			if !d.enter() {
				return Malformed
			}
			if t == etherISID { // IEEE 802.1Q section 9.7
				if len(b) < 4 {
					return short(wire, 4)
				}
				b, wire = b[4:], wire-4
			}
			return d.ethernet(b, wire)
		default:
			if t >= etherLeast {
				return NonIP
			}
			var v Verdict
			if t, v = llc(b, wire); v != Tracked {
				return v
			}
			if t == etherRawIP {
				return d.rawIP(b[3:], wire-3)
			}
			b, wire = b[8:], wire-8
		}
		if !d.enter() {
			return Malformed
		}
	}
}

// nsh walks a Network Service Header (RFC 8300).
func (d *Decoder) nsh(b []byte, wire int) Verdict {
	if len(b) < 8 {
		return short(wire, 8)
	}
	head := int(b[1]&0x3f) * 4
	t, known := nextProtocol(b[3])
	if b[0]>>6 != 0 || head < 8 || !known {
		return NonIP
	}
	if len(b) < head {
		return short(wire, head)
	}
	if !d.enter() {
		return Malformed
	}
	return d.etherType(t, b[head:], wire-head)
}

// nextProtocol returns the EtherType of what NSH (RFC 8300 section 2.2) and the
// generic extension of VXLAN number by themselves.
func nextProtocol(n uint8) (t uint16, known bool) {
	switch n {
	case 1:
		return etherIPv4, true
	case 2:
		return etherIPv6, true
	case 3:
		return etherBridge, true
	case 4:
		return etherNSH, true
	case 5:
		return etherMPLS, true
	}
	return 0, false
}

// etherRawIP stands for IP directly in LLC; it is no EtherType.
const etherRawIP = 0

// llc reads an 802.2 header: the EtherType in the 8 bytes of LLC and SNAP, or
// etherRawIP behind the 3 bytes of LLC. Anything else is NonIP.
func llc(b []byte, wire int) (t uint16, v Verdict) {
	if len(b) < 3 {
		return 0, short(wire, 3)
	}
	switch {
	case b[0] == 0xaa && b[1] == 0xaa && b[2] == 3:
		if len(b) < 8 {
			return 0, short(wire, 8)
		}
		if t = be16(b[6:]); t >= etherLeast && b[3] == 0 && b[4] == 0 && (b[5] == 0 || b[5] == 0xf8) {
			return t, Tracked
		}
	case b[0] == 6 && b[1] == 6 && b[2] == 3:
		return etherRawIP, Tracked
	}
	return 0, NonIP
}

// mpls walks a label stack. What is under it is not said: by the first nibble
// it is IP, or a pseudowire with Ethernet in it, with or without a control word
// (RFC 4385).
func (d *Decoder) mpls(b []byte, wire int) Verdict {
	for bottom := false; !bottom; {
		if len(b) < 4 {
			return short(wire, 4)
		}
		if !d.enter() {
			return Malformed
		}
		bottom = b[2]&1 != 0
		b, wire = b[4:], wire-4
	}
	if len(b) == 0 {
		return short(wire, 1)
	}
	v := NonIP
	switch b[0] >> 4 {
	case 4:
		v = d.ip4(b, wire)
	case 6:
		v = d.ip6(b, wire)
	case 0:
		if len(b) >= 4 {
			v = d.ethernet(b[4:], wire-4)
		}
	}
	if v.recognised() || v == Truncated {
		return v
	}
	// A station's address may begin with any nibble.
	if !d.enter() {
		return Malformed
	}
	if inner := d.ethernet(b, wire); inner.recognised() || inner == Truncated {
		return inner
	}
	return v
}

// recognised reports whether v is proof that the bytes were what they were
// taken for. Where it was a guess, anything else takes the guess back.
func (v Verdict) recognised() bool { return v <= ARP || v == IPOther }

// pppoe walks a PPPoE session header (RFC 2516).
func (d *Decoder) pppoe(b []byte, wire int) Verdict {
	if len(b) < 6 {
		return short(wire, 6)
	}
	if b[0] != 0x11 || b[1] != 0 {
		return NonIP // discovery, or another version
	}
	length := int(be16(b[4:]))
	b, wire = b[6:], wire-6
	if length < wire { // Ethernet padding behind it
		wire = length
		b = b[:min(len(b), wire)]
	}
	return d.ppp(b, wire)
}

// ppp walks a PPP header, which may lack its address and control bytes and the
// first byte of its protocol (RFC 1661 section 6).
func (d *Decoder) ppp(b []byte, wire int) Verdict {
	const ipv4, ipv6, mpls, mplsMany = 0x0021, 0x0057, 0x0281, 0x0283
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		b, wire = b[2:], wire-2
	}
	if len(b) < 2 {
		return short(wire, 2)
	}
	n, protocol := 2, be16(b)
	if b[0]&1 != 0 {
		n, protocol = 1, uint16(b[0])
	}
	if !d.enter() {
		return Malformed
	}
	b, wire = b[n:], wire-n
	switch protocol {
	case ipv4:
		return d.ip4(b, wire)
	case ipv6:
		return d.ip6(b, wire)
	case mpls, mplsMany:
		return d.mpls(b, wire)
	}
	return NonIP
}
