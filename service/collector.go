package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// tickEvery is how often the log is told that time passes: a connection that
// is due leaves within this time, so a feed feels live.
const tickEvery = 250 * time.Millisecond

// Collector takes batches, tracks, answers and serves the feed. Make one with
// New; Run does everything and returns when everything has ended.
type Collector struct {
	cfg     Config
	started time.Time

	tracker  *tracker.Tracker
	log      log.Log
	journal  *feed.Journal
	counters counters
	notices  *notices
	applier  *applier
	sessions *sessions
	registry *registry
	names    *names
	readers  *subscribers
	server   *grpc.Server
	health   *rpc.Health

	// handlers are goroutines of streams that end soon after the streams.
	handlers sync.WaitGroup
	// applierEnded is closed when nothing will be applied any more.
	applierEnded chan struct{}

	mu        sync.Mutex // guards listeners
	listeners []net.Listener
}

// New builds a collector. It opens nothing and starts nothing.
func New(cfg Config) (*Collector, error) {
	l, err := log.NewMemory(0)
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	return newCollector(cfg, l)
}

// newCollector builds a collector around a log: how durable it is is the log's
// business.
func newCollector(cfg Config, l log.Log) (*Collector, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	cfg = cfg.withDefaults()
	c := &Collector{cfg: cfg, started: time.Now(), log: l, applierEnded: make(chan struct{})}

	tlsConfig, err := rpc.ServerTLS(cfg.TLS, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	if c.journal, err = feed.New(feed.Config{MaxBytes: cfg.FeedMaxBytes, MaxAge: cfg.FeedMaxAge}); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	evictions := &evictionSink{journal: c.journal, counters: &c.counters}
	cfg.Tracker.OnEvict = evictions.take
	cfg.Tracker.Enrich = enrich.Snapshot
	if c.tracker, err = tracker.New(cfg.Tracker); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c.notices = newNotices(cfg.Logger)
	c.sessions = newSessions()
	c.registry = newRegistry(cfg.MaxProbes, &c.counters)
	c.names = newNames(cfg.Tracker)
	c.readers = newSubscribers(cfg.MaxSubscribers, &c.counters)
	batches := &batchPool{}
	c.applier = &applier{
		log: c.log, tracker: c.tracker, sessions: c.sessions, counters: &c.counters,
		origins: make(map[originKey]tracker.Origin), batches: batches,
	}
	c.server = rpc.NewServer(rpc.ServerConfig{
		TLS: tlsConfig, Logger: cfg.Logger, Codec: wire.Codec{},
		Large:   []string{whorlv1.IngestService_Push_FullMethodName},
		Quiet:   []string{whorlv1.IngestService_Ingest_FullMethodName, whorlv1.FeedService_Watch_FullMethodName},
		Status:  c.statusOf,
		OnPanic: func(string) { c.counters.panics.Add(1) },
	})
	c.register(batches)
	return c, nil
}

// register puts the services on the server.
func (c *Collector) register(batches *batchPool) {
	whorlv1.RegisterIngestServiceServer(c.server, &ingestService{
		collectorID: c.cfg.ID, epoch: c.journal.Epoch(), durable: c.log.Stats().Durable, noJA4Plus: c.cfg.NoJA4Plus,
		log: c.log, registry: c.registry, sessions: c.sessions, names: c.names, counters: &c.counters,
		batches: batches, notices: c.notices, receivers: &c.handlers, applierEnded: c.applierEnded,
	})
	whorlv1.RegisterTrackerServiceServer(c.server, newTrackerService(c.tracker, c.journal, &c.counters))
	whorlv1.RegisterFeedServiceServer(c.server, &feedService{
		journal: c.journal, readers: c.readers, counters: &c.counters, notices: c.notices, senders: &c.handlers,
	})
	whorlv1.RegisterStatusServiceServer(c.server, &statusService{c: c})
	c.health = rpc.RegisterHealth(c.server,
		whorlv1.IngestService_ServiceDesc.ServiceName, whorlv1.TrackerService_ServiceDesc.ServiceName,
		whorlv1.FeedService_ServiceDesc.ServiceName, whorlv1.StatusService_ServiceDesc.ServiceName)
	if c.reflects() {
		rpc.RegisterReflection(c.server)
	}
}

// statusOf turns what a handler returned into what leaves. What nobody expected
// is logged here and counted.
func (c *Collector) statusOf(method string, err error) error {
	st, known := toStatus(err)
	if !known {
		c.counters.internalErrors.Add(1)
		c.cfg.Logger.Error("internal error", slog.String("method", method), slog.Any("err", err))
	}
	return st
}

// reflects decides on ReflectionAuto: what only this host can reach may show
// itself.
func (c *Collector) reflects() bool {
	if c.cfg.Reflection != ReflectionAuto {
		return c.cfg.Reflection == ReflectionOn
	}
	for _, l := range c.cfg.Listeners {
		if !rpc.Loopback(l.Addr().String()) {
			return false
		}
	}
	return len(c.cfg.Listeners) > 0 || !slices.ContainsFunc(c.cfg.Listen, func(addr string) bool { return !rpc.Loopback(addr) })
}

// Listen opens the listeners, so that errors show before Run and Addrs has
// something to say. Run closes them; it calls Listen if nobody has.
func (c *Collector) Listen() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners != nil {
		return nil
	}
	if len(c.cfg.Listeners) > 0 {
		c.listeners = c.cfg.Listeners
		return nil
	}
	for _, addr := range c.cfg.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, open := range c.listeners {
				open.Close()
			}
			c.listeners = nil
			return fmt.Errorf("collector: %w", err)
		}
		c.listeners = append(c.listeners, l)
	}
	return nil
}

