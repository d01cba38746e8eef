// Package log is what a collector writes down before it applies it: batches,
// ticks and flushes in one order.
//
// A Log takes Records, gives each a Position, and hands them to one Reader in
// that order. What is before a Position that was trimmed is gone. The state of
// a collector is a function of its log, so everything that decides something
// stands in a Record, the time included.
//
// Memory is the implementation without a disk: it keeps nothing over a restart.
// Stored keeps its records in a sequence of messages that outlives the process,
// many records to a message, which is what an fsync costs. Package logtest is
// the suite that every implementation passes.
package log

import (
	"context"
	"errors"
	"fmt"

	"github.com/whorl-net/whorl/flow"
)

// Position numbers the records of a log from 1 without holes. 0 is before the
// first.
type Position uint64

// Kind says what a Record is. The numbers are stored: they never change.
type Kind uint8

// The kinds of records.
const (
	// KindBatch is a batch of a probe: Session, Data and perhaps Batch are set.
	KindBatch Kind = 1
	// KindTick says that time passes while nobody reports: only LogTime is set.
	KindTick Kind = 2
	// KindFlush asks to evict connections: Data says which, and Session, when a
	// probe asked, whose.
	KindFlush Kind = 3
	// KindClose ends a probe session; Session is set.
	KindClose Kind = 4
	// KindForget asks to forget when fingerprints were first seen: Data says
	// which.
	KindForget Kind = 5
)

// Valid reports whether k is one of the constants above.
func (k Kind) Valid() bool { return k >= KindBatch && k <= KindForget }

