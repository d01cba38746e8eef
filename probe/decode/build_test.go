package decode

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// Addresses of the tests: what is inside tunnels, and what is around them.
var (
	inside  = map[bool][2]string{false: {"10.0.0.1", "10.0.0.2"}, true: {"2001:db8::1", "2001:db8::2"}}
	outside = map[bool][2]string{false: {"192.0.2.1", "192.0.2.2"}, true: {"2001:db8:f::1", "2001:db8:f::2"}}
)

const (
	innerTTL = 61
	outerTTL = 200
)

var (
	innerOptions = []byte{2, 4, 5, 0xb4, 4, 2, 0, 0} // MSS, SACK permitted, two End-of-List
	innerPayload = []byte("what it is all about")
)

func tuple(src string, srcPort uint16, dst string, dstPort uint16, p flow.Protocol) flow.Tuple {
	return flow.Tuple{
		Src: flow.AddrFrom(netip.MustParseAddr(src)), SrcPort: srcPort,
		Dst: flow.AddrFrom(netip.MustParseAddr(dst)), DstPort: dstPort, Protocol: p,
	}
}

func innerTuple(v6 bool) flow.Tuple {
	return tuple(inside[v6][0], 40000, inside[v6][1], 443, flow.TCP)
}

// join concatenates byte slices, strings, bytes and big-endian integers.
func join(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		default:
			panic(p)
		}
	}
	return b
}

// ipv4 and ipv6 make an IP header around payload.
func ipv4(addrs [2]string, ttl int, protocol flow.Protocol, payload []byte) []byte {
	src, dst := netip.MustParseAddr(addrs[0]).As4(), netip.MustParseAddr(addrs[1]).As4()
	return join(0x45, 0, uint16(20+len(payload)), uint16(0x1234), uint16(0x4000), ttl, int(protocol), uint16(0), src[:], dst[:], payload)
}

func ipv6(addrs [2]string, ttl int, next flow.Protocol, payload []byte) []byte {
	src, dst := netip.MustParseAddr(addrs[0]).As16(), netip.MustParseAddr(addrs[1]).As16()
	return join(uint32(0x60000000), uint16(len(payload)), int(next), ttl, src[:], dst[:], payload)
}

func ip(v6 bool, addrs map[bool][2]string, ttl int, protocol flow.Protocol, payload []byte) []byte {
	if v6 {
		return ipv6(addrs[true], ttl, protocol, payload)
	}
	return ipv4(addrs[false], ttl, protocol, payload)
}

func etherOf(v6 bool) uint16 {
	if v6 {
		return etherIPv6
	}
	return etherIPv4
}

func ethernet(t uint16, payload []byte) []byte {
	return join("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", t, payload)
}

func udp(src, dst uint16, payload []byte) []byte {
	return join(src, dst, uint16(8+len(payload)), uint16(0), payload)
}

func tcp(src, dst uint16, flags int, options, payload []byte) []byte {
	return join(src, dst, uint32(0x01020304), uint32(0x05060708), (20+len(options))/4<<4, flags, uint16(0xabcd), uint32(0), options, payload)
}

// innermost is the IP packet inside all tunnels.
func innermost(v6 bool) []byte {
	return ip(v6, inside, innerTTL, flow.TCP, tcp(40000, 443, 0x18, innerOptions, innerPayload))
}

// serialize lets gopacket write headers, as an opinion other than ours.
func serialize(tb testing.TB, stack ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

var (
	testEthernet = layers.Ethernet{SrcMAC: net.HardwareAddr("\x02\x00\x00\x00\x00\x01"), DstMAC: net.HardwareAddr("\x02\x00\x00\x00\x00\x02")}
	testIPv4     = layers.IPv4{Version: 4, TTL: outerTTL, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
)

// packetOf is a packet that was captured whole.
func packetOf(link capture.LinkType, data []byte) capture.Packet {
	return capture.Packet{Data: data, Time: 1e18, WireLength: uint32(len(data)), LinkType: link}
}

// decodeOne decodes one packet with a new Decoder and checks that it is counted.
func decodeOne(t *testing.T, c Config, in capture.Packet) (Packet, Verdict) {
	t.Helper()
	d := New(c)
	var out Packet
	v := d.Decode(&in, &out)
	checkSum(t, d.Stats())
	return out, v
}
