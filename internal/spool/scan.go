package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// segment is one file.
type segment struct {
	id          uint64
	first, last uint64 // 0, 0: empty
	size        int64
	damaged     bool // something in it could not be read
}

const suffix = ".batches"

func (s *Spool) name(id uint64) string { return filepath.Join(s.dir, base(id)) }

// base is the name of a segment in its folder.
func base(id uint64) string { return fmt.Sprintf("%016x"+suffix, id) }

// names returns the ids of the segments there are, in order.
func (s *Spool) names() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return parseNames(names), nil
}

// parseNames returns the ids of those names that segments have, in order.
func parseNames(names []string) []uint64 {
	var ids []uint64
	for _, name := range names {
		var id uint64
		if n, err := fmt.Sscanf(name, "%16x"+suffix, &id); n == 1 && err == nil && base(id) == name {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// scan reads all segments and returns what can be read of them.
func (s *Spool) scan(session [16]byte) ([]Range, error) {
	ids, err := s.names()
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", s.dir, err)
	}
	var found []Range
	newest := s.state.Acked
	for i, id := range ids {
		s.nextID = max(s.nextID, id+1)
		p, err := s.read(id, 0)
		if err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		err = checkSegment(p, session)
		var version *VersionError
		if errors.As(err, &version) {
			version.File = s.name(id)
			return nil, err
		}
		last := i == len(ids)-1
		if err != nil {
			// Of the last one only the name may have reached the disk.
			damaged := !last || len(p) >= segmentHeader
			if damaged {
				s.note("%s: %v: what was in it is lost", s.name(id), err)
			}
			if err := s.discardSegment(id, damaged); err != nil {
				return nil, err
			}
			continue
		}
		records, holes, tail := parseRecords(p[segmentHeader:], segmentHeader)
		if n := len(holes); n > 0 && last && holes[n-1] >= tail {
			s.note("%s: cut at byte %d: the last write was not complete", s.name(id), tail)
			if err := os.Truncate(s.name(id), tail); err != nil {
				return nil, fmt.Errorf("spool: %w", err)
			}
			holes, p = holes[:n-1], p[:tail]
		}
		for _, at := range holes {
			s.note("%s: damaged at byte %d: the batches there are lost", s.name(id), at)
		}
		seg := segment{id: id, size: int64(len(p)), damaged: len(holes) > 0}
		for _, r := range records {
			if r.First <= newest {
				continue // acknowledged, or in the segment before too
			}
			if seg.first == 0 {
				seg.first = r.First
			}
			seg.last, newest = r.Last, r.Last
			found = join(found, r.within(id))
		}
		s.segments = append(s.segments, seg)
		s.size.Add(seg.size)
	}
	return found, nil
}

// complete adds what the session knows to be lost, and what nobody knows, where
// stored has holes. What is stored twice was given up before its file was gone.
func (s *Spool) complete(stored []Range) []Range {
	var found []Range
	next := s.state.Acked + 1
	add := func(r Range) {
		if r.Last < next {
			return
		}
		r.First = max(r.First, next) // never, but in files of another's making
		if r.First > next {
			found = join(found, Range{First: next, Last: r.First - 1, Reason: ReasonCrash})
		}
		found = join(found, r)
		next = r.Last + 1
	}
	lost := s.state.Lost
	for _, r := range stored {
		for len(lost) > 0 && lost[0].First <= r.First {
			l := lost[0]
			add(Range{First: l.First, Last: l.Last, Packets: l.Packets, Bytes: l.Bytes, Reason: l.Reason})
			lost = lost[1:]
		}
		if r.First >= next {
			add(r)
		}
	}
	for _, l := range lost {
		add(Range{First: l.First, Last: l.Last, Packets: l.Packets, Bytes: l.Bytes, Reason: l.Reason})
	}
	s.state.Reserved = max(s.state.Reserved, next-1)
	if next <= s.state.Reserved {
		found = join(found, Range{First: next, Last: s.state.Reserved, Reason: ReasonCrash})
	}
	return found
}
