package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/whorl-net/whorl/internal/checkpoint"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
)

const (
	// restorePoll is how often somebody looks how far a restore is, and
	// restoreSay how often the operator is told.
	restorePoll = 20 * time.Millisecond
	restoreSay  = time.Second
)

// restore brings everything to where the newest good checkpoint was, and returns
// the reader of the log behind it. What it refuses to start from it says in a
// sentence: a collector that has lost something must not pretend otherwise.
func (c *Collector) restore(ctx context.Context) (log.Reader, error) {
	at := checkpoint.Summary{}
	if c.storage.folder != nil {
		var err error
		if at, err = c.loadCheckpoint(ctx); err != nil {
			return nil, err
		}
		if err := c.checkStorage(at); err != nil {
			return nil, err
		}
		c.checkpointer.loaded(at)
		c.condition.restores(at.Oldest, uint64(c.log.Stats().Last))
	}
	r, err := c.log.Reader(log.Position(at.Oldest))
	if err != nil {
		return nil, fmt.Errorf("read the log behind record %d: %w", at.Oldest, err)
	}
	return r, nil
}

// loadCheckpoint loads the newest round that is not damaged. The zero Summary
// says that there is none, and that the log is whole.
func (c *Collector) loadCheckpoint(ctx context.Context) (checkpoint.Summary, error) {
	for _, number := range c.storage.folder.Rounds() {
		_, err := c.storage.folder.Verify(number)
		if errors.Is(err, checkpoint.ErrDamaged) {
			c.cfg.Logger.Error("a checkpoint is damaged and set aside: going back to the one before", slog.Any("err", err))
			if err := c.storage.folder.SetAside(number); err != nil {
				return checkpoint.Summary{}, err
			}
			continue
		}
		if err != nil {
			return checkpoint.Summary{}, err
		}
		return c.load(ctx, number)
	}
	if first := c.log.Stats().First; first > 1 {
		return checkpoint.Summary{}, fmt.Errorf("data directory %s has no checkpoint that can be read, and its log begins only at record %d: restore the directory from a backup, or start with an empty one",
			c.cfg.DataDir, first)
	}
	return checkpoint.Summary{}, nil
}

// load restores a round, which was verified.
func (c *Collector) load(ctx context.Context, number uint64) (checkpoint.Summary, error) {
	l := loading{c: c, ctx: ctx, room: make(chan struct{}, runtime.GOMAXPROCS(0)), seen: make(map[uint32]bool)}
	s, err := c.storage.folder.Load(number, l.take)
	l.shards.Wait()
	if err == nil {
		err = l.failed()
	}
	if err == nil && len(l.seen) != c.cfg.Tracker.Shards {
		err = fmt.Errorf("it has %d shards, want %d", len(l.seen), c.cfg.Tracker.Shards)
	}
	if err != nil {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		return s, fmt.Errorf("checkpoint %d cannot be used: %w; to go back to the one before, move its file out of %s and start again",
			number, err, c.storage.dir.Checkpoints())
	}
	place := feed.Place{Sequence: s.FeedSequence, Through: feed.Through{Position: s.Newest + 1}}
	if err := c.pipe.restore(l.analyst, place); err != nil {
		return s, err
	}
	return s, nil
}

// loading restores the blocks of a round as they are read, shards on all
// processors.
type loading struct {
	c       *Collector
	ctx     context.Context
	head    bool
	analyst []byte
	shards  sync.WaitGroup
	room    chan struct{} // bounds the shards under way
	seen    map[uint32]bool

	mu  sync.Mutex // guards err
	err error
}

func (l *loading) take(b checkpoint.Block) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	switch b.Kind {
	case checkpoint.KindHead:
		l.head = true
		return l.c.applier.restore(b.Data, log.Position(b.Position))
	case checkpoint.KindShard:
		if !l.head || l.seen[b.Index] || int(b.Index) >= l.c.cfg.Tracker.Shards {
			return fmt.Errorf("shard %d is out of place", b.Index)
		}
		l.seen[b.Index] = true
		data := bytes.Clone(b.Data) // b's belongs to the reader
		l.room <- struct{}{}
		l.shards.Go(func() {
			defer func() { <-l.room }()
			if _, err := l.c.tracker.RestoreShard(int(b.Index), data); err != nil {
				l.fail(fmt.Errorf("shard %d: %w", b.Index, err))
			}
		})
		return l.failed()
	case checkpoint.KindAnalyst:
		l.analyst = bytes.Clone(b.Data)
	}
	return nil
}

func (l *loading) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *loading) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// checkStorage refuses a log that cannot be the one that at and the feed came
// from.
func (c *Collector) checkStorage(at checkpoint.Summary) error {
	s := c.log.Stats()
	lost := "the log lost records that were safe, or files of two directories were mixed: restore %s from a backup, or start with an empty one"
	switch through := c.journal.Through().Position; {
	case at.Oldest+1 < uint64(s.First):
		return fmt.Errorf("the newest checkpoint goes on behind log record %d, and the log begins at record %d: "+lost, at.Oldest, s.First, c.cfg.DataDir)
	case at.Newest > uint64(s.Last):
		return fmt.Errorf("the newest checkpoint is of log record %d, and the log ends at record %d: "+lost, at.Newest, s.Last, c.cfg.DataDir)
	case through > uint64(s.Last)+1:
		return fmt.Errorf("the feed holds events of log record %d, and the log ends at record %d: "+lost, through-1, s.Last, c.cfg.DataDir)
	}
	return nil
}

// awaitRestored waits until the log of an earlier life is applied; false means
// that ctx ended first.
func (c *Collector) awaitRestored(ctx context.Context) bool {
	ticker := time.NewTicker(restorePoll)
	defer ticker.Stop()
	for {
		progress := c.condition.progress(c.applier.done.Load())
		if progress == nil || progress.GetPosition() >= progress.GetToPosition() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

// sayRestoring tells how far a restore is, at most once a second, until ctx ends.
func (c *Collector) sayRestoring(ctx context.Context) {
	ticker := time.NewTicker(restoreSay)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if p := c.condition.progress(c.applier.done.Load()); p != nil {
			c.cfg.Logger.Warn("restoring: calls are turned away until it is done",
				slog.Uint64("record", p.GetPosition()), slog.Uint64("of", p.GetToPosition()))
		}
	}
}
