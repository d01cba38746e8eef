package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	// asideSuffix is behind the name of a segment that was set aside.
	asideSuffix = ".damaged"
	// maxAside is how many are kept; the oldest goes first.
	maxAside = 4
	// maxNotes bounds the lines that wait to be asked for.
	maxNotes = 100
)

// isAside reports whether a file of this name is a segment that was set aside.
func isAside(name string) bool { return strings.HasSuffix(name, suffix+asideSuffix) }

// discardSegment removes the file of a segment whose content is done with. A
// damaged one gets another name instead, for whoever wants to know what became of
// the disk; nothing reads it again.
func (s *Spool) discardSegment(id uint64, damaged bool) error {
	name := s.name(id)
	if !damaged {
		if err := discard(name); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		return nil
	}
	if err := os.Rename(name, name+asideSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("spool: set a damaged segment aside: %w", err)
	}
	s.aside.Add(1)
	s.note("%s: the damaged segment is kept as %s; the newest %d of them are", name, name+asideSuffix, maxAside)
	return s.trimAside()
}

// asideIDs returns the ids of the segments that were set aside, the oldest first.
func (s *Spool) asideIDs() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", s.dir, err)
	}
	var names []string
	for _, e := range entries {
		if isAside(e.Name()) {
			names = append(names, strings.TrimSuffix(e.Name(), asideSuffix))
		}
	}
	return parseNames(names), nil
}

// trimAside removes the oldest of the segments that were set aside, beyond maxAside.
func (s *Spool) trimAside() error {
	ids, err := s.asideIDs()
	if err != nil {
		return err
	}
	for _, id := range ids[:max(0, len(ids)-maxAside)] {
		if err := discard(s.name(id) + asideSuffix); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	return nil
}

// noteDamage remembers that a segment is damaged, which a reader found.
func (s *Spool) noteDamage(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.segments, func(seg segment) bool { return seg.id == id })
	if i >= 0 && !s.segments[i].damaged {
		s.segments[i].damaged = true
		s.note("%s: damaged since it was written: the batches there are lost", s.name(id))
	}
}

// note keeps a line for people; s.mu is held, or nobody else has s yet.
func (s *Spool) note(format string, args ...any) {
	if len(s.notes) < maxNotes {
		s.notes = append(s.notes, fmt.Sprintf(format, args...))
	}
}
