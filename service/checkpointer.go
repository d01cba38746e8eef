package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/whorl-net/whorl/internal/checkpoint"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/planted"
	"github.com/whorl-net/whorl/tracker"
)

const (
	// checkpointPoll is how often somebody looks whether a round is due, or as
	// often as rounds may come, but not more often than leastPoll.
	checkpointPoll = time.Second
	leastPoll      = 5 * time.Millisecond
	// checkpointRetry is how long a round that failed keeps the next one back.
	checkpointRetry = 10 * time.Second
)

// checkpointer writes rounds of checkpoints while the collector works, and
// trims the log behind them.
//
// A round takes one part after the other, each as it is between two records of
// the log: first the head, then one shard at a time, then what lies behind the
// tracker. So each part has a position of its own, none before the one before
// it, and no part is held for longer than it takes to copy it. To go on from a
// round, the log is applied from the head's position on: each part leaves out
// what it holds already. A round is complete only when all events that it will
// not bring forth again are safe in the feed.
type checkpointer struct {
	log     log.Log
	applier *applier
	tracker *tracker.Tracker
	pipe    *pipeline
	journal *feed.Journal
	folder  *checkpoint.Folder
	shards  int
	// every is the most time between rounds while the log grows, logBytes the
	// most bytes of log.
	every    time.Duration
	logBytes int64
	keepLog  bool // trims nothing
	logger   *slog.Logger

	shard []byte // scratch

	mu       sync.Mutex // guards all below
	newest   checkpoint.Summary
	trimmed  log.Position // the log was let go of up to about here
	failures uint64
	err      error // of the newest round, nil when it is complete
}

// run writes a round whenever one is due, until ctx ends. A round that fails is
// tried again later: meanwhile the log grows.
func (k *checkpointer) run(ctx context.Context) error {
	began, at, failed := time.Now(), k.progress(), time.Time{}
	ticker := time.NewTicker(max(min(checkpointPoll, k.every), leastPoll))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := k.progress()
		grown := now.position != at.position && (now.bytes-at.bytes >= uint64(k.due()) || time.Since(began) >= k.every)
		if !grown && !(k.pressed() && time.Since(failed) >= checkpointRetry) {
			continue
		}
		began, at = time.Now(), now
		if err := k.round(ctx); err != nil && ctx.Err() == nil {
			k.logger.Error("a checkpoint could not be written: the log is kept until one can", slog.Any("err", err))
			began, failed = began.Add(checkpointRetry-k.every), time.Now()
		}
	}
}

// progress is how far the log is.
type progress struct {
	position log.Position
	bytes    uint64 // written since the start
}

func (k *checkpointer) progress() progress {
	s := k.log.Stats()
	return progress{position: log.Position(k.applier.done.Load()), bytes: s.GroupBytes}
}

// due is how many bytes of log call for a round: more while rounds are large,
// so that writing them never costs more than about twice the log.
func (k *checkpointer) due() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(k.logBytes, k.newest.Bytes/2)
}

// pressed reports whether the log is more than half full and another round would
// let go of some of it, or the one behind that: of two rounds the older one holds the
// log. The log may stand still then, full.
func (k *checkpointer) pressed() bool {
	s := k.log.Stats()
	k.mu.Lock()
	defer k.mu.Unlock()
	reach := max(log.Position(k.newest.Oldest), log.Position(k.applier.done.Load()))
	return s.Bytes > s.MaxBytes/2 && (k.newest.Number == 0 || reach > k.trimmed)
}

// stuck returns why the log, which is full, will not be trimmed; nil while there
// is room or hope.
func (k *checkpointer) stuck() error {
	s := k.log.Stats()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil || s.Bytes < s.MaxBytes/100*95 {
		return nil
	}
	return fmt.Errorf("it is full, and what would let go of it fails: %w", k.err)
}

