package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// errComplete says that a watch has done what it was asked for.
var errComplete = errors.New("watch is complete")

// run reads and sends until the watch is complete (nil) or something ends it.
func (w *watch) run(ctx context.Context) error {
	err := w.follow(ctx)
	switch {
	case errors.Is(err, errComplete):
		err = w.out.close(ctx)
	case errors.Is(err, feed.ErrClosed):
		// Everything was handed to the outbox; give it the time to leave.
		if err = w.out.close(ctx); err == nil {
			return retryLater(codes.Unavailable, ReasonDraining, retryDelay,
				"the collector is shutting down: resume at "+w.at.String(), "resume_cursor", w.at.String())
		}
	}
	if errors.Is(err, errStalled) {
		w.counters.readersStalled.Add(1)
		return retryLater(codes.ResourceExhausted, ReasonSlowReader, retryDelay,
			fmt.Sprintf("nothing was read for %v: resume where you are", stalledAfter))
	}
	return err
}

// follow sends what there is and then what comes, and speaks at least once in
// each heartbeat interval. Who starts now is told where that is before all else:
// a stream that is cut before the first eviction can be resumed.
func (w *watch) follow(ctx context.Context) error {
	beat := time.NewTimer(w.heartbeat)
	defer beat.Stop()
	told := w.at
	tell := func(m *watchMessage) error {
		if err := w.send(ctx, m); err != nil {
			return err
		}
		told = w.at
		w.subscriber.tell(w.at, m.gap)
		beat.Reset(w.heartbeat)
		return nil
	}
	if w.opening {
		if err := tell(&watchMessage{}); err != nil {
			return err
		}
	}
	for {
		m, caughtUp, err := w.gather(ctx)
		switch {
		case err != nil:
			return err
		case m != nil:
			if err := tell(m); err != nil {
				return err
			}
			if m.last {
				return errComplete
			}
			continue
		case caughtUp && w.noFollow:
			if told != w.at { // the place counts, also where nothing matched
				if err := tell(&watchMessage{}); err != nil {
					return err
				}
			}
			return errComplete
		}
		ready := w.reader.Ready()
		if !caughtUp {
			ready = alreadyClosed // the filter left out a block: on to the next
		}
		select {
		case <-beat.C:
			if err := tell(&watchMessage{}); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ready:
		}
	}
}

// watchMessage is one WatchResponse to be; the zero one is a heartbeat.
type watchMessage struct {
	gap    *feed.Gap
	frames []byte // consecutive elements of WatchResponse.evictions
	last   bool   // the limit is reached
}

// gather reads the next message. nil with caughtUp says that there is nothing to
// read; nil without, that the filter left out a whole block.
func (w *watch) gather(ctx context.Context) (m *watchMessage, caughtUp bool, err error) {
	var gap *feed.Gap
	if w.next == w.block.Len() {
		if err := w.read(ctx); err != nil {
			return nil, false, err
		}
		if gap = w.block.Gap; gap != nil {
			if err := w.lost(gap); err != nil {
				return nil, false, err
			}
		}
		if w.block.Len() == 0 {
			w.at = w.reader.Cursor()
			if gap == nil {
				return nil, true, nil
			}
			return &watchMessage{gap: gap}, false, nil
		}
	}
	frames, count, err := w.take()
	if err != nil {
		return nil, false, err
	}
	if count == 0 && gap == nil {
		return nil, false, nil
	}
	m = &watchMessage{gap: gap, frames: frames}
	if w.left > 0 {
		w.left -= uint64(count)
		m.last = w.left == 0
	}
	return m, false, nil
}

// read fetches the next block. Without a filter it is one message.
func (w *watch) read(ctx context.Context) error {
	most := maxWatchMax
	if w.filter.All() {
		most = w.most()
	}
	block, err := w.reader.Next(ctx, most, watchBytes)
	if err != nil {
		return err
	}
	w.block, w.next = block, 0
	return nil
}

// most is how many evictions the next message may have.
func (w *watch) most() int {
	if w.left > 0 {
		return int(min(uint64(w.maxBatch), w.left))
	}
	return w.maxBatch
}

