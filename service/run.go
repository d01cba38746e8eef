package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/rpc"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

const (
	// tickEvery is how often the log is told that time passes: a connection that
	// is due leaves within this time, so a feed feels live.
	tickEvery = 250 * time.Millisecond
	// lookEvery is how often somebody looks whether the disk takes writes.
	lookEvery = 250 * time.Millisecond
)

// Run serves until ctx ends, then shuts down in order and returns nil; or until
// a part fails, and returns its error. It can be called once. See shutdown for
// the order and its deadline.
func (c *Collector) Run(ctx context.Context) error {
	defer c.storage.close()
	if err := c.Listen(); err != nil {
		return err
	}
	// The parts outlive ctx: what was admitted is applied first.
	inside, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	c.pipe.ctx = inside

	for _, l := range c.listeners {
		c.parts.start("server", func() error {
			err := c.server.Serve(rpc.LimitListener(l))
			if errors.Is(err, grpc.ErrServerStopped) {
				return nil
			}
			return err
		})
	}
	began := time.Now()
	reader, err := c.restore(ctx)
	if err != nil {
		c.stopServer()
		c.parts.wait()
		c.handlers.Wait()
		if ctx.Err() != nil {
			return nil // told to end before it had begun
		}
		return err
	}

	s := &stopping{stop: stop}
	var trackerCtx, tickCtx, checkpointCtx context.Context
	trackerCtx, s.stopTracker = context.WithCancel(inside)
	defer s.stopTracker()
	s.trackerEnded = c.parts.start("tracker", func() error { return c.tracker.Run(trackerCtx) })
	c.parts.start("applier", func() error {
		defer close(c.applierEnded)
		err := c.applier.run(inside, reader)
		if inside.Err() != nil {
			return nil // cut short: what is not applied is in the log
		}
		return err
	})
	tickCtx, s.stopTicks = context.WithCancel(inside)
	defer s.stopTicks()
	checkpointCtx, s.stopCheckpoints = context.WithCancel(inside)
	defer s.stopCheckpoints()
	if !c.storage.durable() {
		c.opens() // there is nothing to wait for
	}
	s.ticksEnded = c.parts.start("serve", func() error { return c.serve(tickCtx, began) })
	s.checkpointsEnded = c.parts.start("checkpoints", func() error { return c.checkpoints(checkpointCtx) })

	if c.storage.engine != nil {
		c.parts.start("storage", func() error {
			select {
			case <-c.storage.engine.Hung():
				return fmt.Errorf("%w: it is left to the next start", jet.ErrHung)
			case <-inside.Done():
				return nil
			}
		})
	}

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-c.parts.failed:
		c.cfg.Logger.Error("a part of the collector failed: shutting down", slog.Any("err", failure))
	}
	if c.storage.durable() && (failure != nil || c.condition.name() == "restoring") {
		c.abandon(s)
	} else {
		c.shutdown(s)
	}
	c.parts.wait()
	c.handlers.Wait()
	return failure
}

// serve waits until the log of an earlier life is applied, opens the doors, and
// keeps time until ctx ends. began is when the restore began.
func (c *Collector) serve(ctx context.Context, began time.Time) error {
	var aside sync.WaitGroup
	defer aside.Wait()
	if c.storage.durable() {
		telling, told := context.WithCancel(ctx)
		aside.Go(func() { c.sayRestoring(telling) })
		ready := c.awaitRestored(ctx)
		told()
		if !ready {
			return nil
		}
		if c.storage.settingsChanged {
			// Whatever round the next life starts from must be of one with these.
			c.lastCheckpoint(ctx)
		}
		earlier, _ := c.sessions.save()
		c.registry.remember(earlier)
		c.condition.restored()
		c.opens()
		c.cfg.Logger.Info("restored", slog.Uint64("connections", c.tracker.Count().Live),
			slog.Uint64("record", c.applier.done.Load()), slog.Duration("took", time.Since(began)))
		aside.Go(func() { c.look(ctx) })
	}
	aside.Go(func() { c.knowledge.follow(ctx) })
	aside.Go(func() { c.knowledge.run(ctx) })
	return c.tick(ctx)
}

// opens says that the collector serves.
func (c *Collector) opens() {
	c.storage.used = true
	c.health.Serving()
	close(c.ready)
}

// tick writes time into the log while ctx lasts, and lets go of what the feed
// holds too long.
func (c *Collector) tick(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			c.journal.Trim(now.UnixNano())
			if c.storage.durable() && c.tracker.Count().Live == 0 {
				continue // nothing can leave: spare the disk
			}
			_, err := c.log.Submit(ctx, nil, log.Record{LogTime: now.UnixNano(), Kind: log.KindTick})
			if err != nil && ctx.Err() == nil && !errors.Is(err, log.ErrUnavailable) {
				return fmt.Errorf("append a tick: %w", err)
			}
		}
	}
}

// look notices when the disk takes nothing, and when it does again, until ctx
// ends. Meanwhile nothing is taken in, and everything else goes on.
func (c *Collector) look(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		why := c.unwritable()
		if !c.condition.refuse(why) {
			continue
		}
		c.health.Set(whorlv1.IngestService_ServiceDesc.ServiceName, why == nil)
		if why == nil {
			c.cfg.Logger.Info("the log can be written again: probes are welcome")
			continue
		}
		c.cfg.Logger.Error("the log cannot be written: nothing is taken in until it can, queries go on", slog.Any("err", why))
		for _, s := range c.registry.streams() {
			s.end(errUnwritable())
		}
	}
}

// unwritable returns why nothing can be made durable now, nil when it can.
func (c *Collector) unwritable() error {
	if err := c.log.Stats().Err; err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if c.checkpointer != nil {
		if err := c.checkpointer.stuck(); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	if err := c.journal.Stats().Err; err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return nil
}

// parts are the goroutines of a collector.
type parts struct {
	all    sync.WaitGroup
	failed chan error // the first error
}

// start runs f in a goroutine and returns a channel that is closed when it has
// ended.
func (p *parts) start(name string, f func() error) <-chan struct{} {
	ended := make(chan struct{})
	p.all.Go(func() {
		defer close(ended)
		if err := f(); err != nil {
			p.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
	return ended
}

// fail ends the collector because of err.
func (p *parts) fail(err error) {
	select {
	case p.failed <- err:
	default: // the first error is the reason, others follow from it
	}
}

func (p *parts) wait() { p.all.Wait() }