// round writes one round and trims the log behind the one before it: until the
// next round is complete that one may still be needed. Before there are two the
// whole log is kept.
func (k *checkpointer) round(ctx context.Context) error {
	before, _, _ := k.state()
	s, err := k.write(ctx)
	if err == nil && before.Number > 0 {
		err = k.trim(log.Position(before.Oldest))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Number > 0 {
		k.newest = s
		if err == nil && before.Number > 0 {
			k.trimmed = log.Position(before.Oldest)
		}
	}
	if k.err = err; err != nil {
		k.failures++
	}
	return err
}

// write writes one round. Its Summary has a number as soon as it is complete.
func (k *checkpointer) write(ctx context.Context) (checkpoint.Summary, error) {
	none := checkpoint.Summary{}
	w, err := k.folder.Begin(time.Now())
	if err != nil {
		return none, err
	}
	defer w.Abort()
	head, position := k.applier.save()
	if err := w.Add(checkpoint.Block{Kind: checkpoint.KindHead, Position: uint64(position), Data: head}); err != nil {
		return none, err
	}
	s := checkpoint.Summary{Oldest: uint64(position), Connections: k.tracker.Count().Live}
	for i := range k.shards {
		b := checkpoint.Block{Kind: checkpoint.KindShard, Index: uint32(i)}
		if b.Data, b.Position, err = k.saveShard(ctx, i); err != nil {
			return none, fmt.Errorf("checkpoint shard %d: %w", i, err)
		}
		// The tracker has not seen the records that are none of its business, such
		// as the end of a session: its place may be before that of the head.
		b.Position = max(b.Position, uint64(position))
		if err := w.Add(b); err != nil {
			return none, err
		}
	}
	last, err := k.saveLast(ctx)
	if err != nil {
		return none, fmt.Errorf("checkpoint what is behind the shards: %w", err)
	}
	if err := w.Add(last.block); err != nil {
		return none, err
	}
	if !planted.FeedAfterCheckpoint {
		if err := k.journal.WaitDurable(ctx, last.block.Position); err != nil {
			return none, fmt.Errorf("checkpoint: wait for the feed: %w", err)
		}
	}
	s.Newest, s.FeedSequence, s.Completed = last.block.Position, last.feed.Sequence, time.Now()
	return w.Commit(s)
}

// saveShard copies shard i as it is between two records, and returns the
// position of the first of them. The result is valid until the next call.
func (k *checkpointer) saveShard(ctx context.Context, i int) ([]byte, uint64, error) {
	saved := make(chan *tracker.ShardImage, 1)
	if err := k.applier.between(func(log.Position) error {
		return k.tracker.SaveShard(ctx, i, func(image *tracker.ShardImage) { saved <- image })
	}); err != nil {
		return nil, 0, err
	}
	select {
	case image := <-saved:
		position := image.Position()
		k.shard = image.AppendTo(k.shard[:0])
		image.Release()
		return k.shard, position, nil
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
}

// lastBlock is the state behind the tracker's output, and where the feed is when
// it holds all events up to there.
type lastBlock struct {
	block checkpoint.Block
	feed  feed.Place
}

// saveLast copies what is behind the tracker, once that has taken the output of
// every record that a shard of this round holds.
func (k *checkpointer) saveLast(ctx context.Context) (lastBlock, error) {
	saved := make(chan lastBlock, 1)
	if err := k.applier.between(func(position log.Position) error {
		return k.tracker.Sync(ctx, func() {
			data, place := k.pipe.save(uint64(position))
			saved <- lastBlock{
				block: checkpoint.Block{Kind: checkpoint.KindAnalyst, Position: uint64(position), Data: data},
				feed:  place,
			}
		})
	}); err != nil {
		return lastBlock{}, err
	}
	select {
	case last := <-saved:
		if k.pipe.failed.Load() {
			return lastBlock{}, errStopping // not all of the output is in the feed
		}
		return last, nil
	case <-ctx.Done():
		return lastBlock{}, context.Cause(ctx)
	}
}

// trim lets go of the log before what is needed behind oldest. The newest record
// of it stays: an empty log would begin to count anew.
func (k *checkpointer) trim(oldest log.Position) error {
	if oldest <= 1 || k.keepLog {
		return nil
	}
	// After Close there is nothing to be trimmed; the next life does it.
	if err := k.log.Trim(oldest - 1); err != nil && !errors.Is(err, log.ErrClosed) {
		return fmt.Errorf("trim the log: %w", err)
	}
	return nil
}

// loaded notes the round that the collector started from.
func (k *checkpointer) loaded(s checkpoint.Summary) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newest = s
}

// state returns the newest round, how many failed since the start, and why the
// last one did.
func (k *checkpointer) state() (newest checkpoint.Summary, failures uint64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest, k.failures, k.err
}
