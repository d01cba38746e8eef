package decode

import "github.com/whorl-net/whorl/flow"

// transport walks what an IP header carries: a transport, or a tunnel.
func (d *Decoder) transport(ip *ipHeader, protocol uint8, b []byte, wire int) Verdict {
	switch flow.Protocol(protocol) {
	case flow.TCP:
		return d.tcp(ip, b, wire)
	case flow.UDP:
		return d.udp(ip, b, wire)
	case flow.ICMP, flow.ICMPv6:
		return d.icmp(ip, flow.Protocol(protocol), b, wire)
	case flow.SCTP:
		return d.sctp(ip, b, wire)
	}
	switch protocol {
	case protoIPv4, protoIPv6, protoGRE, protoEtherIP, protoMPLS:
		return d.tunnel(ip, protocol, b, wire)
	case protoAH:
		if !ip.v6 {
			return d.extensions(ip, protocol, b, wire)
		}
	}
	return IPOther
}

// found fills in what every tracked packet has.
func (d *Decoder) found(ip *ipHeader, protocol flow.Protocol, srcPort, dstPort uint16) *Packet {
	out := d.out
	out.Tuple.Src = ip.src
	out.Tuple.Dst = ip.dst
	out.Tuple.SrcPort = srcPort
	out.Tuple.DstPort = dstPort
	out.Tuple.Protocol = protocol
	out.TTL = ip.ttl
	out.IPv6 = ip.v6
	return out
}

// tcp walks a TCP header. Four bytes are enough to know the connection.
func (d *Decoder) tcp(ip *ipHeader, b []byte, wire int) Verdict {
	if len(b) < 4 {
		return short(wire, 4)
	}
	out := d.found(ip, flow.TCP, be16(b), be16(b[2:]))
	if len(b) < 20 {
		out.TCPCut = true
		if len(b) >= 8 {
			out.Seq = be32(b[4:])
		}
		if len(b) >= 12 {
			out.Ack = be32(b[8:])
		}
		if len(b) >= 14 {
			out.TCPFlags = b[13]
		}
		if len(b) >= 16 {
			out.Window = be16(b[14:])
		}
		return d.incomplete(wire < 20)
	}
	out.Seq = be32(b[4:])
	out.Ack = be32(b[8:])
	out.TCPFlags = b[13]
	out.Window = be16(b[14:])
	head := int(b[12]>>4) * 4
	if head < 20 || head > wire {
		out.TCPCut = true
		return d.incomplete(true)
	}
	out.PayloadLength = wire - head
	if len(b) < head {
		out.TCPOptions, out.TCPCut = b[20:], true
		return d.incomplete(false)
	}
	out.TCPOptions = b[20:head:head]
	out.Payload = b[head:]
	return Tracked
}

// incomplete counts a tracked packet whose transport header is not all there,
// or broken.
func (d *Decoder) incomplete(broken bool) Verdict {
	switch {
	case d.partial:
	case broken:
		d.stats.HeadersBroken++
	default:
		d.stats.HeadersCut++
	}
	return Tracked
}

// udp walks a UDP header, and the tunnel in it if it is one.
func (d *Decoder) udp(ip *ipHeader, b []byte, wire int) Verdict {
	const head = 8
	if len(b) < 4 {
		return short(wire, 4)
	}
	srcPort, dstPort := be16(b), be16(b[2:])
	if len(b) < head {
		if d.partial && tunnelPort(srcPort, dstPort) != noTunnel {
			return Truncated
		}
		d.found(ip, flow.UDP, srcPort, dstPort)
		return d.incomplete(wire < head)
	}
	length := int(be16(b[4:]))
	if length > 0 && length < head {
		d.found(ip, flow.UDP, srcPort, dstPort)
		return d.incomplete(true)
	}
	// Zero is a jumbogram, or left to the network card. What IP carries
	// behind the datagram is not part of it.
	if length > 0 && length < wire {
		wire = length
		b = b[:min(len(b), wire)]
	}
	b, wire = b[head:], wire-head
	if kind := tunnelPort(srcPort, dstPort); kind != noTunnel {
		if v := d.udpTunnel(kind, b, wire); v != NonIP {
			return v
		}
	}
	out := d.found(ip, flow.UDP, srcPort, dstPort)
	out.Payload = b
	out.PayloadLength = wire
	return Tracked
}

// sctp walks the common header of SCTP.
func (d *Decoder) sctp(ip *ipHeader, b []byte, wire int) Verdict {
	const head = 12
	if len(b) < 4 {
		return short(wire, 4)
	}
	out := d.found(ip, flow.SCTP, be16(b), be16(b[2:]))
	if len(b) < head {
		return d.incomplete(wire < head)
	}
	out.Payload = b[head:]
	out.PayloadLength = wire - head
	return Tracked
}
