package service

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// stopGrace is how long calls that are neither ingest nor watch may take to end
// once those have.
const stopGrace = time.Second

// stopping are the switches of the parts.
type stopping struct {
	stopTicks        context.CancelFunc
	ticksEnded       <-chan struct{}
	stopCheckpoints  context.CancelFunc
	checkpointsEnded <-chan struct{}
	stopTracker      context.CancelFunc
	trackerEnded     <-chan struct{}
	stop             context.CancelCauseFunc
}

// shutdown ends everything, in this order:
//
//  1. Health says NOT_SERVING; new probes and pushes are refused, UNAVAILABLE.
//  2. Probes get a Drain and a third of Config.DrainTimeout to end by
//     themselves; then their streams end: what was admitted is applied and
//     acknowledged once more, then UNAVAILABLE.
//  3. Without a durable log every connection is evicted, cause flush: this is
//     the last chance to tell.
//  4. The log is closed and applied to its end. With a data directory a last
//     checkpoint is written, so that the next start has nothing to replay. Then
//     the tracker stops.
//  5. The feed is closed: subscribers get what they have not read yet, then
//     UNAVAILABLE and their cursor.
//  6. The server stops.
//
// When Config.DrainTimeout is over, whatever step is reached is cut short.
func (c *Collector) shutdown(s *stopping) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.DrainTimeout)
	defer cancel()
	logger := c.cfg.Logger
	logger.Info("shutdown begins", slog.Int("probes", c.registry.count()), slog.Duration("within", c.cfg.DrainTimeout))
	c.condition.drains()
	c.health.Shutdown()
	c.drainProbes(ctx)
	logger.Info("shutdown: probes have left", slog.Int("probes", c.registry.count()))

	s.stopTicks()
	<-s.ticksEnded
	if !c.storage.durable() {
		// A full log, or one that is not read any more, runs into the deadline.
		if _, err := c.log.Append(ctx, log.Record{LogTime: time.Now().UnixNano(), Kind: log.KindFlush}); err != nil {
			logger.Error("connections were not flushed into the feed", slog.Any("err", err))
		}
	}
	c.log.Close()
	s.stopCheckpoints()
	<-s.checkpointsEnded
	if !within(ctx, c.applierEnded) || !within(ctx, c.applier.pending.idle()) {
		logger.Error("shutdown ran out of time: not everything was applied")
	} else {
		c.lastCheckpoint(ctx)
	}
	s.stop(errStopping)
	s.stopTracker()
	<-s.trackerEnded
	logger.Info("shutdown: the log is closed and the tracker has ended")
	c.journal.Close()
	if !within(ctx, c.readers.none()) {
		logger.Warn("shutdown ran out of time: subscribers were cut off")
	}
	logger.Info("shutdown: the feed is closed", slog.String("cursor", c.journal.Newest().String()))
	c.stopServer()
	logger.Info("shutdown ends")
}

// abandon ends everything at once and writes nothing more: after a failure the
// state may be wrong, and in the middle of a restore it is not there yet. The
// next start goes on from what is on the disk.
func (c *Collector) abandon(s *stopping) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.DrainTimeout)
	defer cancel()
	c.condition.drains()
	c.health.Shutdown()
	for _, stream := range c.registry.drain() {
		stream.end(errDraining())
	}
	s.stopTicks()
	s.stopCheckpoints()
	s.stop(errStopping)
	s.stopTracker()
	c.log.Close()
	<-s.ticksEnded
	<-s.checkpointsEnded
	<-s.trackerEnded
	c.journal.Close()
	within(ctx, c.readers.none())
	c.stopServer()
}

// drainProbes ends every ingest stream.
func (c *Collector) drainProbes(ctx context.Context) {
	grace := c.cfg.DrainTimeout / 3
	streams := c.registry.drain()
	for _, s := range streams {
		drain := &whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Drain{Drain: &whorlv1.Drain{
			Grace: durationpb.New(grace), Reason: "shutdown",
		}}}
		select {
		case s.answers <- drain:
		default: // it reads nothing: it will see the stream end
		}
	}
	polite, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for _, s := range streams {
		if !within(polite, s.left) {
			s.end(errDraining())
		}
	}
	for _, s := range streams {
		within(ctx, s.left)
	}
}

// stopServer ends what is left on the server.
func (c *Collector) stopServer() {
	stopped := make(chan struct{})
	c.handlers.Go(func() {
		c.server.GracefulStop()
		close(stopped)
	})
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if !within(ctx, stopped) {
		c.server.Stop()
	}
}

// within waits for done, and reports whether it came before ctx ended.
func within(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		select {
		case <-done: // both: it was in time
			return true
		default:
			return false
		}
	}
}
