package decode

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// fragments cuts the payload of an IP packet into pieces of at most size bytes
// (a multiple of 8).
func fragments(packet []byte, id uint32, size int) (all [][]byte) {
	v6 := packet[0]>>4 == 6
	head, protocol := packet[:20], flow.Protocol(packet[9])
	if v6 {
		head, protocol = packet[:40], flow.Protocol(packet[6])
	}
	body := packet[len(head):]
	for at := 0; at < len(body); at += size {
		part := body[at:min(at+size, len(body))]
		more := at+size < len(body)
		all = append(all, fragment(head, protocol, id, at, more, part))
	}
	return all
}

// fragment makes one fragment with the addresses of head.
func fragment(head []byte, protocol flow.Protocol, id uint32, at int, more bool, part []byte) []byte {
	b := bytes.Clone(head)
	flags := 0
	if more {
		flags = 1
	}
	if len(head) == 40 {
		b[4], b[5], b[6] = byte((len(part)+8)>>8), byte(len(part)+8), protoFragment
		return join(b, int(protocol), 0, uint16(at|flags), id, part)
	}
	total := len(head) + len(part)
	b[2], b[3], b[4], b[5] = byte(total>>8), byte(total), byte(id>>8), byte(id)
	b[6], b[7] = byte(flags<<5|at>>11), byte(at>>3)
	return join(b, part)
}

// outcome is what came of a row of packets.
type outcome struct {
	verdicts []Verdict
	counted  map[flow.Tuple]sums // tracked packets, held ones included
	payloads []string            // in order, of packets with one
	stats    Stats
}

func run(t *testing.T, d *Decoder, packets ...capture.Packet) (o outcome) {
	t.Helper()
	o.counted = make(map[flow.Tuple]sums)
	for _, in := range packets {
		var out Packet
		v := d.Decode(&in, &out)
		o.verdicts = append(o.verdicts, v)
		checkSum(t, d.Stats())
		if out.Fragment && (out.PayloadLength != 0 || out.Payload != nil || out.TCPFlags != 0 || out.TCPOptions != nil) {
			t.Fatalf("a fragment with more than a tuple: %+v", out)
		}
		if v != Tracked {
			if out.Tuple != (flow.Tuple{}) || out.Held != nil {
				t.Fatalf("%v with a tuple: %+v", v, out)
			}
			continue
		}
		s := o.counted[out.Tuple]
		s.packets++
		s.bytes += uint64(out.WireLength)
		for _, h := range out.Held {
			s.packets++
			s.bytes += uint64(h.WireLength)
		}
		o.counted[out.Tuple] = s
		if out.PayloadLength > 0 {
			if len(out.Payload) != out.PayloadLength {
				t.Fatalf("payload of %d bytes, %d are there", out.PayloadLength, len(out.Payload))
			}
			o.payloads = append(o.payloads, string(out.Payload))
		}
	}
	o.stats = d.Stats()
	return o
}

// rawPackets are packets a millisecond apart.
func rawPackets(data ...[]byte) (all []capture.Packet) {
	for i, b := range data {
		p := packetOf(capture.Raw, b)
		p.Time += int64(i) * 1e6
		all = append(all, p)
	}
	return all
}

