// Package jettest has the messages that tests of a log and of a feed need: in
// memory, and with the faults of a disk.
package jettest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/whorl-net/whorl/internal/jet"
)

// ErrFault is the error of a call that a test let fail.
var ErrFault = errors.New("fault of a test")

// Memory is a sequence of messages with the behaviour of a jet.Stream. What
// happens to it is up to the test. The zero Memory works, without a bound.
type Memory struct {
	// MaxMessages and MaxBytes bound what is held, 0 is no bound. DropOldest makes
	// room by dropping the oldest, otherwise Append returns jet.ErrFull.
	MaxMessages int
	MaxBytes    int64
	DropOldest  bool
	// Fault is asked at each append, counted from 1, what becomes of it; nil is
	// None for all. It is called under the lock of the Memory.
	Fault func(append int) Fault

	mu        sync.Mutex // guards all below
	messages  []jet.Message
	last      uint64
	bytes     int64
	appends   int
	unsettled []byte // data of an append whose outcome the caller does not know
	reads     int
}

// Fault is what becomes of an append.
type Fault uint8

// The faults.
const (
	// None: the message is stored.
	None Fault = iota
	// Refused: it is not, and Append fails.
	Refused
	// Ambiguous: it is, and Append fails all the same.
	Ambiguous
)

// Append implements the messages of a log and of a feed.
func (m *Memory) Append(ctx context.Context, data []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	m.appends++
	fault := None
	if m.Fault != nil {
		fault = m.Fault(m.appends)
	}
	if fault == Refused {
		return 0, fmt.Errorf("append %d is refused: %w", m.appends, ErrFault)
	}
	if m.unsettled != nil {
		same := bytes.Equal(m.unsettled, data)
		m.unsettled = nil
		if !same {
			return 0, jet.ErrConflict
		}
		return m.last, nil
	}
	over := func() bool {
		return m.MaxMessages > 0 && len(m.messages) >= m.MaxMessages || m.MaxBytes > 0 && m.bytes+int64(len(data)) > m.MaxBytes
	}
	for over() && len(m.messages) > 0 && m.DropOldest {
		m.drop(0)
	}
	if over() {
		return 0, jet.ErrFull
	}
	m.last++
	m.messages = append(m.messages, jet.Message{Number: m.last, Data: bytes.Clone(data)})
	m.bytes += int64(len(data))
	if fault == Ambiguous {
		m.unsettled = bytes.Clone(data)
		return 0, fmt.Errorf("append %d is not answered: %w", m.appends, ErrFault)
	}
	return m.last, nil
}

func (m *Memory) drop(i int) {
	m.bytes -= int64(len(m.messages[i].Data))
	m.messages = slices.Delete(m.messages, i, i+1)
}

// Read implements the messages of a log and of a feed.
func (m *Memory) Read(ctx context.Context, number uint64) (jet.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return jet.Message{}, err
	}
	m.reads++
	i, _ := slices.BinarySearchFunc(m.messages, number, func(m jet.Message, n uint64) int { return cmp.Compare(m.Number, n) })
	if i == len(m.messages) {
		return jet.Message{}, jet.ErrNone
	}
	return jet.Message{Number: m.messages[i].Number, Data: bytes.Clone(m.messages[i].Data)}, nil
}

// Purge implements the messages of a log.
func (m *Memory) Purge(_ context.Context, number uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.messages) > 0 && m.messages[0].Number <= number {
		m.drop(0)
	}
	return nil
}

// State implements the messages of a log and of a feed.
func (m *Memory) State(context.Context) (jet.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := jet.State{First: m.last + 1, Last: m.last, Messages: uint64(len(m.messages)), Bytes: m.bytes, MaxBytes: m.MaxBytes}
	if len(m.messages) > 0 {
		s.First = m.messages[0].Number
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = 1 << 40
	}
	return s, nil
}

// Damage lets a test change or, with nil, remove the message at number.
func (m *Memory) Damage(number uint64, change func(data []byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, msg := range m.messages {
		if msg.Number != number {
			continue
		}
		if change == nil {
			m.drop(i)
		} else {
			change(msg.Data)
		}
		return
	}
}

// Copy returns what a process that starts now would find: nobody writes to both.
func (m *Memory) Copy() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{MaxMessages: m.MaxMessages, MaxBytes: m.MaxBytes, DropOldest: m.DropOldest, last: m.last, bytes: m.bytes}
	for _, msg := range m.messages {
		c.messages = append(c.messages, jet.Message{Number: msg.Number, Data: bytes.Clone(msg.Data)})
	}
	return c
}

// Appends counts the appends so far, those that failed included.
func (m *Memory) Appends() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appends
}

// Reads counts the messages read so far.
func (m *Memory) Reads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}
