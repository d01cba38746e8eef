package decode

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// An encapsulation puts an IP packet into a frame.
type encapsulation struct {
	name string
	link capture.LinkType
	// wrap puts inner, IPv6 if v6, into a frame. If it has an outer IP header,
	// that is IPv6 if outer6.
	wrap func(inner []byte, v6, outer6 bool) []byte
	// outer is the protocol of that header, 0 if there is none; with the ports
	// if it has some.
	outer            flow.Protocol
	srcPort, dstPort uint16
}

// around is a tunnel: what it puts before the IP packet, in an outer IP packet
// in Ethernet.
func around(name string, protocol flow.Protocol, body func(inner []byte, v6 bool) []byte) encapsulation {
	return encapsulation{name: name, link: capture.Ethernet, outer: protocol, wrap: func(inner []byte, v6, outer6 bool) []byte {
		return ethernet(etherOf(outer6), ip(outer6, outside, outerTTL, protocol, body(inner, v6)))
	}}
}

// aroundUDP is a tunnel in UDP.
func aroundUDP(name string, src, dst uint16, body func(inner []byte, v6 bool) []byte) encapsulation {
	e := around(name, flow.UDP, func(inner []byte, v6 bool) []byte { return udp(src, dst, body(inner, v6)) })
	e.srcPort, e.dstPort = src, dst
	return e
}

// plainFrame is a link header or a tag.
func plainFrame(name string, link capture.LinkType, wrap func(inner []byte, v6 bool) []byte) encapsulation {
	return encapsulation{name: name, link: link, wrap: func(inner []byte, v6, _ bool) []byte { return wrap(inner, v6) }}
}

func choose[T any](v6 bool, four, six T) T {
	if v6 {
		return six
	}
	return four
}

