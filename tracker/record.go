package tracker

import (
	"math"

	"github.com/whorl-net/whorl/flow"
)

// hot is what every packet of a connection touches: one cache line.
type hot struct {
	key   [keyBytes]byte
	state state
	// pair is the network and the first probe that saw the connection;
	// freePair marks a free slot.
	pair     uint16
	lastSeen int64 // Unix nanoseconds, the greatest seen
	// packets and bytes of the first observer, sent by A (0) and B (1). What
	// overflows goes to a tagCarry cell.
	packets, bytes [2]uint32
}

// meta is what opening, closing and listing a connection touch: half a cache
// line.
type meta struct {
	firstSeen int64
	// number is the creation number in the shard.
	number     uint64
	next, prev uint32 // in the circle of the wheel's bucket; next also chains free slots
	cells      uint32 // the first cell
	// word holds, from its low bits up: the cells that hang on the connection,
	// shared ones counted in full (17 bits), the bucket of the ring it is in (9),
	// whose ring that is (3), flags (3).
	word uint32
}

const (
	hotBytes  = 64
	metaBytes = 32
	// activityBytes is what a slot takes in shard.late.
	activityBytes = 8

	// chunkSlots makes a chunk 48 KiB: the runtime rounds what it hands out up to
	// pages of 8 KiB, which for chunks of 52 KiB was 8 bytes for each connection.
	chunkSlots = 512

	freePair = math.MaxUint16
)

// Parts of meta.word, and its flags; state.slow is set when offClock or multi is.
const (
	weightBits  = 17
	weightMask  = 1<<weightBits - 1
	bucketShift = weightBits
	bucketMask  = (1<<9 - 1) << bucketShift
	classShift  = bucketShift + 9
	classMask   = (1<<3 - 1) << classShift

	offClock uint32 = 1 << 29 // the last activity is in shard.late
	multi    uint32 = 1 << 30 // there is more than one observer
	carried  uint32 = 1 << 31 // there is a tagCarry cell
)

func (m *meta) is(flag uint32) bool { return m.word&flag != 0 }

func (m *meta) weight() uint32 { return m.word & weightMask }

// weigh adds n to the weight. That stays far from its bits' end: see maxWeight.
func (m *meta) weigh(n int) { m.word += uint32(n) }

func (m *meta) bucket() uint16 { return uint16(m.word & bucketMask >> bucketShift) }

func (m *meta) setBucket(b uint16) { m.word = m.word&^bucketMask | uint32(b)<<bucketShift }

func (m *meta) class() class { return class(m.word & classMask >> classShift) }

func (m *meta) setClass(c class) { m.word = m.word&^classMask | uint32(c)<<classShift }

// A chunk holds chunkSlots connections; they never move.
type chunk struct {
	hot  [chunkSlots]hot
	meta [chunkSlots]meta
}

// slot numbers start at 1; 0 is none.

// state packs what is known of a connection's progress.
type state uint8

const (
	initiatorB    state = 1 << 0 // the initiator is the key's B side
	evidenceShift       = 1      // 2 bits: how sure that is
	evidenceMask  state = 3 << evidenceShift
	phaseShift          = 3 // 2 bits
	phaseMask     state = 3 << phaseShift
	finA          state = 1 << 5 // the A side sent a FIN
	finB          state = 1 << 6
	slow          state = 1 << 7 // meta says why: offClock or multi
)

// The phases. UDP goes from opening to established when the second direction
// is seen; other protocols stay at opening.
const (
	phaseOpening     state = 0 << phaseShift
	phaseTalking     state = 1 << phaseShift // a segment without SYN was seen
	phaseEstablished state = 2 << phaseShift
	phaseClosed      state = 3 << phaseShift
)

// Evidence for who the initiator is, weakest first.
const (
	byFirstPacket uint8 = iota
	byHello             // sender of a ja4 or ja4h packet
	bySYNACK            // receiver of a SYN-ACK
	bySYN               // sender of a SYN
)

func (s state) evidence() uint8 { return uint8(s & evidenceMask >> evidenceShift) }

// initiate makes side (0 is A) the initiator if the evidence is better than
// what there was.
func (s *state) initiate(side, evidence uint8) {
	if evidence <= s.evidence() {
		return
	}
	*s = *s&^(initiatorB|evidenceMask) | state(side) | state(evidence)<<evidenceShift
}

// class is the kind of connection that decides its timeout and, by its number,
// who goes first when there is no room.
type class uint8

const (
	classClosed class = iota
	classHalfOpen
	classUDPOneWay
	classOther
	classUDP
	classEstablished
	numClasses
)

// classes is indexed by kind of protocol and phase.
var classes = [3][4]class{
	kindOther: {classOther, classOther, classOther, classOther},
	kindTCP:   {classHalfOpen, classHalfOpen, classEstablished, classClosed},
	kindUDP:   {classUDPOneWay, classUDPOneWay, classUDP, classUDP},
}

// Kinds of protocols.
const (
	kindOther = iota
	kindTCP
	kindUDP
)

func (h *hot) class() class {
	kind := kindOther
	switch h.proto() {
	case flow.TCP:
		kind = kindTCP
	case flow.UDP:
		kind = kindUDP
	}
	return classes[kind][h.state&phaseMask>>phaseShift]
}

// advance moves the connection's state on for a packet. bothSeen says that the
// other side has sent something, too.
func (h *hot) advance(p *packet, bothSeen bool) {
	if h.proto() != flow.TCP {
		if bothSeen && h.proto() == flow.UDP {
			h.state |= phaseEstablished
		}
		return
	}
	if p.flags&flow.SYN != 0 {
		if p.flags&flow.ACK == 0 {
			h.state.initiate(p.side, bySYN)
		} else if p.packets == 1 { // the flags of a run may be those of several packets
			h.state.initiate(p.side^1, bySYNACK)
		}
	}
	phase := h.state & phaseMask
	if phase == phaseClosed {
		return
	}
	if phase == phaseOpening && (p.flags&flow.SYN == 0 || p.packets > 1) {
		phase = phaseTalking
	}
	if phase == phaseTalking && bothSeen {
		phase = phaseEstablished
	}
	if p.flags&flow.FIN != 0 {
		h.state |= finA << p.side
	}
	if p.flags&flow.RST != 0 || h.state&(finA|finB) == finA|finB {
		phase = phaseClosed
	}
	h.state = h.state&^phaseMask | phase
}

func (h *hot) tcpState() TCPState {
	if h.proto() != flow.TCP {
		return TCPNone
	}
	switch h.state & phaseMask {
	case phaseEstablished:
		return TCPEstablished
	case phaseClosed:
		return TCPClosed
	}
	return TCPHalfOpen
}

// timeouts are those of Config, by class, in nanoseconds.
type timeouts [numClasses]int64

// never is a timeout that no two times of capture are apart.
const never = math.MaxInt64

func newTimeouts(t Timeouts) timeouts {
	ns := timeouts{
		classClosed: int64(t.TCPClosed), classHalfOpen: int64(t.TCPHalfOpen), classUDPOneWay: int64(t.UDPOneWay),
		classOther: int64(t.Other), classUDP: int64(t.UDP), classEstablished: int64(t.TCP),
	}
	for c := range ns {
		if ns[c] < 0 {
			ns[c] = never
		}
	}
	return ns
}
