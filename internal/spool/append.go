package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/whorl-net/whorl/internal/disk"
)

// Fits reports whether a group of n bytes, RecordOverhead for each record
// included, fits.
func (s *Spool) Fits(n int) bool {
	return s.size.Load()+int64(n)+segmentHeader <= s.maxBytes
}

// GroupFits reports whether a record with a body of n bytes may join a group
// with bodies of size bytes.
func GroupFits(size, n int) bool { return size == 0 || size+n <= maxGroupBytes }

// Append writes records, whose sequences follow those before, and returns when
// they are on stable storage; it returns where each lies. After an error none
// of them counts, and it may be called with the same again.
func (s *Spool) Append(records []Record) ([]Range, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(records) == 0 {
		return nil, nil
	}
	if n := len(s.segments); s.out != nil && s.segments[n-1].size >= s.segmentBytes {
		s.closeOut()
	}
	if s.out == nil {
		if err := s.create(); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
	}
	seg := &s.segments[len(s.segments)-1]
	var buf []byte
	ranges := make([]Range, 0, len(records))
	for i := range records {
		r := &records[i]
		at := place{Record: *r, offset: seg.size + int64(len(buf))}
		ranges = append(ranges, at.within(seg.id))
		buf = appendRecord(buf, r)
	}
	_, err := s.out.WriteAt(buf, seg.size)
	if err == nil {
		err = s.out.Sync()
	}
	if err == nil {
		err = s.believe()
	}
	if err != nil {
		// What reached the disk of it must not be taken for whole: it is cut off
		// and, should that fail too, passed over as repeated.
		cutErr := s.out.Truncate(seg.size)
		s.closeOut()
		return nil, fmt.Errorf("spool: %w", errors.Join(err, cutErr))
	}
	if seg.first == 0 {
		seg.first = records[0].First
	}
	seg.last = records[len(records)-1].Last
	seg.size += int64(len(buf))
	s.size.Add(int64(len(buf)))
	return ranges, nil
}

// create begins a segment.
func (s *Spool) create() error {
	id, err := s.state.id()
	if err != nil {
		return err
	}
	name := s.name(s.nextID)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		s.nextID++ // left over from a failure
		return err
	}
	if err != nil {
		return err
	}
	header := appendSegmentHeader(nil, id)
	if _, err = f.Write(header); err == nil {
		err = disk.SyncFolder(s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), discard(name))
	}
	s.out = f
	s.segments = append(s.segments, segment{id: s.nextID, size: int64(len(header))})
	s.size.Add(int64(len(header)))
	s.nextID++
	return nil
}

// closeOut ends the segment that is written. Its content is synced already.
func (s *Spool) closeOut() {
	if s.out != nil {
		s.out.Close() // nothing is left in it to be written
		s.out = nil
	}
}