func encapsulations() []encapsulation {
	type inner = []byte
	gre := func(flags uint16, fields string) func(inner, bool) []byte {
		return func(b inner, v6 bool) []byte { return join(flags, etherOf(v6), fields, b) }
	}
	inEther := func(before ...any) func(inner, bool) []byte {
		return func(b inner, v6 bool) []byte { return append(join(before...), ethernet(etherOf(v6), b)...) }
	}
	before := func(head ...any) func(inner, bool) []byte {
		return func(b inner, _ bool) []byte { return append(join(head...), b...) }
	}
	tag := func(head ...any) func(inner, bool) []byte {
		return func(b inner, v6 bool) []byte {
			return join("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", join(head...), etherOf(v6), b)
		}
	}
	snap := func(oui string) func(inner, bool) []byte {
		return func(b inner, v6 bool) []byte {
			return ethernet(uint16(8+len(b)), join("\xaa\xaa\x03", oui, etherOf(v6), b))
		}
	}
	null := func(family4, family6 string) func(inner, bool) []byte {
		return func(b inner, v6 bool) []byte { return join(choose(v6, family4, family6), b) }
	}
	const macs = "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"
	return []encapsulation{
		plainFrame("ethernet", capture.Ethernet, func(b inner, v6 bool) []byte { return ethernet(etherOf(v6), b) }),
		plainFrame("snap", capture.Ethernet, snap("\x00\x00\x00")),
		plainFrame("snap bridge tunnel", capture.Ethernet, snap("\x00\x00\xf8")),
		plainFrame("llc", capture.Ethernet, func(b inner, _ bool) []byte { return ethernet(uint16(3+len(b)), join("\x06\x06\x03", b)) }),
		plainFrame("vlan", capture.Ethernet, tag(uint16(etherVLAN), uint16(7))),
		plainFrame("vlan with llc", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherVLAN), uint16(7), uint16(8+len(b)), "\xaa\xaa\x03\x00\x00\x00", etherOf(v6), b)
		}),
		plainFrame("qinq", capture.Ethernet, tag(uint16(etherQinQ), uint16(7), uint16(etherVLAN), uint16(8))),
		plainFrame("qinq 9100", capture.Ethernet, tag(uint16(etherQinQOld), uint16(7), uint16(etherVLAN), uint16(8))),
		plainFrame("eight tags", capture.Ethernet, tag(bytes.Repeat([]byte{0x81, 0, 0, 1}, 8))),
		plainFrame("mpls", capture.Ethernet, before(macs, uint16(etherMPLS), uint32(0x00010140))),
		plainFrame("mpls stack", capture.Ethernet, before(macs, uint16(etherMPLSMany), uint32(0x00010040), uint32(0x00020040), uint32(0x00030140))),
		plainFrame("pseudowire", capture.Ethernet, inEther(macs, uint16(etherMPLS), uint32(0x00010140))),
		plainFrame("pseudowire with control word", capture.Ethernet, inEther(macs, uint16(etherMPLS), uint32(0x00010140), uint32(0))),
		plainFrame("pseudowire to a station at 4…", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherMPLS), uint32(0x00010140), "\x44", ethernet(etherOf(v6), b)[1:])
		}),
		plainFrame("pppoe", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherPPPoE), "\x11\x00\x00\x01", uint16(2+len(b)), choose(v6, uint16(0x21), 0x57), b)
		}),
		plainFrame("pppoe, short protocol", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherPPPoE), "\x11\x00\x00\x01", uint16(1+len(b)), choose(v6, 0x21, 0x57), b)
		}),
		plainFrame("pppoe with mpls", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherPPPoE), "\x11\x00\x00\x01", uint16(8+len(b)), "\xff\x03", uint16(0x281), uint32(0x00010140), b)
		}),
		plainFrame("null, BSD", capture.Null, null("\x02\x00\x00\x00", "\x1c\x00\x00\x00")),
		plainFrame("null, big-endian", capture.Null, null("\x00\x00\x00\x02", "\x00\x00\x00\x18")),
		plainFrame("null, macOS", capture.Null, null("\x02\x00\x00\x00", "\x1e\x00\x00\x00")),
		plainFrame("null, Linux", capture.Null, null("\x02\x00\x00\x00", "\x0a\x00\x00\x00")),
		plainFrame("loop", capture.Loop, null("\x00\x00\x00\x02", "\x00\x00\x00\x18")),
		plainFrame("raw", capture.Raw, before()),
		plainFrame("raw 12", capture.RawOld, before()),
		plainFrame("raw 14", capture.RawBSD, before()),
		plainFrame("sll", capture.LinuxSLL, func(b inner, v6 bool) []byte {
			return join("\x00\x00\x00\x01\x00\x06\x01\x02\x03\x04\x05\x06\x00\x00", etherOf(v6), b)
		}),
		plainFrame("sll with vlan", capture.LinuxSLL, func(b inner, v6 bool) []byte {
			return join("\x00\x00\x00\x01\x00\x06\x01\x02\x03\x04\x05\x06\x00\x00", uint16(etherVLAN), uint16(5), etherOf(v6), b)
		}),
		plainFrame("sll with llc", capture.LinuxSLL, func(b inner, v6 bool) []byte {
			return join("\x00\x00\x00\x01\x00\x06\x01\x02\x03\x04\x05\x06\x00\x00", uint16(4), "\xaa\xaa\x03\x00\x00\x00", etherOf(v6), b)
		}),
		plainFrame("sll2", capture.SLL2, func(b inner, v6 bool) []byte {
			return join(etherOf(v6), "\x00\x00\x00\x00\x00\x02\x00\x01\x00\x06\x01\x02\x03\x04\x05\x06\x00\x00", b)
		}),

		{name: "ip in ip", link: capture.Ethernet, outer: protoIPv4, wrap: func(b inner, v6, outer6 bool) []byte {
			return ethernet(etherOf(outer6), ip(outer6, outside, outerTTL, choose[flow.Protocol](v6, protoIPv4, protoIPv6), b))
		}},
		around("gre", protoGRE, gre(0, "")),
		around("gre with checksum", protoGRE, gre(0x8000, "\x12\x34\x00\x00")),
		around("gre with key", protoGRE, gre(0x2000, "keyk")),
		around("gre with all", protoGRE, gre(0xb000, "\x12\x34\x00\x00keykseqs")),
		around("gre with ethernet", protoGRE, inEther(uint16(0), uint16(etherBridge))),
		around("gre with mpls", protoGRE, before(uint16(0), uint16(etherMPLS), uint32(0x00010140))),
		around("pptp", protoGRE, func(b inner, v6 bool) []byte {
			return join(uint16(0x3081), uint16(etherPPP), uint16(4+len(b)), uint16(9), "seqsacks", "\xff\x03", choose(v6, uint16(0x21), 0x57), b)
		}),
		around("erspan I", protoGRE, inEther(uint16(0), uint16(etherERSPAN))),
		around("erspan II", protoGRE, inEther(uint16(0x1000), uint16(etherERSPAN), "seqs", "\x10\x01\x00\x01\x00\x00\x00\x01")),
		around("erspan III", protoGRE, inEther(uint16(0x1000), uint16(etherERSPAN3), "seqs", "\x20\x01\x00\x01timeSG\x00\x00")),
		around("erspan III with subheader", protoGRE, inEther(uint16(0x1000), uint16(etherERSPAN3), "seqs", "\x20\x01\x00\x01timeSG\x00\x01subheadr")),
		around("erspan III with IP", protoGRE, before(uint16(0x1000), uint16(etherERSPAN3), "seqs", "\x20\x01\x00\x01timeSG\x08\x00")),
		around("etherip", protoEtherIP, inEther(uint16(0x3000))),
		around("mpls in ip", protoMPLS, before(uint32(0x00010140))),

		aroundUDP("vxlan", 54321, 4789, inEther("\x08\x00\x00\x00\x00\x00\x07\x00")),
		aroundUDP("vxlan, source port", 4789, 54321, inEther("\x08\x00\x00\x00\x00\x00\x07\x00")),
		aroundUDP("vxlan, Linux port", 54321, 8472, inEther("\x08\x00\x00\x00\x00\x00\x07\x00")),
		aroundUDP("vxlan with group policy", 54321, 4789, inEther("\x88\x00\x00\x05\x00\x00\x07\x00")),
		aroundUDP("vxlan with vlan", 54321, 4789, func(b inner, v6 bool) []byte {
			return join("\x08\x00\x00\x00\x00\x00\x07\x00", macs, uint16(etherVLAN), uint16(7), etherOf(v6), b)
		}),
		aroundUDP("vxlan-gpe with ip", 54321, 4790, func(b inner, v6 bool) []byte {
			return join("\x0c\x00\x00", choose(v6, 1, 2), "\x00\x00\x07\x00", b)
		}),
		aroundUDP("geneve with ethernet", 54321, 6081, inEther("\x00\x00", uint16(etherBridge), "\x00\x00\x07\x00")),
		aroundUDP("geneve with options and ip", 54321, 6081, func(b inner, v6 bool) []byte {
			return join("\x03\x40", etherOf(v6), "\x00\x00\x07\x00", "twelve bytes", b)
		}),
		aroundUDP("gtp-u", 2152, 2152, func(b inner, _ bool) []byte {
			return join("\x30\xff", uint16(len(b)), "teid", b)
		}),
		aroundUDP("gtp-u with sequence", 2152, 2152, func(b inner, _ bool) []byte {
			return join("\x32\xff", uint16(4+len(b)), "teid", "\x00\x01\x00\x99", b)
		}),
		aroundUDP("gtp-u with extensions", 54321, 2152, func(b inner, _ bool) []byte {
			return join("\x34\xff", uint16(16+len(b)), "teid", "\x00\x00\x00\x85", "\x01\x10\x09\x85", "\x02\x10\x09\x00\x00\x00\x00\x00", b)
		}),
		aroundUDP("l2tp", 1701, 1701, func(b inner, v6 bool) []byte {
			return join("\x00\x02", "tuse", "\xff\x03", choose(v6, uint16(0x21), 0x57), b)
		}),
		aroundUDP("l2tp with all", 54321, 1701, func(b inner, v6 bool) []byte {
			return join("\x4a\x02", uint16(18+len(b)), "tuse", "nsnr", uint16(3), "pad", choose(v6, 0x21, 0x57), b)
		}),
		aroundUDP("mpls in udp", 54321, 6635, before(uint32(0x00010040), uint32(0x00020140))),
		aroundUDP("vxlan-gpe with nsh", 54321, 4790, func(b inner, v6 bool) []byte {
			return join("\x0c\x00\x00\x04\x00\x00\x07\x00", "\x0f\xc2\x02", choose(v6, 1, 2), "\x00\x00\x05\xff", b)
		}),
		plainFrame("nsh with ethernet", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherNSH), "\x0f\xc6\x01\x03\x00\x00\x05\xff", make([]byte, 16), ethernet(etherOf(v6), b))
		}),
		plainFrame("provider backbone", capture.Ethernet, func(b inner, v6 bool) []byte {
			return join(macs, uint16(etherQinQ), uint16(100), uint16(etherISID), "\x00\x00\x12\x34", ethernet(etherOf(v6), b))
		}),
	}
}

