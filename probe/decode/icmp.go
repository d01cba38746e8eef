package decode

import "github.com/whorl-net/whorl/flow"

// icmp walks an ICMP or ICMPv6 header. The packet it may quote is not decoded:
// it belongs to another connection, which did not send it here.
func (d *Decoder) icmp(ip *ipHeader, protocol flow.Protocol, b []byte, wire int) Verdict {
	const head = 4
	if len(b) < 2 {
		return short(wire, 2)
	}
	kind := b[0]
	counterparts := &icmp4Counterparts
	if protocol == flow.ICMPv6 {
		counterparts = &icmp6Counterparts
	}
	dst := uint16(b[1])
	if c := counterparts[kind]; c != 0 {
		dst = uint16(c - 1)
	}
	out := d.found(ip, protocol, uint16(kind), dst)
	if len(b) < head {
		return d.incomplete(wire < head)
	}
	out.Payload = b[head:]
	out.PayloadLength = wire - head
	return Tracked
}

// The message types that ask and answer, as Community ID v1 pairs them: 1 +
// the counterpart of each type, 0 for a type that goes one way. A pair has the
// two types for ports, so that both directions are one connection; a one-way
// message has its type and code.
var (
	icmp4Counterparts = pairs([2]uint8{8, 0}, [2]uint8{13, 14}, [2]uint8{15, 16}, [2]uint8{10, 9}, [2]uint8{17, 18})
	icmp6Counterparts = pairs([2]uint8{128, 129}, [2]uint8{133, 134}, [2]uint8{135, 136}, [2]uint8{130, 131},
		[2]uint8{139, 140}, [2]uint8{144, 145})
)

func pairs(of ...[2]uint8) (t [256]uint16) {
	for _, p := range of {
		t[p[0]] = 1 + uint16(p[1])
		t[p[1]] = 1 + uint16(p[0])
	}
	return t
}
