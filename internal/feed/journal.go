package feed

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// Limits and defaults of a Journal.
const (
	// DefaultMaxBytes is what a journal in memory holds unless told otherwise.
	DefaultMaxBytes = 256 << 20
	// DefaultMaxAge is how long an event is held unless told otherwise.
	DefaultMaxAge = 168 * time.Hour
	// MinMaxBytes is the least Config.MaxBytes.
	MinMaxBytes = 64 << 10
	// MaxEventBytes bounds the body of one event.
	MaxEventBytes = 2 << 20

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

// Errors of a Journal.
var (
	// ErrClosed: the journal was closed and the reader has read all of it.
	ErrClosed = errors.New("feed is closed")
	// ErrTooLarge: the body is larger than MaxEventBytes. The event got no number.
	ErrTooLarge = errors.New("event is larger than the feed takes")
)

// Config says what a Journal keeps. The zero Config works.
type Config struct {
	// Epoch names the numbering: 1 to 43 lower-case letters and digits. Empty
	// makes a random one, which is right for a journal that starts empty.
	Epoch string
	// MaxBytes bounds the memory of the events and their index; 0 is
	// DefaultMaxBytes. When it is reached, the oldest events go first. An event
	// larger than all of it is held alone.
	MaxBytes int64
	// MaxAge is how long an event is held; 0 is DefaultMaxAge, negative is no
	// limit but MaxBytes. Events leave in chunks, so some stay a little longer.
	MaxAge time.Duration
}

// Journal is a bounded, numbered log of events in memory. Make one with New.
// All methods are safe for concurrent use. It starts no goroutine.
type Journal struct {
	epoch      string
	maxBytes   int64
	maxAge     time.Duration
	chunkBytes int
	hashSeed   hashSeed

	mu       sync.Mutex // guards all below, and chunk contents beyond what a reader was given
	chunks   []*chunk   // oldest first; events are appended to the last
	next     uint64     // sequence of the next event; the first is 1
	now      int64      // greatest time seen by Append and Trim
	held     int64      // memory of chunks in bytes, as maxBytes counts it
	used     int64      // bytes of the frames held
	released uint64     // events that were appended and are held no more
	refused  uint64     // events that were too large
	recent   recentTable
	changed  chan struct{} // closed at the next append; nil when nobody waits
	closed   bool
}

// chunk is a run of events one behind the other. Bytes and index entries that
// a reader was given never change again: data never grows beyond its capacity.
type chunk struct {
	first uint64   // sequence of the first event
	data  []byte   // the frames
	ends  []uint32 // ends[i] is where frame i ends in data
	times []int64  // when each was appended, never decreasing
}

func (c *chunk) cost() int64 { return int64(cap(c.data)) + int64(len(c.ends))*indexBytes }

// New makes an empty journal.
func New(cfg Config) (*Journal, error) {
	if cfg.Epoch == "" {
		var b [6]byte
		rand.Read(b[:])
		cfg.Epoch = hex.EncodeToString(b[:])
	}
	if !validEpoch(cfg.Epoch) {
		return nil, fmt.Errorf("feed: epoch %q is not 1 to %d lower-case letters and digits", cfg.Epoch, maxEpochLen)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.MaxBytes < MinMaxBytes {
		return nil, fmt.Errorf("feed: a journal of %d bytes is too small, want at least %d", cfg.MaxBytes, MinMaxBytes)
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	return &Journal{
		epoch:      cfg.Epoch,
		maxBytes:   cfg.MaxBytes,
		maxAge:     cfg.MaxAge,
		chunkBytes: int(min(max(cfg.MaxBytes/16, minChunkBytes), maxChunkBytes)),
		hashSeed:   newHashSeed(),
		next:       1,
	}, nil
}

// Epoch returns the name of the numbering.
func (j *Journal) Epoch() string { return j.epoch }

// Append gives the event the next sequence and holds it. body is the encoded
// whorl.v1.Eviction without field 1, the sequence; it is copied. key and
// network are those of the connection, for Recent. now is the time of the
// append in Unix nanoseconds on a clock of the caller's choice; a now before
// an earlier one counts as that one.
//
// Concurrent calls are numbered in the order in which they get the lock, which
// is held for one copy of body. The only errors are ErrTooLarge and ErrClosed;
// the event then has no number.
func (j *Journal) Append(now int64, key *flow.Key, network string, body []byte) (sequence uint64, err error) {
	hash := j.hashSeed.sum(key, network)

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return 0, ErrClosed
	}
	if len(body) > MaxEventBytes {
		j.refused++
		return 0, fmt.Errorf("%d bytes: %w", len(body), ErrTooLarge)
	}
	j.now = max(j.now, now)
	sequence = j.next
	c := j.roomLocked(len(body) + maxFrameHeader)
	start := len(c.data)
	c.data = appendFrame(c.data, sequence, body)
	c.ends = append(c.ends, uint32(len(c.data)))
	c.times = append(c.times, j.now)
	j.next++
	j.used += int64(len(c.data) - start)
	j.held += indexBytes
	j.recent.put(hash, sequence)
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
	return sequence, nil
}

// appendFrame appends body as an element of whorl.v1.WatchResponse.evictions,
// with the sequence in front of the other fields, where a generated encoder
// puts it too.
func appendFrame(dst []byte, sequence uint64, body []byte) []byte {
	// Varints of protobuf and of encoding/binary are the same.
	sequenceLen := (bits.Len64(sequence) + 6) / 7 // sequences are not 0
	dst = append(dst, frameTag)
	dst = binary.AppendUvarint(dst, uint64(1+sequenceLen+len(body)))
	dst = append(dst, sequenceTag)
	dst = binary.AppendUvarint(dst, sequence)
	return append(dst, body...)
}

// Tags of protobuf: number<<3 | wire type.
const (
	frameTag    = 1<<3 | 2 // WatchResponse.evictions, length-prefixed
	sequenceTag = 1 << 3   // Eviction.sequence, varint, which is 0
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
	c := &chunk{first: j.next, data: make([]byte, 0, size)}
	j.chunks = append(j.chunks, c)
	j.held += c.cost()
	return c
}

// trimLocked drops the oldest chunks until those left and room bytes more are
// within the budget, and those whose newest event is too old.
func (j *Journal) trimLocked(room int64) {
	n := 0
	for _, c := range j.chunks {
		old := j.maxAge > 0 && c.times[len(c.times)-1] < j.now-int64(j.maxAge)
		if !old && j.held+room <= j.maxBytes {
			break
		}
		j.held -= c.cost()
		j.used -= int64(len(c.data))
		j.released += uint64(len(c.ends))
		n++
	}
	// Shifting keeps the slice of chunks from creeping through memory; it has a
	// thousand elements by default, and this happens once for each chunk.
	j.chunks = append(j.chunks[:0], j.chunks[n:]...)
	clear(j.chunks[len(j.chunks) : len(j.chunks)+n])
}

// Trim lets go of events older than Config.MaxAge at now, for times in which
// nothing is appended.
func (j *Journal) Trim(now int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = max(j.now, now)
	j.trimLocked(0)
}

// Close ends the feed: Append fails from now on, and readers get ErrClosed when
// they have read what is held. It may be called more than once.
func (j *Journal) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// Newest returns the cursor behind the newest event: who resumes there misses
// nothing that is appended from now on.
func (j *Journal) Newest() Cursor {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Cursor{j.epoch, j.next - 1}
}

// Oldest returns the cursor from which a reader gets all that is held.
func (j *Journal) Oldest() Cursor {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Cursor{j.epoch, j.oldestLocked() - 1}
}

// oldestLocked returns the sequence of the oldest event held, or that of the
// next one when none is.
func (j *Journal) oldestLocked() uint64 {
	if len(j.chunks) == 0 {
		return j.next
	}
	return j.chunks[0].first
}

// Stats are counts of a Journal at one moment.
type Stats struct {
	// Oldest and Newest are the cursors of the methods of the same name.
	Oldest, Newest Cursor
	// OldestTime is when the oldest event held was appended, in Unix
	// nanoseconds; 0 when none is.
	OldestTime int64
	// Events and Bytes are held now, frames included.
	Events uint64
	Bytes  int64
	// Released events were held once and are no more. Refused ones were too large.
	Released, Refused uint64
}

// Stats returns the counts of this moment.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Stats{
		Oldest: Cursor{j.epoch, j.oldestLocked() - 1}, Newest: Cursor{j.epoch, j.next - 1},
		Events: j.next - j.oldestLocked(), Bytes: j.used, Released: j.released, Refused: j.refused,
	}
	if len(j.chunks) > 0 {
		s.OldestTime = j.chunks[0].times[0]
	}
	return s
}