// In whatever order its fragments come, twice or overlapping, a datagram is
// decoded once, whole, with the packet that completes it, and every captured
// packet counts exactly once, on the right connection.
func TestAnyOrderOfFragments(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 2))
		v6 := seed&1 != 0
		payload := make([]byte, 1+random.IntN(9000))
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		datagram := ip(v6, inside, innerTTL, flow.UDP, udp(1000, 2000, payload))
		if seed&2 != 0 { // with a tunnel of its own
			datagram = ip(v6, outside, outerTTL, flow.UDP, udp(5, 4789, join("\x08\x00\x00\x00\x00\x00\x07\x00", ethernet(etherOf(v6), datagram))))
		}
		size := 8 * (1 + len(payload)/8/(1+random.IntN(40)))
		parts := fragments(datagram, 77, size)
		if len(parts) < 2 {
			continue
		}
		if seed&4 != 0 { // cut another way, and mixed: fragments that overlap
			parts = append(parts, fragments(datagram, 77, 8+size/16*8)...)
		}
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		if len(parts) > maxHeld/2 {
			continue
		}
		d := New(Config{})
		o := run(t, d, rawPackets(parts...)...)
		name := fmt.Sprintf("seed %d: %d fragments of %d bytes", seed, len(parts), size)
		if len(o.payloads) == 0 || o.payloads[0] != string(payload) {
			t.Fatalf("%s: %d datagrams, want one with all that was sent", name, len(o.payloads))
		}
		// After completion, what overlapped begins a datagram that may or may
		// not be completed; it must not give ports to others.
		d.Flush()
		s := d.Stats()
		checkSum(t, s)
		want := tuple(inside[v6][0], 1000, inside[v6][1], 2000, flow.UDP)
		got := o.counted[want].packets
		if len(o.counted) != 1 || got+s.FragmentsIncomplete != uint64(len(parts)) {
			t.Fatalf("%s: %d counted, %d incomplete, connections %v", name, got, s.FragmentsIncomplete, o.counted)
		}
		if seed&4 == 0 && (s.FragmentsIncomplete != 0 || s.DatagramsComplete != 1 || s.FragmentsOverlapping != 0) {
			t.Fatalf("%s: %+v", name, s)
		}
	}
}

// The verdict of each fragment, in the orders that matter.
func TestFragmentVerdicts(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := fragments(ip(v6, inside, innerTTL, flow.TCP, tcp(40000, 443, 0x18, innerOptions, bytes.Repeat([]byte("x"), 100))), 1, 48)
		if len(f) != 3 {
			t.Fatalf("%d fragments", len(f))
		}
		wire := func(i ...int) (n uint64) {
			for _, i := range i {
				n += uint64(len(f[i]))
			}
			return n
		}
		for _, test := range []struct {
			order []int
			want  []Verdict
		}{
			{[]int{0, 1, 2}, []Verdict{Tracked, Tracked, Tracked}},
			{[]int{2, 1, 0}, []Verdict{Held, Held, Tracked}},
			{[]int{1, 0, 2}, []Verdict{Held, Tracked, Tracked}},
			{[]int{0, 0, 2, 1}, []Verdict{Tracked, Tracked, Tracked, Tracked}},
		} {
			var parts [][]byte
			for _, i := range test.order {
				parts = append(parts, f[i])
			}
			o := run(t, New(Config{}), rawPackets(parts...)...)
			want := sums{uint64(len(parts)), wire(test.order...)}
			if !slices.Equal(o.verdicts, test.want) || o.counted[innerTuple(v6)] != want || len(o.payloads) != 1 || len(o.payloads[0]) != 100 {
				t.Errorf("order %v: %v, %v, %d payloads; want %v, %v", test.order, o.verdicts, o.counted, len(o.payloads), test.want, want)
			}
		}
		// Eight bytes tell the ports; that they are not a header is no news.
		f8 := fragments(ip(v6, inside, 1, flow.TCP, tcp(40000, 443, 0x18, nil, make([]byte, 4))), 2, 8)
		o := run(t, New(Config{}), rawPackets(f8...)...)
		if o.counted[innerTuple(v6)].packets != 3 || o.verdicts[0] != Tracked || o.stats.HeadersBroken+o.stats.HeadersCut != 0 {
			t.Errorf("eight bytes: %v %+v", o.verdicts, o.stats)
		}
		// Without the first, nobody knows.
		d := New(Config{})
		o = run(t, d, rawPackets(f[1], f[2])...)
		if o.stats.FragmentsWaiting != 2 || len(o.counted) != 0 {
			t.Errorf("no first fragment: %+v %v", o.stats, o.counted)
		}
		d.Flush()
		if s := d.Stats(); s.FragmentsWaiting != 0 || s.FragmentsIncomplete != 2 {
			t.Errorf("flushed: %+v", s)
		}
	}
}

