package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/tracker"
)

// Limits and defaults of a journal with a store.
const (
	// DefaultDiskBytes bounds a store unless told otherwise.
	DefaultDiskBytes = 8 << 30
	// diskShare is the part of the free disk a store may take.
	diskShare = 0.5
	// streamName is what the journal is called in the store.
	streamName = "feed"

	// defaultBlockEvery and blockBurst bound the fsyncs of few events.
	defaultBlockEvery = 250 * time.Millisecond
	blockBurst        = 4
	// pendingBytes bounds the events that wait to be stored; it is less where
	// Config.MaxBytes is small.
	pendingBytes = 32 << 20
	// loadBytes bounds what is read into memory when a journal is opened.
	loadBytes = 16 << 20
	// lookEvery is how often the store is asked what it dropped.
	lookEvery = 10 * time.Second
	// closeWithin bounds the last write of a journal that is closed.
	closeWithin = 10 * time.Second
)

// Messages is a sequence of messages that outlives the process. *jet.Stream is
// one. Append is tried again with the same data until it succeeds, and must
// store it once.
type Messages interface {
	Append(ctx context.Context, data []byte) (number uint64, err error)
	Read(ctx context.Context, number uint64) (jet.Message, error)
	State(ctx context.Context) (jet.State, error)
}

var _ Messages = (*jet.Stream)(nil)

// Stream describes the messages of a journal: at most maxBytes on disk, 0 is
// DefaultDiskBytes; events older than maxAge are dropped, 0 is DefaultMaxAge and
// negative is no limit.
func Stream(maxBytes int64, maxAge time.Duration) jet.StreamConfig {
	if maxBytes == 0 {
		maxBytes = DefaultDiskBytes
	}
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	return jet.StreamConfig{
		Name: streamName, MaxBytes: maxBytes, MaxAge: max(maxAge, 0), Share: diskShare, DropOldest: true,
	}
}

// store is the part of a Journal that puts events on a disk. Its fields below
// messages are guarded by the journal's mu.
type store struct {
	j        *Journal
	messages Messages
	stop     context.CancelCauseFunc // ends calls of messages
	kick     chan struct{}           // capacity 1: the writer has something to look at
	shut     chan struct{}           // closed by close
	over     chan struct{}           // closed when the writer has ended

	limit    int64         // of waiting
	waiting  int64         // bytes of the events that are not stored
	kickAt   int64         // how much has to wait for the writer to be woken
	pending  []Through     // where in the log each of them belongs
	urgent   bool          // somebody waits for all of them
	moved    chan struct{} // closed when something was stored; nil when nobody waits
	oldest   uint64        // sequence of the oldest event in the store, 0 when none is
	state    jet.State     // as of the last look
	since    int64         // time of the oldest event in the store
	blocks   uint64
	rawBytes uint64
	outBytes uint64
	failures uint64
	err      error
}

// Open opens the journal that messages hold, and makes an empty one when they
// hold nothing. Its goroutine ends with Close; messages must outlive the journal
// and its readers.
func Open(ctx context.Context, cfg Config, messages Messages) (*Journal, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultRingBytes
	}
	if cfg.BlockEvery == 0 {
		cfg.BlockEvery = defaultBlockEvery
	}
	j, err := New(cfg)
	if err != nil {
		return nil, err
	}
	s := &store{
		j: j, messages: messages, limit: min(pendingBytes, cfg.MaxBytes/2),
		kick: make(chan struct{}, 1), shut: make(chan struct{}), over: make(chan struct{}),
	}
	j.store = s
	if s.state, err = messages.State(ctx); err != nil {
		return nil, fmt.Errorf("open feed: %w", err)
	}
	if s.state.Messages > 0 {
		if err := s.load(ctx); err != nil {
			return nil, fmt.Errorf("open feed: %w", err)
		}
	}
	writing, stop := context.WithCancelCause(context.Background())
	s.stop = stop
	w := writer{s: s, pace: jet.Pace{Every: cfg.BlockEvery, Burst: blockBurst}, looked: time.Now()}
	go w.run(writing)
	return j, nil
}

