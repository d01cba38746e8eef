package log

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/whorl-net/whorl/internal/jet"
)

const (
	// Retries of a group that could not be written: one at once, then more and
	// more slowly.
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
	// purgeEvery is how often the disk is told what was trimmed.
	purgeEvery = time.Second
	// messageOverhead is about what the store adds to a message.
	messageOverhead = 128
)

// write is the goroutine that makes groups of what was submitted and appends
// them, until the log is closed and all is written, or ctx ends.
func (l *Stored) write(ctx context.Context, groupEvery time.Duration) {
	defer close(l.ended)
	defer l.abandon()
	w := writer{log: l, pace: jet.Pace{Every: groupEvery, Burst: groupBurst}}
	for {
		w.purge(ctx)
		more, closed := l.pending()
		if !more && closed {
			return
		}
		if !w.ripe(ctx) {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if !w.group(ctx) {
			return
		}
	}
}

// pending reports whether records wait to be written, and whether the log is
// closed.
func (l *Stored) pending() (more, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queued > 0, l.closed
}

// abandon tells those whose records will not be written by this process.
func (l *Stored) abandon() {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting, l.abandoned = nil, true
	if !l.closed {
		l.closed = true
		close(l.shut)
	}
	wake(&l.grown)
	wake(&l.shrunk)
	l.mu.Unlock()
	for _, w := range waiting {
		if w.done != nil {
			w.done(fmt.Errorf("records %d to %d were not written: %w", w.first, w.last, ErrClosed))
		}
	}
}

// writer is the state of the goroutine of a Stored log.
type writer struct {
	log     *Stored
	pace    jet.Pace
	encoder groupEncoder
	records []Record

	purged time.Time // last purge
	upTo   uint64    // messages up to here are purged
	cut    Position  // the oldest run was shortened for records up to here
	later  bool      // there is something to purge when its time has come
}

// ripe waits until it is time to look again, and reports whether it is time to
// write a group.
func (w *writer) ripe(ctx context.Context) bool {
	delay, ready := w.delay()
	if ready {
		return true
	}
	var alarm <-chan time.Time
	if delay >= 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		alarm = t.C
	}
	select {
	case <-w.log.kick:
	case <-alarm:
	case <-ctx.Done():
	}
	return false
}

// delay returns that it is time to write a group, or how long to wait before
// looking again unless kicked; less than 0 is for ever. While a group waits for its
// turn only one that is full kicks: a writer that each batch wakes for nothing
// costs as many wakings of threads.
func (w *writer) delay() (delay time.Duration, ready bool) {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kickAt = 0
	switch {
	case l.queued > 0:
		if delay = w.pace.Delay(time.Now()); delay == 0 || l.queued >= groupFull || l.closed {
			l.kickAt = math.MaxInt64 // it looks again before it waits
			return 0, true
		}
		l.kickAt = groupFull
		return delay, false
	case w.later:
		return purgeEvery, false
	}
	return -1, false
}

// take copies the records of the next group: whole submits, as many as fit.
func (w *writer) take() (size int64) {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(w.records)
	w.records = w.records[:0]
	offset := l.tailFirstLocked()
	body, raw := int64(0), int64(0)
	for i := range l.waiting {
		s := &l.waiting[i]
		if s.first <= l.grouped {
			continue
		}
		submitted := l.tail[s.first-offset : s.last-offset+1]
		more, moreRaw := bodyBytes(submitted), rawBytes(submitted)
		if (body+more > maxBody || raw+moreRaw > maxRaw) && len(w.records) > 0 {
			break
		}
		body += more
		raw += moreRaw
		w.records = append(w.records, submitted...)
		for k := range submitted {
			size += submitted[k].size
		}
	}
	l.grouped = w.records[len(w.records)-1].Position
	l.queued -= body
	return size
}