// The times and lengths of held fragments are those of their packets.
func TestHeldFragments(t *testing.T) {
	f := fragments(ipv4(inside[false], 1, flow.UDP, udp(1, 2, make([]byte, 40))), 1, 16)
	in := rawPackets(f[2], f[1], f[0])
	d := New(Config{})
	var out Packet
	d.Decode(&in[0], &out)
	d.Decode(&in[1], &out)
	if v := d.Decode(&in[2], &out); v != Tracked || out.Fragment {
		t.Fatalf("%v %+v", v, out)
	}
	want := []HeldFragment{{in[0].Time, in[0].WireLength}, {in[1].Time, in[1].WireLength}}
	if !slices.Equal(out.Held, want) || out.Time != in[2].Time || out.WireLength != in[2].WireLength {
		t.Errorf("held %v, want %v", out.Held, want)
	}
}

// The first fragment may be too short for the ports: then even it is held. Where
// it ends inside a tunnel, the outer ports are not taken for the connection's.
func TestFirstFragmentTooShort(t *testing.T) {
	ext := ipv6(inside[true], 1, protoDestination, join(flowByte(flow.UDP), 0, make([]byte, 6), udp(1000, 2000, make([]byte, 40))))
	vxlan := ipv4(outside[false], 1, flow.UDP, udp(5, 4789, join("\x08\x00\x00\x00\x00\x00\x07\x00", ethernet(etherIPv4, innermost(false)))))
	for name, test := range map[string]struct {
		datagram []byte
		size     int
		want     flow.Tuple
	}{
		"extension only":       {ext, 8, tuple(inside[true][0], 1000, inside[true][1], 2000, flow.UDP)},
		"UDP header only":      {vxlan, 8, innerTuple(false)},
		"VXLAN header only":    {vxlan, 16, innerTuple(false)},
		"inner Ethernet only":  {vxlan, 32, innerTuple(false)},
		"inner IP header only": {vxlan, 48, innerTuple(false)},
		"ports of a tunnel":    {ipv4(outside[false], 1, protoIPv4, vxlan), 24, innerTuple(false)},
	} {
		f := fragments(test.datagram, 9, test.size)
		o := run(t, New(Config{}), rawPackets(f...)...)
		if o.verdicts[0] != Held || len(o.counted) != 1 || o.counted[test.want].packets != uint64(len(f)) {
			t.Errorf("%s: %v, %v", name, o.verdicts, o.counted)
		}
	}
}

// Fragments within fragments: the outer ones share the fate of the inner one.
func TestFragmentsInFragments(t *testing.T) {
	inner := fragments(ipv4(inside[false], 1, flow.UDP, udp(1000, 2000, bytes.Repeat([]byte("y"), 400))), 3, 104)
	var all [][]byte
	for i, f := range inner {
		outer := ipv4(outside[false], 1, flow.UDP, udp(5, 2152, join("\x30\xff", uint16(len(f)), "teid", f)))
		all = append(all, fragments(outer, uint32(100+i), 48)...)
	}
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 3))
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		o := run(t, New(Config{}), rawPackets(all...)...)
		want := tuple(inside[false][0], 1000, inside[false][1], 2000, flow.UDP)
		if len(o.counted) != 1 || o.counted[want].packets != uint64(len(all)) || len(o.payloads) != 1 || len(o.payloads[0]) != 400 {
			t.Fatalf("seed %d: %v, %d payloads", seed, o.counted, len(o.payloads))
		}
	}
}

// Fragments of what has no ports get their verdict from the first one too.
func TestFragmentsWithoutConnection(t *testing.T) {
	f := fragments(ipv4(inside[false], 1, 50, make([]byte, 100)), 1, 40)
	o := run(t, New(Config{}), rawPackets(f[1], f[0], f[2])...)
	if want := []Verdict{Held, IPOther, IPOther}; !slices.Equal(o.verdicts, want) || o.stats.Verdicts[IPOther] != 3 {
		t.Errorf("%v, %+v", o.verdicts, o.stats)
	}
}

