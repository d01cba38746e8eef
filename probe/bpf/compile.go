package bpf

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/whorl-net/whorl/probe/capture"
)

// acceptBytes is what a matching program returns: how much of the packet the
// kernel is to keep. It is tcpdump's default snap length.
const acceptBytes = 262144

// maxInstructions is the kernel's BPF_MAXINSNS.
const maxInstructions = 4096

// Check reports whether filter compiles for Ethernet, as *Error when not.
func Check(filter string) error {
	_, err := Compile(filter, capture.Ethernet, false)
	return err
}

// Compile translates filter for packets of one link type. A filter without
// words accepts everything and gives a nil program. live says that packets
// come from an AF_PACKET socket, where the kernel has removed the outer VLAN
// tag from the bytes. Errors in the filter are of type *Error.
func Compile(filter string, link capture.LinkType, live bool) ([]bpf.Instruction, error) {
	e, err := parse(filter)
	if err != nil || e == nil {
		return nil, err
	}
	l, ok := layouts[link]
	if !ok {
		return nil, fmt.Errorf("capture filter: link type %d is not supported", link)
	}
	vlan, tagged := findVLAN(e)
	if tagged && !l.ethernet {
		return nil, &Error{Filter: filter, Column: vlan.column, Word: "vlan", Problem: fmt.Sprintf("packets of link type %v carry no VLAN tag", link)}
	}
	g := &generator{asm: &assembler{}, link: l}
	match, reject := g.asm.label(), g.asm.label()
	if live && tagged {
		// One body for packets whose outer tag the kernel took, one for the
		// others: offsets differ between them, and a body is small.
		stripped, inBand := g.asm.label(), g.asm.label()
		g.asm.emit(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
		g.asm.branch(bpf.JumpNotEqual, 0, stripped, inBand)
		g.asm.place(stripped)
		g.stripped = true
		g.gen(e, match, reject)
		g.stripped, g.shift = false, 0
		g.asm.place(inBand)
	}
	g.gen(e, match, reject)
	g.asm.place(match)
	g.asm.emit(bpf.RetConstant{Val: acceptBytes})
	g.asm.place(reject)
	g.asm.emit(bpf.RetConstant{Val: 0})
	prog, err := g.asm.link()
	if err != nil {
		return nil, &Error{Filter: filter, Column: 1, Problem: err.Error()}
	}
	return prog, nil
}

// layout says where a link type keeps the network protocol and layer.
type layout struct {
	ethernet bool
	// protocol is the offset of a 16-bit Ethernet protocol, -1 when there is
	// none and the network layer or the family tells.
	protocol int
	network  uint32
	// family is set for null and loop: a 32-bit address family at offset 0.
	family bool
	// only is 4 or 6 when the link carries one version only.
	only int
}

var layouts = map[capture.LinkType]layout{
	capture.Ethernet: {ethernet: true, protocol: 12, network: 14},
	capture.LinuxSLL: {protocol: 14, network: 16},
	capture.SLL2:     {protocol: 0, network: 20},
	capture.Null:     {protocol: -1, network: 4, family: true},
	capture.Loop:     {protocol: -1, network: 4, family: true},
	capture.Raw:      {protocol: -1},
	capture.RawOld:   {protocol: -1},
	capture.RawBSD:   {protocol: -1},
	capture.IPv4:     {protocol: -1, only: 4},
	capture.IPv6:     {protocol: -1, only: 6},
}

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherRARP = 0x8035
	etherIPv6 = 0x86dd
)

// findVLAN returns the first vlan of e.
func findVLAN(e expr) (v vlanExpr, ok bool) {
	switch e := e.(type) {
	case andExpr:
		if v, ok = findVLAN(e.x); !ok {
			v, ok = findVLAN(e.y)
		}
	case orExpr:
		if v, ok = findVLAN(e.x); !ok {
			v, ok = findVLAN(e.y)
		}
	case notExpr:
		return findVLAN(e.x)
	case vlanExpr:
		return e, true
	}
	return v, ok
}

// generator writes code for one link type. Each gen… method leaves the machine
// at yes or no and never falls through.
type generator struct {
	asm      *assembler
	link     layout
	stripped bool   // the outer tag is in the kernel's metadata and not used yet
	shift    uint32 // bytes of tags passed so far
}

func (g *generator) gen(e expr, yes, no label) {
	switch e := e.(type) {
	case andExpr:
		mid := g.asm.label()
		g.gen(e.x, mid, no)
		g.asm.place(mid)
		g.gen(e.y, yes, no)
	case orExpr:
		mid := g.asm.label()
		g.gen(e.x, yes, mid)
		g.asm.place(mid)
		g.gen(e.y, yes, no)
	case notExpr:
		g.gen(e.x, no, yes)
	case protoExpr:
		g.proto(e.name, yes, no)
	case vlanExpr:
		g.vlan(e.id, yes, no)
	case addrExpr:
		g.addr(e, yes, no)
	case portExpr:
		g.port(e, yes, no)
	}
}