// load finds out where the journal ended, and reads the newest events into
// memory.
func (s *store) load(ctx context.Context) error {
	j := s.j
	m, err := s.messages.Read(ctx, s.state.Last)
	if errors.Is(err, jet.ErrNone) {
		return fmt.Errorf("the newest block, message %d, is missing", s.state.Last)
	}
	if err != nil {
		return fmt.Errorf("the newest block: %w", err)
	}
	newest, err := readBlockInfo(m.Data)
	if err != nil {
		return fmt.Errorf("the newest block, message %d: %w", m.Number, err)
	}
	j.next, j.safe, j.skip, j.now = newest.last()+1, newest.last(), newest.through, newest.lastTime
	if err := s.lookAtOldest(ctx); err != nil {
		return err
	}
	var chunks []*chunk // newest first
	next, bytes := j.next, int64(0)
	for number := m.Number; ; {
		c, err := decodeBlock(m.Data)
		if err != nil || c.first+uint64(len(c.ends)) != next {
			break // readers get a gap there
		}
		if bytes += c.cost(); bytes > min(loadBytes, j.maxBytes) || j.next-c.first > recentSlots {
			break
		}
		chunks = append(chunks, c)
		next = c.first
		if number--; number < s.state.First {
			break
		}
		if m, err = s.messages.Read(ctx, number); err != nil {
			return fmt.Errorf("block of events before %d: %w", next, err)
		}
		if m.Number != number {
			break
		}
	}
	for i := len(chunks) - 1; i >= 0; i-- {
		c := chunks[i]
		j.chunks = append(j.chunks, c)
		j.held += c.cost()
		j.used += int64(len(c.data))
		s.remember(c)
	}
	return nil
}

// lookAtOldest reads where the store begins.
func (s *store) lookAtOldest(ctx context.Context) error {
	state, err := s.messages.State(ctx)
	if err != nil {
		return fmt.Errorf("the oldest block: %w", err)
	}
	var oldest uint64
	var since int64
	for number := state.First; number <= state.Last; number++ {
		m, err := s.messages.Read(ctx, number)
		if err != nil {
			return fmt.Errorf("the oldest block: %w", err)
		}
		if info, err := readBlockInfo(m.Data); err == nil {
			oldest, since = info.first, info.firstTime
			break
		}
		number = m.Number // damaged: readers get a gap there
	}
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.state, s.oldest, s.since = state, oldest, since
	return nil
}

// remember fills what Recent answers from.
func (s *store) remember(c *chunk) {
	var e tracker.Eviction
	b := c.block(0, len(c.ends), len(c.data))
	for i := range b.Len() {
		if b.Discovery(i) {
			continue
		}
		if sequence, err := wire.DecodeEviction(b.Event(i), tracker.Bare, &e); err == nil {
			s.j.recent.put(s.j.hashSeed.sum(&e.Connection.Key, e.Connection.Network), sequence)
		}
	}
}

// appendedLocked notes that an event of n bytes was appended.
func (s *store) appendedLocked(n int, at Through) {
	s.waiting += int64(n)
	s.pending = append(s.pending, at)
	if s.waiting >= s.kickAt {
		poke(s.kick)
	}
}

// movedLocked wakes who waits for DurableThrough to rise.
func (s *store) movedLocked() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// waitForRoomLocked blocks while an event of n bytes would be too much to wait.
// It lets go of the lock meanwhile.
func (j *Journal) waitForRoomLocked(ctx context.Context, n int) error {
	s := j.store
	for s != nil && !j.closed && s.waiting > 0 && s.waiting+int64(n) > s.limit {
		if err := s.waitLocked(ctx, false); err != nil {
			return fmt.Errorf("append to a feed that waits for its store: %w", err)
		}
	}
	return nil
}

// waitLocked waits, without the lock, until something was stored or marked.
func (s *store) waitLocked(ctx context.Context, urgent bool) error {
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	if urgent {
		s.urgent = true
		poke(s.kick)
	}
	moved := s.moved
	s.j.mu.Unlock()
	defer s.j.mu.Lock()
	select {
	case <-moved:
		return nil
	case <-s.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ended reports whether nothing will be stored any more.
func (s *store) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

func (s *store) statsLocked(st *Stats) {
	st.Durable = true
	st.StoredBytes, st.MaxStoredBytes = s.state.Bytes, s.state.MaxBytes
	st.Blocks, st.EventBytes, st.BlockBytes = s.blocks, s.rawBytes, s.outBytes
	st.Failures, st.Err = s.failures, s.err
	if s.oldest > 0 {
		st.OldestTime = s.since
	}
}

// close writes what waits and ends the writer.
func (s *store) close() {
	s.j.mu.Lock()
	select {
	case <-s.shut:
	default:
		close(s.shut)
	}
	s.j.mu.Unlock()
	impatient := time.AfterFunc(closeWithin, func() { s.stop(ErrClosed) })
	defer impatient.Stop()
	<-s.over
}

// poke fills a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
