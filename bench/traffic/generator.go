package traffic

import (
	"encoding/binary"
	"io"
	"math/rand/v2"

	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// Stats says what a Generator has made so far.
type Stats struct {
	// Packets is all of them, Recorded those that were played from the sample:
	// handshakes, ends, whole conversations without data segments.
	Packets, Recorded uint64
	// Connections were begun.
	Connections uint64
	// WireBytes and CapturedBytes are the sums over all packets.
	WireBytes, CapturedBytes uint64
}

// Generator makes packets. It is a capture.Source of Ethernet packets and
// belongs to one goroutine.
type Generator struct {
	cfg   Config
	rand  *rand.Rand
	stats Stats
	now   int64
	gap   uint64
	ipID  uint16
	buf   [1 << 16]byte
	noise [4096]byte

	make func(p *capture.Packet) // the next packet, but for its time

	// Of connections played from templates:

	plan  plan
	begun int // connections
	open  []conn
	// sizes are, of Steady, the sums of the packets of connections 0 to i.
	sizes []int
	turn  int // index of the connection whose train is under way
	train int // packets left in it

	// Of a flood and of UDP:

	header [2]recorded
}

// conn is a connection that is open.
type conn struct {
	t      *template
	client uint32
	server uint32
	port   uint16
	at     int32     // next recorded packet
	left   int32     // data segments
	phase  uint8     // in the cycle of data segments
	offset [2]uint32 // what is added to the sequence numbers of each side
}

// New returns a Generator of what cfg describes, out of s. Its memory is a few
// bytes per connection and does not grow with packets.
func New(cfg Config, s *Sample) (*Generator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Generator{
		cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 0x77686f726c)),
		now: numbered.Epoch, gap: uint64(cfg.Span) / uint64(cfg.Packets),
	}
	for i := range g.noise {
		g.noise[i] = byte(g.rand.Uint32())
	}
	switch cfg.Shape {
	case Flood:
		g.header[0] = s.kinds[kindTLS][0].packets[0]
		g.make = g.flood
		return g, nil
	case UDP:
		dns := s.kinds[kindDNS][0]
		g.header[0], g.header[1] = dns.packets[0].bare(), dns.packets[1].bare()
		g.make = g.datagram
		return g, nil
	}
	if cfg.Shape == Steady {
		return g, g.beginSteady(s)
	}
	if g.plan, err = newPlan(cfg, s, g.rand); err != nil {
		return nil, err
	}
	g.open = make([]conn, 0, min(cfg.Connections, max(64, cfg.Connections/8)))
	g.make = g.played
	return g, nil
}

// bare is p without its payload.
func (p recorded) bare() recorded {
	p.data = p.data[:p.payload]
	return p
}

// Next implements capture.Source.
func (g *Generator) Next(p *capture.Packet) error {
	if g.stats.Packets == uint64(g.cfg.Packets) {
		return io.EOF
	}
	*p = capture.Packet{LinkType: capture.Ethernet, Time: g.now}
	g.make(p)
	g.now += int64(g.gap/2 + g.rand.Uint64N(g.gap+1))
	g.stats.Packets++
	g.stats.WireBytes += uint64(p.WireLength)
	g.stats.CapturedBytes += uint64(len(p.Data))
	return nil
}

// Close implements capture.Source.
func (g *Generator) Close() error { return nil }

// Stats returns what was made so far.
func (g *Generator) Stats() Stats { return g.stats }

// played makes a packet of one of the open connections.
func (g *Generator) played(p *capture.Packet) {
	for len(g.open) < cap(g.open) && g.begun < g.cfg.Connections {
		g.open = append(g.open, g.begin(g.begun))
	}
	if g.train == 0 {
		g.turn = g.rand.IntN(len(g.open))
		g.train = 1 + g.rand.IntN(2+min(int(g.open[g.turn].left)/64, 14))
	}
	c := &g.open[g.turn]
	g.train--
	if g.advance(p, c) {
		*c = g.open[len(g.open)-1]
		g.open = g.open[:len(g.open)-1]
		g.train = 0
	}
}

// advance makes the next packet of c and reports whether it was the last.
func (g *Generator) advance(p *capture.Packet, c *conn) (last bool) {
	if int(c.at) == c.t.cut && c.left > 0 {
		g.data(p, c)
	} else {
		g.replay(p, c)
	}
	return c.left == 0 && int(c.at) == len(c.t.packets)
}

// begin opens a connection like number like of the plan. Each of the first 2^24
// has a client address of its own, so no two of them have the same key.
func (g *Generator) begin(like int) conn {
	i := g.begun
	g.begun++
	g.stats.Connections++
	servers := uint64(min(max(g.cfg.Connections/50, 1), 1<<16))
	n := g.rand.Uint64N(servers) * (g.rand.Uint64N(servers) + 1) / servers // some are popular
	return conn{
		t: g.plan.templates[g.plan.of[like]], left: g.plan.data[like],
		client: client(uint32(i)), server: 198<<24 | 18<<16 + 1 + uint32(n),
		port:   uint16(1024 + g.rand.IntN(64000)),
		offset: [2]uint32{g.rand.Uint32(), g.rand.Uint32()},
	}
}

// client is the address of connection i, one of 10.0.0.0/8.
func client(i uint32) uint32 { return 10<<24 | i*0x9e3779b1&0xffffff }

// replay makes the next recorded packet of c.
func (g *Generator) replay(p *capture.Packet, c *conn) {
	r := &c.t.packets[c.at]
	c.at++
	g.stats.Recorded++
	b := g.buf[:copy(g.buf[:], r.data)]
	g.address(b, r, c)
	if r.protocol == flow.TCP {
		g.number(b, r, c, r.seq(), binary.BigEndian.Uint32(b[r.l4+8:]))
	}
	p.Data, p.WireLength = b, r.wire
}