// group writes one group, however often it has to be tried, and tells who waits
// for it. It returns false when it was given up.
func (w *writer) group(ctx context.Context) bool {
	l := w.log
	size := w.take()
	w.pace.Began(time.Now())
	data, raw := w.encoder.encode(w.records)
	first, last := w.records[0].Position, w.records[len(w.records)-1].Position
	number, ok := w.append(ctx, data)
	if !ok {
		return false
	}

	l.mu.Lock()
	n := 0
	for n < len(l.waiting) && l.waiting[n].last <= last {
		n++
	}
	told := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	l.mu.Unlock()
	for i := range told {
		if told[i].done != nil {
			told[i].done(nil)
		}
		told[i].done = nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.unpackLocked(w.records)
	l.safe = last
	l.unwritten -= size
	l.where.add(place{first: first, last: last, from: number, to: number, bytes: int64(len(data)) + messageOverhead})
	l.groups++
	l.rawBytes += uint64(raw)
	l.outBytes += uint64(len(data))
	l.dropLocked()
	l.releaseLocked()
	wake(&l.grown)
	wake(&l.shrunk) // a group takes less room than its records
	return true
}

// append tries to store data until it is stored. false says that it was given
// up, because the log is closed or ctx ended.
func (w *writer) append(ctx context.Context, data []byte) (number uint64, ok bool) {
	l := w.log
	retry := time.Duration(0)
	for tries := 1; ; tries++ {
		number, err := l.messages.Append(ctx, data)
		l.mu.Lock()
		if err == nil {
			l.err = nil
			l.mu.Unlock()
			return number, true
		}
		l.failures++
		closed := l.closed
		if tries > 1 {
			l.err = err
			wake(&l.shrunk) // who waits for room is told instead
		}
		l.mu.Unlock()
		if ctx.Err() != nil || closed && tries > 1 {
			return 0, false
		}
		if errors.Is(err, jet.ErrFull) {
			w.purged = time.Time{}
			w.purge(ctx)
		}
		if retry > 0 {
			t := time.NewTimer(retry)
			select {
			case <-t.C:
			case <-l.shut:
			case <-ctx.Done():
			}
			t.Stop()
		}
		retry = min(max(2*retry, minRetry), maxRetry)
	}
}

// purge tells the store what was trimmed, all but the newest message: the
// positions go on from it when the log is opened again.
func (w *writer) purge(ctx context.Context) {
	l := w.log
	l.mu.Lock()
	x := &l.where
	upTo := min(x.gone, max(x.newest, 1)-1)
	partly, cut := x.partly()
	trimmed := x.trimmed
	l.mu.Unlock()
	w.later = upTo > w.upTo || cut && trimmed > w.cut
	if !w.later || time.Since(w.purged) < purgeEvery {
		return
	}
	w.purged = time.Now()
	if cut && trimmed > w.cut {
		w.shorten(ctx, partly, trimmed)
		l.mu.Lock()
		upTo = min(x.gone, max(x.newest, 1)-1)
		l.mu.Unlock()
	}
	if upTo > w.upTo {
		// A purge that fails is tried again; until then the log is only larger.
		if err := l.messages.Purge(ctx, upTo); err != nil {
			l.mu.Lock()
			l.failures++
			l.mu.Unlock()
			return
		}
		w.upTo = upTo
	}
	w.later = false
}

// shorten finds out from which message on a run that is trimmed in part is needed.
func (w *writer) shorten(ctx context.Context, p place, trimmed Position) {
	w.cut = trimmed
	number, err := seek(ctx, w.log.messages, p, trimmed+1)
	if err != nil || number == p.from {
		return // the log is larger than it has to be until more is trimmed
	}
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.where.places) == 0 || l.where.places[0].to != p.to {
		return // trimmed altogether, or joined, meanwhile
	}
	left := p.bytes * int64(p.to-number+1) / int64(p.to-p.from+1)
	l.where.shorten(trimmed+1, number, left) // about: messages differ in size
	wake(&l.shrunk)
}
