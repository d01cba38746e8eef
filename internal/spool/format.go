package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A segment is a header and records, each with a checksum of its header and one
// of its body, so that damage in one place costs what lies there and nothing
// else. All numbers are little endian.
//
//	segment  magic "WHORLSPL" · version u32 · session [16] · crc u32
//	record   magic u32 · kind u8 · 0 0 0 · length u32 · first u64 · last u64 ·
//	         packets u64 · bytes u64 · crc of body u32 · crc of header u32 · body
const (
	formatVersion  = 1
	segmentMagic   = "WHORLSPL"
	segmentHeader  = 8 + 4 + 16 + 4
	recordMagic    = 0x31524c57 // "WLR1"
	recordHeader   = 4 + 4 + 4 + 4*8 + 4 + 4
	maxReasonBytes = 64
	// maxSegmentFile is as much of a segment as is ever read: a segment ends
	// with the first group that passes Options.SegmentBytes.
	maxSegmentFile = maxSegmentBytes + maxGroupBytes + 1<<20
)

// Kinds of records.
const (
	kindBatch = 1
	kindLost  = 2
)

// MaxBatchBytes bounds the body of one record: no collector takes a batch of
// more than 1 MiB.
const MaxBatchBytes = 2 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is a batch, or what is said of batches that were given up.
type Record struct {
	// First and Last are the sequences it stands for: equal for a batch.
	First, Last uint64
	// Packets and Bytes are what was captured in it; 0 for a Lost record of
	// which nobody knows.
	Packets, Bytes uint64
	// Reason is why it was given up; empty for a batch.
	Reason string
	// Body is the batch; nil when it was given up.
	Body []byte
}

// Lost reports whether r stands for batches that were given up.
func (r *Record) Lost() bool { return r.Reason != "" }

func appendSegmentHeader(dst []byte, session [16]byte) []byte {
	start := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, formatVersion)
	dst = append(dst, session[:]...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func appendRecord(dst []byte, r *Record) []byte {
	start, kind, body := len(dst), byte(kindBatch), r.Body
	if r.Lost() {
		kind, body = kindLost, []byte(r.Reason)
	}
	dst = binary.LittleEndian.AppendUint32(dst, recordMagic)
	dst = append(dst, kind, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	for _, v := range [...]uint64{r.First, r.Last, r.Packets, r.Bytes} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return append(dst, body...)
}

// A place is a record and where it lies in its segment.
type place struct {
	Record
	offset, end int64
	damaged     bool // the header is whole, the body is not: Body is nil
}

// checkSegment looks at the header of a segment.
func checkSegment(p []byte, session [16]byte) error {
	switch {
	case len(p) < segmentHeader:
		return fmt.Errorf("byte 0: %d bytes, want a header of %d", len(p), segmentHeader)
	case string(p[:8]) != segmentMagic:
		return fmt.Errorf("byte 0: not a segment of a spool")
	case crc32.Checksum(p[:segmentHeader-4], castagnoli) != binary.LittleEndian.Uint32(p[segmentHeader-4:]):
		return fmt.Errorf("byte %d: the header is damaged", segmentHeader-4)
	}
	if v := binary.LittleEndian.Uint32(p[8:]); v != formatVersion {
		return &VersionError{Got: v}
	}
	if [16]byte(p[12:28]) != session {
		return fmt.Errorf("byte 12: it is of session %x, not of %x", p[12:28], session)
	}
	return nil
}

// parseHeader reads the record at the start of p; ok is false if there is none
// that is whole up to its body. The body may reach beyond p.
func parseHeader(p []byte) (r place, length int, bodySum uint32, ok bool) {
	if len(p) < recordHeader || binary.LittleEndian.Uint32(p) != recordMagic ||
		crc32.Checksum(p[:recordHeader-4], castagnoli) != binary.LittleEndian.Uint32(p[recordHeader-4:]) {
		return place{}, 0, 0, false
	}
	length = int(binary.LittleEndian.Uint32(p[8:]))
	r.First, r.Last = binary.LittleEndian.Uint64(p[12:]), binary.LittleEndian.Uint64(p[20:])
	r.Packets, r.Bytes = binary.LittleEndian.Uint64(p[28:]), binary.LittleEndian.Uint64(p[36:])
	switch kind := p[4]; {
	case r.First == 0 || r.Last < r.First || r.Last == 1<<64-1:
		return place{}, 0, 0, false
	case kind == kindBatch && r.First == r.Last && length > 0 && length <= MaxBatchBytes:
	case kind == kindLost && length > 0 && length <= maxReasonBytes:
		r.Reason = ReasonCrash // until its body is read
	default:
		return place{}, 0, 0, false
	}
	return r, length, binary.LittleEndian.Uint32(p[recordHeader-8:]), true
}

// parseRecords returns the records of p, which begins at the given offset of a
// segment, in order, their sequences rising; bodies are parts of p. Where
// something is damaged it goes on with the next record that is whole, and adds
// the offset to holes. tail is where the last whole record ends.
func parseRecords(p []byte, base int64) (records []place, holes []int64, tail int64) {
	newest, whole := uint64(0), true
	at := 0
	for at < len(p) {
		r, length, sum, ok := parseHeader(p[at:])
		if ok && at+recordHeader+length > len(p) {
			ok = false // cut in its body
		}
		if !ok {
			if whole {
				holes, whole = append(holes, base+int64(at)), false
			}
			at++
			continue
		}
		if r.First <= newest { // a write that was tried again
			at += recordHeader + length
			continue
		}
		body := p[at+recordHeader : at+recordHeader+length : at+recordHeader+length]
		r.offset, r.end = base+int64(at), base+int64(at+recordHeader+length)
		switch r.damaged = crc32.Checksum(body, castagnoli) != sum; {
		case r.damaged:
			holes, r.Reason = append(holes, r.offset), ReasonDamaged
		case r.Reason != "":
			r.Reason = string(body)
		default:
			r.Body = body
		}
		records, newest, whole = append(records, r), r.Last, true
		tail = r.end
		at += recordHeader + length
	}
	return records, holes, max(tail, base)
}

// RecordOverhead is what a record takes in a segment beside its body, at most.
const RecordOverhead = recordHeader + maxReasonBytes