// data makes a data segment of c, or the acknowledgement of two.
func (g *Generator) data(p *capture.Packet, c *conn) {
	side, n := uint8(1), 1448
	if c.t.kind == kindSSH {
		n = 36 + 16*g.rand.IntN(4)
		if c.phase == 0 {
			side = 0
		}
	}
	if c.phase == 2 {
		side, n = 0, 0
	}
	c.left--
	c.phase = (c.phase + 1) % 3

	h := &c.t.header[side]
	b := g.buf[:copy(g.buf[:], h.data)]
	g.payload(b[:len(b)+n], len(b), c.t.kind)
	g.address(b, h, c)
	g.number(b, h, c, c.t.next[side], c.t.next[side^1])
	b[h.l4+13] = flow.ACK
	if n > 0 {
		b[h.l4+13] |= flow.PSH
	}
	c.offset[side] += uint32(n)
	g.lengths(p, b, h, n)
}

// payload fills b from byte from on with what looks encrypted, for TLS in a record.
func (g *Generator) payload(b []byte, from int, k kind) {
	b = b[from:]
	if len(b) == 0 {
		return
	}
	keep := min(len(b), g.cfg.Snap)
	copy(b[:keep], g.noise[g.rand.IntN(2048):])
	if k == kindTLS && len(b) > 5 {
		b[0], b[1], b[2] = 23, 3, 3
		binary.BigEndian.PutUint16(b[3:], uint16(len(b)-5))
	}
}

// lengths says that n bytes follow the headers in b, and cuts the packet.
func (g *Generator) lengths(p *capture.Packet, b []byte, h *recorded, n int) {
	full := len(b) + n
	if h.data[12] == 0x08 {
		binary.BigEndian.PutUint16(b[h.l3+2:], uint16(full-h.l3))
		checksum(b[h.l3:h.l4])
	} else {
		binary.BigEndian.PutUint16(b[h.l3+4:], uint16(full-h.l4))
	}
	if h.protocol == flow.UDP {
		binary.BigEndian.PutUint16(b[h.l4+4:], uint16(full-h.l4))
	}
	p.Data, p.WireLength = b[:min(full, max(g.cfg.Snap, len(b)))], uint32(full)
}

// address gives a packet the addresses and the client port of c.
func (g *Generator) address(b []byte, r *recorded, c *conn) {
	ends := [2]uint32{c.client, c.server}
	src, dst := ends[r.side], ends[r.side^1]
	if c.t.ipv6 {
		const prefix = 0x20010db8
		for i, a := range [2]uint32{src, dst} {
			at := b[r.l3+8+16*i:]
			binary.BigEndian.PutUint64(at, prefix<<32)
			binary.BigEndian.PutUint64(at[8:], uint64(a))
		}
	} else {
		binary.BigEndian.PutUint32(b[r.l3+12:], src)
		binary.BigEndian.PutUint32(b[r.l3+16:], dst)
		g.ipID++
		binary.BigEndian.PutUint16(b[r.l3+4:], g.ipID)
		checksum(b[r.l3:r.l4])
	}
	if r.protocol == flow.TCP || r.protocol == flow.UDP {
		binary.BigEndian.PutUint16(b[r.l4+2*int(r.side):], c.port)
	}
}

// number shifts the sequence numbers of a packet.
func (g *Generator) number(b []byte, r *recorded, c *conn, seq, ack uint32) {
	binary.BigEndian.PutUint32(b[r.l4+4:], seq+c.offset[r.side])
	if b[r.l4+13]&flow.ACK != 0 {
		binary.BigEndian.PutUint32(b[r.l4+8:], ack+c.offset[r.side^1])
	}
}

// checksum writes that of an IPv4 header.
func checksum(h []byte) {
	h[10], h[11] = 0, 0
	var sum uint32
	for i := 0; i+1 < len(h); i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
}

// flood makes a SYN from a source that was not there before.
func (g *Generator) flood(p *capture.Packet) {
	i := uint32(g.stats.Packets)
	h := &g.header[0]
	b := g.buf[:copy(g.buf[:], h.data)]
	c := conn{
		t: &template{}, client: 1<<24 + i*0x9e3779b1&^(1<<31), server: 198<<24 | 18<<16 | 1,
		port: uint16(1024 + i*40503%64000), offset: [2]uint32{g.rand.Uint32()},
	}
	g.address(b, h, &c)
	g.number(b, h, &c, h.seq(), 0)
	g.stats.Connections++
	p.Data, p.WireLength = b, h.wire
}

// datagram makes a datagram of one of the flows, each at least once; one of
// four is from the client. Its payload looks like QUIC behind the handshake.
func (g *Generator) datagram(p *capture.Packet) {
	i := int(g.stats.Packets)
	side := 0
	if i >= g.cfg.Connections {
		i = g.rand.IntN(g.cfg.Connections)
		side = min(g.rand.IntN(4), 1)
	} else {
		g.stats.Connections++
	}
	h := &g.header[side]
	n := 1200
	b := g.buf[:copy(g.buf[:], h.data)]
	g.payload(b[:len(b)+n], len(b), kindDNS)
	b[:len(b)+1][len(b)] = 0x40 | b[:len(b)+1][len(b)]&0x3f
	g.address(b, h, &conn{t: &template{}, client: client(uint32(i)), server: 198<<24 | 18<<16 | 1, port: uint16(1024 + i%64000)})
	binary.BigEndian.PutUint16(b[h.l4+2*(1-side):], 443)
	g.lengths(p, b, h, n)
}
