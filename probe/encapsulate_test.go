package probe

import (
	"encoding/binary"
	"slices"

	"github.com/whorl-net/whorl/probe/capture"
)

// EtherTypes that the encapsulations use.
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100
	etherQinQ  = 0x88a8
	etherMPLS  = 0x8847
	etherPPPoE = 0x8864
)

// carried is what a link header carries: a packet of some EtherType.
type carried struct {
	ether uint16
	data  []byte // as captured
	wire  int    // its length on the wire
}

// ip reports whether c is an IP packet.
func (c *carried) ip() bool { return c.ether == etherIPv4 || c.ether == etherIPv6 }

// unwrap takes the link header off p, VLAN tags included. It reports false for
// a link that has no EtherType, or one it does not know.
func unwrap(p *capture.Packet) (c carried, ok bool) {
	b, head := p.Data, 0
	switch p.LinkType {
	case capture.Ethernet:
		if len(b) < 14 {
			return c, false
		}
		c.ether, head = binary.BigEndian.Uint16(b[12:]), 14
		for (c.ether == etherVLAN || c.ether == etherQinQ) && len(b) >= head+4 {
			c.ether, head = binary.BigEndian.Uint16(b[head+2:]), head+4
		}
	case capture.LinuxSLL:
		c.ether, head = binary.BigEndian.Uint16(b[14:]), 16
	case capture.SLL2:
		c.ether, head = binary.BigEndian.Uint16(b), 20
	case capture.Null, capture.Loop, capture.Raw:
		if p.LinkType != capture.Raw {
			head = 4
		}
		if len(b) <= head {
			return c, false
		}
		c.ether = map[byte]uint16{4: etherIPv4, 6: etherIPv6}[b[head]>>4]
	}
	c.data, c.wire = b[head:], int(p.WireLength)-head
	return c, c.ether >= 0x600
}

// put is what is written before something: its bytes count on the wire too.
func put(c carried, parts ...any) carried {
	var b []byte
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			b = append(b, byte(part))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, part)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, part)
		case string:
			b = append(b, part...)
		}
	}
	c.wire += len(b)
	c.data = append(b, c.data...)
	return c
}

const stations = "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"

// Headers around a packet. Outer addresses and TTL are none that a capture has.
func putIPv4(c carried, protocol int) carried {
	c = put(c, 0x45, 0, uint16(20+c.wire), uint32(0x12344000), 201, protocol, uint16(0), "\xc6\x33\x64\x01\xc6\x33\x64\x02")
	c.ether = etherIPv4
	return c
}

