package feed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// Limits and defaults of a Journal.
const (
	// DefaultMaxBytes is what a journal in memory holds unless told otherwise.
	DefaultMaxBytes = 256 << 20
	// DefaultRingBytes is what a journal with a store keeps in memory beside it.
	DefaultRingBytes = 64 << 20
	// DefaultMaxAge is how long an event is held unless told otherwise.
	DefaultMaxAge = 168 * time.Hour
	// MinMaxBytes is the least Config.MaxBytes.
	MinMaxBytes = 64 << 10
	// MaxEventBytes bounds the body of one event.
	MaxEventBytes = 2 << 20
)

// Errors of a Journal.
var (
	// ErrClosed: the journal was closed and the reader has read all of it.
	ErrClosed = errors.New("feed is closed")
	// ErrTooLarge: the body is larger than MaxEventBytes. The event got no number.
	ErrTooLarge = errors.New("event is larger than the feed takes")
	// ErrOrder: an event of an earlier log position than one before it.
	ErrOrder = errors.New("out of the order of the log")
)

// Config says what a Journal keeps. The zero Config works.
type Config struct {
	// Epoch names the numbering: 1 to 43 lower-case letters and digits. Empty
	// makes a random one, which is right for a journal that starts empty.
	Epoch string
	// MaxBytes bounds the memory of the events and their index; 0 is
	// DefaultMaxBytes, with a store DefaultRingBytes. When it is reached, the
	// oldest events go first. An event larger than all of it is held alone.
	MaxBytes int64
	// MaxAge is how long an event is held in memory; 0 is DefaultMaxAge, negative
	// is no limit but MaxBytes. Events leave in chunks, so some stay a little
	// longer. A store has a limit of its own.
	MaxAge time.Duration
	// BlockEvery is the time between two blocks under load, each of which costs
	// an fsync; after a pause the first few are written at once. 0 is 250 ms. It
	// matters only with a store.
	BlockEvery time.Duration
}

// Journal is a bounded, numbered log of events: in memory alone, made with New,
// or in memory and a store, made with Open. All methods are safe for concurrent
// use.
type Journal struct {
	epoch      string
	maxBytes   int64
	maxAge     time.Duration
	chunkBytes int
	hashSeed   hashSeed

	mu      sync.Mutex // guards all below, and chunk contents beyond what a reader was given
	chunks  []*chunk   // oldest first; events are appended to the last
	spare   *chunk     // one that was let go of and whose memory nobody has; nil without one
	next    uint64     // sequence of the next event; the first is 1
	now     int64      // greatest time seen by Append
	clock   int64      // greatest time seen by Append and Trim
	held    int64      // memory of chunks in bytes, as maxBytes counts it
	used    int64      // bytes of the frames held
	safe    uint64     // newest event that readers may have; with a store, one that is stored
	refused uint64     // events that were too large
	at      Through    // how much of the log was appended or left out
	skip    Through    // events up to here are in the store from an earlier life
	recent  recentTable
	changed chan struct{} // closed when there is more to read; nil when nobody waits
	closed  bool

	store *store // nil without one
}

