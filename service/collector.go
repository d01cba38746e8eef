package service

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Collector takes batches, tracks, answers and serves the feed. Make one with
// New; Run does everything and returns when everything has ended.
type Collector struct {
	cfg     Config
	started time.Time

	storage   *storage
	log       log.Log       // of storage
	journal   *feed.Journal // of storage
	tracker   *tracker.Tracker
	pipe      *pipeline
	knowledge *knowledge
	counters  counters
	notices   *notices
	applier   *applier
	condition condition
	// checkpointer is nil without a data directory.
	checkpointer *checkpointer
	sessions     *sessions
	registry     *registry
	names        *names
	readers      *subscribers
	server       *grpc.Server
	health       *rpc.Health

	parts parts
	// handlers are goroutines of streams that end soon after the streams.
	handlers sync.WaitGroup
	// ready is closed when the collector serves for the first time.
	ready chan struct{}
	// applierEnded is closed when nothing will be applied any more.
	applierEnded chan struct{}

	mu        sync.Mutex // guards listeners
	listeners []net.Listener
}

// New builds a collector and starts nothing. With Config.DataDir it opens that
// directory, which nobody else can open until Run has ended or Close was called;
// the errors are sentences for an operator.
func New(cfg Config) (*Collector, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	cfg = cfg.withDefaults()
	s, err := openStorage(&cfg)
	if err != nil {
		return nil, err
	}
	c, err := newCollector(cfg, s)
	if err != nil {
		s.close()
		return nil, err
	}
	return c, nil
}

// newCollector builds a collector around its storage, which has completed cfg.
func newCollector(cfg Config, s *storage) (*Collector, error) {
	c := &Collector{
		cfg: cfg, started: time.Now(), storage: s, log: s.log, journal: s.journal,
		ready: make(chan struct{}), applierEnded: make(chan struct{}), parts: parts{failed: make(chan error, 1)},
	}
	tlsConfig, err := rpc.ServerTLS(cfg.TLS, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	if c.knowledge, err = newKnowledge(&cfg); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c.pipe = newPipeline(c.journal, &c.counters, c.knowledge)
	cfg.Tracker.OnOutput, cfg.Tracker.Encode = c.pipe.take, c.pipe.encode
	cfg.Tracker.Enrich, cfg.Tracker.Annotate, cfg.Tracker.Events = c.knowledge.enrich, c.knowledge.annotate, c.knowledge != nil
	cfg.Tracker.EventTypes = c.knowledge.eventTypes()
	if c.tracker, err = tracker.New(cfg.Tracker); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c.notices = newNotices(cfg.Logger)
	c.sessions = newSessions()
	c.registry = newRegistry(cfg.MaxProbes, &c.counters)
	c.names = newNames(cfg.Tracker, &c.counters)
	c.readers = newSubscribers(cfg.MaxSubscribers, &c.counters)
	batches := &batchPool{}
	c.applier = &applier{
		log: c.log, tracker: c.tracker, sessions: c.sessions, names: c.names, counters: &c.counters,
		origins: make(map[originKey]tracker.Origin), batches: batches, keeps: s.durable(), knowledge: c.knowledge,
	}
	if s.folder != nil {
		c.checkpointer = &checkpointer{
			log: c.log, applier: c.applier, tracker: c.tracker, pipe: c.pipe, journal: c.journal, folder: s.folder,
			shards: cfg.Tracker.Shards, every: cfg.CheckpointEvery, logBytes: cfg.CheckpointLogBytes, keepLog: cfg.keepLog,
			logger: cfg.Logger,
		}
		c.condition.restores(0, uint64(c.log.Stats().Last))
	}
	if err := c.knowledge.attach(c); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c.server = rpc.NewServer(rpc.ServerConfig{
		TLS: tlsConfig, Logger: cfg.Logger, Codec: wire.Codec{},
		Large:   []string{whorlv1.IngestService_Push_FullMethodName},
		Quiet:   []string{whorlv1.IngestService_Ingest_FullMethodName, whorlv1.FeedService_Watch_FullMethodName},
		Status:  c.statusOf,
		Gate:    c.gate,
		OnPanic: func(string) { c.counters.panics.Add(1) },
	})
	c.register(batches)
	return c, nil
}

// Ready returns a channel that is closed when the collector serves, which with a
// data directory is once its state is restored.
func (c *Collector) Ready() <-chan struct{} { return c.ready }

// Close lets go of what New opened, when Run is never called.
func (c *Collector) Close() { c.storage.close() }

// gate turns calls away while the collector restores, but for those that say
// how far it is.
func (c *Collector) gate(method string) error {
	switch method {
	case whorlv1.StatusService_GetStatus_FullMethodName, whorlv1.StatusService_ListProbes_FullMethodName:
		return nil
	}
	if !strings.HasPrefix(method, "/whorl.") {
		return nil // health and reflection
	}
	return c.condition.closed()
}

// register puts the services on the server.
func (c *Collector) register(batches *batchPool) {
	whorlv1.RegisterIngestServiceServer(c.server, &ingestService{
		collectorID: c.cfg.ID, epoch: c.journal.Epoch(), durable: c.storage.durable(), noJA4Plus: c.cfg.NoJA4Plus,
		log: c.log, registry: c.registry, sessions: c.sessions, names: c.names, counters: &c.counters,
		batches: batches, notices: c.notices, condition: &c.condition, journal: c.journal, receivers: &c.handlers, applierEnded: c.applierEnded,
	})
	whorlv1.RegisterTrackerServiceServer(c.server, newTrackerService(c.tracker, c.journal, c.knowledge, &c.counters))
	whorlv1.RegisterFeedServiceServer(c.server, &feedService{
		journal: c.journal, knowledge: c.knowledge, readers: c.readers, counters: &c.counters, notices: c.notices, senders: &c.handlers,
	})
	whorlv1.RegisterStatusServiceServer(c.server, &statusService{c: c, tokens: newTokens(c.journal.Epoch())})
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
		l, err := rpc.Listen(addr)
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