// String returns the lower-case name of the kind.
func (k Kind) String() string {
	switch k {
	case KindBatch:
		return "batch"
	case KindTick:
		return "tick"
	case KindFlush:
		return "flush"
	case KindClose:
		return "close"
	case KindForget:
		return "forget"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Session is the numbering that a batch belongs to, and what the tracker has to
// know of its origin. Comparable.
type Session struct {
	// Probe and Network are labels that were checked before.
	Probe, Network string
	// ID is the random session id; zero for batches without a numbering (Push).
	ID [16]byte
	// Live says that capture times are near the collector's clock.
	Live bool
}

// Record is one entry of a Log.
type Record struct {
	// Position is given by Append; what the caller put there is ignored.
	Position Position
	// LogTime is the collector's wall clock, Unix nanoseconds. It never goes
	// back in a log: Append raises one that would to that of the record before.
	LogTime int64
	Kind    Kind
	Session Session
	// Data is the encoded batch or request, empty where the kind has none. Once
	// appended nobody changes it, but for that of a record with its Batch: the log
	// copies it if it needs it, and may hand the record on without. A log that is
	// not Durable does without the Data of a batch that has its Batch.
	Data []byte
	// Batch is Data, decoded, for whoever applies it. It is handed on once: a
	// record that is read again, or comes back from a disk, has nil here.
	Batch *flow.Batch
	// Note belongs to whoever appended the record, such as whom to tell when it
	// is applied. Like Batch it is handed on once and never stored.
	Note any

	size int64 // Bytes at the append: who was given Batch may change it since
	// packed is Data, compressed, on its way to the disk. Data is nil then.
	packed *packed
}

// recordOverhead stands for what a record costs beside Data and Batch.
const recordOverhead = 256

// Bytes returns what the record counts against the bound of a log: its memory
// or what it takes on a disk, whichever is greater, roughly.
func (r *Record) Bytes() int64 {
	n := int64(recordOverhead + len(r.Data))
	if b := r.Batch; b != nil {
		// Lengths and not capacities: a batch that is reused has the memory of
		// the largest it ever was, which is no reason to refuse a small one.
		n += int64(len(b.Flows))*38 + int64(len(b.Flow))*17 + int64(len(b.RunPackets))*12
		for i := range b.Fingerprints {
			f := &b.Fingerprints[i]
			n += 64 + int64(len(f.Value)+len(f.Raw)+len(f.ServerName))
		}
	}
	return n
}

// Errors of a Log.
var (
	// ErrClosed: the log was closed; of a reader, also that all was read.
	ErrClosed = errors.New("log is closed")
	// ErrTooLarge: the records could never fit, however much is trimmed.
	ErrTooLarge = errors.New("record is larger than the log")
	// ErrUnavailable: what the log is stored on takes nothing at the moment. It
	// wraps the reason. What was taken before is kept and tried again, and the
	// log takes records again once that is written.
	ErrUnavailable = errors.New("log cannot be written")
	// ErrHole: records between two that are there cannot be read. It says which.
	ErrHole = errors.New("log has a hole")
	// ErrTrimmed: the position to read from is gone.
	ErrTrimmed = errors.New("log position was trimmed")
	// ErrReading: a log has one reader at a time.
	ErrReading = errors.New("log has a reader already")
)

// Log is an ordered log with one reader. All methods are safe for concurrent
// use.
type Log interface {
	// Submit adds records one behind the other, all or none, and returns the
	// position of the last as soon as their order is settled. It sets Position
	// and LogTime in records. The log owns what the records refer to from then
	// on, also when Submit fails; the slice itself stays the caller's, and so does
	// the memory of Data in a record that has its Batch.
	//
	// When Submit returned nil, done is called once: with nil when all of them
	// are as safe as this log makes them, before the Reader hands out the last
	// of them, and in the order of positions; or with ErrClosed when the log ended
	// before, and it is not known what of them is stored. It may be called before
	// Submit returns and on any goroutine; it must be short and must not call the
	// log. nil is allowed. When Submit failed done is not called.
	//
	// While the log is full Submit blocks; if ctx ends first it returns the cause
	// and nothing was added. While what the log is stored on takes nothing, Submit
	// returns ErrUnavailable at once. Concurrent calls are ordered by the log.
	Submit(ctx context.Context, done func(error), records ...Record) (Position, error)

	// Append is Submit and a wait until the records are safe. If ctx ends during
	// that wait it returns the cause, although the records are in the log.
	Append(ctx context.Context, records ...Record) (Position, error)

	// Reader returns the reader of all that is behind after. There is one at a
	// time: ErrReading until the one before was closed; ErrTrimmed when some of
	// it is gone, an error when after is ahead of the newest record.
	Reader(after Position) (Reader, error)

	// Trim says that nothing up to upTo will be read again. Records that the
	// reader has yet to read are kept all the same.
	Trim(upTo Position) error

	// Stats returns counts of this moment.
	Stats() Stats

	// Close ends the log: appends that wait and later ones return ErrClosed,
	// the reader gets what is there and then ErrClosed.
	Close() error
}

// Reader reads a log in order. Not safe for concurrent use.
type Reader interface {
	// Next returns the next records, as many as are there within limits of the
	// implementation, and blocks until there is one or ctx ends. The slice is
	// valid until the next call; Batch and Note belong to the caller.
	Next(ctx context.Context) ([]Record, error)
	// Close lets another reader begin. It may be called more than once.
	Close() error
}

// Stats are counts of a Log at one moment.
type Stats struct {
	// First is the oldest record held, Last the newest ever appended; First is
	// Last+1 when none is held.
	First, Last Position
	// Safe is the newest record that is as safe as this log makes it.
	Safe Position
	// Read is the position of the last record the reader was given.
	Read Position
	// Bytes are held now, at most MaxBytes; what waits to be written counts too.
	Bytes, MaxBytes int64
	// Waits counts appends that had to wait because the log was full.
	Waits uint64
	// Durable says that what is safe survives a crash.
	Durable bool

	// Groups counts the messages, each one fsync, that records were written in
	// since the log was opened; RecordBytes and GroupBytes are what was in them
	// before and after compression. 0 where there is no disk.
	Groups                  uint64
	RecordBytes, GroupBytes uint64
	// Failures counts writes that failed and were tried again. Err is why the
	// log takes nothing at the moment, nil when it does.
	Failures uint64
	Err      error
}
