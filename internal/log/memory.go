package log

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// Limits and defaults of a Memory log.
const (
	// DefaultMaxBytes bounds a log in memory unless told otherwise.
	DefaultMaxBytes = 64 << 20
	// maxRead bounds the records one Next returns, so that trimming keeps up.
	maxRead = 256
)

// Memory is a Log without a disk: as safe as the process. Once a record was
// read and trimmed its memory is let go of. Make one with NewMemory.
type Memory struct {
	maxBytes int64

	mu      sync.Mutex // guards all below
	records []Record   // those held are records[head:], the first at position first
	head    int        // records before it were let go of
	first   Position
	next    Position
	read    Position // last one the reader was given
	trimmed Position // greatest Trim so far
	bytes   int64
	logTime int64
	waits   uint64
	reading *memoryReader
	closed  bool
	// grown and shrunk wake who waits for a record or for room: closed and
	// forgotten at a change, nil while nobody waits.
	grown, shrunk chan struct{}
}

var _ Log = (*Memory)(nil)

// NewMemory makes an empty log that holds at most maxBytes as Record.Bytes
// counts them; 0 is DefaultMaxBytes.
func NewMemory(maxBytes int64) (*Memory, error) {
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	if maxBytes < 0 {
		return nil, fmt.Errorf("log: %d bytes is not a size", maxBytes)
	}
	return &Memory{maxBytes: maxBytes, first: 1, next: 1}, nil
}

// Append implements Log.
func (m *Memory) Append(ctx context.Context, records ...Record) (Position, error) {
	return m.Submit(ctx, nil, records...)
}

// Submit implements Log. done is called within it. A waiting call does not keep
// smaller ones, which still fit, from passing it.
func (m *Memory) Submit(ctx context.Context, done func(error), records ...Record) (Position, error) {
	size, err := measure(records)
	if err != nil {
		return 0, err
	}
	if size > m.maxBytes {
		return 0, fmt.Errorf("append %d bytes to a log of %d: %w", size, m.maxBytes, ErrTooLarge)
	}
	for i := range records {
		if r := &records[i]; r.Batch != nil {
			r.Data = bytes.Clone(r.Data)
		}
	}
	waited := false
	for {
		position, room, err := m.trySubmit(done, records, size, waited)
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

// measure sets and adds up the sizes of records, and refuses those of no kind.
func measure(records []Record) (bytes int64, err error) {
	for i := range records {
		if !records[i].Kind.Valid() {
			return 0, fmt.Errorf("append: %v is not a kind of record", records[i].Kind)
		}
		records[i].size = records[i].Bytes()
		bytes += records[i].size
	}
	return bytes, nil
}

// trySubmit returns a channel to wait for when there is no room.
func (m *Memory) trySubmit(done func(error), records []Record, size int64, waited bool) (Position, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, nil, fmt.Errorf("append: %w", ErrClosed)
	}
	if m.bytes+size > m.maxBytes {
		if !waited {
			m.waits++
		}
		if m.shrunk == nil {
			m.shrunk = make(chan struct{})
		}
		return 0, m.shrunk, nil
	}
	for i := range records {
		r := &records[i]
		m.logTime = max(m.logTime, r.LogTime)
		r.Position, r.LogTime = m.next, m.logTime
		m.next++
	}
	if done != nil {
		done(nil) // under the lock: before the reader can see them
	}
	m.records = append(m.records, records...)
	m.bytes += size
	wake(&m.grown)
	return m.next - 1, nil, nil
}

func wake(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

// Trim implements Log.
func (m *Memory) Trim(upTo Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if upTo >= m.next {
		return fmt.Errorf("trim up to %d: the newest record is %d", upTo, m.next-1)
	}
	m.trimmed = max(m.trimmed, upTo)
	m.releaseLocked()
	return nil
}

// releaseLocked lets go of what was both read and trimmed.
func (m *Memory) releaseLocked() {
	last := min(m.trimmed, m.read)
	if last < m.first {
		return
	}
	gone := m.records[m.head : m.head+int(last-m.first+1)]
	for i := range gone {
		m.bytes -= gone[i].size
	}
	clear(gone)
	m.head += len(gone)
	m.first = last + 1
	// Move the rest down only when that is less than what was let go of: a long
	// backlog must not be copied for each record.
	if m.head >= len(m.records)-m.head {
		rest := copy(m.records, m.records[m.head:])
		clear(m.records[rest:])
		m.records, m.head = m.records[:rest], 0
	}
	wake(&m.shrunk)
}

// Stats implements Log.
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		First: m.first, Last: m.next - 1, Safe: m.next - 1, Read: m.read,
		Bytes: m.bytes, MaxBytes: m.maxBytes, Waits: m.waits,
	}
}

// Close implements Log.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	wake(&m.grown)
	wake(&m.shrunk)
	return nil
}

// Reader implements Log.
func (m *Memory) Reader(after Position) (Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.reading != nil:
		return nil, ErrReading
	case after >= m.next:
		return nil, fmt.Errorf("read after %d: the newest record is %d", after, m.next-1)
	case after+1 < m.first:
		return nil, fmt.Errorf("read after %d: the oldest record is %d: %w", after, m.first, ErrTrimmed)
	}
	m.read = after
	m.reading = &memoryReader{m: m}
	return m.reading, nil
}

type memoryReader struct {
	m      *Memory
	buf    []Record
	closed bool
}

// Next implements Reader.
func (r *memoryReader) Next(ctx context.Context) ([]Record, error) {
	clear(r.buf) // let go of what the caller had
	for {
		n, grown, err := r.take()
		if n > 0 || err != nil {
			return r.buf[:n], err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *memoryReader) take() (int, <-chan struct{}, error) {
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.closed {
		return 0, nil, fmt.Errorf("read: %w", ErrClosed)
	}
	rest := m.records[m.head+int(m.read+1-m.first):]
	if len(rest) == 0 {
		if m.closed {
			return 0, nil, fmt.Errorf("read: %w", ErrClosed)
		}
		if m.grown == nil {
			m.grown = make(chan struct{})
		}
		return 0, m.grown, nil
	}
	n := min(len(rest), maxRead)
	r.buf = append(r.buf[:0], rest[:n]...)
	for i := range rest[:n] {
		rest[i].Batch, rest[i].Note = nil, nil
	}
	m.read += Position(n)
	m.releaseLocked()
	return n, nil, nil
}

// Close implements Reader.
func (r *memoryReader) Close() error {
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if !r.closed {
		r.closed = true
		m.reading = nil
		wake(&m.grown) // a Next that waits must not wait for ever
	}
	return nil
}
