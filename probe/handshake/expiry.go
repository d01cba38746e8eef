package handshake

import (
	"math"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// Coarse time is capture time in units of 2^26 ns (67 ms) modulo 2^32 (nine
// years): what idleness needs, in four bytes.
const coarseShift = 26

func coarse(t int64) uint32 { return uint32(t >> coarseShift) }

func coarseSpan(d time.Duration) int32 {
	return int32(min(max(int64(d), 0)>>coarseShift, math.MaxInt32-1))
}

// The timeouts by state.
const (
	timeoutTCP = iota
	timeoutHalfOpen
	timeoutClosed
	timeoutUDP
	timeoutOther
	numTimeouts
)

func (e *entry) timeout() int {
	switch {
	case e.protocol == flow.UDP:
		return timeoutUDP
	case e.protocol != flow.TCP:
		return timeoutOther
	case e.closed():
		return timeoutClosed
	case !e.twoWay():
		return timeoutHalfOpen
	}
	return timeoutTCP
}

// idleFor returns how long e has been silent, less than 0 when now lies before
// its last packet.
func (e *entry) idleFor(now uint32) int32 { return int32(now - e.seen) }

// A place is an entry of the table, or was one.
type place struct {
	segment int
	index   uint32
}

// sweep is the place of a hand that goes over the table and forgets what has
// been silent for too long. The hand only saves memory: a packet that finds an
// entry beyond its timeout starts a new connection whether it was swept or not.
type sweep struct {
	place
	last uint32
	debt int // entries to look at
}

const (
	sweepRound = 8 << 30 >> coarseShift // packet time for a whole round, some 8 s
	sweepSlice = 512                    // entries that one packet looks at, at most
)

// sweepSome looks at the share of the table that the time since the last call
// pays for.
func (g *Engine) sweepSome(now uint32) {
	s := &g.sweep
	// Times may go back and forth a little, and time that has passed is paid
	// for once. A jump back is another clock.
	if passed := int32(now - s.last); passed > 0 || passed < -sweepRound {
		total := len(g.table.segments) * segmentEntries
		s.debt = min(s.debt+total*int(min(max(passed, 0), sweepRound))/sweepRound, total)
		s.last = now
	}
	if s.debt == 0 {
		return
	}
	n := min(s.debt, sweepSlice)
	s.debt -= n
	for range n {
		if s.segment >= len(g.table.segments) {
			s.segment, s.index = 0, 0
		}
		seg := g.table.segments[s.segment]
		e := &seg.entries[s.index]
		// What moves up into the place of a removed entry waits for the next
		// round.
		if e.flags != 0 && e.flags&flagSSH == 0 && e.idleFor(now) > g.idle[e.timeout()] {
			g.stats.Expired++
			g.end(e)
			g.table.removeAt(seg, s.index)
		}
		if s.index++; s.index == segmentEntries {
			s.segment++
			s.index = 0
		}
	}
}
