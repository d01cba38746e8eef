package log

import (
	"bytes"

	"github.com/klauspost/compress/s2"
)

const (
	// packAt is how long Data is that gets compressed by itself, in bytes.
	packAt = 512
	// maxPooledPack keeps giants out of the pool: a batch is under 32 KiB.
	maxPooledPack = 64 << 10
)

// packed is the Data of a record as a group stores it. Whoever submits a batch
// has its bytes in the cache; 100 ms later, when the group is made, they are
// cold, and to compress them then takes several times as long.
type packed struct {
	data []byte
	raw  int // bytes before compression
}

// pack compresses the Data of those records that bring their Batch along, so that
// nobody reads Data before it comes back from the disk, and lets go of the
// caller's memory.
func (l *Stored) pack(records []Record) {
	for i := range records {
		r := &records[i]
		if r.Batch == nil {
			continue
		}
		if len(r.Data) < packAt {
			r.Data = bytes.Clone(r.Data)
			continue
		}
		p, _ := l.free.Get().(*packed)
		if p == nil {
			p = new(packed)
		}
		if need := s2.MaxEncodedLen(len(r.Data)); cap(p.data) < need {
			p.data = make([]byte, need)
		}
		p.data, p.raw = s2.Encode(p.data[:cap(p.data)], r.Data), len(r.Data)
		r.packed, r.Data = p, nil
	}
}

// unpackLocked lets go of what was compressed of records, which are written.
func (l *Stored) unpackLocked(records []Record) {
	first := l.tailFirstLocked()
	for i := range records {
		r := &records[i]
		if r.packed == nil {
			continue
		}
		if r.Position >= first {
			l.tail[r.Position-first].packed = nil
		}
		if cap(r.packed.data) <= maxPooledPack {
			l.free.Put(r.packed)
		}
		r.packed = nil
	}
}

// storedLen is how many bytes of Data a group holds.
func (r *Record) storedLen() int {
	if r.packed != nil {
		return len(r.packed.data)
	}
	return len(r.Data)
}

// rawLen is how many bytes Data has.
func (r *Record) rawLen() int {
	if r.packed != nil {
		return r.packed.raw
	}
	return len(r.Data)
}

// rawBytes bounds what a group of records has uncompressed: each may be of a
// session of its own.
func rawBytes(records []Record) (bytes int64) {
	for i := range records {
		r := &records[i]
		bytes += int64(recordFraming + sessionFraming + len(r.Session.Probe) + len(r.Session.Network) + r.rawLen())
	}
	return bytes
}
