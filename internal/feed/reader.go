package feed

import (
	"context"
	"encoding/binary"
	"fmt"
	"sort"
)

// GapCause says why events were lost to a reader. The numbers are those of
// whorl.v1.GapCause.
type GapCause uint8

// The causes of a gap.
const (
	// GapRetention: the place to start from is older than what is held.
	GapRetention GapCause = 1
	// GapSlowReader: events left the journal before this reader got to them.
	GapSlowReader GapCause = 2
	// GapNewEpoch: the cursor is of another numbering; what was lost is unknown.
	GapNewEpoch GapCause = 3
)

// String returns the lower-case name of the cause.
func (c GapCause) String() string {
	switch c {
	case GapRetention:
		return "retention"
	case GapSlowReader:
		return "slow_reader"
	case GapNewEpoch:
		return "new_epoch"
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// Gap is what a reader lost.
type Gap struct {
	Cause GapCause
	// First and Last are sequences; Count is how many there are from First to
	// Last. All are 0 when unknown, that is when Cause is GapNewEpoch.
	First, Last, Count uint64
}

// Reader is one subscriber's place in a Journal. Not safe for concurrent use;
// it needs no closing.
type Reader struct {
	j   *Journal
	pos uint64 // sequence of the last event handed out or skipped
	// read says that Next has been called: what is lost from then on is lost
	// because this reader is slow.
	read     bool
	newEpoch bool // to be told by the next Next
}

// ReadAfter returns a reader that continues behind c. A cursor of another epoch
// starts at the oldest event held, after a gap. A cursor ahead of the newest
// event was not given out by this journal: the error wraps ErrCursor.
func (j *Journal) ReadAfter(c Cursor) (*Reader, error) {
	if c.Epoch != j.epoch {
		return &Reader{j: j, newEpoch: true}, nil
	}
	if newest := j.Newest(); c.Sequence > newest.Sequence {
		return nil, fmt.Errorf("%s is ahead of the newest, %s: %w", c, newest, ErrCursor)
	}
	return &Reader{j: j, pos: c.Sequence}, nil
}

// ReadOldest returns a reader of all that is held.
func (j *Journal) ReadOldest() *Reader { return &Reader{j: j, pos: j.Oldest().Sequence} }

// ReadNow returns a reader of what is appended from now on.
func (j *Journal) ReadNow() *Reader { return &Reader{j: j, pos: j.Newest().Sequence} }

// ReadLast returns a reader of the newest n events held, and what follows.
func (j *Journal) ReadLast(n uint64) *Reader {
	j.mu.Lock()
	defer j.mu.Unlock()
	newest, oldest := j.next-1, j.oldestLocked()-1
	return &Reader{j: j, pos: newest - min(n, newest-oldest)}
}

// ReadSince returns a reader of what was appended at or after t, Unix
// nanoseconds on the clock of Append.
func (j *Journal) ReadSince(t int64) *Reader {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := sort.Search(len(j.chunks), func(i int) bool {
		times := j.chunks[i].times
		return times[len(times)-1] >= t
	})
	if n == len(j.chunks) {
		return &Reader{j: j, pos: j.next - 1}
	}
	c := j.chunks[n]
	i := sort.Search(len(c.times), func(i int) bool { return c.times[i] >= t })
	return &Reader{j: j, pos: c.first + uint64(i) - 1}
}

// findLocked returns the chunk that holds the event sequence and its place in
// it. The event must be held.
func (j *Journal) findLocked(sequence uint64) (*chunk, int) {
	n := sort.Search(len(j.chunks), func(i int) bool { return j.chunks[i].first > sequence })
	c := j.chunks[n-1]
	return c, int(sequence - c.first)
}

// Cursor returns the place behind the last event that Next returned.
func (r *Reader) Cursor() Cursor { return Cursor{r.j.epoch, r.pos} }

// Backlog returns how many events are between the reader and the newest.
func (r *Reader) Backlog() uint64 { return r.j.Newest().Sequence - r.pos }

// Next returns the next events, at most maxEvents and, beyond the first, at
// most maxBytes of frames, and moves behind them. It does not block: an empty
// block means that the reader has caught up. A block with a gap may be empty
// too. It returns ErrClosed when the journal is closed and all was read.
func (r *Reader) Next(maxEvents, maxBytes int) (Block, error) {
	j := r.j
	j.mu.Lock()
	defer j.mu.Unlock()

	var gap *Gap
	oldest := j.oldestLocked()
	switch {
	case r.newEpoch:
		// Told alone and first; what is missing of this epoch is told next.
		r.newEpoch = false
		return Block{Gap: &Gap{Cause: GapNewEpoch}}, nil
	case r.pos+1 < oldest:
		gap = &Gap{Cause: GapRetention, First: r.pos + 1, Last: oldest - 1, Count: oldest - 1 - r.pos}
		if r.read {
			gap.Cause = GapSlowReader
		}
		r.pos = oldest - 1
	}
	r.read = true
	if r.pos+1 == j.next {
		if j.closed && gap == nil {
			return Block{}, ErrClosed
		}
		return Block{Gap: gap}, nil
	}
	c, i := j.findLocked(r.pos + 1)
	b := c.block(i, maxEvents, maxBytes)
	b.Gap = gap
	r.pos += uint64(b.Len())
	return b, nil
}

// Ready returns a channel that is closed when Next has something to say: an
// event, a gap or the end. A channel serves one wait.
func (r *Reader) Ready() <-chan struct{} {
	j := r.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.newEpoch || r.pos+1 < j.next || j.closed {
		return alreadyClosed
	}
	if j.changed == nil {
		j.changed = make(chan struct{})
	}
	return j.changed
}

var alreadyClosed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Wait blocks until Next has something to say, or returns the cause of ctx's end.
func (r *Reader) Wait(ctx context.Context) error {
	select {
	case <-r.Ready():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Block is a run of events in feed order. Its bytes belong to the journal, never
// change and must not be changed; they may be kept.
type Block struct {
	// Gap is what was lost right before the events; nil when nothing was.
	Gap *Gap
	// First is the sequence of the first event, 0 when the block is empty.
	First uint64

	data []byte   // the chunk's frames, this block's and those before
	ends []uint32 // where this block's frames end in data
	from uint32   // where the first of them starts
}

// block returns the frames from i on, within the limits but at least one.
func (c *chunk) block(i, maxEvents, maxBytes int) Block {
	b := Block{First: c.first + uint64(i), data: c.data}
	if i > 0 {
		b.from = c.ends[i-1]
	}
	ends := c.ends[i:]
	n := min(len(ends), max(maxEvents, 1))
	over := sort.Search(n, func(k int) bool { return int64(ends[k]-b.from) > int64(maxBytes) })
	n = max(over, 1)
	b.ends = ends[:n]
	return b
}

// Len returns the number of events.
func (b *Block) Len() int { return len(b.ends) }

// Frames returns the events from i up to, not including, k as consecutive
// elements of whorl.v1.WatchResponse.evictions: tag, length, message each.
func (b *Block) Frames(i, k int) []byte {
	if i >= k {
		return nil
	}
	start := b.from
	if i > 0 {
		start = b.ends[i-1]
	}
	end := b.ends[k-1]
	return b.data[start:end:end]
}

// Event returns the encoded whorl.v1.Eviction i.
func (b *Block) Event(i int) []byte {
	p := b.Frames(i, i+1)[1:] // behind the tag
	_, n := binary.Uvarint(p)
	return p[n:]
}