// ether tests the network protocol.
func (g *generator) ether(t uint16, yes, no label) {
	version := map[uint16]uint32{etherIPv4: 4, etherIPv6: 6}[t]
	switch {
	case g.link.protocol >= 0:
		g.asm.emit(bpf.LoadAbsolute{Off: uint32(g.link.protocol) + g.shift, Size: 2})
		g.asm.branch(bpf.JumpEqual, uint32(t), yes, no)
	case version == 0:
		g.asm.jump(no) // no ARP here
	case g.link.family:
		g.asm.emit(bpf.LoadAbsolute{Off: 0, Size: 4})
		families := []uint32{2}
		if version == 6 {
			families = []uint32{24, 28, 30, 10}
		}
		for _, f := range families {
			// The writer's byte order, which the packet does not tell.
			for _, v := range []uint32{f, f << 24} {
				next := g.asm.label()
				g.asm.branch(bpf.JumpEqual, v, yes, next)
				g.asm.place(next)
			}
		}
		g.asm.jump(no)
	case g.link.only != 0 && uint32(g.link.only) != version:
		g.asm.jump(no)
	default:
		g.asm.emit(bpf.LoadAbsolute{Off: g.network(), Size: 1})
		g.asm.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
		g.asm.branch(bpf.JumpEqual, version<<4, yes, no)
	}
}

func (g *generator) network() uint32 { return g.link.network + g.shift }

func (g *generator) vlan(id int, yes, no label) {
	tagged := g.asm.label()
	if g.stripped {
		g.stripped = false
		if id < 0 {
			g.asm.jump(yes)
			g.asm.place(tagged)
			return
		}
		g.asm.emit(bpf.LoadExtension{Num: bpf.ExtVLANTag})
	} else {
		g.asm.emit(bpf.LoadAbsolute{Off: uint32(g.link.protocol) + g.shift, Size: 2})
		for _, t := range []uint32{0x8100, 0x88a8} {
			next := g.asm.label()
			g.asm.branch(bpf.JumpEqual, t, tagged, next)
			g.asm.place(next)
		}
		g.asm.branch(bpf.JumpEqual, 0x9100, tagged, no)
		g.asm.place(tagged)
		tag := g.network()
		g.shift += 4
		if id < 0 {
			g.asm.jump(yes)
			return
		}
		g.asm.emit(bpf.LoadAbsolute{Off: tag, Size: 2})
	}
	g.asm.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff})
	g.asm.branch(bpf.JumpEqual, uint32(id), yes, no)
}

func (g *generator) proto(name string, yes, no label) {
	switch name {
	case "ip":
		g.ether(etherIPv4, yes, no)
	case "ip6":
		g.ether(etherIPv6, yes, no)
	case "arp":
		g.ether(etherARP, yes, no)
	case "icmp":
		g.ipv4Proto(1, yes, no)
	case "icmp6":
		g.ipv6Proto(58, yes, no)
	case "tcp", "udp":
		n := uint32(6)
		if name == "udp" {
			n = 17
		}
		not6 := g.asm.label()
		g.ipv6Proto(n, yes, not6)
		g.asm.place(not6)
		g.ipv4Proto(n, yes, no)
	}
}

func (g *generator) ipv4Proto(n uint32, yes, no label) {
	ip := g.asm.label()
	g.ether(etherIPv4, ip, no)
	g.asm.place(ip)
	g.asm.emit(bpf.LoadAbsolute{Off: g.network() + 9, Size: 1})
	g.asm.branch(bpf.JumpEqual, n, yes, no)
}

// ipv6Proto looks behind a fragment header too, as tcpdump does for protocols
// (though not for ports).
func (g *generator) ipv6Proto(n uint32, yes, no label) {
	ip, other, fragment := g.asm.label(), g.asm.label(), g.asm.label()
	g.ether(etherIPv6, ip, no)
	g.asm.place(ip)
	g.asm.emit(bpf.LoadAbsolute{Off: g.network() + 6, Size: 1})
	g.asm.branch(bpf.JumpEqual, n, yes, other)
	g.asm.place(other)
	g.asm.branch(bpf.JumpEqual, 44, fragment, no)
	g.asm.place(fragment)
	g.asm.emit(bpf.LoadAbsolute{Off: g.network() + 40, Size: 1})
	g.asm.branch(bpf.JumpEqual, n, yes, no)
}

