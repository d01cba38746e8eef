package service

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/types/known/timestamppb"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// checkpoints writes checkpoints until ctx ends. There are none before the
// restore is over: it would only be done again.
func (c *Collector) checkpoints(ctx context.Context) error {
	if c.checkpointer == nil || !c.awaitRestored(ctx) {
		<-ctx.Done()
		return nil
	}
	return c.checkpointer.run(ctx)
}

// lastCheckpoint writes one at the end of the log, so that the next start has
// nothing to apply again.
func (c *Collector) lastCheckpoint(ctx context.Context) {
	if c.checkpointer == nil {
		return
	}
	if err := c.checkpointer.round(ctx); err != nil {
		c.cfg.Logger.Warn("shutdown: no checkpoint was written: the next start applies the log again", slog.Any("err", err))
		return
	}
	newest, _, _ := c.checkpointer.state()
	c.cfg.Logger.Info("shutdown: the state is written", slog.Uint64("connections", newest.Connections), slog.Int64("bytes", newest.Bytes))
}

// checkpointStatus describes the newest checkpoint, nil before the first.
func (c *Collector) checkpointStatus() *whorlv1.CheckpointStatus {
	if c.checkpointer == nil {
		return nil
	}
	s, failures, _ := c.checkpointer.state()
	if s.Number == 0 && failures == 0 {
		return nil
	}
	status := &whorlv1.CheckpointStatus{
		Position: s.Oldest, Bytes: uint64(s.Bytes), Connections: s.Connections, Failures: failures,
	}
	if !s.Completed.IsZero() {
		status.CompletedAt = timestamppb.New(s.Completed)
	}
	return status
}
