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
// Lost ranges with exact counts where the record still tells, and is noted. A
// damaged segment is kept beside under another name when it is done with.
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
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/internal/disk"
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
	// refused. It is for the caller to keep: see Spool.Fits. Damaged segments that
	// are kept for people, at most four of some 8 MiB, come on top of it.
	MaxBytes int64
}

// Spool is an open spool. Append, Forget, Drop and Reserve are for one
// goroutine; Read may be called by another meanwhile.
type Spool struct {
	dir          string
	maxBytes     int64
	segmentBytes int64
	lock         *os.File
	beat         *disk.Beat
	// believe says whether a sync that went well is to be believed.
	believe func() error

	size  atomic.Int64 // of all segments
	aside atomic.Int64 // segments set aside by this process

	mu       sync.Mutex // guards what follows; held while something is written
	state    state
	segments []segment // by id, sequences rising
	out      *os.File  // the last segment, while it is written
	nextID   uint64
	next     uint64    // number of the first batch of this run
	reserved time.Time // when numbers were reserved last
	reserve  uint64    // how many
	notes    []string  // that nobody asked for yet
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
		beat:         &disk.Beat{Dir: dir, Name: "spool"},
	}
	s.believe = s.beat.Check
	if found, err = s.open(o); err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return s, found, nil
}

func (s *Spool) open(o Options) ([]Range, error) {
	aside, err := s.asideIDs()
	if err != nil {
		return nil, err
	}
	if len(aside) > 0 { // the order of ids is that of age, over all sessions
		s.nextID = aside[len(aside)-1] + 1
	}
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
	if err := s.writeState(&s.state); err != nil {
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
		return s.missing(len(names))
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
	if err := s.writeState(&s.state); err != nil {
		return fmt.Errorf("spool %s: %w", s.dir, err)
	}
	return nil
}

// Notes says what was found damaged since the last call, by Open at first, a line
// each, at most a hundred; empty when all was well.
func (s *Spool) Notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	notes := s.notes
	s.notes = nil
	return notes
}

// Aside returns how many damaged segments were kept beside the spool, Open
// included.
func (s *Spool) Aside() int64 { return s.aside.Load() }

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
		err = s.writeState(&s.state)
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
	if err := s.beat.Remove(); err != nil {
		return err
	}
	return disk.SyncFolder(s.dir)
}
