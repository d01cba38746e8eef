package handshake

import (
	"slices"
	"unsafe"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// Bounds of one direction of a TCP connection.
const (
	maxHeldBytes    = 64 << 10 // out of order, waiting for a hole to fill
	maxHeldSegments = 256
	maxHoles        = 8        // stepped over before the direction is given up
	maxLookedBytes  = 64 << 10 // looked at in vain before it is given up
	maxPrefixBytes  = 4096     // kept while they may be the beginning of a protocol
)

// streams are both directions, by side.
type streams [2]stream

// A stream puts the segments of one direction in order and finds out what they
// carry. Bytes that come in order are not copied. Where segments overlap, the
// bytes that came first win, and what was handed on is never taken back.
type stream struct {
	base    uint32 // first sequence number
	next    uint32 // of the next byte in order
	started bool
	done    bool // nothing is wanted from this direction
	paused  bool // nothing is wanted unless the other direction says so
	midway  bool // was paused: begins anew at the next payload, wherever that is
	holes   uint8
	looked  int

	held      []heldSegment // ascending, beyond next, without overlap; see late.go
	heldBytes int
	prefix    []byte // undecided bytes, in order

	// At most one runs; http may wait for its turn while what follows a
	// CONNECT is not known.
	tls      *ja4.TLSStream
	http     *ja4plus.HTTPStream
	httpRuns bool
	// What tls and http point to.
	tlsState  ja4.TLSStream
	httpState ja4plus.HTTPStream
	// sealed: what was in clear has ended, and the connection is opened.
	sealed bool
}

// A heldSegment is a copy of what a packet carried, and when it came.
type heldSegment struct {
	seq    uint32
	data   []byte
	time   int64
	number uint64 // of the packet within its connection
}

const heldSegmentBytes = int64(unsafe.Sizeof(heldSegment{}))

// before reports whether sequence number a lies before b.
func before(a, b uint32) bool { return int32(a-b) < 0 }

func (s *stream) bytes() int64 {
	n := int64(cap(s.held))*heldSegmentBytes + int64(s.heldBytes+cap(s.prefix))
	if s.tls != nil {
		n += int64(s.tls.Held())
	}
	if s.http != nil {
		n += int64(s.http.Held())
	}
	return n
}

// finish lets go of all memory of s.
func (s *stream) finish() {
	*s = stream{base: s.base, next: s.next, started: s.started, done: true, holes: s.holes}
}

// pause is finish for now.
func (s *stream) pause() {
	*s = stream{base: s.base, paused: true, midway: true, holes: s.holes}
}

// segment takes the payload of the packet in work.
func (g *Engine) segment(c *conn) {
	p, side := g.p, g.side
	s := &c.streams[side]
	if s.done || s.paused {
		return
	}
	seq := p.Seq
	if p.TCPFlags&flow.SYN != 0 {
		seq++
	}
	if !s.started {
		s.started = true
		s.base, s.next = seq, seq
		if c.isnKnown[side] && !s.midway {
			s.base, s.next = c.isn[side]+1, c.isn[side]+1
		}
	}
	data := p.Payload
	for len(data) > 0 && c.streams != nil && !s.done && !s.paused {
		if before(seq, s.next) { // sent again
			again := s.next - seq
			if int64(again) >= int64(len(data)) {
				break
			}
			data, seq = data[again:], s.next
		}
		if seq != s.next {
			s.hold(seq, data, p.Time, g.e.packets)
			data = nil
		} else {
			now := data
			if len(s.held) > 0 {
				now = data[:min(uint32(len(data)), s.held[0].seq-seq)]
			}
			data, seq = data[len(now):], seq+uint32(len(now))
			s.next = seq
			g.inOrder(c, side, now)
		}
		g.drain(c, side)
	}
	if c.streams == nil || s.done || s.paused {
		g.closeStreams(c)
		return
	}
	if missing := p.PayloadLength - len(p.Payload); missing > 0 && seq == s.next {
		// The capture was cut short: the rest will not come.
		g.hole(c, side, seq+uint32(missing))
		g.drain(c, side)
	}
	for c.streams != nil && (s.heldBytes > maxHeldBytes || len(s.held) > maxHeldSegments) {
		g.hole(c, side, s.held[0].seq)
		g.drain(c, side)
	}
	g.closeStreams(c)
}

// drain hands on held segments as far as they are in order.
func (g *Engine) drain(c *conn, side uint8) {
	for c.streams != nil {
		s := &c.streams[side]
		if len(s.held) == 0 || before(s.next, s.held[0].seq) {
			return
		}
		h := s.held[0]
		s.held = s.held[1:]
		s.heldBytes -= len(h.data)
		if len(s.held) == 0 {
			s.held = nil
		}
		if g.inLate {
			g.latePacket.Time, g.lateNumber = h.time, h.number
			g.latePacket.Seq, g.latePacket.PayloadLength = h.seq, len(h.data)
		}
		skip := s.next - h.seq
		if int64(skip) >= int64(len(h.data)) {
			continue
		}
		s.next = h.seq + uint32(len(h.data))
		g.inOrder(c, side, h.data[skip:])
	}
}

// hole steps over what is missing up to sequence number to.
func (g *Engine) hole(c *conn, side uint8, to uint32) {
	s := &c.streams[side]
	g.stats.HolesSkipped++
	if s.httpRuns && s.http.Skip(uint64(to-s.next)) { // within a body
		s.next = to
		return
	}
	if c.inside != nil {
		g.stats.GivenUp[ReasonUnopened]++
		if g.endOpened(c); s.done {
			return
		}
	}
	if s.holes++; s.holes > maxHoles {
		g.stats.GivenUp[ReasonHoles]++
		s.finish()
		return
	}
	s.next = to
	s.prefix, s.tls, s.http, s.httpRuns = nil, nil, nil, false
}

// hold keeps a copy of the bytes of data that are not held yet.
func (s *stream) hold(seq uint32, data []byte, captureTime int64, number uint64) {
	i := 0
	for len(data) > 0 {
		for i < len(s.held) && !before(seq, s.held[i].seq+uint32(len(s.held[i].data))) {
			i++
		}
		n := uint32(len(data))
		if i < len(s.held) {
			h := s.held[i]
			if !before(seq, h.seq) { // begins inside h
				n = min(n, h.seq+uint32(len(h.data))-seq)
				data, seq = data[n:], seq+n
				continue
			}
			n = min(n, h.seq-seq)
		}
		s.held = slices.Insert(s.held, i, heldSegment{seq, slices.Clone(data[:n]), captureTime, number})
		s.heldBytes += int(n)
		data, seq = data[n:], seq+n
	}
}

// closeStreams frees the streams once neither direction is wanted.
func (g *Engine) closeStreams(c *conn) {
	if c.streams == nil {
		return
	}
	a, b := &c.streams[0], &c.streams[1]
	if (a.done || a.paused) && (b.done || b.paused) {
		g.shelf.put(c.streams)
		c.streams, c.inside = nil, nil
	}
}
