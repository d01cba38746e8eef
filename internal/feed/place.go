package feed

import (
	"context"
	"fmt"
)

// Through is a place in the log: behind all events of the positions before
// Position, and the first Ordinal events of Position itself.
type Through struct{ Position, Ordinal uint64 }

// before reports whether t is before u.
func (t Through) before(u Through) bool {
	return t.Position < u.Position || t.Position == u.Position && t.Ordinal < u.Ordinal
}

// complete returns the last position whose events are all before t.
func (t Through) complete() uint64 { return max(t.Position, 1) - 1 }

// Mark says that every event of the log positions up to position was appended.
func (j *Journal) Mark(position uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if position >= j.at.Position {
		j.at = Through{Position: position + 1}
		if j.store != nil {
			j.store.movedLocked()
		}
	}
}

// Place is where a journal is: what a checkpoint remembers of it.
type Place struct {
	// Sequence is that of the newest event.
	Sequence uint64
	// Through is how much of the log is in the events up to Sequence.
	Through Through
}

// Place returns where the journal is, with what is not stored yet.
func (j *Journal) Place() Place {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Place{Sequence: j.next - 1, Through: j.reachedLocked()}
}

// reachedLocked is how much of the log the journal has.
func (j *Journal) reachedLocked() Through {
	if j.at.before(j.skip) {
		return j.skip
	}
	return j.at
}

// Resume says, before the first Append, where the journal is known to have been:
// numbering goes on behind p and events up to p.Through are left out. When the
// store has lost the newest of them, readers get a gap in their place.
func (j *Journal) Resume(p Place) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.at != (Through{}) {
		return fmt.Errorf("feed: resume at event %d, behind an append", p.Sequence)
	}
	if j.skip.before(p.Through) {
		j.skip = p.Through
	}
	if p.Sequence >= j.next {
		j.next, j.safe = p.Sequence+1, p.Sequence
		// What is in memory must be without holes.
		j.chunks, j.held, j.used = nil, 0, 0
	}
	return nil
}

// Through returns how much of the log the journal held when it was opened:
// Append leaves out events up to there.
func (j *Journal) Through() Through {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.skip
}

// DurableThrough returns the log position up to which, itself included, every
// event is as safe as this journal makes it: the log is not needed for them.
func (j *Journal) DurableThrough() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durableThroughLocked()
}

func (j *Journal) durableThroughLocked() uint64 {
	if j.store != nil && len(j.store.pending) > 0 {
		// The first event that waits belongs to this place: all before is stored.
		return j.store.pending[0].complete()
	}
	return j.reachedLocked().complete()
}

// WaitDurable blocks until DurableThrough is position or more and every event
// that was appended before the call is durable. Waiting events are written at
// once. It returns ErrClosed when the journal ended before, or the cause of ctx's
// end.
func (j *Journal) WaitDurable(ctx context.Context, position uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	sequence := j.next - 1
	for j.durableThroughLocked() < position || j.safe < sequence {
		if j.store == nil || j.store.ended() {
			if j.closed {
				return ErrClosed
			}
			return fmt.Errorf("feed: wait for log position %d, which was not marked", position)
		}
		if err := j.store.waitLocked(ctx, true); err != nil {
			return err
		}
	}
	return nil
}
