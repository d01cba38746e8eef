// Package spool keeps the batches of one probe session on disk while their
// collector is away.
//
// A Spool is a directory: a file "session" with the session's identity and how
// far its numbering may have come, segments with records (a batch, or what is
// said of batches that were given up), and a lock. Records are appended in
// groups, one fsync each, their sequences rising; whole segments are removed
// when they are acknowledged or given up. What is on disk belongs to the Spool,
// what was read from it to the caller.
//
// After a crash Open finds whatever an Append that returned had written. A torn
// tail is cut at the last whole record; damage elsewhere costs what it hit, as
// Lost ranges with exact counts where the record still tells, and is noted.
// Numbers that were reserved and may have been used without reaching the disk
// become a Lost range of unknown content, so no number is ever used twice.
//
// The package knows neither what a batch holds nor where it is sent.
package spool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultMaxBytes and MinMaxBytes are the default and the least of
	// Options.MaxBytes.
	DefaultMaxBytes = 1 << 30
	MinMaxBytes     = 1 << 20

	minSegmentBytes = 64 << 10
	maxSegmentBytes = 4 << 20
	// maxGroupBytes bounds the bodies of one Append, one larger batch aside.
	maxGroupBytes = 4 << 20

	// Numbers are reserved ahead, as many as last for some ten seconds.
	minReserve = 64
	maxReserve = 4096
)

// Reasons of Lost ranges that a spool makes.
const (
	// ReasonDamaged: it was on disk and cannot be read.
	ReasonDamaged = "spool-damaged"
	// ReasonCrash: it was in memory when the probe ended without notice, as far
	// as these numbers were used at all.
	ReasonCrash = "crash"
)

// Options say whose spool it is and what it may take.
type Options struct {
	// Probe and Network name the session's owner; Live is its kind.
	Probe, Network string
	Live           bool
	// MaxBytes bounds the segments on disk; 0 is 1 GiB, less than 1 MiB is
	// refused. It is for the caller to keep: see Spool.Fits.
	MaxBytes int64
}

// Range is a run of sequences found in, or put into, a spool.
type Range struct {
	// First and Last are its sequences.
	First, Last uint64
	// Batches, Packets and Bytes (as captured) are in it; Size is what its
	// batches take.
	Batches, Packets, Bytes uint64
	Size                    int64
	// Reason is why it was given up; empty when its batches can be read.
	Reason string

	segment uint64
	offset  int64 // where its first record lies, or before
}

// Lost reports whether r was given up.
func (r *Range) Lost() bool { return r.Reason != "" }

// segment is one file.
type segment struct {
	id          uint64
	first, last uint64 // 0, 0: empty
	size        int64
}

// Spool is an open spool. Append, Forget, Drop and Reserve are for one
// goroutine; Read may be called by another meanwhile.
type Spool struct {
	dir          string
	maxBytes     int64
	segmentBytes int64
	lock         *os.File
	notes        []string

	size atomic.Int64 // of all segments

	mu       sync.Mutex // guards what follows; held while something is written
	state    state
	segments []segment // by id, sequences rising
	out      *os.File  // the last segment, while it is written
	nextID   uint64
	next     uint64    // number of the first batch of this run
	reserved time.Time // when numbers were reserved last
	reserve  uint64    // how many
}

