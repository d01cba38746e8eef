package log

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/whorl-net/whorl/internal/jet"
)

// Limits and defaults of a Stored log.
const (
	// DefaultDiskBytes bounds a log on a disk unless told otherwise.
	DefaultDiskBytes = 4 << 30
	// diskShare is the part of the free disk a log may take.
	diskShare = 0.25
	// streamName is what the log is called in the store.
	streamName = "log"

	// groupEvery and groupBurst bound the fsyncs of many small appends; a group
	// that is groupFull does not wait.
	defaultGroupEvery = 125 * time.Millisecond
	groupBurst        = 4
	groupFull         = 4 << 20
	// closeWithin bounds the last write of a log that is closed.
	closeWithin = 10 * time.Second
)

// Messages is a sequence of messages that outlives the process. *jet.Stream is
// one. Append is tried again with the same data until it succeeds, and must
// store it once.
type Messages interface {
	Append(ctx context.Context, data []byte) (number uint64, err error)
	Read(ctx context.Context, number uint64) (jet.Message, error)
	Purge(ctx context.Context, number uint64) error
	State(ctx context.Context) (jet.State, error)
}

// Stream describes the messages of a log of at most maxBytes on disk; 0 is
// DefaultDiskBytes.
func Stream(maxBytes int64) jet.StreamConfig {
	if maxBytes == 0 {
		maxBytes = DefaultDiskBytes
	}
	return jet.StreamConfig{Name: streamName, MaxBytes: maxBytes, Share: diskShare}
}

// Config says how a Stored log works. The zero Config does.
type Config struct {
	// MemoryBytes bounds, as Record.Bytes counts them, the records that wait to be
	// written or read; 0 is DefaultMaxBytes. Submit blocks beyond.
	MemoryBytes int64
	// GroupEvery is the time between two groups under load, each of which costs
	// an fsync; after a pause the first few are written at once. 0 is 125 ms.
	GroupEvery time.Duration
}

// Stored is a Log on Messages. Many records become one message: while one is
// written the next fills up, and under load there are about 8 in a second. Make
// one with Open.
//
// What was submitted and is not read yet stays in memory, so that a reader that
// keeps up reads nothing back. When a write fails it is tried again, the same
// message, until it succeeds or the log is closed; nothing behind it is written
// before, and after the second try Submit refuses more.
type Stored struct {
	messages Messages
	memory   int64     // bound of tailBytes
	free     sync.Pool // of *packed that were written
	ended    chan struct{}
	stop     context.CancelCauseFunc // ends calls of messages
	kick     chan struct{}           // capacity 1: the writer has something to look at
	shut     chan struct{}           // closed by Close

	mu        sync.Mutex // guards all below
	tail      []Record   // those in memory: up to next-1
	tailBytes int64
	next      Position
	safe      Position
	logTime   int64
	waiting   []waiter // whom to tell, in the order of positions
	queued    int64    // bodyBytes of the records that are in no group yet
	kickAt    int64    // how much has to be queued for the writer to be woken
	unwritten int64    // bytes of the records that are not safe
	grouped   Position // last record that was taken into a group
	reading   *storedReader
	read      Position
	trimmed   Position
	where     index
	maxDisk   int64
	waits     uint64
	groups    uint64
	rawBytes  uint64
	outBytes  uint64
	failures  uint64
	err       error
	closed    bool
	abandoned bool // what is not safe will not be
	// grown and shrunk wake who waits for a safe record or for room.
	grown, shrunk chan struct{}
}

var _ Log = (*Stored)(nil)

// waiter is told when the record at last is safe. first is that of the same
// Submit.
type waiter struct {
	first, last Position
	done        func(error)
}

// Open opens the log that messages hold. Its goroutine ends with Close; messages
// must outlive the log, and its reader.
func Open(ctx context.Context, messages Messages, cfg Config) (*Stored, error) {
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = DefaultMaxBytes
	}
	if cfg.GroupEvery == 0 {
		cfg.GroupEvery = defaultGroupEvery
	}
	if cfg.MemoryBytes < 0 {
		return nil, fmt.Errorf("log: %d bytes is not a size", cfg.MemoryBytes)
	}
	state, err := messages.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Stored{
		messages: messages, memory: cfg.MemoryBytes, next: 1, maxDisk: state.MaxBytes,
		ended: make(chan struct{}), kick: make(chan struct{}, 1), shut: make(chan struct{}),
	}
	if state.Messages > 0 {
		// The oldest messages are perhaps not needed any more: whoever needs what
		// cannot be read is told by Reader.
		from, first, err := readable(ctx, messages, state.First, state.Last)
		if err != nil {
			return nil, fmt.Errorf("open log: oldest records: %w", err)
		}
		last, err := infoAt(ctx, messages, state.Last)
		if err != nil {
			return nil, fmt.Errorf("open log: newest records: %w", err)
		}
		l.next, l.logTime = last.last()+1, last.logTime
		l.where.add(place{
			first: first.first, last: last.last(), from: from, to: state.Last, bytes: state.Bytes,
		})
	}
	l.safe, l.grouped = l.next-1, l.next-1
	writing, stop := context.WithCancelCause(context.Background())
	l.stop = stop
	go l.write(writing, cfg.GroupEvery)
	return l, nil
}

// infoAt reads what the message at number says of itself.
func infoAt(ctx context.Context, messages Messages, number uint64) (groupInfo, error) {
	m, err := messages.Read(ctx, number)
	if err != nil {
		return groupInfo{}, fmt.Errorf("message %d: %w", number, err)
	}
	if m.Number != number {
		return groupInfo{}, fmt.Errorf("message %d is missing: %w", number, ErrHole)
	}
	g, err := readGroupInfo(m.Data)
	if err != nil {
		return groupInfo{}, fmt.Errorf("message %d: %w", number, err)
	}
	return g, nil
}

