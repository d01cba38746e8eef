package spool

import (
	"fmt"
	"slices"
)

// Forget removes segments that hold nothing from oldest on: what came before is
// acknowledged or given up. It stops at the first that cannot be removed.
func (s *Spool) Forget(oldest uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Acked = max(s.state.Acked, oldest-1)
	s.state.Reserved = max(s.state.Reserved, s.state.Acked)
	for len(s.segments) > 0 && s.segments[0].last < oldest {
		if s.segments[0].first == 0 && s.out != nil && len(s.segments) == 1 {
			break // it was just made
		}
		if err := s.removeLocked(0); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) removeLocked(i int) error {
	seg := s.segments[i]
	if i == len(s.segments)-1 {
		s.closeOut()
	}
	if err := s.discardSegment(seg.id, seg.damaged); err != nil {
		return err
	}
	s.segments = slices.Delete(s.segments, i, i+1)
	s.size.Add(-seg.size)
	return nil
}

// Oldest returns the sequences of the oldest segment that begins behind after;
// ok is false when there is none.
func (s *Spool) Oldest(after uint64) (first, last uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if seg.first > after {
			return seg.first, seg.last, true
		}
	}
	return 0, 0, false
}

// Drop removes the segment that begins with first. lost is what is said of what
// is in it, in order; it is on stable storage before the segment goes. What was
// said of numbers beyond sent may become one with it.
func (s *Spool) Drop(first uint64, lost []Lost, sent uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.segments, func(seg segment) bool { return seg.first == first })
	if i < 0 {
		return nil
	}
	next := s.state
	next.Lost = mergeLost(s.state.Lost, lost, s.state.Acked, sent)
	if err := s.writeState(&next); err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, err)
	}
	s.state = next
	return s.removeLocked(i)
}

// mergeLost puts ranges in order, without those up to acked, neighbours of one
// reason beyond sent in one: a collector may count one that was sent and not the
// other. When they are too many the oldest are left out: after a crash
// their numbers are said to be lost, and not how much was in them.
func mergeLost(a, b []Lost, acked, sent uint64) []Lost {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y Lost) int {
		if x.First < y.First {
			return -1
		}
		return 1
	})
	out := all[:0]
	for _, l := range all {
		n := len(out)
		switch {
		case l.Last <= acked:
		case n > 0 && l.Last <= out[n-1].Last: // said already
		case n > 0 && out[n-1].Last+1 == l.First && out[n-1].Reason == l.Reason && out[n-1].First > sent:
			out[n-1].Last, out[n-1].Packets, out[n-1].Bytes = l.Last, out[n-1].Packets+l.Packets, out[n-1].Bytes+l.Bytes
		default:
			out = append(out, l)
		}
	}
	return out[max(0, len(out)-maxLostRanges):]
}
