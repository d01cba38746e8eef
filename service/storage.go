package service

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/whorl-net/whorl/internal/checkpoint"
	"github.com/whorl-net/whorl/internal/datadir"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/planted"
)

// feedMemoryBytes is what a feed on disk keeps in memory too, for those who
// follow it live.
const feedMemoryBytes = 64 << 20

// storage is where a collector keeps what is not in the table: the log in front
// of it, the feed behind it and, with a data directory, what that holds beside.
type storage struct {
	log     log.Log
	journal *feed.Journal

	// nil in memory
	dir    *datadir.Dir
	engine *jet.Server
	folder *checkpoint.Folder
	logger *slog.Logger
	// settingsChanged says that other settings than those of the life before are
	// in force from the end of the log on.
	settingsChanged bool
	// used says that somebody was served from it.
	used bool
}

// openStorage opens what cfg says, and completes cfg with what is decided there.
func openStorage(cfg *Config) (*storage, error) {
	if cfg.DataDir == "" {
		l, err := log.NewMemory(0)
		if err != nil {
			return nil, fmt.Errorf("collector: %w", err)
		}
		return inMemory(cfg, l)
	}
	s, err := onDisk(cfg)
	if err == nil {
		s, err = s.underSettings(cfg)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("collector: %w", err)
	}
	return s, nil
}

// inMemory returns storage that keeps nothing over a restart.
func inMemory(cfg *Config, l log.Log) (*storage, error) {
	journal, err := feed.New(feed.Config{MaxBytes: cfg.FeedMaxBytes, MaxAge: cfg.FeedMaxAge})
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	return &storage{log: l, journal: journal}, nil
}

// onDisk opens a data directory. What it returns beside an error is to be
// closed.
func onDisk(cfg *Config) (s *storage, err error) {
	ctx := context.Background()
	s = &storage{logger: cfg.Logger}
	if s.dir, err = datadir.Open(cfg.DataDir, cfg.Tracker.Shards); err != nil {
		return s, err
	}
	meta := s.dir.Meta()
	cfg.DataDir = s.dir.Path()
	cfg.Tracker.Shards, cfg.Tracker.HashSeed, cfg.Tracker.Epoch = meta.Shards, uint64(meta.HashSeed), meta.TrackerEpoch
	if s.folder, err = checkpoint.Open(s.dir.Checkpoints(), meta.Epoch); err != nil {
		return s, err
	}
	if s.engine, err = jet.Start(jet.Config{Dir: s.dir.JetStream(), NoSync: planted.NoSync, Logger: cfg.Logger}); err != nil {
		return s, err
	}
	records, err := s.engine.Open(ctx, log.Stream(cfg.LogMaxBytes))
	if err != nil {
		return s, err
	}
	tap := cfg.tap
	if tap == nil {
		tap = func(m log.Messages) log.Messages { return m }
	}
	stored, err := log.Open(ctx, tap(records), log.Config{})
	if err != nil {
		return s, err
	}
	s.log = stored
	events, err := s.engine.Open(ctx, feed.Stream(cfg.FeedMaxBytes, cfg.FeedMaxAge))
	if err != nil {
		return s, err
	}
	s.journal, err = feed.Open(ctx, feed.Config{Epoch: meta.Epoch, MaxBytes: feedMemoryBytes, MaxAge: cfg.FeedMaxAge}, tap(events))
	return s, err
}

// durable reports whether what is in the log survives a crash.
func (s *storage) durable() bool { return s.log.Stats().Durable }

// close lets go of everything. Nobody may use the log or the journal any more.
// It may be called more than once.
func (s *storage) close() {
	if s.log != nil {
		s.log.Close()
	}
	if s.journal != nil {
		s.journal.Close()
	}
	if s.engine != nil {
		s.engine.Stop()
	}
	switch {
	case s.dir == nil:
	case s.used:
		s.dir.Close()
	default: // a start that came to nothing leaves nothing
		if err := s.dir.Discard(); err != nil {
			s.logger.Warn("the data directory is left as it is", slog.Any("err", err))
		}
	}
}