// Append implements Log.
func (l *Stored) Append(ctx context.Context, records ...Record) (Position, error) {
	if len(records) == 0 {
		return l.Submit(ctx, nil)
	}
	safe := make(chan error, 1)
	position, err := l.Submit(ctx, func(err error) { safe <- err }, records...)
	if err != nil {
		return 0, err
	}
	select {
	case err = <-safe:
	case <-ctx.Done():
		err = fmt.Errorf("append: wait for the disk: %w", context.Cause(ctx))
	}
	return position, err
}

// Submit implements Log. A waiting call does not keep smaller ones, which still
// fit, from passing it.
func (l *Stored) Submit(ctx context.Context, done func(error), records ...Record) (Position, error) {
	size, err := measure(records)
	if err != nil {
		return 0, err
	}
	l.pack(records)
	body := bodyBytes(records)
	if most := min(l.memory, l.maxDisk); size > most || body > maxBody {
		return 0, fmt.Errorf("append %d bytes to a log of %d: %w", size, most, ErrTooLarge)
	}
	waited := false
	for {
		position, room, err := l.trySubmit(done, records, size, body, waited)
		if room == nil {
			return position, err
		}
		waited = true
		select {
		case <-room:
		case <-ctx.Done():
			return 0, fmt.Errorf("append to a full log: %w", context.Cause(ctx))
		}
	}
}

// bodyBytes is the most that records take in the body of a group.
func bodyBytes(records []Record) (bytes int64) {
	for i := range records {
		r := &records[i]
		bytes += int64(recordFraming + sessionFraming + len(r.Session.Probe) + len(r.Session.Network) + r.storedLen())
	}
	return bytes
}

// trySubmit returns a channel to wait for when there is no room.
func (l *Stored) trySubmit(done func(error), records []Record, size, body int64, waited bool) (Position, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return 0, nil, fmt.Errorf("append: %w", ErrClosed)
	case l.err != nil && !errors.Is(l.err, jet.ErrFull):
		return 0, nil, fmt.Errorf("append: %w: %w", ErrUnavailable, l.err)
	case len(records) == 0:
		return l.next - 1, nil, nil
	case l.tailBytes+size > l.memory || l.bytesLocked()+size > l.maxDisk:
		if !waited {
			l.waits++
		}
		if l.shrunk == nil {
			l.shrunk = make(chan struct{})
		}
		return 0, l.shrunk, nil
	}
	first := l.next
	for i := range records {
		r := &records[i]
		l.logTime = max(l.logTime, r.LogTime)
		r.Position, r.LogTime = l.next, l.logTime
		l.next++
	}
	l.tail = append(l.tail, records...)
	l.tailBytes += size
	l.queued += body
	l.unwritten += size
	l.waiting = append(l.waiting, waiter{first, l.next - 1, done})
	if l.queued >= l.kickAt {
		poke(l.kick)
	}
	return l.next - 1, nil, nil
}

// poke fills a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tailFirstLocked is the position of the first record in memory, or of the next
// one when none is.
func (l *Stored) tailFirstLocked() Position { return l.next - Position(len(l.tail)) }

// dropLocked lets go of the records in memory that were written and read.
func (l *Stored) dropLocked() {
	first := l.tailFirstLocked()
	n := 0
	for last := min(l.read, l.safe); first+Position(n) <= last && n < len(l.tail); n++ {
		l.tailBytes -= l.tail[n].size
		l.tail[n] = Record{}
	}
	if n == 0 {
		return
	}
	// Appending moves the rest to the front of a new array when this one is used up.
	l.tail = l.tail[n:]
	wake(&l.shrunk)
}

// bytesLocked is what counts against maxDisk.
func (l *Stored) bytesLocked() int64 { return l.where.bytes + l.unwritten }

// Trim implements Log. What it frees on the disk is freed a little later.
func (l *Stored) Trim(upTo Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo >= l.next {
		return fmt.Errorf("trim up to %d: the newest record is %d", upTo, l.next-1)
	}
	l.trimmed = max(l.trimmed, upTo)
	l.releaseLocked()
	return nil
}

// releaseLocked lets go of what was both read and trimmed.
func (l *Stored) releaseLocked() {
	if l.where.trim(min(l.trimmed, l.read, l.safe)) {
		wake(&l.shrunk)
		poke(l.kick)
	} else if _, partly := l.where.partly(); partly {
		poke(l.kick)
	}
}

// Stats implements Log.
func (l *Stored) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		First: max(l.where.oldest(l.safe+1), min(l.trimmed, l.read, l.safe)+1), Last: l.next - 1, Safe: l.safe, Read: l.read,
		Bytes: l.bytesLocked(), MaxBytes: l.maxDisk, Waits: l.waits, Durable: true,
		Groups: l.groups, RecordBytes: l.rawBytes, GroupBytes: l.outBytes, Failures: l.failures, Err: l.err,
	}
	return s
}

// Close implements Log. It writes what was submitted first, unless writing fails
// or takes longer than 10 s.
func (l *Stored) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.shut)
	}
	wake(&l.grown)
	wake(&l.shrunk)
	l.mu.Unlock()
	poke(l.kick)
	impatient := time.AfterFunc(closeWithin, func() { l.stop(ErrClosed) })
	defer impatient.Stop()
	<-l.ended
	return nil
}