// Open opens the spool in dir, which it makes if need be, for the owner in o.
// found is what it holds, in order and without holes, up to the number before
// Next: ranges to send and ranges that were given up. A spool that holds
// nothing starts a new session. Errors are *InUseError, *VersionError,
// *DamageError, *OwnerError or of the file system; nothing is changed then.
func Open(dir string, o Options) (s *Spool, found []Range, err error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBytes < MinMaxBytes {
		return nil, nil, fmt.Errorf("spool %s: a limit of %d bytes is too small, want at least %d", dir, o.MaxBytes, int64(MinMaxBytes))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	s = &Spool{
		dir: dir, maxBytes: o.MaxBytes, lock: lock, nextID: 1, reserve: minReserve,
		segmentBytes: min(max(o.MaxBytes/16, minSegmentBytes), maxSegmentBytes),
	}
	if found, err = s.open(o); err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return s, found, nil
}

func (s *Spool) open(o Options) ([]Range, error) {
	var err error
	if s.state, err = readState(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, s.begin(o)
	} else if err != nil {
		return nil, err
	}
	session, err := s.state.id()
	if err != nil {
		return nil, err
	}
	stored, err := s.scan(session)
	if err != nil {
		return nil, err
	}
	found := s.complete(stored)
	if slices.ContainsFunc(found, func(r Range) bool { return !r.Lost() || r.Packets > 0 }) {
		if err := s.owned(o); err != nil {
			return nil, err
		}
	} else if s.owned(o) != nil {
		return nil, s.begin(o) // nothing is in it: it may change hands
	}
	s.next = s.state.Reserved + 1
	s.state.Reserved += s.reserve
	s.reserved = time.Now()
	if err := writeState(s.dir, &s.state); err != nil {
		return nil, fmt.Errorf("spool %s: %w", s.dir, err)
	}
	return found, nil
}

func (s *Spool) owned(o Options) error {
	kind := map[bool]string{true: "live", false: "replay"}
	for _, c := range [...]struct{ what, has, want string }{
		{"probe", s.state.Probe, o.Probe}, {"network", s.state.Network, o.Network},
		{"kind", kind[s.state.Live], kind[o.Live]},
	} {
		if c.has != c.want {
			return &OwnerError{Dir: s.dir, What: c.what, Has: c.has, Want: c.want}
		}
	}
	return nil
}

// begin makes a new session. Segments without one are of no use to anybody.
func (s *Spool) begin(o Options) error {
	names, err := s.names()
	if err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, err)
	}
	if len(names) > 0 && s.state.Session == "" {
		return &DamageError{File: filepath.Join(s.dir, sessionFile), Problem: fmt.Sprintf("it is missing, and %d segments are there", len(names))}
	}
	for _, id := range names {
		if err := discard(s.name(id)); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	var id [16]byte
	rand.Read(id[:]) // never fails
	s.segments, s.next = nil, 1
	s.size.Store(0)
	s.state = state{
		Version: formatVersion, Session: hex.EncodeToString(id[:]), Probe: o.Probe, Network: o.Network, Live: o.Live,
		Reserved: s.reserve,
	}
	s.reserved = time.Now()
	if err := writeState(s.dir, &s.state); err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, err)
	}
	return nil
}

const suffix = ".batches"

func (s *Spool) name(id uint64) string { return filepath.Join(s.dir, fmt.Sprintf("%016x"+suffix, id)) }