// The bytes that came first stay, also when a later fragment wants other ports
// or another length.
func TestOverlapFirstWins(t *testing.T) {
	body := udp(1000, 2000, []byte("0123456789abcdef"))
	packet := ipv4(inside[false], 1, flow.UDP, body)
	head := packet[:20]
	frag := func(at int, more bool, part []byte) []byte { return fragment(head, flow.UDP, 1, at, more, part) }
	forged := udp(6666, 7777, []byte("forged--forged--"))
	forged[5] = body[5]
	want := tuple(inside[false][0], 1000, inside[false][1], 2000, flow.UDP)

	for name, parts := range map[string][][]byte{
		"second first fragment": {frag(0, true, body[:16]), frag(0, true, forged[:16]), frag(16, false, body[16:])},
		"around what came":      {frag(8, true, body[8:16]), frag(0, true, join(body[:8], forged[8:16])), frag(16, false, body[16:])},
		"shorter last fragment": {frag(0, true, body[:16]), frag(8, false, forged[8:12]), frag(16, false, body[16:])},
		"second end":            {frag(16, false, body[16:]), frag(16, false, join(forged[16:], "longer")), frag(0, true, body[:16])},
		"shorter second end":    {frag(16, false, body[16:]), frag(16, false, body[16:20]), frag(0, true, body[:16])},
		"beyond the end":        {frag(16, false, body[16:]), frag(24, true, []byte("longer..")), frag(0, true, body[:16])},
		"over the end":          {frag(16, false, body[16:]), frag(8, true, join(body[8:16], forged[16:], "longer..")), frag(0, true, body[:8])},
	} {
		o := run(t, New(Config{}), rawPackets(parts...)...)
		if len(o.counted) != 1 || o.counted[want].packets != 3 || len(o.payloads) != 1 || o.payloads[0] != "0123456789abcdef" || o.stats.FragmentsOverlapping == 0 {
			t.Errorf("%s: %v, %q, %+v", name, o.counted, o.payloads, o.stats)
		}
	}
}

// The first first fragment says what protocol it is, whatever another says.
func TestSecondFirstFragmentOfAnotherProtocol(t *testing.T) {
	packet := ipv6(inside[true], innerTTL, flow.UDP, udp(1000, 2000, []byte("0123456789abcdef")))
	head, body := packet[:40], packet[40:]
	o := run(t, New(Config{}), rawPackets(
		fragment(head, flow.UDP, 1, 0, true, body[:16]),
		fragment(head, flow.TCP, 1, 0, true, body[:16]),
		fragment(head, flow.UDP, 1, 16, false, body[16:]))...)
	want := tuple(inside[true][0], 1000, inside[true][1], 2000, flow.UDP)
	if len(o.counted) != 1 || o.counted[want].packets != 3 || len(o.payloads) != 1 {
		t.Errorf("%v, %q", o.counted, o.payloads)
	}
}

// An atomic fragment has nothing to do with others of its id (RFC 6946).
func TestAtomicFragmentStandsAlone(t *testing.T) {
	packet := ipv6(inside[true], innerTTL, flow.UDP, udp(1000, 2000, make([]byte, 40)))
	whole := ipv6(inside[true], innerTTL, flow.UDP, udp(3000, 4000, []byte("alone")))
	f := fragments(packet, 1, 24)
	o := run(t, New(Config{}), rawPackets(f[0], fragment(whole[:40], flow.UDP, 1, 0, false, whole[40:]), f[1])...)
	if len(o.counted) != 2 || len(o.payloads) != 2 || o.payloads[0] != "alone" || o.stats.FragmentsOverlapping != 0 {
		t.Errorf("%v, %q, %+v", o.counted, o.payloads, o.stats)
	}
}

