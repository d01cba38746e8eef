package decode

import (
	"time"

	"github.com/whorl-net/whorl/flow"
)

const (
	maxDatagram = 65535 // bytes behind the IP header
	// maxPieces bounds the separate pieces of one datagram, maxHeld the
	// fragments held for it. 119 fragments make the greatest datagram on a
	// link of 576 bytes.
	maxPieces = 128
	maxHeld   = 256
)

// fragmentKey is what the fragments of one datagram have in common (RFC 791
// section 3.2, RFC 8200 section 4.5).
type fragmentKey struct {
	src, dst flow.Addr
	id       uint32
	protocol uint8 // IPv4 only
	v6       bool
}

// piece is a part of a datagram that has come: bytes lo to hi.
type piece struct{ lo, hi uint16 }

// header is what the first fragment told about all of them.
type header struct {
	flow.Tuple
	TTL  uint8
	IPv6 bool
}

// datagram is what has come of one datagram. Where fragments overlap, the
// bytes that came first stay.
type datagram struct {
	key    fragmentKey
	opened int64 // packet time of its first fragment to come

	buf    []byte
	pieces []piece // in order, neither overlapping nor adjacent
	total  int     // length of the datagram, 0 until its last fragment came

	begun    bool // the fragment at offset 0 came, and told ip and protocol
	ip       ipHeader
	protocol uint8

	known   bool // verdict and as are settled
	verdict Verdict
	as      header

	held         []HeldFragment
	older, newer *datagram // in the order of opening
}

// complete reports whether nothing is missing.
func (g *datagram) complete() bool {
	return g.total > 0 && len(g.pieces) == 1 && g.pieces[0] == piece{0, uint16(g.total)}
}

// beginning returns the bytes that have come without a hole from the start, nil
// when the start is missing.
func (g *datagram) beginning() []byte {
	if len(g.pieces) == 0 || g.pieces[0].lo != 0 {
		return nil
	}
	return g.buf[:g.pieces[0].hi]
}

// fill copies b to lo where nothing was before, and reports whether something
// was. The buffer is long enough.
func (g *datagram) fill(lo int, b []byte) (overlapping bool) {
	hi := lo + len(b)
	i := 0
	for i < len(g.pieces) && int(g.pieces[i].hi) < lo {
		i++
	}
	merged := piece{uint16(lo), uint16(hi)}
	j, next := i, lo
	for ; j < len(g.pieces) && int(g.pieces[j].lo) <= hi; j++ {
		p := g.pieces[j]
		if next < int(p.lo) {
			copy(g.buf[next:p.lo], b[next-lo:])
		}
		if int(p.lo) < hi && int(p.hi) > lo {
			overlapping = true
		}
		next = int(p.hi)
		merged = piece{min(merged.lo, p.lo), max(merged.hi, p.hi)}
	}
	if next < hi {
		copy(g.buf[next:hi], b[next-lo:])
	}
	if i == j {
		g.pieces = append(g.pieces, piece{})
		copy(g.pieces[i+1:], g.pieces[i:])
	} else {
		g.pieces = append(g.pieces[:i+1], g.pieces[j:]...)
	}
	g.pieces[i] = merged
	return overlapping
}

// reassembler holds the incomplete datagrams. Their number, the bytes of their
// buffers and their age are bounded; beyond a bound the oldest is given up.
type reassembler struct {
	stats *Stats
	open  map[fragmentKey]*datagram
	max   int   // datagrams
	age   int64 // nanoseconds of packet time

	oldest, newest *datagram
	spare          []*datagram
	buffers        buffers
	lent           [][]byte // complete datagrams, until the next packet
	busy           bool     // something is open or lent
}

func (r *reassembler) init(c Config, stats *Stats) {
	*r = reassembler{
		stats: stats, open: make(map[fragmentKey]*datagram),
		max: c.MaxDatagrams, age: int64(c.FragmentAge / time.Nanosecond),
		buffers: buffers{max: c.MaxFragmentBytes},
	}
}

// begin is called before each packet while r is busy.
func (r *reassembler) begin(now int64) {
	for i, b := range r.lent {
		r.buffers.free(b)
		r.lent[i] = nil
	}
	r.lent = r.lent[:0]
	for r.oldest != nil && now-r.oldest.opened > r.age {
		r.stats.DatagramsAged++
		r.giveUp(r.oldest)
	}
	r.busy = r.oldest != nil
}

// find returns the datagram of key, a new one if it is not open.
func (r *reassembler) find(key fragmentKey, now int64) *datagram {
	if g := r.open[key]; g != nil {
		return g
	}
	if len(r.open) == r.max {
		r.stats.DatagramsEvicted++
		r.giveUp(r.oldest)
	}
	var g *datagram
	if n := len(r.spare); n > 0 {
		g, r.spare = r.spare[n-1], r.spare[:n-1]
	} else {
		g = new(datagram)
	}
	g.key, g.opened = key, now
	g.older = r.newest
	if r.newest != nil {
		r.newest.newer = g
	} else {
		r.oldest = g
	}
	r.newest = g
	r.open[key] = g
	r.busy = true
	return g
}