// names returns the ids of the segments there are, in order.
func (s *Spool) names() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, e := range entries {
		var id uint64
		if n, err := fmt.Sscanf(e.Name(), "%16x"+suffix, &id); n == 1 && err == nil && filepath.Base(s.name(id)) == e.Name() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
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
		s.nextID = id + 1
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
			if !last || len(p) >= segmentHeader {
				s.note("%s: %v: what was in it is lost", s.name(id), err)
			}
			if err := discard(s.name(id)); err != nil {
				return nil, fmt.Errorf("spool: %w", err)
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
		seg := segment{id: id, size: int64(len(p))}
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

func (p *place) within(id uint64) Range {
	r := Range{First: p.First, Last: p.Last, Packets: p.Packets, Bytes: p.Bytes, Reason: p.Reason, segment: id, offset: p.offset}
	if !r.Lost() {
		r.Batches, r.Size = 1, int64(len(p.Body))
	}
	return r
}

// join adds r behind ranges, to the last of them if it is of one kind with it.
// What was said to be lost stays as it was said: a collector may know a part.
func join(ranges []Range, r Range) []Range {
	if n := len(ranges); n > 0 {
		l := &ranges[n-1]
		if l.Reason == r.Reason && l.Last+1 == r.First && (r.Lost() && l.Packets+r.Packets == 0 || !r.Lost() && l.segment == r.segment) {
			l.Last, l.Batches, l.Packets, l.Bytes, l.Size = r.Last, l.Batches+r.Batches, l.Packets+r.Packets, l.Bytes+r.Bytes, l.Size+r.Size
			return ranges
		}
	}
	return append(ranges, r)
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

// note keeps a line for people; the first hundred are kept.
func (s *Spool) note(format string, args ...any) {
	if len(s.notes) < 100 {
		s.notes = append(s.notes, fmt.Sprintf(format, args...))
	}
}

// Notes says what Open found damaged, a line each; empty when all was well.
func (s *Spool) Notes() []string { return s.notes }

// Session returns the id of the session and the number of its next batch, as
// of Open.
func (s *Spool) Session() (id [16]byte, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ = s.state.id() // checked when it was read
	return id, s.next
}

// Dir returns the directory.
func (s *Spool) Dir() string { return s.dir }

// Size is what the segments take, in bytes. It never waits for the disk.
func (s *Spool) Size() int64 { return s.size.Load() }

// read returns the content of a segment from an offset on.
func (s *Spool) read(id uint64, offset int64) ([]byte, error) {
	f, err := os.Open(s.name(id))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := min(info.Size(), maxSegmentFile) - offset
	if size <= 0 {
		return nil, nil
	}
	p := make([]byte, size)
	n, err := f.ReadAt(p, offset)
	if errors.Is(err, io.EOF) {
		err = nil // it was cut meanwhile
	}
	return p[:n], err
}

// Read returns the records of r, as much as maxBytes of bodies and at least one,
// and the rest of r behind them, whose Last is less than its First when nothing
// is left. What cannot be read any more comes as Lost records; together they
// have the numbers, packets and bytes of r. An error says that nothing could be
// read for now.
func (s *Spool) Read(r Range, maxBytes int) (records []Record, rest Range, err error) {
	p, err := s.read(r.segment, r.offset)
	if err != nil {
		return nil, r, fmt.Errorf("spool: %w", err)
	}
	places, _, _ := parseRecords(p, r.offset)
	rest = r
	size := 0
	take := func(x Record) {
		records = append(records, x)
		rest.First = x.Last + 1
		rest.Packets -= min(x.Packets, rest.Packets)
		rest.Bytes -= min(x.Bytes, rest.Bytes)
		if rest.Batches > 0 {
			rest.Batches--
		}
		rest.Size -= min(int64(len(x.Body)), rest.Size)
	}
	missing := 0 // index of a record that stands for what cannot be read, plus 1
	for i := range places {
		x := &places[i]
		if x.Last < rest.First {
			continue
		}
		if x.First > r.Last {
			break
		}
		// Behind a gap the rest is read too: what the gap had is what is left over.
		if missing == 0 && size > 0 && size+len(x.Body) > maxBytes {
			rest.offset = x.offset
			return records, rest, nil
		}
		if x.First > rest.First {
			gap := Record{First: rest.First, Last: x.First - 1, Reason: ReasonDamaged}
			take(gap)
			missing = len(records)
		}
		take(x.Record)
		size += max(len(x.Body), 1)
		rest.offset = x.end
	}
	if rest.First > r.Last && missing == 0 {
		return records, rest, nil
	}
	// What is missing had what is left over.
	if missing > 0 && rest.First > r.Last {
		records[missing-1].Packets, records[missing-1].Bytes = rest.Packets, rest.Bytes
	} else {
		records = append(records, Record{First: rest.First, Last: r.Last, Packets: rest.Packets, Bytes: rest.Bytes, Reason: ReasonDamaged})
	}
	return records, Range{First: r.Last + 1, Last: r.Last}, nil
}

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
		err = syncDir(s.dir)
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
	if err := discard(s.name(seg.id)); err != nil {
		return fmt.Errorf("spool: %w", err)
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
	if err := writeState(s.dir, &next); err != nil {
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

// Reserve sees to it that numbers from next on may be given to batches, some
// way ahead. It writes only when half of what was reserved is used.
func (s *Spool) Reserve(next uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next+s.reserve/2 <= s.state.Reserved {
		return nil
	}
	now := time.Now()
	switch used := now.Sub(s.reserved); {
	case used < 10*time.Second:
		s.reserve = min(2*s.reserve, maxReserve)
	case used > time.Minute:
		s.reserve = max(s.reserve/2, minReserve)
	}
	state := s.state
	state.Reserved = max(next, state.Reserved) + s.reserve
	if err := writeState(s.dir, &state); err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, err)
	}
	s.state, s.reserved = state, now
	return nil
}

// Reserved returns the last number that is reserved.
func (s *Spool) Reserved() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Reserved
}

// Close ends the use of the spool. next is the number the next batch would have
// had and oldest the first that is not acknowledged: when they are equal nothing
// is left to send, and the session ends with it. lost is what is said of numbers
// before next that are not in the spool.
func (s *Spool) Close(oldest, next uint64, lost []Lost) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeOut()
	var err error
	if oldest >= next {
		err = s.clearLocked()
	} else {
		s.state.Acked, s.state.Reserved = max(s.state.Acked, oldest-1), next-1
		s.state.Lost = mergeLost(s.state.Lost, lost, s.state.Acked, next)
		err = writeState(s.dir, &s.state)
	}
	if err != nil {
		err = fmt.Errorf("spool %s: %w", s.dir, err)
	}
	return errors.Join(err, s.lock.Close())
}

// clearLocked removes the session last: segments without one are refused.
func (s *Spool) clearLocked() error {
	for len(s.segments) > 0 {
		if err := s.removeLocked(0); err != nil {
			return err
		}
	}
	if err := discard(filepath.Join(s.dir, sessionFile)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// Info is what a spool says of itself without being opened.
type Info struct {
	Probe, Network string
	Live           bool
}

// Describe reads whose spool dir is. It fails with fs.ErrNotExist when it holds
// no session, which is so when nothing is left to send.
func Describe(dir string) (Info, error) {
	st, err := readState(dir)
	if err != nil {
		return Info{}, err
	}
	return Info{Probe: st.Probe, Network: st.Network, Live: st.Live}, nil
}

// Join makes one range of two that lie one behind the other in one segment; ok
// is false when they do not.
func Join(a, b Range) (joined Range, ok bool) {
	both := join([]Range{a}, b)
	return both[0], len(both) == 1
}