// What no honest sender sends is malformed.
func TestMalformedFragments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		packet := ip(v6, inside, 1, flow.UDP, udp(1, 2, make([]byte, 100)))
		head := packet[:choose(v6, 20, 40)]
		for name, f := range map[string][]byte{
			"no bytes":         fragment(head, flow.UDP, 1, 8, true, nil),
			"not 8 bytes":      fragment(head, flow.UDP, 1, 8, true, make([]byte, 12)),
			"beyond 64 KiB":    fragment(head, flow.UDP, 1, 65528, false, make([]byte, 8)),
			"header of 4 only": fragment(head, flow.UDP, 1, 8, true, nil)[:len(head)],
		} {
			if _, v := decodeOne(t, Config{}, packetOf(capture.Raw, f)); v != Malformed && !(name == "header of 4 only") {
				t.Errorf("%s: %v", name, v)
			}
		}
	}
}

// A capture that keeps only the beginning of each packet still counts all
// fragments on their connection, if the first one came first or in between.
func TestFragmentsCutShort(t *testing.T) {
	f := fragments(ipv4(inside[false], 1, flow.UDP, udp(1000, 2000, make([]byte, 3000))), 1, 1480)
	for _, order := range [][]int{{0, 1, 2}, {2, 0, 1}, {2, 1, 0}} {
		var in []capture.Packet
		for _, i := range order {
			p := packetOf(capture.Raw, f[i])
			p.Data = p.Data[:30]
			in = append(in, p)
		}
		o := run(t, New(Config{}), in...)
		want := tuple(inside[false][0], 1000, inside[false][1], 2000, flow.UDP)
		if o.counted[want].packets != 3 || len(o.payloads) != 0 {
			t.Errorf("order %v: %v, %v", order, o.verdicts, o.counted)
		}
	}
}

// Datagrams that are not completed are given up: by age in packet time, and the
// oldest when there are too many, of them or of their bytes.
func TestIncompleteDatagrams(t *testing.T) {
	last := func(id uint32, at int) []byte {
		packet := ipv4(inside[false], 1, flow.UDP, nil)
		return fragment(packet[:20], flow.UDP, id, at, false, make([]byte, 8))
	}
	in := func(age time.Duration, data []byte) capture.Packet {
		p := packetOf(capture.Raw, data)
		p.Time += int64(age)
		return p
	}
	t.Run("age", func(t *testing.T) {
		d := New(Config{FragmentAge: time.Second})
		o := run(t, d, in(0, last(1, 8)), in(time.Second, innermost(false)))
		if o.stats.FragmentsWaiting != 1 {
			t.Errorf("after a second: %+v", o.stats)
		}
		o = run(t, d, in(time.Second+1, innermost(false)))
		if o.stats.FragmentsWaiting != 0 || o.stats.FragmentsIncomplete != 1 || o.stats.DatagramsAged != 1 {
			t.Errorf("after more: %+v", o.stats)
		}
	})
	t.Run("number", func(t *testing.T) {
		d := New(Config{MaxDatagrams: 3})
		for id := range uint32(10) {
			o := run(t, d, in(0, last(id, 8)))
			if len(d.frags.open) > 3 || o.stats.DatagramsEvicted != uint64(max(0, int(id)-2)) {
				t.Fatalf("datagram %d: %d open, %+v", id, len(d.frags.open), o.stats)
			}
		}
	})
	t.Run("bytes", func(t *testing.T) {
		const limit = 256 << 10
		d := New(Config{MaxFragmentBytes: limit})
		for id := range uint32(1000) {
			at := 8 * int(id*2654435761%8000) // buffers of every size
			run(t, d, in(0, last(id, max(8, at))))
			if d.frags.buffers.used > limit {
				t.Fatalf("datagram %d: %d bytes in buffers", id, d.frags.buffers.used)
			}
		}
		if d.Stats().DatagramsEvicted == 0 {
			t.Error("none was given up")
		}
		// The room is there again for others.
		d.Flush()
		o := run(t, d, rawPackets(fragments(ipv4(inside[false], 1, flow.UDP, udp(1, 2, make([]byte, 60000))), 1, 1480)...)...)
		if o.stats.DatagramsComplete != 1 {
			t.Errorf("afterwards: %+v", o.stats)
		}
	})
	t.Run("no room for one", func(t *testing.T) {
		d := New(Config{MaxFragmentBytes: minBuffer})
		o := run(t, d, in(0, last(1, 8)), in(0, last(2, 60000)))
		if o.verdicts[1] != Held || o.stats.FragmentsIncomplete != 2 || len(d.frags.open) != 0 {
			t.Errorf("%v %+v", o.verdicts, o.stats)
		}
	})
}

