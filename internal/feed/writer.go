package feed

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/whorl-net/whorl/internal/jet"
)

// Retries of a block that could not be stored: one at once, then more and more
// slowly.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
)

// writer is the goroutine that stores events in blocks. While one is stored the
// next fills up.
type writer struct {
	s       *store
	pace    jet.Pace
	encoder blockEncoder
	spans   []span
	looked  time.Time
}

// run stores until the journal is closed and nothing waits, or ctx ends.
func (w *writer) run(ctx context.Context) {
	s := w.s
	defer func() {
		s.j.mu.Lock()
		s.j.closed = true
		close(s.over)
		s.j.wakeLocked()
		s.movedLocked()
		s.j.mu.Unlock()
	}()
	for ctx.Err() == nil {
		wait, ripe, over := w.due()
		if over {
			return
		}
		if ripe {
			if !w.block(ctx) {
				return
			}
			continue
		}
		alarm := time.NewTimer(wait)
		shut := s.shut
		if closedNow(shut) {
			shut = nil
		}
		select {
		case <-s.kick:
		case <-shut:
		case <-alarm.C:
		case <-ctx.Done():
		}
		alarm.Stop()
		if time.Since(w.looked) >= lookEvery {
			w.looked = time.Now()
			// What cannot be found out now is found out later.
			_ = s.lookAtOldest(ctx)
		}
	}
}

func closedNow(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// due says whether it is time for a block, and if not, when to look again unless
// kicked. While a block waits for its turn, only one that is full kicks.
func (w *writer) due() (wait time.Duration, ripe, over bool) {
	s := w.s
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.kickAt = 0
	if len(s.pending) == 0 {
		s.urgent = false
		return lookEvery, false, closedNow(s.shut)
	}
	wait = w.pace.Delay(time.Now())
	ripe = wait == 0 || s.urgent || s.waiting >= blockFull || closedNow(s.shut)
	s.kickAt = blockFull
	if ripe {
		s.kickAt = math.MaxInt64 // it looks again before it waits
	}
	return wait, ripe, false
}

// block stores the next block, however often it has to be tried, and lets readers
// have its events. It returns false when it was given up.
func (w *writer) block(ctx context.Context) bool {
	s, j := w.s, w.s.j
	first, through, bytes := w.take()
	w.pace.Began(time.Now())
	data := w.encoder.encode(first, through, w.spans)
	count := 0
	for _, sp := range w.spans {
		count += len(sp.times)
	}
	since := w.spans[0].times[0]
	clear(w.spans)
	if !w.store(ctx, data) {
		return false
	}

	j.mu.Lock()
	defer j.mu.Unlock()
	j.safe = first + uint64(count) - 1
	s.pending = s.pending[count:]
	s.waiting -= bytes
	s.state.Bytes += int64(len(data))
	if s.oldest == 0 {
		s.oldest, s.since = first, since
	}
	s.blocks++
	s.rawBytes += uint64(bytes)
	s.outBytes += uint64(len(data))
	j.wakeLocked()
	s.movedLocked()
	return true
}

// take gathers the events of the next block, which stay where they are.
func (w *writer) take() (first uint64, through Through, bytes int64) {
	s, j := w.s, w.s.j
	j.mu.Lock()
	defer j.mu.Unlock()
	first = j.safe + 1
	count := 0
	w.spans = w.spans[:0]
	for next := first; next < j.next && (bytes < blockFull || count == 0); {
		c, i := j.findLocked(next)
		b := c.block(i, len(c.ends), int(blockFull-bytes))
		n := b.Len()
		if count > 0 && bytes+int64(len(b.Frames(0, n))) > blockFull {
			break // one event that does not fit
		}
		w.spans = append(w.spans, span{b.Frames(0, n), c.times[i : i+n : i+n]})
		bytes += int64(len(b.Frames(0, n)))
		count += n
		next += uint64(n)
	}
	through = j.reachedLocked()
	if count < len(s.pending) {
		through = s.pending[count-1]
	}
	return first, through, bytes
}

// store tries to store data until it is stored. false says that it was given up,
// because the journal is closed or ctx ended.
func (w *writer) store(ctx context.Context, data []byte) bool {
	s := w.s
	retry := time.Duration(0)
	for tries := 1; ; tries++ {
		_, err := s.messages.Append(ctx, data)
		s.j.mu.Lock()
		if err == nil {
			s.err = nil
			s.j.mu.Unlock()
			return true
		}
		s.failures++
		if tries > 1 {
			s.err = err
		}
		s.j.mu.Unlock()
		if ctx.Err() != nil || tries > 1 && closedNow(s.shut) || errors.Is(err, jet.ErrStopped) {
			return false
		}
		if retry > 0 {
			t := time.NewTimer(retry)
			select {
			case <-t.C:
			case <-s.shut:
			case <-ctx.Done():
			}
			t.Stop()
		}
		retry = min(max(2*retry, minRetry), maxRetry)
	}
}