// lost counts a gap; under GAP_POLICY_FAIL it is the end.
func (w *watch) lost(gap *feed.Gap) error {
	w.counters.eventsLost.Add(gap.Count)
	if !w.failOnGap {
		return nil
	}
	oldest := w.journal.Oldest().String()
	if gap.Cause == feed.GapNewEpoch {
		return failure(codes.OutOfRange, ReasonCursorGone,
			"after_cursor: it is of an earlier life of this collector; the oldest cursor is "+oldest,
			"oldest_cursor", oldest, "cause", gap.Cause.String())
	}
	return failure(codes.OutOfRange, ReasonCursorGone,
		fmt.Sprintf("%d evictions, %d to %d, are no longer held (%v); the oldest cursor is %s", gap.Count, gap.First, gap.Last, gap.Cause, oldest),
		"oldest_cursor", oldest, "cause", gap.Cause.String(), "lost_count", fmt.Sprint(gap.Count))
}

// take moves through the block until a message is full or the block is used up.
func (w *watch) take() (frames []byte, count int, err error) {
	most := w.most()
	if w.filter.All() && w.wanted.All() {
		// The bytes of the journal go out as they are.
		count = min(most, w.block.Len()-w.next)
		frames = w.block.Frames(w.next, w.next+count)
		w.next += count
		w.at.Sequence = w.block.First + uint64(w.next) - 1
		return frames, count, nil
	}
	detail := max(w.filter.Detail(), w.wanted.Detail())
	if w.wanted.All() {
		detail = w.filter.Detail() // what matches goes out as it is
	}
	for w.next < w.block.Len() && count < most && len(frames) < watchBytes {
		matches, project, err := w.look(w.next, detail)
		if err != nil {
			return nil, 0, fmt.Errorf("event %d of the feed: %w", w.block.First+uint64(w.next), err)
		}
		if matches {
			count++
			if w.wanted.All() {
				frames = append(frames, w.block.Frames(w.next, w.next+1)...)
			} else if frames, err = project(frames); err != nil {
				return nil, 0, err
			}
		}
		w.next++
	}
	w.at = feed.Cursor{Epoch: w.journal.Epoch(), Sequence: w.block.First + uint64(w.next) - 1}
	return frames, count, nil
}

// look decodes event i of the block, an eviction or a discovery, and returns
// whether the filter takes it, and what appends the wanted parts of it, framed.
func (w *watch) look(i int, detail tracker.Detail) (matches bool, project func([]byte) ([]byte, error), err error) {
	if !w.block.Discovery(i) {
		sequence, err := wire.DecodeEviction(w.block.Event(i), detail, &w.eviction)
		return w.filter.MatchEviction(&w.eviction), func(dst []byte) ([]byte, error) { return w.project(dst, sequence) }, err
	}
	d := &w.discovery
	sequence, err := wire.DecodeDiscovery(w.block.Event(i), detail, d)
	if err != nil {
		return false, nil, err
	}
	// What was found is found by its rule and severity, too.
	own := d.Connection.Anomalies
	d.Connection.Anomalies = append(slices.Clip(own), d.Anomaly)
	matches = w.filter.Match(&d.Connection)
	d.Connection.Anomalies = own
	return matches, func(dst []byte) ([]byte, error) { return w.wanted.AppendDiscoveryFrame(dst, sequence, d), nil }, nil
}

// project appends the parts of w.eviction that are wanted, framed.
func (w *watch) project(frames []byte, sequence uint64) ([]byte, error) {
	head, err := proto.Marshal(&whorlv1.Eviction{
		Sequence: sequence, Cause: whorlv1.EvictionCause(w.eviction.Cause),
		EvictedAt: timestamppb.New(time.Unix(0, w.eviction.EvictedAt)),
	})
	if err != nil {
		return nil, fmt.Errorf("encode eviction %d: %w", sequence, err)
	}
	head = protowire.AppendTag(head, 4, protowire.BytesType)
	head = protowire.AppendBytes(head, w.wanted.Append(nil, &w.eviction.Connection))
	frames = protowire.AppendTag(frames, 1, protowire.BytesType)
	return protowire.AppendBytes(frames, head), nil
}

// send hands a message to the outbox. What the journal encoded is not encoded
// again: only what differs from subscriber to subscriber is.
func (w *watch) send(ctx context.Context, m *watchMessage) error {
	rest := &whorlv1.WatchResponse{
		Cursor: w.at.String(), ServerTime: timestamppb.Now(),
		Backlog: w.journal.Newest().Sequence - w.at.Sequence,
	}
	if m.gap != nil {
		rest.Gap = &whorlv1.Gap{
			Cause: whorlv1.GapCause(m.gap.Cause), LostCount: m.gap.Count,
			FirstLostSequence: m.gap.First, LastLostSequence: m.gap.Last,
		}
	}
	tail, err := proto.Marshal(rest)
	if err != nil {
		return fmt.Errorf("encode a message of the feed: %w", err)
	}
	return w.out.send(ctx, wire.Pieces{m.frames, tail})
}
