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
	// GapDamaged: what was stored of them cannot be read.
	GapDamaged GapCause = 4
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
	case GapDamaged:
		return "damaged"
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
	stored   storedPlace
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

// ReadNow returns a reader of what comes from now on.
func (j *Journal) ReadNow() *Reader { return &Reader{j: j, pos: j.Newest().Sequence} }

// ReadLast returns a reader of the newest n events held, and what follows.
func (j *Journal) ReadLast(n uint64) *Reader {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &Reader{j: j, pos: j.safe - min(n, j.safe-min(j.safe, j.oldestLocked()-1))}
}

// ReadSince returns a reader of what was appended at or after t, Unix
// nanoseconds on the clock of Append. ctx is for reading the store.
func (j *Journal) ReadSince(ctx context.Context, t int64) (*Reader, error) {
	pos, older := j.sinceInMemory(t)
	if older {
		sequence, ok, err := j.store.findSince(ctx, t)
		if err != nil {
			return nil, err
		}
		if ok {
			pos = min(pos, sequence)
		}
	}
	return &Reader{j: j, pos: pos}, nil
}

// sinceInMemory returns the sequence before the first event in memory that was
// appended at or after t. older says that the store has events which perhaps
// come before it.
func (j *Journal) sinceInMemory(t int64) (sequence uint64, older bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.store != nil && j.oldestLocked() < j.ringOldestLocked() {
		older = len(j.chunks) == 0 || j.chunks[0].times[0] >= t
	}
	n := sort.Search(len(j.chunks), func(i int) bool {
		times := j.chunks[i].times
		return times[len(times)-1] >= t
	})
	if n == len(j.chunks) {
		return j.safe, older
	}
	c := j.chunks[n]
	return min(c.first+uint64(c.since(t))-1, j.safe), older
}

// since returns the place of the first event appended at or after t.
func (c *chunk) since(t int64) int {
	return sort.Search(len(c.times), func(i int) bool { return c.times[i] >= t })
}

// Cursor returns the place behind the last event that Next returned.
func (r *Reader) Cursor() Cursor { return Cursor{r.j.epoch, r.pos} }

// Backlog returns how many events are between the reader and the newest.
func (r *Reader) Backlog() uint64 { return r.j.Newest().Sequence - r.pos }

// Next returns the next events, at most maxEvents and, beyond the first, at
// most maxBytes of frames, and moves behind them. It does not wait for events:
// an empty block means that the reader has caught up. A block with a gap may be
// empty too. It returns ErrClosed when the journal is closed and all was read.
//
// Events that are no longer in memory are read from the store, without holding
// up other readers, until ctx ends; an error of the store leaves the reader
// where it is.
func (r *Reader) Next(ctx context.Context, maxEvents, maxBytes int) (Block, error) {
	if r.newEpoch {
		// Told alone and first; what is missing of this epoch is told next.
		r.newEpoch = false
		return Block{Gap: &Gap{Cause: GapNewEpoch}}, nil
	}
	var gap *Gap
	for {
		b, behind, err := r.inMemory(gap, maxEvents, maxBytes)
		if !behind {
			return b, err
		}
		if r.stored.holds(r.pos + 1) {
			b = r.stored.chunk.block(int(r.pos+1-r.stored.chunk.first), maxEvents, maxBytes)
			b.Gap = gap
			r.read = true
			r.pos += uint64(b.Len())
			return b, nil
		}
		if gap != nil {
			return Block{Gap: gap}, nil
		}
		if gap, err = r.fromStore(ctx); err != nil {
			return Block{}, err
		}
	}
}

// inMemory does what Next does as long as the next event is in memory. behind says
// that it is in the store.
func (r *Reader) inMemory(gap *Gap, maxEvents, maxBytes int) (b Block, behind bool, err error) {
	j := r.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if oldest := j.ringOldestLocked(); r.pos+1 < oldest {
		if j.store != nil && j.store.oldest > 0 {
			return Block{}, true, nil
		}
		gap = r.lost(oldest-1, false)
	}
	r.read, r.stored = true, storedPlace{}
	if r.pos >= j.safe {
		if gap == nil && j.closed && (j.store == nil || j.store.ended()) {
			return Block{}, false, ErrClosed
		}
		return Block{Gap: gap}, false, nil
	}
	c, i := j.findLocked(r.pos + 1)
	c.lent = true
	b = c.block(i, int(min(uint64(max(maxEvents, 1)), j.safe-r.pos)), maxBytes)
	b.Gap = gap
	r.pos += uint64(b.Len())
	return b, false, nil
}

// fromStore reads the block of the next event, or moves behind what is lost.
func (r *Reader) fromStore(ctx context.Context) (*Gap, error) {
	j := r.j
	j.mu.Lock()
	limit := j.ringOldestLocked()
	j.mu.Unlock()
	if r.pos+1 >= limit {
		return nil, nil // memory does not go back, but the limit may have been old
	}
	lostTo, damaged, err := j.store.fetch(ctx, &r.stored, r.pos+1, limit)
	if err != nil || lostTo == 0 {
		return nil, err
	}
	return r.lost(lostTo, damaged), nil
}

// lost moves behind the event last and says what that skips.
func (r *Reader) lost(last uint64, damaged bool) *Gap {
	gap := &Gap{Cause: GapRetention, First: r.pos + 1, Last: last, Count: last - r.pos}
	switch {
	case damaged:
		gap.Cause = GapDamaged
	case r.read:
		gap.Cause = GapSlowReader
	}
	r.pos = last
	return gap
}

// Ready returns a channel that is closed when Next has something to say: an
// event, a gap or the end. A channel serves one wait.
func (r *Reader) Ready() <-chan struct{} {
	j := r.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.newEpoch || r.pos < j.safe || j.closed && (j.store == nil || j.store.ended()) {
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
// elements of whorl.v1.WatchResponse.evictions and discoveries: tag, length,
// message each.
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

// Discovery reports whether event i is a whorl.v1.Discovery, not an Eviction.
func (b *Block) Discovery(i int) bool { return b.Frames(i, i+1)[0] == discoveryTag }

// Event returns event i, an encoded whorl.v1.Eviction or whorl.v1.Discovery.
func (b *Block) Event(i int) []byte {
	p := b.Frames(i, i+1)[1:] // behind the tag
	_, n := binary.Uvarint(p)
	return p[n:]
}
