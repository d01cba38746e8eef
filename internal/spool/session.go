package spool

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/whorl-net/whorl/internal/disk"
)

const (
	sessionFile = "session"
	// maxSessionFile bounds what is read of it, maxLostRanges what is in it.
	maxSessionFile = 256 << 10
	maxLostRanges  = 512
)

// Lost says what was given up: the sequences First to Last with so many packets
// and bytes, for a reason.
type Lost struct {
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Reason  string `json:"reason"`
}

// state is the content of the file "session": one line of JSON and one with its
// checksum. It is written beside and renamed, so it is old or new, never half.
type state struct {
	Version int    `json:"version"`
	Session string `json:"session"` // 32 hex digits
	Probe   string `json:"probe"`
	Network string `json:"network"`
	Live    bool   `json:"live"`
	// Reserved: no sequence beyond was given to a batch when this was written.
	Reserved uint64 `json:"reserved"`
	// Acked: up to here the collector has everything.
	Acked uint64 `json:"acked"`
	// Lost are ranges whose segments are gone.
	Lost []Lost `json:"lost,omitempty"`
}

func (s *state) id() (id [16]byte, err error) {
	b, err := hex.DecodeString(s.Session)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("session %q is not 32 hex digits", s.Session)
	}
	return [16]byte(b), nil
}

// parseState reads the file's content.
func parseState(p []byte) (state, error) {
	var s state
	line, sum, ok := bytes.Cut(p, []byte("\n"))
	if !ok || fmt.Sprintf("%08x\n", crc32.Checksum(line, castagnoli)) != string(sum) {
		return s, errors.New("the checksum is wrong")
	}
	if err := json.Unmarshal(line, &s); err != nil {
		return s, err
	}
	if s.Version != formatVersion {
		return s, &VersionError{Got: uint32(s.Version)}
	}
	if _, err := s.id(); err != nil {
		return s, err
	}
	if s.Acked > s.Reserved || s.Reserved == 1<<64-1 {
		return s, fmt.Errorf("%d acknowledged of %d", s.Acked, s.Reserved)
	}
	newest := uint64(0)
	for _, l := range s.Lost {
		if l.First <= newest || l.Last < l.First || l.Last > s.Reserved || l.Reason == "" || len(l.Reason) > maxReasonBytes {
			return s, fmt.Errorf("lost range %d to %d is out of order", l.First, l.Last)
		}
		newest = l.Last
	}
	return s, nil
}

// readState returns fs.ErrNotExist when dir holds no session.
func readState(dir string) (state, error) {
	name := filepath.Join(dir, sessionFile)
	info, err := os.Stat(name)
	if err != nil {
		return state{}, err
	}
	if info.Size() > maxSessionFile {
		return state{}, &DamageError{File: name, Problem: fmt.Sprintf("%d bytes, want at most %d", info.Size(), maxSessionFile)}
	}
	p, err := os.ReadFile(name)
	if err != nil {
		return state{}, err
	}
	s, err := parseState(p)
	var version *VersionError
	switch {
	case errors.As(err, &version):
		version.File = name
		return s, version
	case err != nil:
		return s, &DamageError{File: name, Problem: err.Error()}
	}
	return s, nil
}

// writeState replaces the file with st, so that it survives a power cut when it
// returns.
func (s *Spool) writeState(st *state) error {
	line, err := json.Marshal(st)
	if err != nil {
		return err
	}
	line = fmt.Appendf(line, "\n%08x\n", crc32.Checksum(line, castagnoli))
	name := filepath.Join(s.dir, sessionFile)
	temp := name + ".new"
	if err := writeSynced(temp, line); err != nil {
		return errors.Join(err, discard(temp))
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, discard(temp))
	}
	if err := disk.SyncFolder(s.dir); err != nil {
		return err
	}
	return s.believe()
}

func writeSynced(name string, p []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// discard removes a file that may not be there.
func discard(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sessionless says what is wrong with dir, which holds no session, if something
// is: a spool that was sent leaves its lock, or the session it wrote next.
func sessionless(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("spool %s: %w", dir, err)
	}
	s := Spool{dir: dir}
	if names, err := s.names(); err != nil || len(names) > 0 {
		return cmp.Or(err, s.missing(len(names)))
	}
	for _, e := range entries {
		if name := e.Name(); name != "lock" && name != sessionFile+".new" && !disk.IsBeat(name) && !isAside(name) {
			return &NoSpoolError{Dir: dir, File: name}
		}
	}
	return nil
}

// missing is the error about segments without a session.
func (s *Spool) missing(segments int) error {
	return &DamageError{File: filepath.Join(s.dir, sessionFile), Problem: fmt.Sprintf("it is missing, and %d segments are there", segments)}
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
	if err := s.writeState(&state); err != nil {
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

// Info is what a spool says of itself without being opened.
type Info struct {
	Probe, Network string
	Live           bool
}

// Contents is what a spool takes on disk, without being opened.
type Contents struct {
	// Segments hold batches that wait, Bytes of them.
	Segments, Bytes int64
	// Aside are the damaged segments that are kept beside them, the newest few.
	Aside int64
}

// Look counts the files of the spool dir, which another process may use.
func Look(dir string) (Contents, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Contents{}, fmt.Errorf("spool %s: %w", dir, err)
	}
	var c Contents
	for _, e := range entries {
		if isAside(e.Name()) {
			c.Aside++
		}
		if len(parseNames([]string{e.Name()})) == 0 {
			continue
		}
		c.Segments++
		if info, err := e.Info(); err == nil { // else it was sent meanwhile
			c.Bytes += info.Size()
		}
	}
	return c, nil
}

// Describe reads whose spool dir is. It fails with fs.ErrNotExist when it holds
// no session, which is so when nothing is left to send; with a *DamageError when
// it holds segments then, and a *NoSpoolError when it holds other files.
func Describe(dir string) (Info, error) {
	st, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, cmp.Or(sessionless(dir), err)
	}
	if err != nil {
		return Info{}, err
	}
	return Info{Probe: st.Probe, Network: st.Network, Live: st.Live}, nil
}
