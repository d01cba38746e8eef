package decode

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/probe/capture"
)

// FuzzDecode: whatever packets come, none makes the decoder panic, each is
// counted exactly once, what is lent lies within bounds, and buffers stay
// within theirs. The input is a row of packets: link type, length, bytes.
func FuzzDecode(f *testing.F) {
	links := []capture.LinkType{
		capture.Ethernet, capture.Raw, capture.Null, capture.Loop, capture.LinuxSLL, capture.SLL2,
		capture.IPv4, capture.IPv6, capture.RawOld, capture.RawBSD, 147,
	}
	number := func(l capture.LinkType) int {
		return bytes.IndexByte([]byte{1, 101, 0, 108, 113, 20, 228, 229, 12, 14, 147}, byte(l))
	}
	for _, e := range encapsulations() {
		for _, v6 := range []bool{false, true} {
			frame := e.wrap(innermost(v6), v6, !v6)
			f.Add(join(number(e.link), uint16(len(frame)), frame))
		}
	}
	for _, v6 := range []bool{false, true} {
		var row []byte
		for _, part := range fragments(innermost(v6), 1, 24) {
			row = join(row, 1, uint16(len(part)), part)
		}
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		d := New(Config{MaxDatagrams: 4, MaxFragmentBytes: 128 << 10})
		var out Packet
		for time := int64(0); len(data) >= 3; time++ {
			in := capture.Packet{LinkType: links[int(data[0])%len(links)], Time: time * 5e9}
			n := min(int(be16(data[1:])), len(data)-3)
			in.Data = data[3 : 3+n : 3+n]
			in.WireLength = uint32(n) + uint32(data[0])/64
			data = data[3+n:]
			v := d.Decode(&in, &out)
			if v == Fault {
				t.Fatalf("panic on link type %v, %x", in.LinkType, in.Data)
			}
			if v == Tracked && out.Tuple.Protocol == 0 {
				t.Fatalf("tracked as %+v", out)
			}
			if len(out.Payload) > out.PayloadLength || out.PayloadLength > max(maxDatagram, int(in.WireLength)) {
				t.Fatalf("%d bytes of payload of %d in a packet of %d", len(out.Payload), out.PayloadLength, in.WireLength)
			}
			checkSum(t, d.Stats())
			if d.frags.buffers.used > 128<<10 || len(d.frags.open) > 4 {
				t.Fatalf("%d bytes, %d datagrams", d.frags.buffers.used, len(d.frags.open))
			}
		}
		d.Flush()
		if s := d.Stats(); s.FragmentsWaiting != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// Bits flipped in any encapsulation, and in the captures cut short, never make
// the decoder panic or lose count.
func TestFlippedBits(t *testing.T) {
	d := New(Config{})
	var out Packet
	for _, e := range encapsulations() {
		for seed := range uint64(500) {
			random := rand.New(rand.NewPCG(seed, 6))
			v6 := random.IntN(2) == 0
			frame := e.wrap(innermost(v6), v6, random.IntN(2) == 0)
			for range 1 + random.IntN(6) {
				bit := random.IntN(8 * len(frame))
				frame[bit/8] ^= 1 << (bit % 8)
			}
			in := packetOf(e.link, frame)
			in.Data = frame[:random.IntN(len(frame)+1)]
			if v := d.Decode(&in, &out); v == Fault {
				t.Fatalf("%s, seed %d: panic on %x", e.name, seed, in.Data)
			}
		}
	}
	checkSum(t, d.Stats())
}

// Decode does not allocate, through any encapsulation, and once buffers have
// grown not for fragments either.
func TestDecodeDoesNotAllocate(t *testing.T) {
	d := New(Config{})
	var out Packet
	for _, e := range encapsulations() {
		in := packetOf(e.link, e.wrap(innermost(false), false, false))
		if n := testing.AllocsPerRun(100, func() { d.Decode(&in, &out) }); n != 0 {
			t.Errorf("%s: %v allocations per packet", e.name, n)
		}
	}
	parts := fragments(ipv4(inside[false], 1, 17, udp(1, 2, make([]byte, 5000))), 1, 1480)
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}} {
		var row []capture.Packet
		for _, i := range order {
			row = append(row, packetOf(capture.Raw, parts[i]))
		}
		n := testing.AllocsPerRun(100, func() {
			for i := range row {
				d.Decode(&row[i], &out)
			}
		})
		if n != 0 || out.PayloadLength != 5000 {
			t.Errorf("fragments in order %v: %v allocations per datagram, payload of %d", order, n, out.PayloadLength)
		}
	}
}