// New makes an empty journal in memory. It starts no goroutine.
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
	if cfg.BlockEvery < 0 {
		return nil, fmt.Errorf("feed: %v is not a time between blocks", cfg.BlockEvery)
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

// Event is what Append takes: an eviction and where in the log it came from.
type Event struct {
	// Position is that of the log entry that led to the eviction. Events come
	// in the order of positions; those of one position in an order that is the
	// same in every replay.
	Position uint64
	// Key and Network are those of the connection, for Recent.
	Key     *flow.Key
	Network string
	// Body is the encoded whorl.v1.Eviction without field 1, the sequence. It is
	// copied.
	Body []byte
}

// Append gives the event the next sequence and holds it. now is the time of the
// append in Unix nanoseconds; a collector gives the log time, which is the same
// in every replay. A now before an earlier one counts as that one.
//
// An event that the store holds from an earlier life (Through) is left out: its
// sequence is 0 and err nil.
//
// Concurrent calls are numbered in the order in which they get the lock, which
// is held for one copy of the body. With a store Append blocks while too much
// waits to be written, until ctx ends. The errors are ErrTooLarge, ErrClosed,
// ErrOrder and the cause of ctx's end; the event then has no number.
func (j *Journal) Append(ctx context.Context, now int64, e *Event) (sequence uint64, err error) {
	hash := j.hashSeed.sum(e.Key, e.Network)
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.appendEventLocked(ctx, now, e, hash)
}

// maxAppendRun is how many events AppendAll appends in one hold of the lock, some
// 10 µs: enough for their places in the table of what was evicted lately, which
// is larger than a cache, to be loaded together.
const maxAppendRun = 32

// AppendAll does for each of events, in order, what Append does, at the same now
// and for less. It returns how many it has dealt with: all of them unless err is
// ErrClosed, ErrOrder or the cause of ctx's end. Then the others have no number.
// An event that is too large is counted and left out, which is no error here.
func (j *Journal) AppendAll(ctx context.Context, now int64, events []Event) (n int, err error) {
	var hashes [maxAppendRun]uint64
	for n < len(events) {
		run := events[n:min(n+maxAppendRun, len(events))]
		for i := range run {
			hashes[i] = j.hashSeed.sum(run[i].Key, run[i].Network)
		}
		done, err := j.appendRun(ctx, now, run, &hashes)
		if n += done; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (j *Journal) appendRun(ctx context.Context, now int64, run []Event, hashes *[maxAppendRun]uint64) (n int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recent.load(hashes[:len(run)])
	for i := range run {
		_, err := j.appendEventLocked(ctx, now, &run[i], hashes[i])
		if err != nil && !errors.Is(err, ErrTooLarge) {
			return i, err
		}
	}
	return len(run), nil
}

func (j *Journal) appendEventLocked(ctx context.Context, now int64, e *Event, hash uint64) (sequence uint64, err error) {
	if j.skip.before(Through{e.Position + 1, 0}) {
		if err := j.waitForRoomLocked(ctx, len(e.Body)); err != nil {
			return 0, err
		}
	}
	if e.Position < j.at.Position {
		return 0, fmt.Errorf("event of log position %d after one of %d: %w", e.Position, j.at.Position, ErrOrder)
	}
	if e.Position > j.at.Position {
		j.at = Through{Position: e.Position}
	}
	j.at.Ordinal++
	if !j.skip.before(j.at) {
		return 0, nil
	}
	if sequence, err = j.appendLocked(now, evictionTag, e.Body); err == nil {
		j.recent.put(hash, sequence)
	}
	return sequence, err
}

// AppendDiscovery gives a whorl.v1.Discovery without field 1 the next sequence,
// like Append. It belongs to no log position: a replay does not make it again.
func (j *Journal) AppendDiscovery(ctx context.Context, now int64, body []byte) (sequence uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.waitForRoomLocked(ctx, len(body)); err != nil {
		return 0, err
	}
	return j.appendLocked(now, discoveryTag, body)
}

func (j *Journal) appendLocked(now int64, tag byte, body []byte) (sequence uint64, err error) {
	if j.closed {
		return 0, ErrClosed
	}
	if len(body) > MaxEventBytes {
		j.refused++
		return 0, fmt.Errorf("%d bytes: %w", len(body), ErrTooLarge)
	}
	j.now = max(j.now, now)
	j.clock = max(j.clock, now)
	sequence = j.next
	c := j.roomLocked(len(body) + maxFrameHeader)
	start := len(c.data)
	c.data = appendFrame(c.data, tag, sequence, body)
	c.ends = append(c.ends, uint32(len(c.data)))
	c.times = append(c.times, j.now)
	j.next++
	j.used += int64(len(c.data) - start)
	j.held += indexBytes
	if j.store != nil {
		j.store.appendedLocked(len(c.data)-start, j.reachedLocked())
		return sequence, nil
	}
	j.safe = sequence
	j.wakeLocked()
	return sequence, nil
}

// wakeLocked tells who waits that there is something to read.
func (j *Journal) wakeLocked() {
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// Trim lets go of events older than Config.MaxAge at now, for times in which
// nothing is appended.
func (j *Journal) Trim(now int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.clock = max(j.clock, now)
	j.trimLocked(0)
}

// Close ends the feed: Append fails from now on, and readers get ErrClosed when
// they have read what is held. With a store it writes first what waits, unless
// writing fails or takes longer than 10 s. It may be called more than once.
func (j *Journal) Close() {
	j.mu.Lock()
	j.closed = true
	if j.store == nil {
		j.wakeLocked()
	} else {
		j.store.movedLocked()
	}
	j.mu.Unlock()
	if j.store != nil {
		j.store.close()
	}
}

// Newest returns the cursor behind the newest event that readers get: who
// resumes there misses nothing that comes.
func (j *Journal) Newest() Cursor {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Cursor{j.epoch, j.safe}
}

// Oldest returns the cursor from which a reader gets all that is held. With a
// store it may be some seconds behind what the store dropped.
func (j *Journal) Oldest() Cursor {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Cursor{j.epoch, j.oldestLocked() - 1}
}

// oldestLocked returns the sequence of the oldest event held, or that of the
// next one when none is.
func (j *Journal) oldestLocked() uint64 {
	if j.store != nil && j.store.oldest > 0 {
		return min(j.store.oldest, j.ringOldestLocked())
	}
	return j.ringOldestLocked()
}

// Stats are counts of a Journal at one moment.
type Stats struct {
	// Oldest and Newest are the cursors of the methods of the same name.
	Oldest, Newest Cursor
	// OldestTime is when the oldest event held was appended, in Unix
	// nanoseconds; 0 when none is.
	OldestTime int64
	// Events are held, in memory or in the store.
	Events uint64
	// Bytes are held in memory, frames included, and StoredBytes in the store, as
	// on the disk.
	Bytes, StoredBytes, MaxStoredBytes int64
	// Pending events were appended and are not stored yet, so nobody reads them.
	Pending uint64
	// Released events were held once and are no more. Refused ones were too large.
	Released, Refused uint64

	// Durable says that what readers get survives a crash.
	Durable bool
	// Blocks counts the messages, each one fsync, that events were written in;
	// EventBytes and BlockBytes are what was in them before and after
	// compression. Failures counts writes that failed and were tried again.
	Blocks                 uint64
	EventBytes, BlockBytes uint64
	Failures               uint64
	// Err is why the store takes nothing at the moment, nil when it does. Append
	// blocks then, once much waits.
	Err error
}

// Stats returns the counts of this moment.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest := j.oldestLocked()
	s := Stats{
		Oldest: Cursor{j.epoch, oldest - 1}, Newest: Cursor{j.epoch, j.safe},
		Events: j.next - oldest, Bytes: j.used, Pending: j.next - 1 - j.safe,
		Released: oldest - 1, Refused: j.refused,
	}
	if len(j.chunks) > 0 {
		s.OldestTime = j.chunks[0].times[0]
	}
	if j.store != nil {
		j.store.statsLocked(&s)
	}
	return s
}
