package feed

import (
	"encoding/binary"
	"math/bits"
	"sort"
)

const (
	// A chunk is what is let go of at once, what a slow subscriber's message can
	// keep in memory, and what is allocated and zeroed under the lock, in some
	// 20 µs.
	maxChunkBytes = 256 << 10
	minChunkBytes = 4 << 10
	// indexBytes is what the journal keeps for each event beside its frame.
	indexBytes = 12
	// maxFrameHeader is the most that framing adds to a body: two tags, a
	// length and a sequence.
	maxFrameHeader = 2 + 5 + 10
)

// chunk is a run of events one behind the other. Bytes and index entries that
// a reader was given never change again: data never grows beyond its capacity,
// and the memory of a chunk that was lent is not used for another.
type chunk struct {
	first uint64   // sequence of the first event
	data  []byte   // the frames
	ends  []uint32 // ends[i] is where frame i ends in data
	times []int64  // when each was appended, never decreasing
	lent  bool     // somebody was given a part of it that may be kept
}

func (c *chunk) cost() int64 { return int64(cap(c.data)) + int64(len(c.ends))*indexBytes }

// appendFrame appends body as an element of a list of whorl.v1.WatchResponse,
// with the sequence in front of the other fields, where a generated encoder
// puts it too.
func appendFrame(dst []byte, tag byte, sequence uint64, body []byte) []byte {
	// Varints of protobuf and of encoding/binary are the same.
	sequenceLen := (bits.Len64(sequence) + 6) / 7 // sequences are not 0
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(1+sequenceLen+len(body)))
	dst = append(dst, sequenceTag)
	dst = binary.AppendUvarint(dst, sequence)
	return append(dst, body...)
}

// Tags of protobuf: number<<3 | wire type.
const (
	evictionTag  = 1<<3 | 2 // WatchResponse.evictions, length-prefixed
	discoveryTag = 6<<3 | 2 // WatchResponse.discoveries
	sequenceTag  = 1 << 3   // Eviction.sequence and Discovery.sequence, varint
)

// roomLocked returns the chunk to append n bytes to, and makes a new one,
// letting go of old ones, when the last has no room for them.
func (j *Journal) roomLocked(n int) *chunk {
	if len(j.chunks) > 0 {
		if c := j.chunks[len(j.chunks)-1]; cap(c.data)-len(c.data) >= n {
			return c
		}
	}
	size := max(j.chunkBytes, n)
	j.trimLocked(int64(size))
	c := j.spare
	if c != nil && cap(c.data) >= size {
		// Memory that is in use already: a page that is touched for the first time
		// costs more than the events that fill it.
		j.spare = nil
		*c = chunk{first: j.next, data: c.data[:0], ends: c.ends[:0], times: c.times[:0]}
	} else {
		c = &chunk{first: j.next, data: make([]byte, 0, size)}
	}
	j.chunks = append(j.chunks, c)
	j.held += c.cost()
	return c
}

// trimLocked drops the oldest chunks until those left and room bytes more are
// within the budget, and those whose newest event is too old. What is not safe
// yet stays.
func (j *Journal) trimLocked(room int64) {
	n := 0
	for _, c := range j.chunks {
		last := len(c.ends) - 1
		old := j.maxAge > 0 && c.times[last] < j.clock-int64(j.maxAge)
		if !old && j.held+room <= j.maxBytes || c.first+uint64(last) > j.safe {
			break
		}
		j.held -= c.cost()
		j.used -= int64(len(c.data))
		if !c.lent && cap(c.data) == j.chunkBytes {
			j.spare = c // the writer, who reads it too, is done with what is safe
		}
		n++
	}
	// Shifting keeps the slice of chunks from creeping through memory; it has a
	// thousand elements by default, and this happens once for each chunk.
	j.chunks = append(j.chunks[:0], j.chunks[n:]...)
	clear(j.chunks[len(j.chunks) : len(j.chunks)+n])
}

// findLocked returns the chunk that holds the event sequence and its place in
// it. The event must be in memory.
func (j *Journal) findLocked(sequence uint64) (*chunk, int) {
	n := sort.Search(len(j.chunks), func(i int) bool { return j.chunks[i].first > sequence })
	c := j.chunks[n-1]
	return c, int(sequence - c.first)
}

// ringOldestLocked returns the sequence of the oldest event in memory, or that of
// the next one when none is.
func (j *Journal) ringOldestLocked() uint64 {
	if len(j.chunks) == 0 {
		return j.next
	}
	return j.chunks[0].first
}
