package log

import (
	"context"
	"errors"
	"fmt"

	"github.com/whorl-net/whorl/internal/jet"
)

// storedReader reads a Stored log: from its messages as long as records are no
// longer in memory, then from memory.
type storedReader struct {
	l      *Stored
	buf    []Record
	closed bool // guarded by l.mu

	// What is read from the store: records of one group, from the one behind
	// l.read on, and the number of the next message; 0 is not known.
	group []Record
	next  uint64
}

// Reader implements Log.
func (l *Stored) Reader(after Position) (Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := max(l.where.oldest(l.safe+1), min(l.trimmed, l.read, l.safe)+1)
	switch {
	case l.reading != nil:
		return nil, ErrReading
	case after >= l.next:
		return nil, fmt.Errorf("read after %d: the newest record is %d", after, l.next-1)
	case after+1 < first:
		return nil, fmt.Errorf("read after %d: the oldest record is %d: %w", after, first, ErrTrimmed)
	}
	l.read = after
	l.dropLocked()
	l.releaseLocked()
	l.reading = &storedReader{l: l}
	return l.reading, nil
}

// Next implements Reader.
func (r *storedReader) Next(ctx context.Context) ([]Record, error) {
	clear(r.buf) // let go of what the caller had
	for {
		n, grown, err := r.take()
		if n > 0 || err != nil {
			return r.buf[:n], err
		}
		if grown == nil {
			if err := r.fetch(ctx); err != nil {
				return nil, fmt.Errorf("read: %w", err)
			}
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take copies the next records from memory, or from the group that was fetched.
// Neither records nor a channel to wait for: the next group is to be fetched.
func (r *storedReader) take() (int, <-chan struct{}, error) {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.closed {
		return 0, nil, fmt.Errorf("read: %w", ErrClosed)
	}
	r.buf = r.buf[:0]
	next := l.read + 1
	first := l.tailFirstLocked()
	switch {
	case next < first:
		if len(r.group) == 0 {
			return 0, nil, nil
		}
		n := min(len(r.group), maxRead, int(first-next))
		r.buf = append(r.buf, r.group[:n]...)
		clear(r.group[:n])
		r.group = r.group[n:]
	case next <= l.safe:
		r.group, r.next = nil, 0
		rest := l.tail[next-first:]
		n := min(len(rest), maxRead, int(l.safe-l.read))
		r.buf = append(r.buf, rest[:n]...)
		for i := range rest[:n] {
			rest[i].Batch, rest[i].Note = nil, nil
		}
	default:
		if l.closed && (l.safe+1 == l.next || l.abandoned) {
			return 0, nil, fmt.Errorf("read: %w", ErrClosed)
		}
		if l.grown == nil {
			l.grown = make(chan struct{})
		}
		return 0, l.grown, nil
	}
	l.read += Position(len(r.buf))
	l.dropLocked()
	l.releaseLocked()
	return len(r.buf), nil, nil
}

// fetch reads the group that holds the next record from the store.
func (r *storedReader) fetch(ctx context.Context) error {
	l := r.l
	l.mu.Lock()
	want := l.read + 1
	p, ok := l.where.find(want)
	l.mu.Unlock()
	if r.next == 0 {
		if !ok {
			return fmt.Errorf("record %d: %w", want, ErrTrimmed)
		}
		var err error
		if r.next, err = seek(ctx, l.messages, p, want); err != nil {
			return err
		}
	}
	for {
		m, err := l.messages.Read(ctx, r.next)
		if err != nil {
			return fmt.Errorf("message %d of the log, record %d: %w", r.next, want, err)
		}
		records, err := decodeGroup(m.Data, r.group[:0])
		if err != nil {
			return fmt.Errorf("message %d of the log, record %d: %w", m.Number, want, err)
		}
		first, last := records[0].Position, records[len(records)-1].Position
		if first > want {
			return fmt.Errorf("records %d to %d are missing, before message %d: %w", want, first-1, m.Number, ErrHole)
		}
		r.next = m.Number + 1
		if last < want {
			continue
		}
		r.group = records[want-first:]
		return nil
	}
}

// seek returns the message of the run p that holds the record want: the newest
// one that begins at or before it.
func seek(ctx context.Context, messages Messages, p place, want Position) (number uint64, err error) {
	number, err = jet.Search(ctx, messages, p.from, p.to, func(m jet.Message) jet.Order {
		g, err := readGroupInfo(m.Data)
		switch {
		case err != nil:
			return jet.Unreadable // it matters only when the records in it are read
		case g.first <= want:
			return jet.Before
		}
		return jet.Behind
	})
	if err != nil {
		return 0, fmt.Errorf("look for record %d: %w", want, err)
	}
	return number, nil
}

// readable returns the first message from number on, but not behind last, whose
// header can be read. ErrHole says that there is none.
func readable(ctx context.Context, messages Messages, number, last uint64) (uint64, groupInfo, error) {
	for number <= last {
		m, err := messages.Read(ctx, number)
		if errors.Is(err, jet.ErrNone) {
			break
		}
		if err != nil {
			return 0, groupInfo{}, err
		}
		if m.Number > last {
			break
		}
		g, err := readGroupInfo(m.Data)
		if err == nil {
			return m.Number, g, nil
		}
		if !errors.Is(err, errGroup) {
			return 0, groupInfo{}, fmt.Errorf("message %d: %w", m.Number, err)
		}
		number = m.Number + 1
	}
	return 0, groupInfo{}, ErrHole
}

// Close implements Reader.
func (r *storedReader) Close() error {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.closed {
		r.closed = true
		l.reading = nil
		wake(&l.grown) // a Next that waits must not wait for ever
	}
	return nil
}

var _ Messages = (*jet.Stream)(nil)