func putIPv6(c carried, next int) carried {
	c = put(c, uint32(6<<28), uint16(c.wire), next, 202, "\x20\x01\x0d\xb8\x00\x0f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"\x20\x01\x0d\xb8\x00\x0f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02")
	c.ether = etherIPv6
	return c
}

func putUDP(c carried, src, dst uint16) carried {
	return putIPv4(put(c, src, dst, uint16(8+c.wire), uint16(0)), 17)
}

func putEthernet(c carried) carried { return put(c, stations, c.ether) }

// ipProtocol is the number of c in the protocol field of another IP header.
func ipProtocol(c carried) int {
	if c.ether == etherIPv6 {
		return 41
	}
	return 4
}

// encapsulation puts packets into another link or into a tunnel.
type encapsulation struct {
	name string
	link capture.LinkType
	// anyEther says that it can carry more than IP.
	anyEther bool
	wrap     func(c carried) carried
}

// encapsulations are the ways to carry a packet that leave it as it is.
var encapsulations = []encapsulation{
	{"Ethernet", capture.Ethernet, true, putEthernet},
	{"VLAN", capture.Ethernet, true, func(c carried) carried {
		return put(c, stations, uint16(etherVLAN), uint16(0x6064), c.ether)
	}},
	{"QinQ", capture.Ethernet, true, func(c carried) carried {
		return put(c, stations, uint16(etherQinQ), uint16(7), uint16(etherVLAN), uint16(8), c.ether)
	}},
	{"MPLS", capture.Ethernet, false, func(c carried) carried {
		return put(c, stations, uint16(etherMPLS), uint32(1000<<12|64), uint32(1001<<12|0x100|64))
	}},
	{"PPPoE", capture.Ethernet, false, func(c carried) carried {
		return put(c, stations, uint16(etherPPPoE), 0x11, 0, uint16(0x99), uint16(2+c.wire), pppProtocol(c))
	}},
	{"PPP", capture.PPP, false, func(c carried) carried { return put(c, 0xff, 3, pppProtocol(c)) }},
	{"SLL", capture.LinuxSLL, true, func(c carried) carried {
		return put(c, uint16(0), uint16(1), uint16(6), "\x02\x00\x00\x00\x00\x01\x00\x00", c.ether)
	}},
	{"SLL2", capture.SLL2, true, func(c carried) carried {
		return put(c, c.ether, uint16(0), uint32(3), uint16(1), 0, 6, "\x02\x00\x00\x00\x00\x01\x00\x00")
	}},
	{"null", capture.Null, false, func(c carried) carried { return put(c, family(c), 0, 0, 0) }},
	{"loop", capture.Loop, false, func(c carried) carried { return put(c, 0, 0, 0, family(c)) }},
	{"raw IP", capture.Raw, false, func(c carried) carried { return c }},
	{"IPIP and 6in4", capture.Raw, false, func(c carried) carried { return putIPv4(c, ipProtocol(c)) }},
	{"4in6 and 6in6", capture.Raw, false, func(c carried) carried { return putIPv6(c, ipProtocol(c)) }},
	{"GRE", capture.Raw, true, func(c carried) carried { return putIPv4(put(c, uint16(0), c.ether), 47) }},
	{"GRE with key and sequence, on IPv6", capture.Raw, true, func(c carried) carried {
		return putIPv6(put(c, uint16(0x3000), c.ether, uint32(77), uint32(1)), 47)
	}},
	{"Ethernet in GRE", capture.Raw, true, func(c carried) carried {
		return putIPv4(put(putEthernet(c), uint16(0), uint16(0x6558)), 47)
	}},
	{"VXLAN", capture.Ethernet, true, func(c carried) carried {
		return putEthernet(putUDP(put(putEthernet(c), uint32(0x08000000), uint32(42<<8)), 50000, 4789))
	}},
	{"VLAN in VXLAN", capture.Raw, true, func(c carried) carried {
		c = put(c, stations, uint16(etherVLAN), uint16(5), c.ether)
		return putUDP(put(c, uint32(0x08000000), uint32(42<<8)), 50001, 8472)
	}},
	{"Geneve with options", capture.Raw, true, func(c carried) carried {
		return putUDP(put(c, 2, 0, c.ether, uint32(42<<8), uint32(0x01020301), uint32(9)), 50000, 6081)
	}},
	{"Ethernet in Geneve", capture.Raw, true, func(c carried) carried {
		return putUDP(put(putEthernet(c), 0, 0, uint16(0x6558), uint32(42<<8)), 50000, 6081)
	}},
	{"GTP-U", capture.Raw, false, func(c carried) carried {
		return putUDP(put(c, 0x30, 255, uint16(c.wire), uint32(0xabcd)), 2152, 2152)
	}},
	{"GTP-U with extension", capture.Raw, false, func(c carried) carried {
		return putUDP(put(c, 0x34, 255, uint16(8+c.wire), uint32(0xabcd), uint16(0), 0, 0x85, 1, 0x10, 9, 0), 2152, 2152)
	}},
}

func pppProtocol(c carried) uint16 {
	if c.ether == etherIPv6 {
		return 0x57
	}
	return 0x21
}

// family is the address family of BSD loopback.
func family(c carried) int {
	if c.ether == etherIPv6 {
		return 30
	}
	return 2
}

// apply returns packets as e carries them, and how many it carries; those that
// it cannot are as they were.
func (e *encapsulation) apply(packets []capture.Packet) (out []capture.Packet, n int) {
	out = slices.Clone(packets)
	for i := range out {
		c, ok := unwrap(&out[i])
		if !ok || !c.ip() && !e.anyEther || c.wire > 65000 {
			continue
		}
		c = e.wrap(c)
		out[i].Data, out[i].WireLength, out[i].LinkType = c.data, uint32(c.wire), e.link
		n++
	}
	return out, n
}

// fragmented cuts every IPv4 packet that is not a fragment in two, and sends
// the second half first if told so. It returns how many it cut.
func fragmented(packets []capture.Packet, backFirst bool) (out []capture.Packet, n int) {
	const at = 24 // bytes of the first half: less than options and payload of a segment
	for i := range packets {
		p := packets[i]
		c, ok := unwrap(&p)
		if ok && c.ether == etherIPv4 && len(c.data) == c.wire {
			// Packets that may not be fragmented need no number of their own
			// (RFC 6864); these do.
			if first, second, ok := halves(c.data, at, uint16(n+1)); ok {
				if backFirst {
					first, second = second, first
				}
				for _, half := range [][]byte{first, second} {
					p.Data, p.WireLength, p.LinkType = half, uint32(len(half)), capture.Raw
					out = append(out, p)
				}
				n++
				continue
			}
		}
		out = append(out, p)
	}
	return out, n
}

// halves are the fragments of an IPv4 packet with at bytes in the first and a
// new identification.
func halves(b []byte, at int, id uint16) (first, second []byte, ok bool) {
	if len(b) < 20 {
		return nil, nil, false
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	fragment := binary.BigEndian.Uint16(b[6:])
	if head != 20 || total > len(b) || total < head+at+8 || fragment&0x3fff != 0 {
		return nil, nil, false
	}
	first, second = slices.Clone(b[:head+at]), slices.Concat(b[:head], b[head+at:total])
	for _, half := range [][]byte{first, second} {
		binary.BigEndian.PutUint16(half[2:], uint16(len(half)))
		binary.BigEndian.PutUint16(half[4:], id)
	}
	binary.BigEndian.PutUint16(first[6:], 0x2000)
	binary.BigEndian.PutUint16(second[6:], uint16(at/8))
	return first, second, true
}