// eachEncapsulation runs f for every encapsulation with IPv4 and IPv6 inside
// and around.
func eachEncapsulation(t *testing.T, f func(t *testing.T, e encapsulation, frame []byte, v6, outer6 bool)) {
	for _, e := range encapsulations() {
		for _, v6 := range []bool{false, true} {
			for _, outer6 := range []bool{false, true} {
				if outer6 && e.outer == 0 {
					continue
				}
				name := fmt.Sprintf("%s/v%d", e.name, choose(v6, 4, 6))
				if e.outer != 0 {
					name += fmt.Sprintf(" in v%d", choose(outer6, 4, 6))
				}
				t.Run(name, func(t *testing.T) { f(t, e, e.wrap(innermost(v6), v6, outer6), v6, outer6) })
			}
		}
	}
}

// outerTuple is the tuple of the outer IP header of e.
func (e *encapsulation) outerTuple(v6, outer6 bool) flow.Tuple {
	protocol := e.outer
	if e.name == "ip in ip" && v6 {
		protocol = protoIPv6
	}
	return tuple(outside[outer6][0], e.srcPort, outside[outer6][1], e.dstPort, protocol)
}

// Whatever is around it, the innermost TCP packet is found, with the header
// around it, its options with everything behind an End-of-List, and its payload
// without the padding of the frame. Config.Outer finds the outermost.
func TestInnermost(t *testing.T) {
	eachEncapsulation(t, func(t *testing.T, e encapsulation, frame []byte, v6, outer6 bool) {
		in := packetOf(e.link, append(frame, "padding"...))
		got, v := decodeOne(t, Config{}, in)
		want := Packet{
			Tuple: innerTuple(v6), Time: in.Time, WireLength: in.WireLength, TTL: innerTTL, IPv6: v6,
			TCPFlags: 0x18, Window: 0xabcd, Seq: 0x01020304, Ack: 0x05060708, TCPOptions: innerOptions,
			Payload: innerPayload, PayloadLength: len(innerPayload),
		}
		if v != Tracked || !equal(got, want) {
			t.Errorf("inner: %v\n%+v, want\n%+v", v, got, want)
		}

		got, v = decodeOne(t, Config{Outer: true}, in)
		if e.outer != 0 {
			want = Packet{Tuple: e.outerTuple(v6, outer6), Time: in.Time, WireLength: in.WireLength, TTL: outerTTL, IPv6: outer6,
				Payload: got.Payload, PayloadLength: len(got.Payload)}
		}
		if v != Tracked || !equal(got, want) {
			t.Errorf("outer: %v\n%+v, want\n%+v", v, got, want)
		}
	})
}

