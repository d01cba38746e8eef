//go:build e2e

package faults

import (
	"fmt"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// A connection of the truth is a number from 0 up. All else follows from it.
type conn uint32

// The shape of the traffic: connections begin in each batch, and live through so
// many batches.
const (
	connsPerBatch = 200
	batchesOfConn = 4
	maxConns      = 1 << 24 // that fit into an address
)

// mix spreads the bits of a number.
func (c conn) mix() uint64 {
	x := uint64(c)*0x9e3779b97f4a7c15 + 0x1234567
	x ^= x >> 31
	x *= 0xbf58476d1ce4e5b9
	return x ^ x>>29
}

func (c conn) tuple() flow.Tuple {
	t := flow.Tuple{
		Src: flow.AddrFrom4([4]byte{10, byte(c >> 16), byte(c >> 8), byte(c)}), SrcPort: 1024 + uint16(c.mix()>>40&0x3fff),
		Dst: flow.AddrFrom4([4]byte{192, 0, 2, byte(c % 200)}), DstPort: 443, Protocol: flow.UDP,
	}
	if c%4 == 0 {
		t.Protocol = flow.TCP
	}
	return t
}

// connOf is the number behind a source address of the feed.
func connOf(src string) (conn, error) {
	var a, b, c uint32
	if n, err := fmt.Sscanf(src, "10.%d.%d.%d", &a, &b, &c); n != 3 || err != nil {
		return 0, fmt.Errorf("source %q is of no connection that was sent", src)
	}
	return conn(a<<16 | b<<8 | c), nil
}

// packets is how many packets it has, 4 to 36.
func (c conn) packets() int { return 4 + int(c.mix()%33) }

// fromDst says who sent packet p; the first is the source's.
func (c conn) fromDst(p int) bool { return p%3 == 1 }

// length is the size on the wire of packet p.
func (c conn) length(p int) uint32 { return 60 + uint32((c.mix()>>8+uint64(p)*37)%1400) }

// fingerprints is how many it shows, 0 to 2, all with its first packet.
func (c conn) fingerprints() []ja4.Event {
	m := c.mix() >> 20
	all := []ja4.Event{
		{Type: ja4.TypeJA4, Value: fmt.Sprintf("t13d1516h2_%012x_%012x", m%500, m%70)},
		{Type: ja4.TypeJA4T, Value: fmt.Sprintf("64240_2-4-8-1-3_1460_%d", m%9)},
	}
	return all[:m%3]
}

// sums is what a connection, or many, should come to.
type sums struct {
	connections, packets, bytes, srcPackets, srcBytes, fingerprints uint64
}

func (s *sums) add(o sums) {
	s.connections += o.connections
	s.packets += o.packets
	s.bytes += o.bytes
	s.srcPackets += o.srcPackets
	s.srcBytes += o.srcBytes
	s.fingerprints += o.fingerprints
}

func (c conn) sums() sums {
	s := sums{connections: 1, fingerprints: uint64(len(c.fingerprints()))}
	for p := range c.packets() {
		s.packets++
		s.bytes += uint64(c.length(p))
		if !c.fromDst(p) {
			s.srcPackets++
			s.srcBytes += uint64(c.length(p))
		}
	}
	return s
}

// burst is how many batches come between two silences of bursty traffic.
const burst = 40

// begins reports whether connections begin in batch k. In bursty traffic none do
// shortly before a silence: none is cut in two by it.
func begins(k int, bursty bool) bool { return !bursty || k%burst <= burst-batchesOfConn }

// fill makes b the batch with number n, from 0, at a time: the packets that fall
// into it of the connections that began in it or shortly before. Connections
// from end on are left out.
func fill(b *flow.Batch, n int, at int64, end conn, bursty bool) {
	b.Reset()
	row := int64(0)
	for k := max(0, n-batchesOfConn+1); k <= n; k++ {
		if !begins(k, bursty) {
			continue
		}
		for c := conn(k * connsPerBatch); c < conn((k+1)*connsPerBatch) && c < end; c++ {
			index, known := uint32(0), false
			for p := range c.packets() {
				if k+p*batchesOfConn/c.packets() != n {
					continue
				}
				if !known {
					index, known = b.AddFlow(c.tuple()), true
				}
				b.AddPacket(index, c.fromDst(p), at+row*1000, c.length(p), flow.ACK*b2i(c%4 == 0))
				row++
				if p == 0 {
					for _, e := range c.fingerprints() {
						b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: index, Row: uint32(row), Event: e})
					}
				}
			}
		}
	}
	b.Watermark = at
}

func b2i(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
