package service

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// statusService tells operators how the collector is doing.
type statusService struct {
	whorlv1.UnimplementedStatusServiceServer

	c      *Collector
	tokens *tokens
}

// GetStatus returns counts of this moment. Figures of different parts may be a
// batch apart.
func (ss *statusService) GetStatus(_ context.Context, req *whorlv1.GetStatusRequest) (*whorlv1.GetStatusResponse, error) {
	return ss.c.Status(req.GetIncludeShards()), nil
}

// Status is what GetStatus answers, for who runs in the same process, with one
// ShardStatus per shard when asked. It may be called at any time, also before Run
// and after it; it reads counters and waits for nobody.
func (c *Collector) Status(shards bool) *whorlv1.GetStatusResponse {
	// In this order: what was applied was acknowledged before.
	totals := c.tracker.Count()
	replaying := max(c.applier.replaying.Load(), 0)
	held := c.journal.Stats()
	resp := &whorlv1.GetStatusResponse{
		Version: c.cfg.Version, CollectorId: c.cfg.ID, Epoch: c.journal.Epoch(), StartedAt: timestamppb.New(c.started),
		Connections: totals.Live, MaxConnections: totals.MaxConnections, MemoryBytes: totals.MemoryBytes,
		Feed: &whorlv1.FeedStatus{
			OldestCursor: held.Oldest.String(), NewestCursor: held.Newest.String(),
			HeldEvents: held.Events, HeldBytes: uint64(held.Bytes), Durable: c.storage.durable(),
		},
		Subscribers: c.readers.list(held.Newest), ProbesConnected: uint32(c.registry.count()),
		Drops: c.drops(totals, held.Refused), Durability: "memory",
		PacketsApplied: totals.Packets, BytesApplied: totals.Bytes, ConnectionsOpened: totals.Opened,
		PacketsAcknowledged: c.applier.acknowledged.Load(), PacketsReplaying: uint64(replaying),
		// In the proto's words: later than an idle timeout, or from the future.
		PacketsLate: totals.Late + totals.Future,
		State:       c.condition.name(), Restore: c.condition.progress(c.applier.done.Load()), Log: c.logStatus(),
	}
	c.knowledge.describe(resp)
	if held.OldestTime != 0 {
		resp.Feed.OldestTime = timestamppb.New(time.Unix(0, held.OldestTime))
	}
	if c.storage.durable() {
		resp.Feed.HeldBytes = uint64(held.StoredBytes)
		resp.Durability, resp.DataDir, resp.Checkpoint = "disk", c.cfg.DataDir, c.checkpointStatus()
	}
	for cause := tracker.Cause(1); cause < tracker.NumCauses; cause++ {
		resp.Evictions = append(resp.Evictions, &whorlv1.EvictionCounter{
			Cause: whorlv1.EvictionCause(cause), Count: totals.Evicted[cause],
		})
	}
	if shards {
		for i, s := range c.tracker.ShardStatus() {
			resp.Shards = append(resp.Shards, &whorlv1.ShardStatus{
				Index: uint32(i), Connections: uint64(s.Connections),
				QueueDepth: uint64(s.QueueDepth), QueueCapacity: uint64(s.QueueCapacity),
			})
		}
	}
	return resp
}

// Probes describes the probes that are connected, by probe id. It may be called
// at any time.
func (c *Collector) Probes() []*whorlv1.Probe { return c.registry.list(false) }

// logStatus describes the log.
func (c *Collector) logStatus() *whorlv1.LogStatus {
	s := c.log.Stats()
	status := &whorlv1.LogStatus{
		FirstPosition: uint64(s.First), LastPosition: uint64(s.Last), AppliedPosition: c.applier.done.Load(),
		Bytes: uint64(max(s.Bytes, 0)), MaxBytes: uint64(max(s.MaxBytes, 0)), Durable: s.Durable, Groups: s.Groups,
	}
	if why := c.unwritable(); why != nil {
		status.Error = toValid(why.Error())
	}
	return status
}

// drops lists what was dropped anywhere.
func (c *Collector) drops(totals tracker.Totals, refusedEvents uint64) []*whorlv1.DropCounter {
	drops := c.counters.drops()
	for _, d := range append([]counterValue{
		{"tracker.fingerprints_capped", totals.FingerprintsCapped},
		{"tracker.fingerprints_no_room", totals.FingerprintsNoRoom},
		{"tracker.fingerprints_orphaned", totals.FingerprintsOrphaned},
		{"tracker.observers_capped", totals.ObserversCapped},
		{"feed.events_too_large", refusedEvents},
	}, c.knowledge.drops()...) {
		if d.n > 0 {
			drops = append(drops, &whorlv1.DropCounter{Where: d.where, Count: d.n})
		}
	}
	return drops
}

// ListProbes describes the probes that are connected and, when asked, those that
// were. The answer has no pages: when labels would make it larger than every
// client takes, probes at the end are listed without theirs.
func (ss *statusService) ListProbes(_ context.Context, req *whorlv1.ListProbesRequest) (*whorlv1.ListProbesResponse, error) {
	probes := ss.c.registry.list(req.GetIncludeGone())
	bytes := 0
	for _, p := range probes {
		if bytes += proto.Size(p); bytes > maxPageBytes {
			p.Labels = nil
		}
	}
	return &whorlv1.ListProbesResponse{Probes: probes}, nil
}

// FlushConnections counts what matches or, with confirm, evicts it through the
// log, cause flush, and returns when that is done.
func (ss *statusService) FlushConnections(ctx context.Context, req *whorlv1.FlushConnectionsRequest) (*whorlv1.FlushConnectionsResponse, error) {
	now := time.Now().UnixNano()
	f, err := compileFilter(req, filter.Source{Now: now, Logged: true})
	if err != nil {
		return nil, badFilter(err)
	}
	if !req.GetConfirm() {
		matched, err := countMatching(ctx, ss.c.tracker, f)
		if err != nil {
			return nil, err
		}
		return &whorlv1.FlushConnectionsResponse{Matched: matched}, nil
	}
	if err := ss.c.registry.refuses(); err != nil {
		return nil, err
	}
	matched, err := ss.flush(ctx, req, now)
	if err != nil {
		return nil, err
	}
	return &whorlv1.FlushConnectionsResponse{Matched: matched}, nil
}

// flush appends the request to the log and waits until it is applied and what it
// evicted is in the feed.
func (ss *statusService) flush(ctx context.Context, req *whorlv1.FlushConnectionsRequest, now int64) (uint64, error) {
	data, err := proto.Marshal(req)
	if err != nil {
		return 0, err
	}
	done := make(chan applied, 1)
	record := log.Record{
		LogTime: now, Kind: log.KindFlush, Data: data,
		Note: &ticket{applied: func(result applied) { done <- result }},
	}
	position, err := ss.c.log.Submit(ctx, nil, record)
	if err != nil {
		return 0, err
	}
	select {
	case result := <-done:
		// Who looks into the feed now is to find what was evicted.
		return uint64(result.evicted), ss.c.journal.WaitDurable(ctx, uint64(position))
	case <-ss.c.applierEnded:
		return 0, errStopping
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
