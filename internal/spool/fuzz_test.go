package spool

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

func sumOf(p []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(p, castagnoli))
}

// Whatever lies in a segment, reading it ends, gives records whose sequences
// rise and which lie where they say, and the tail lies within.
func FuzzSegment(f *testing.F) {
	var id [16]byte
	whole := appendSegmentHeader(nil, id)
	for n := uint64(1); n < 4; n++ {
		r := batch(n)
		whole = appendRecord(whole, &r)
	}
	lost := Record{First: 4, Last: 9, Packets: 3, Reason: "ring-full"}
	whole = appendRecord(whole, &lost)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append([]byte("x"), whole...))
	damaged := append([]byte(nil), whole...)
	damaged[segmentHeader+recordHeader+3] ^= 1
	f.Add(damaged)
	huge := append([]byte(nil), whole[:segmentHeader+recordHeader]...)
	binary.LittleEndian.PutUint32(huge[segmentHeader+8:], 1<<31)
	copy(huge[segmentHeader+recordHeader-4:], sumOf(huge[segmentHeader:segmentHeader+recordHeader-4]))
	f.Add(huge)
	f.Fuzz(func(t *testing.T, p []byte) {
		_ = checkSegment(p, id)
		records, holes, tail := parseRecords(p, 32)
		newest, end := uint64(0), int64(32)
		for _, r := range records {
			if r.First <= newest || r.Last < r.First || r.offset < end || r.end <= r.offset || r.end > 32+int64(len(p)) {
				t.Fatalf("record %+v behind %d and byte %d", r, newest, end)
			}
			if (r.Body == nil) != r.Lost() || len(r.Body) > MaxBatchBytes || len(r.Reason) > maxReasonBytes {
				t.Fatalf("record %+v: a body of %d bytes", r.Record, len(r.Body))
			}
			newest, end = r.Last, r.end
		}
		if tail != end && len(records) > 0 || tail > 32+int64(len(p)) {
			t.Fatalf("the tail is at %d, the last record ends at %d", tail, end)
		}
		for _, at := range holes {
			if at < 32 || at >= 32+int64(len(p)) {
				t.Fatalf("a hole at byte %d of %d", at, len(p))
			}
		}
	})
}

// Whatever lies in a spool, opening it ends with an error or with ranges that
// have no hole, and what they hold can be read.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	s, _ := mustOpen(f, dir, owner)
	mustAppend(f, s, batch(1), batch(2))
	mustAppend(f, s, batch(3))
	kill(f, s)
	session, err := os.ReadFile(filepath.Join(dir, sessionFile))
	if err != nil {
		f.Fatal(err)
	}
	segment, err := os.ReadFile(s.name(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(session, segment, segment)
	f.Add(session, segment[:40], segment[:120])
	f.Add([]byte(`{"version":1}`), segment, segment)
	f.Fuzz(func(t *testing.T, session, one, two []byte) {
		dir := t.TempDir()
		for name, p := range map[string][]byte{sessionFile: session, "0000000000000001" + suffix: one, "0000000000000007" + suffix: two} {
			if err := os.WriteFile(filepath.Join(dir, name), p, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, found, err := Open(dir, owner)
		if err != nil {
			return
		}
		for i, r := range found {
			if r.Last < r.First || i > 0 && r.First != found[i-1].Last+1 {
				t.Fatalf("range %+v behind %+v", r, found[max(i-1, 0)])
			}
		}
		contents(t, s, found)
		kill(t, s)
	})
}