// A datagram in more pieces than any link makes is given up, before it costs
// more than it should.
func TestShreddedDatagram(t *testing.T) {
	packet := ipv4(inside[false], 1, flow.UDP, udp(1, 2, make([]byte, 60000)))
	var all []capture.Packet
	for i := 1; i < 3000; i++ { // every other 8 bytes: no two join
		all = append(all, packetOf(capture.Raw, fragment(packet[:20], flow.UDP, 1, 16*i, true, make([]byte, 8))))
	}
	d := New(Config{})
	o := run(t, d, all...)
	if o.stats.DatagramsShredded == 0 || o.stats.FragmentsWaiting > maxHeld || o.stats.FragmentsIncomplete == 0 {
		t.Errorf("pieces: %+v", o.stats)
	}
	// When the first is known none is held, but the pieces are bounded too.
	d = New(Config{})
	run(t, d, packetOf(capture.Raw, fragment(packet[:20], flow.UDP, 1, 0, true, packet[20:28])))
	for i := range all {
		if o := run(t, d, all[i]); i < maxPieces && o.verdicts[0] != Tracked {
			t.Fatalf("fragment %d behind the first: %v", i, o.verdicts[0])
		}
		for _, g := range d.frags.open {
			if len(g.pieces) > maxPieces {
				t.Fatalf("%d pieces", len(g.pieces))
			}
		}
	}
	d = New(Config{})
	var same []capture.Packet
	for range 1000 {
		same = append(same, all[0])
	}
	o = run(t, d, same...)
	if o.stats.DatagramsShredded == 0 || o.stats.FragmentsWaiting > maxHeld {
		t.Errorf("one piece, many times: %+v", o.stats)
	}
}

// Buffers that nobody uses make room for others of another size.
func TestSpareBuffersMakeRoom(t *testing.T) {
	p := buffers{max: 2 * minBuffer}
	p.free(p.take(1))
	if b := p.take(minBuffer + 1); len(b) != 2*minBuffer || p.used != p.max {
		t.Errorf("%d bytes, %d used of %d", len(b), p.used, p.max)
	}
	if b := p.take(1); b != nil {
		t.Errorf("%d bytes beyond the limit", len(b))
	}
}

// Fill joins in any order what was cut, and the first bytes stay.
func TestFillAgainstModel(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 4))
		g := datagram{buf: make([]byte, 200)}
		model := make([]byte, 200) // 0: not there
		for step := byte(1); step < 30; step++ {
			lo := random.IntN(200)
			b := bytes.Repeat([]byte{step}, 1+random.IntN(min(40, 200-lo)))
			overlapping := false
			for i := range b {
				if model[lo+i] == 0 {
					model[lo+i] = step
				} else {
					overlapping = true
				}
			}
			if got := g.fill(lo, b); got != overlapping {
				t.Fatalf("seed %d, step %d: overlapping %v, want %v", seed, step, got, overlapping)
			}
			there := make([]byte, 200)
			end := -1
			for _, p := range g.pieces {
				if int(p.lo) <= end || p.hi <= p.lo {
					t.Fatalf("seed %d, step %d: pieces %v", seed, step, g.pieces)
				}
				end = int(p.hi)
				copy(there[p.lo:p.hi], g.buf[p.lo:p.hi])
			}
			if !bytes.Equal(there, model) {
				t.Fatalf("seed %d, step %d:\n%v, want\n%v", seed, step, there, model)
			}
		}
	}
}