// put adds a fragment to g. It reports false when it is one piece too many, or
// when there is no room for it even without all the others.
func (r *reassembler) put(g *datagram, offset int, b []byte, wire int, more bool) bool {
	end := 0 // of what has come so far
	if n := len(g.pieces); n > 0 {
		end = int(g.pieces[n-1].hi)
	}
	contradicts := false
	switch {
	case more && g.total > 0 && offset+wire > g.total,
		!more && g.total > 0 && offset+wire != g.total,
		!more && g.total == 0 && offset+wire < end:
		contradicts = true // about the length; the first to tell it is believed
	case !more:
		g.total = offset + wire
	}
	if g.total > 0 {
		b = b[:max(0, min(len(b), g.total-offset))]
	}
	overlapping := false
	if len(b) > 0 {
		if !r.reserve(g, offset+len(b)) {
			r.stats.DatagramsEvicted++
			return false
		}
		if len(g.pieces) == maxPieces {
			r.stats.DatagramsShredded++
			return false
		}
		overlapping = g.fill(offset, b)
	}
	if overlapping || contradicts {
		r.stats.FragmentsOverlapping++
	}
	return true
}

// reserve makes the buffer of g at least n bytes long, at the cost of older
// datagrams if need be.
func (r *reassembler) reserve(g *datagram, n int) bool {
	if n <= len(g.buf) {
		return true
	}
	for {
		b := r.buffers.take(n)
		if b != nil {
			copy(b, g.buf)
			r.buffers.free(g.buf)
			g.buf = b
			return true
		}
		victim := r.oldest
		if victim == g {
			victim = g.newer
		}
		if victim == nil {
			return false
		}
		r.stats.DatagramsEvicted++
		r.giveUp(victim)
	}
}

// hold keeps more and f until the connection of g is known. It reports false
// when they are too many.
func (r *reassembler) hold(g *datagram, more []HeldFragment, f HeldFragment) bool {
	if len(g.held)+len(more)+1 > maxHeld {
		r.stats.DatagramsShredded++
		return false
	}
	g.held = append(append(g.held, more...), f)
	r.stats.FragmentsWaiting += uint64(len(more) + 1)
	return true
}

// release appends what is held for g to dst: it is settled.
func (r *reassembler) release(g *datagram, dst []HeldFragment) []HeldFragment {
	r.stats.FragmentsWaiting -= uint64(len(g.held))
	dst = append(dst, g.held...)
	g.held = g.held[:0]
	return dst
}

// lend closes g and returns its bytes, valid until the next packet.
func (r *reassembler) lend(g *datagram) []byte {
	body := g.buf[:g.total]
	r.lent = append(r.lent, g.buf)
	g.buf = nil
	r.remove(g)
	return body
}

// giveUp closes g and counts what was held for it.
func (r *reassembler) giveUp(g *datagram) {
	r.stats.FragmentsWaiting -= uint64(len(g.held))
	r.lose(len(g.held))
	r.remove(g)
}

func (r *reassembler) lose(fragments int) { r.stats.FragmentsIncomplete += uint64(fragments) }

func (r *reassembler) remove(g *datagram) {
	delete(r.open, g.key)
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		r.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		r.newest = g.older
	}
	r.buffers.free(g.buf)
	*g = datagram{pieces: g.pieces[:0], held: g.held[:0]}
	r.spare = append(r.spare, g)
}

func (r *reassembler) flush() {
	for r.oldest != nil {
		r.giveUp(r.oldest)
	}
}

// buffers hands out buffers of the powers of two from minBuffer to 64 KiB, max
// bytes of them at most, and takes them back.
type buffers struct {
	max, used int
	spare     [6][][]byte
}

const minBuffer = 2 << 10

// take returns a buffer of at least n bytes, nil when there is no room.
func (p *buffers) take(n int) []byte {
	class, size := 0, minBuffer
	for size < n {
		class, size = class+1, size*2
	}
	if s := p.spare[class]; len(s) > 0 {
		b := s[len(s)-1]
		p.spare[class] = s[:len(s)-1]
		return b
	}
	if p.used+size > p.max {
		p.drop()
	}
	if p.used+size > p.max {
		return nil
	}
	p.used += size
	return make([]byte, size)
}

// free takes back a buffer of take; nil is fine.
func (p *buffers) free(b []byte) {
	if b == nil {
		return
	}
	class := 0
	for size := minBuffer; size < len(b); size *= 2 {
		class++
	}
	p.spare[class] = append(p.spare[class], b)
}

// drop leaves all spare buffers to the garbage collector.
func (p *buffers) drop() {
	for class := range p.spare {
		p.used -= len(p.spare[class]) * (minBuffer << class)
		clear(p.spare[class])
		p.spare[class] = p.spare[class][:0]
	}
}