func equal(a, b Packet) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

// A packet that the capture cut short anywhere belongs to its connection if the
// ports are there, and is Truncated (or, in UDP, a packet of the tunnel) if not.
// It is never malformed and never has the ports of something else.
func TestCutAnywhere(t *testing.T) {
	eachEncapsulation(t, func(t *testing.T, e encapsulation, frame []byte, v6, outer6 bool) {
		innerAt := bytes.Index(frame, innermost(v6))
		ports := innerAt + choose(v6, 20, 40) + 4
		for n := range frame {
			in := packetOf(e.link, frame)
			in.Data = frame[:n:n]
			got, v := decodeOne(t, Config{}, in)
			switch {
			case n >= ports:
				payload := innerPayload[:max(0, n-len(frame)+len(innerPayload))]
				if v != Tracked || got.Tuple != innerTuple(v6) || !bytes.Equal(got.Payload, payload) {
					t.Fatalf("cut at %d: %v %+v", n, v, got)
				}
				if whole := n >= ports+16+len(innerOptions); got.TCPCut == whole {
					t.Fatalf("cut at %d: TCPCut %v with a whole header %v", n, got.TCPCut, whole)
				}
				if n >= ports+16 && got.PayloadLength != len(innerPayload) {
					t.Fatalf("cut at %d: payload length %d, want %d", n, got.PayloadLength, len(innerPayload))
				}
			case e.outer == flow.UDP && n >= 14+choose(outer6, 20, 40)+4:
				if v != Tracked || got.Tuple != e.outerTuple(v6, outer6) {
					t.Fatalf("cut at %d: %v %v", n, v, got.Tuple)
				}
			case v != Truncated:
				t.Fatalf("cut at %d of %d, inner packet at %d: %v %+v", n, len(frame), innerAt, v, got)
			}
		}
	})
}