func (g *generator) addr(e addrExpr, yes, no label) {
	if e.prefix.Addr().Is6() {
		ip := g.asm.label()
		g.ether(etherIPv6, ip, no)
		g.asm.place(ip)
		g.sides(e, 8, 24, yes, no)
		return
	}
	for _, p := range []struct {
		ether    uint16
		src, dst uint32
	}{{etherIPv4, 12, 16}, {etherARP, 14, 24}, {etherRARP, 14, 24}} {
		this, next := g.asm.label(), g.asm.label()
		g.ether(p.ether, this, next)
		g.asm.place(this)
		g.sides(e, p.src, p.dst, yes, no)
		g.asm.place(next)
	}
	g.asm.jump(no)
}

func (g *generator) sides(e addrExpr, srcOff, dstOff uint32, yes, no label) {
	switch e.side {
	case src:
		g.masked(e, srcOff, yes, no)
	case dst:
		g.masked(e, dstOff, yes, no)
	default:
		other := g.asm.label()
		g.masked(e, srcOff, yes, other)
		g.asm.place(other)
		g.masked(e, dstOff, yes, no)
	}
}

// masked compares an address word by word; words outside the mask are skipped.
func (g *generator) masked(e addrExpr, off uint32, yes, no label) {
	want := e.prefix.Addr().AsSlice()
	for i, bits := 0, e.prefix.Bits(); i < len(want) && bits > 0; i, bits = i+4, bits-32 {
		g.asm.emit(bpf.LoadAbsolute{Off: g.network() + off + uint32(i), Size: 4})
		if bits < 32 {
			g.asm.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(0) << (32 - bits)})
		}
		next := g.asm.label()
		g.asm.branch(bpf.JumpEqual, binary.BigEndian.Uint32(want[i:]), next, no)
		g.asm.place(next)
	}
	g.asm.jump(yes)
}

func (g *generator) port(e portExpr, yes, no label) {
	not6, ip6, ports6 := g.asm.label(), g.asm.label(), g.asm.label()
	g.ether(etherIPv6, ip6, not6)
	g.asm.place(ip6)
	g.asm.emit(bpf.LoadAbsolute{Off: g.network() + 6, Size: 1})
	g.portProto(e.proto, ports6, not6)
	g.asm.place(ports6)
	g.portSides(e, func(off uint32) bpf.Instruction {
		return bpf.LoadAbsolute{Off: g.network() + 40 + off, Size: 2}
	}, yes, no)

	g.asm.place(not6)
	ip4, ports4, whole := g.asm.label(), g.asm.label(), g.asm.label()
	g.ether(etherIPv4, ip4, no)
	g.asm.place(ip4)
	g.asm.emit(bpf.LoadAbsolute{Off: g.network() + 9, Size: 1})
	g.portProto(e.proto, whole, no)
	g.asm.place(whole)
	// A later fragment has no ports.
	g.asm.emit(bpf.LoadAbsolute{Off: g.network() + 6, Size: 2})
	g.asm.branch(bpf.JumpBitsSet, 0x1fff, no, ports4)
	g.asm.place(ports4)
	g.asm.emit(bpf.LoadMemShift{Off: g.network()})
	g.portSides(e, func(off uint32) bpf.Instruction {
		return bpf.LoadIndirect{Off: g.network() + off, Size: 2}
	}, yes, no)
}

// portProto tests the protocol number in the accumulator: the one named, else
// any that has ports.
func (g *generator) portProto(proto string, yes, no label) {
	numbers := []uint32{6, 17, 132}
	switch proto {
	case "tcp":
		numbers = numbers[:1]
	case "udp":
		numbers = numbers[1:2]
	}
	for _, n := range numbers {
		next := g.asm.label()
		g.asm.branch(bpf.JumpEqual, n, yes, next)
		g.asm.place(next)
	}
	g.asm.jump(no)
}

func (g *generator) portSides(e portExpr, load func(off uint32) bpf.Instruction, yes, no label) {
	one := func(off uint32, yes, no label) {
		g.asm.emit(load(off))
		if e.lo == e.hi {
			g.asm.branch(bpf.JumpEqual, uint32(e.lo), yes, no)
			return
		}
		above := g.asm.label()
		g.asm.branch(bpf.JumpGreaterOrEqual, uint32(e.lo), above, no)
		g.asm.place(above)
		g.asm.branch(bpf.JumpGreaterThan, uint32(e.hi), no, yes)
	}
	switch e.side {
	case src:
		one(0, yes, no)
	case dst:
		one(2, yes, no)
	default:
		other := g.asm.label()
		one(0, yes, other)
		g.asm.place(other)
		one(2, yes, no)
	}
}
