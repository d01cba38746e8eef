package decode

import (
	"encoding/binary"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// common decodes what nearly all packets are: Ethernet without tags, an IP
// header without options, neither fragment nor tunnel, and a whole TCP or UDP
// header, nothing of which contradicts anything. It fills out and reports true,
// or reports false, and the packet is left to those who know all headers. Where both can answer they give the same answer; FuzzCommon compares
// them. It takes a third of the time.
func (d *Decoder) common(in *capture.Packet, out *Packet) bool {
	const link, ip4Head, ip6Head, tcpHead, udpHead = 14, 20, 40, 20, 8
	b := in.Data
	if in.LinkType != capture.Ethernet || len(b) < link+ip4Head+udpHead {
		return false
	}
	wire := max(int(min(in.WireLength, maxFrame)), len(b)) - link
	var protocol flow.Protocol
	switch ip := b[link:]; {
	case b[12] == etherIPv4>>8 && b[13] == etherIPv4&0xff && ip[0] == 0x45:
		total := int(be16(ip[2:]))
		if be16(ip[6:])&0x3fff != 0 || total < ip4Head || total > wire {
			return false
		}
		protocol = flow.Protocol(ip[9])
		out.TTL, out.IPv6 = ip[8], false
		set4(&out.Tuple.Src, ip[12:])
		set4(&out.Tuple.Dst, ip[16:])
		wire = total - ip4Head
		b = ip[ip4Head:min(total, len(ip))]
	case b[12] == etherIPv6>>8 && b[13] == etherIPv6&0xff && ip[0]>>4 == 6 && len(ip) >= ip6Head:
		length := int(be16(ip[4:]))
		if length == 0 || length > wire-ip6Head {
			return false
		}
		protocol = flow.Protocol(ip[6])
		out.TTL, out.IPv6 = ip[7], true
		out.Tuple.Src = flow.Addr(ip[8:24])
		out.Tuple.Dst = flow.Addr(ip[24:40])
		wire = length
		b = ip[ip6Head:min(ip6Head+length, len(ip))]
	default:
		return false
	}
	switch protocol {
	case flow.TCP:
		if len(b) < tcpHead {
			return false
		}
		head := int(b[12]>>4) * 4
		if head < tcpHead || head > len(b) {
			return false
		}
		out.TCPFlags = b[13]
		out.Window = be16(b[14:])
		out.Seq, out.Ack = be32(b[4:]), be32(b[8:])
		out.TCPOptions = b[tcpHead:head:head]
		out.Payload, out.PayloadLength = b[head:], wire-head
	case flow.UDP:
		if len(b) < udpHead {
			return false
		}
		if tunnelPort(be16(b), be16(b[2:])) != noTunnel {
			return false
		}
		length := int(be16(b[4:]))
		if length < udpHead || length > wire {
			return false
		}
		out.TCPFlags, out.Window, out.Seq, out.Ack, out.TCPOptions = 0, 0, 0, 0, nil
		out.Payload, out.PayloadLength = b[udpHead:min(length, len(b))], length-udpHead
	default:
		return false
	}
	out.Tuple.SrcPort, out.Tuple.DstPort, out.Tuple.Protocol = be16(b), be16(b[2:]), protocol
	out.Time, out.WireLength = in.Time, in.WireLength
	out.Fragment, out.Held, out.TCPCut = false, nil, false
	return true
}

// set4 makes a the mapped form of the IPv4 address at the beginning of b, in two
// words.
func set4(a *flow.Addr, b []byte) {
	binary.LittleEndian.PutUint64(a[:], 0)
	binary.LittleEndian.PutUint64(a[8:], 0xffff_0000|uint64(binary.LittleEndian.Uint32(b))<<32)
}