// Addrs returns the addresses that are listened on, after Listen.
func (c *Collector) Addrs() []net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := make([]net.Addr, len(c.listeners))
	for i, l := range c.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Run serves until ctx ends, then shuts down in order and returns nil; or until
// a part fails, and returns its error. It can be called once. See shutdown for
// the order and its deadline.
func (c *Collector) Run(ctx context.Context) error {
	if err := c.Listen(); err != nil {
		return err
	}
	// The parts outlive ctx: what was admitted is applied first.
	inside, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)

	parts := &parts{failed: make(chan error, 1)}
	trackerCtx, stopTracker := context.WithCancel(inside)
	defer stopTracker()
	trackerEnded := parts.start("tracker", func() error { return c.tracker.Run(trackerCtx) })
	parts.start("applier", func() error {
		defer close(c.applierEnded)
		return c.applier.run(inside)
	})
	tickCtx, stopTicks := context.WithCancel(inside)
	defer stopTicks()
	ticksEnded := parts.start("ticks", func() error { return c.tick(tickCtx) })
	for _, l := range c.listeners {
		parts.start("server", func() error {
			err := c.server.Serve(rpc.LimitListener(l))
			if errors.Is(err, grpc.ErrServerStopped) {
				return nil
			}
			return err
		})
	}
	c.health.Serving()

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-parts.failed:
		// What still works ends in order; what waits for the part that failed runs
		// into the deadline.
		c.cfg.Logger.Error("a part of the collector failed: shutting down", slog.Any("err", failure))
	}
	c.shutdown(&stopping{
		stopTicks: stopTicks, ticksEnded: ticksEnded,
		stopTracker: stopTracker, trackerEnded: trackerEnded, stop: stop,
	})
	parts.wait()
	c.handlers.Wait()
	return failure
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
			_, err := c.log.Append(ctx, log.Record{LogTime: now.UnixNano(), Kind: log.KindTick})
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("append a tick: %w", err)
			}
		}
	}
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
			select {
			case p.failed <- fmt.Errorf("%s: %w", name, err):
			default: // the first error is the reason, others follow from it
			}
		}
	})
	return ended
}

func (p *parts) wait() { p.all.Wait() }

// evictionSink encodes evictions into the feed, once for all subscribers.
type evictionSink struct {
	journal  *feed.Journal
	counters *counters
	buffers  sync.Pool // of *[]byte
}

// maxKeptEncoding keeps giants out of the pool.
const maxKeptEncoding = 64 << 10

// take is the tracker's OnEvict. Evictions of one shard come one after another;
// the feed numbers them across shards in the order of arrival.
func (s *evictionSink) take(_ int, e *tracker.Eviction) {
	buf, ok := s.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	body := wire.AppendEviction((*buf)[:0], e)
	// The journal counts what it refuses; a closed one means that the shutdown
	// ran out of time.
	_, err := s.journal.Append(time.Now().UnixNano(), &e.Connection.Key, e.Connection.Network, body)
	if errors.Is(err, feed.ErrClosed) {
		s.counters.eventsLate.Add(1)
	}
	if cap(body) <= maxKeptEncoding {
		*buf = body
		s.buffers.Put(buf)
	}
}
