package jet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/whorl-net/whorl/internal/disk"
)

const (
	// minStream is the least a new stream may be given; below, the disk is full.
	minStream = 32 << 20
	// callWithin bounds one call that is answered from memory or by one read.
	callWithin = 10 * time.Second
	// readTries is how often a read is tried while the engine is restarted.
	readTries = 5
)

// StreamConfig says what a Stream keeps.
type StreamConfig struct {
	// Name is letters, digits and dashes.
	Name string
	// MaxBytes bounds what the stream holds on disk. Less is taken when the disk
	// has not that much: at most Share of what is free and what the stream holds
	// already. An existing stream is never made smaller than it is.
	MaxBytes int64
	// Share is above 0 and at most 1.
	Share float64
	// MaxAge is how long a message is kept; 0 is no limit.
	MaxAge time.Duration
	// DropOldest makes room for a new message by dropping the oldest ones.
	// Otherwise Append returns ErrFull.
	DropOldest bool
}

// Stream is one sequence of messages. Append and Purge are for one goroutine at
// a time, the other methods for any.
type Stream struct {
	server   *Server
	name     string
	maxBytes int64

	mu     sync.Mutex // guards all below
	engine *engine    // the one handle belongs to
	handle jetstream.Stream

	last      uint64       // number of the newest message that is known to be stored
	unsettled bool         // the outcome of an append behind last is not known
	beat      func() error // says whether a sync is to be believed
}

// Message is one message of a stream.
type Message struct {
	// Number is its place in the stream, from 1. Numbers rise, and have holes
	// where messages were lost.
	Number uint64
	// Data belongs to the caller.
	Data []byte
}

// State is what a stream holds.
type State struct {
	// First and Last are the numbers of the oldest and the newest message; First
	// is Last+1 when there is none. Last never goes back.
	First, Last uint64
	// Messages and Bytes are held; Bytes as on the disk, and at most MaxBytes.
	Messages        uint64
	Bytes, MaxBytes int64
}

// Open opens a stream and makes it if it does not exist.
func (s *Server) Open(ctx context.Context, cfg StreamConfig) (*Stream, error) {
	e, err := s.engine()
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Name, err)
	}
	want := jetstream.StreamConfig{
		Name: cfg.Name, Subjects: []string{cfg.Name},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxMsgs: -1, MaxAge: cfg.MaxAge, MaxMsgSize: MaxMessageBytes + headroom,
		AllowDirect: true, Replicas: 1,
	}
	if cfg.DropOldest {
		want.Discard = jetstream.DiscardOld
	}
	if want.MaxAge > 0 {
		want.Duplicates = min(want.MaxAge, 2*time.Minute) // it must be within the age, and is not used
	}
	held := int64(0)
	exists := true
	if h, err := e.js.Stream(ctx, cfg.Name); err == nil {
		held = int64(h.CachedInfo().State.Bytes)
	} else if errors.Is(err, jetstream.ErrStreamNotFound) {
		exists = false
	} else {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Name, err)
	}
	want.MaxBytes = cfg.MaxBytes
	if free, known := freeBytes(s.cfg.Dir); known {
		want.MaxBytes = min(want.MaxBytes, int64(float64(free+held)*cfg.Share))
	}
	want.MaxBytes = max(want.MaxBytes, held)
	if !exists && want.MaxBytes < min(minStream, cfg.MaxBytes) {
		return nil, fmt.Errorf("open stream %s: the disk of %s has room for %d bytes of it, want at least %d",
			cfg.Name, s.cfg.Dir, want.MaxBytes, int64(minStream))
	}
	h, err := e.js.CreateOrUpdateStream(ctx, want)
	if err != nil {
		// The engine does not say why; a disk that takes nothing is most likely.
		return nil, fmt.Errorf("open stream %s in %s: %w", cfg.Name, s.cfg.Dir, errors.Join(err, writable(s.cfg.Dir)))
	}
	// A process that was killed may have left what it wrote to the page cache alone;
	// from now on it counts as stored.
	check := (&disk.Beat{Dir: s.cfg.Dir, Name: cfg.Name}).Check
	if s.cfg.NoSync {
		check = func() error { return nil }
	}
	if exists {
		err := s.syncBlocks(cfg.Name, 0)
		if err == nil {
			err = check()
		}
		if err != nil {
			return nil, fmt.Errorf("open stream %s: %w", cfg.Name, err)
		}
	}
	st := &Stream{server: s, name: cfg.Name, maxBytes: want.MaxBytes, engine: e, handle: h}
	st.last = h.CachedInfo().State.LastSeq
	st.beat = check
	return st, nil
}

// stream returns a handle of the engine that lives.
func (s *Stream) stream(ctx context.Context) (*engine, jetstream.Stream, error) {
	e, err := s.server.engine()
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	h := s.handle
	same := e == s.engine
	s.mu.Unlock()
	if same {
		return e, h, nil
	}
	if h, err = e.js.Stream(ctx, s.name); err != nil {
		return e, nil, err
	}
	s.mu.Lock()
	s.engine, s.handle = e, h
	s.mu.Unlock()
	return e, h, nil
}

// State asks the engine what the stream holds.
func (s *Stream) State(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	_, h, err := s.stream(ctx)
	if err != nil {
		return State{}, fmt.Errorf("state of stream %s: %w", s.name, err)
	}
	info, err := h.Info(ctx)
	if err != nil {
		return State{}, fmt.Errorf("state of stream %s: %w", s.name, err)
	}
	st := info.State
	first := st.FirstSeq
	if st.Msgs == 0 {
		first = st.LastSeq + 1
	}
	return State{First: first, Last: st.LastSeq, Messages: st.Msgs, Bytes: int64(st.Bytes), MaxBytes: s.maxBytes}, nil
}

// Read returns the first message at number or behind it, ErrNone when there is
// none. Messages that cannot be read are passed over.
func (s *Stream) Read(ctx context.Context, number uint64) (Message, error) {
	for try := 1; ; try++ {
		m, err := s.read(ctx, number)
		if err == nil || errors.Is(err, ErrNone) || errors.Is(err, ErrStopped) || ctx.Err() != nil || try == readTries {
			return m, err
		}
		// The engine is being restarted for the sake of a write.
		if err := wait(ctx, time.Duration(try)*100*time.Millisecond); err != nil {
			return Message{}, err
		}
	}
}

func (s *Stream) read(ctx context.Context, number uint64) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	_, h, err := s.stream(ctx)
	if err != nil {
		return Message{}, fmt.Errorf("read stream %s at %d: %w", s.name, number, err)
	}
	m, err := h.GetMsg(ctx, max(number, 1), jetstream.WithGetMsgSubject(s.name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, ErrNone
	}
	if err != nil {
		return Message{}, fmt.Errorf("read stream %s at %d: %w", s.name, number, err)
	}
	return Message{Number: m.Sequence, Data: m.Data}, nil
}

// Purge removes the messages up to number, itself included.
func (s *Stream) Purge(ctx context.Context, number uint64) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	_, h, err := s.stream(ctx)
	if err == nil {
		err = h.Purge(ctx, jetstream.WithPurgeSequence(number+1))
	}
	if err != nil {
		return fmt.Errorf("purge stream %s up to %d: %w", s.name, number, err)
	}
	return nil
}