// Through all headers it is known how long the packet was, so that an inner
// length of zero means exactly the rest.
func TestLengthOfTheRest(t *testing.T) {
	for _, e := range encapsulations() {
		inner := ipv4(inside[false], 1, flow.UDP, join(uint16(1), uint16(2), uint32(0), make([]byte, 100)))
		inner[2], inner[3] = 0, 0
		got, v := decodeOne(t, Config{}, packetOf(e.link, e.wrap(inner, false, false)))
		if v != Tracked || got.PayloadLength != 100 || len(got.Payload) != 100 {
			t.Errorf("%s: %v, %d bytes of %d; want 100", e.name, v, len(got.Payload), got.PayloadLength)
		}
	}
}

// gopacket's idea of these headers is ours.
func TestInnermostAsGopacketWrites(t *testing.T) {
	tcpLayer := &layers.TCP{SrcPort: 40000, DstPort: 443, DataOffset: 5, ACK: true}
	inner4 := &layers.IPv4{Version: 4, TTL: innerTTL, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	payload := gopacket.Payload(innerPayload)
	eth := func(t layers.EthernetType) *layers.Ethernet { e := testEthernet; e.EthernetType = t; return &e }
	outer := func(p layers.IPProtocol) *layers.IPv4 { i := testIPv4; i.Protocol = p; return &i }
	stack := func(l ...gopacket.SerializableLayer) []gopacket.SerializableLayer {
		return append(l, inner4, tcpLayer, payload)
	}
	tests := map[string][]gopacket.SerializableLayer{
		"plain": stack(eth(layers.EthernetTypeIPv4)),
		"qinq": stack(eth(layers.EthernetTypeQinQ), &layers.Dot1Q{VLANIdentifier: 1, Type: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{VLANIdentifier: 2, Type: layers.EthernetTypeIPv4}),
		"mpls":  stack(eth(layers.EthernetTypeMPLSUnicast), &layers.MPLS{Label: 1}, &layers.MPLS{Label: 2, StackBottom: true}),
		"pppoe": stack(eth(layers.EthernetTypePPPoESession), &layers.PPPoE{Version: 1, Type: 1}, &layers.PPP{PPPType: layers.PPPTypeIPv4}),
		"gre":   stack(eth(layers.EthernetTypeIPv4), outer(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv4, KeyPresent: true, SeqPresent: true}),
		"erspan": stack(eth(layers.EthernetTypeIPv4), outer(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeERSPAN, SeqPresent: true},
			&layers.ERSPANII{Version: 1}, eth(layers.EthernetTypeIPv4)),
		"vxlan":    stack(eth(layers.EthernetTypeIPv4), outer(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 4789}, &layers.VXLAN{ValidIDFlag: true, VNI: 5}, eth(layers.EthernetTypeIPv4)),
		"gtp":      stack(eth(layers.EthernetTypeIPv4), outer(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 2152}, &layers.GTPv1U{Version: 1, ProtocolType: 1, MessageType: 255}),
		"ip in ip": stack(eth(layers.EthernetTypeIPv4), outer(layers.IPProtocolIPv4)),
	}
	for name, l := range tests {
		t.Run(name, func(t *testing.T) {
			got, v := decodeOne(t, Config{}, packetOf(capture.Ethernet, serialize(t, l...)))
			if v != Tracked || got.Tuple != innerTuple(false) || got.TTL != innerTTL || !bytes.Equal(got.Payload, innerPayload) || got.TCPFlags != flow.ACK {
				t.Errorf("%v %+v", v, got)
			}
		})
	}
}

// Tunnels are opened four deep. What is there is then the connection, even if
// it is a tunnel; and that is counted.
func TestDepthLimit(t *testing.T) {
	for _, test := range []struct {
		tunnels  int
		want     flow.Tuple
		exceeded uint64
	}{
		{4, innerTuple(false), 0},
		{5, tuple(outside[false][0], 0, outside[false][1], 0, protoIPv4), 1},
		{9, tuple(outside[false][0], 0, outside[false][1], 0, protoIPv4), 1},
	} {
		b := innermost(false)
		for range test.tunnels {
			b = ipv4(outside[false], outerTTL, protoIPv4, b)
		}
		in := packetOf(capture.Raw, b)
		d := New(Config{})
		var out Packet
		if v := d.Decode(&in, &out); v != Tracked || out.Tuple != test.want || d.Stats().DepthExceeded != test.exceeded {
			t.Errorf("%d tunnels: %v %v, %d exceeded; want %v, %d", test.tunnels, v, out.Tuple, d.Stats().DepthExceeded, test.want, test.exceeded)
		}
	}
	// In UDP, the payload of the fifth tunnel is what it is.
	b := innermost(false)
	for range 5 {
		b = ipv4(outside[false], outerTTL, flow.UDP, udp(2152, 2152, join("\x30\xff", uint16(len(b)), "teid", b)))
	}
	out, v := decodeOne(t, Config{}, packetOf(capture.Raw, b))
	if want := tuple(outside[false][0], 2152, outside[false][1], 2152, flow.UDP); v != Tracked || out.Tuple != want || len(out.Payload) == 0 {
		t.Errorf("five GTP tunnels: %v %+v, want %v", v, out, want)
	}
}

// More tags, labels and headers than an honest packet has are malformed, not
// work without end.
func TestHeadersAreBounded(t *testing.T) {
	tags := ethernet(etherVLAN, join(bytes.Repeat([]byte{0, 1, 0x81, 0}, 1000), uint16(1), uint16(etherIPv4), innermost(false)))
	labels := ethernet(etherMPLS, join(bytes.Repeat([]byte{0, 1, 0, 64}, 1000), uint32(0x00010140), innermost(false)))
	extensions := ipv6(inside[true], 1, protoDestination, join(bytes.Repeat([]byte{protoDestination, 0, 1, 4, 0, 0, 0, 0}, 1000),
		flowByte(flow.TCP), 0, make([]byte, 6), tcp(1, 2, 0, nil, nil)))
	// Every label stack may be followed by Ethernet, with another one in it.
	wires := innermost(false)
	for range 100 {
		wires = ethernet(etherMPLS, join(uint32(0x00010140), uint32(0), wires))
	}
	for name, in := range map[string]capture.Packet{
		"tags":        packetOf(capture.Ethernet, tags),
		"labels":      packetOf(capture.Ethernet, labels),
		"extensions":  packetOf(capture.Raw, extensions),
		"pseudowires": packetOf(capture.Ethernet, wires),
	} {
		if _, v := decodeOne(t, Config{}, in); v != Malformed && v != NonIP {
			t.Errorf("%s: %v", name, v)
		}
	}
}

// Teredo carries IPv6 alone, with what the relay says before it or not.
func TestTeredo(t *testing.T) {
	const origin, authentication = "\x00\x00\x63\xbf\x3f\xff\xfd\xd2", "\x00\x01\x02\x03idkeynoncefor\x00"
	for _, before := range []string{"", origin, authentication, authentication + origin} {
		in := packetOf(capture.Raw, ipv4(outside[false], outerTTL, flow.UDP, udp(3544, 50000, join(before, innermost(true)))))
		out, v := decodeOne(t, Config{}, in)
		if v != Tracked || out.Tuple != innerTuple(true) {
			t.Errorf("behind %q: %v %v, want %v", before, v, out.Tuple, innerTuple(true))
		}
	}
}

// A UDP packet to a tunnel port that is not that tunnel is a UDP packet of its
// own.
func TestTunnelPortUsedByOthers(t *testing.T) {
	dns := "\x08\xff\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"
	arp := ethernet(etherARP, make([]byte, 28))
	for name, test := range map[string]struct {
		port    uint16
		payload []byte
		want    Verdict
	}{
		"DNS from a VXLAN port":       {4789, []byte(dns), Tracked},
		"DNS from a Geneve port":      {6081, []byte(dns), Tracked},
		"DNS from a GTP port":         {2152, []byte(dns), Tracked},
		"empty":                       {4789, nil, Tracked},
		"QUIC":                        {4789, join(0xc0, uint32(1), 8, "connecti", make([]byte, 1200)), Tracked},
		"GTP echo":                    {2152, join("\x32\x01", uint16(4), "teid", "\x00\x01\x00\x00"), Tracked},
		"GTP of nothing":              {2152, join("\x30\xff", uint16(0), "teid"), Tracked},
		"GTP with endless extension":  {2152, join("\x34\xff", uint16(8), "teid", "\x00\x00\x00\x85", "\x00\x00\x00\x85"), Tracked},
		"VXLAN of spanning tree":      {4789, join("\x08\x00\x00\x00\x00\x00\x07\x00", ethernet(38, join("\x42\x42\x03", make([]byte, 35)))), Tracked},
		"VXLAN of something unknown":  {4789, join("\x08\x00\x00\x00\x00\x00\x07\x00", ethernet(0x88cc, make([]byte, 50))), Tracked},
		"VXLAN of a broken IP header": {4789, join("\x08\x00\x00\x00\x00\x00\x07\x00", ethernet(etherIPv4, make([]byte, 50))), Tracked},
		"Geneve of another version":   {6081, join("\x40\x00", uint16(etherIPv4), "\x00\x00\x07\x00", innermost(false)), Tracked},
		"VXLAN without network":       {4789, join("\x00\x00\x00\x00\x00\x00\x07\x00", ethernet(etherIPv4, innermost(false))), Tracked},
		"DNS from an L2TP port":       {1701, []byte(dns), Tracked},
		"L2TP control":                {1701, join("\xc8\x02", uint16(12), "tuse", "nsnr"), Tracked},
		"L2TP of PPP control":         {1701, join("\x00\x02", "tuse", "\xff\x03\xc0\x21", "\x01\x01\x00\x04"), Tracked},
		"L2TP of another version":     {1701, join("\x00\x03", "\x00\x00", "sess", innermost(false)), Tracked},
		"L2TP of a long offset":       {1701, join("\x02\x02", "tuse", uint16(65535), innermost(false)), Tracked},
		"DNS from a Teredo port":      {3544, []byte(dns), Tracked},
		"Teredo of IPv4":              {3544, innermost(false), Tracked},
		"Teredo of half an origin":    {3544, []byte("\x00\x00\x63\xbf"), Tracked},
		"MPLS of something unknown":   {6635, join(uint32(0x00010140), make([]byte, 50)), Tracked},
		"GTP error":                   {2152, join("\x30\x1a", uint16(20), "teid", innermost(false)), Tracked},
		"VXLAN of ARP":                {4789, join("\x08\x00\x00\x00\x00\x00\x07\x00", arp), ARP},
	} {
		t.Run(name, func(t *testing.T) {
			in := packetOf(capture.Raw, ipv4(outside[false], outerTTL, flow.UDP, udp(53, test.port, test.payload)))
			out, v := decodeOne(t, Config{}, in)
			if v != test.want {
				t.Fatalf("%v, want %v", v, test.want)
			}
			if want := tuple(outside[false][0], 53, outside[false][1], test.port, flow.UDP); v == Tracked &&
				(out.Tuple != want || !bytes.Equal(out.Payload, test.payload)) {
				t.Errorf("%+v, want %v", out, want)
			}
		})
	}
}
