package service

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// statusService tells operators how the collector is doing.
type statusService struct {
	whorlv1.UnimplementedStatusServiceServer

	c *Collector
}

// GetStatus returns counts of this moment. Figures of different parts may be a
// batch apart.
func (ss *statusService) GetStatus(_ context.Context, req *whorlv1.GetStatusRequest) (*whorlv1.GetStatusResponse, error) {
	c := ss.c
	totals := c.tracker.Count()
	held := c.journal.Stats()
	resp := &whorlv1.GetStatusResponse{
		Version: c.cfg.Version, CollectorId: c.cfg.ID, Epoch: c.journal.Epoch(), StartedAt: timestamppb.New(c.started),
		Connections: totals.Live, MaxConnections: totals.MaxConnections, MemoryBytes: totals.MemoryBytes,
		Feed: &whorlv1.FeedStatus{
			OldestCursor: held.Oldest.String(), NewestCursor: held.Newest.String(),
			HeldEvents: held.Events, HeldBytes: uint64(held.Bytes), Durable: false,
		},
		Subscribers: c.readers.list(held.Newest), ProbesConnected: uint32(c.registry.count()),
		Drops: c.drops(totals, held.Refused), Durability: "memory",
		PacketsApplied: totals.Packets, BytesApplied: totals.Bytes, ConnectionsOpened: totals.Opened,
		// In the proto's words: later than an idle timeout, or from the future.
		PacketsLate: totals.Late + totals.Future,
	}
	if held.OldestTime != 0 {
		resp.Feed.OldestTime = timestamppb.New(time.Unix(0, held.OldestTime))
	}
	if c.log.Stats().Durable {
		resp.Durability = "disk"
	}
	for cause := tracker.Cause(1); cause < tracker.NumCauses; cause++ {
		resp.Evictions = append(resp.Evictions, &whorlv1.EvictionCounter{
			Cause: whorlv1.EvictionCause(cause), Count: totals.Evicted[cause],
		})
	}
	if req.GetIncludeShards() {
		for i, s := range c.tracker.ShardStatus() {
			resp.Shards = append(resp.Shards, &whorlv1.ShardStatus{
				Index: uint32(i), Connections: uint64(s.Connections),
				QueueDepth: uint64(s.QueueDepth), QueueCapacity: uint64(s.QueueCapacity),
			})
		}
	}
	return resp, nil
}

// drops lists what was dropped anywhere.
func (c *Collector) drops(totals tracker.Totals, refusedEvents uint64) []*whorlv1.DropCounter {
	drops := c.counters.drops()
	for _, d := range []struct {
		where string
		n     uint64
	}{
		{"tracker.fingerprints_capped", totals.FingerprintsCapped},
		{"tracker.fingerprints_no_room", totals.FingerprintsNoRoom},
		{"tracker.fingerprints_orphaned", totals.FingerprintsOrphaned},
		{"tracker.observers_capped", totals.ObserversCapped},
		{"feed.events_too_large", refusedEvents},
	} {
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

// ListFingerprints is not there yet.
func (ss *statusService) ListFingerprints(context.Context, *whorlv1.ListFingerprintsRequest) (*whorlv1.ListFingerprintsResponse, error) {
	return nil, failure(codes.Unimplemented, ReasonUnavailable, "this collector does not record when a fingerprint was first seen")
}

// ReloadConfig is not there yet.
func (ss *statusService) ReloadConfig(context.Context, *whorlv1.ReloadConfigRequest) (*whorlv1.ReloadConfigResponse, error) {
	return nil, failure(codes.Unimplemented, ReasonUnavailable, "this collector does not reload its configuration; certificates are followed by themselves")
}

// FlushConnections counts what matches or, with confirm, evicts it through the
// log, cause flush, and returns when that is done.
func (ss *statusService) FlushConnections(ctx context.Context, req *whorlv1.FlushConnectionsRequest) (*whorlv1.FlushConnectionsResponse, error) {
	now := time.Now().UnixNano()
	f, err := compileFilter(req, now, false)
	if err != nil {
		return nil, badFilter(err)
	}
	if !req.GetConfirm() {
		var w walk
		matched := uint64(0)
		for w.next(ctx, ss.c.tracker, f.Detail(), countChunk) {
			for i := range w.page {
				if f.Match(&w.page[i]) {
					matched++
				}
			}
		}
		if w.err != nil {
			return nil, w.err
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

// flush appends the request to the log and waits until it is applied.
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
	if _, err := ss.c.log.Append(ctx, record); err != nil {
		return 0, err
	}
	select {
	case result := <-done:
		return uint64(result.evicted), nil
	case <-ss.c.applierEnded:
		return 0, errStopping
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
