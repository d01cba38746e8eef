package service

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// What a Watch may ask for, and what it gets when it does not.
const (
	defaultHeartbeat = 10 * time.Second
	minHeartbeat     = time.Second
	maxHeartbeat     = 5 * time.Minute
	defaultWatchMax  = 100
	maxWatchMax      = 1000
	// watchBytes is about the largest message: a block of frames ends there.
	watchBytes = 1 << 20
	// stalledAfter is how long one Send may stand still.
	stalledAfter = 30 * time.Second
)

// feedService serves the feed. Each subscriber reads the journal from a place of
// its own; none can hold up another or the tracker.
type feedService struct {
	whorlv1.UnimplementedFeedServiceServer

	journal   *feed.Journal
	knowledge *knowledge
	readers   *subscribers
	counters  *counters
	notices   *notices
	// senders are goroutines that end soon after the handlers.
	senders *sync.WaitGroup
}

// Watch streams evictions.
func (fs *feedService) Watch(req *whorlv1.WatchRequest, out grpc.ServerStreamingServer[whorlv1.WatchResponse]) (err error) {
	w, err := fs.newWatch(out.Context(), req)
	if err != nil {
		return err
	}
	if w.subscriber, err = fs.readers.join(out.Context(), req.GetSubscriber(), w.at); err != nil {
		return err
	}
	who := []slog.Attr{slog.String("subscriber", w.subscriber.name), slog.String("peer", w.subscriber.peer)}
	fs.notices.log(out.Context(), slog.LevelInfo, "subscriber came", append(who, slog.String("cursor", w.at.String()))...)
	defer func() {
		fs.readers.leave(w.subscriber)
		fs.notices.log(out.Context(), slog.LevelInfo, "subscriber left",
			append(who, slog.String("cursor", w.at.String()), slog.Any("err", err))...)
	}()
	// The caller learns that its place is fixed, however quiet the feed is.
	if err := out.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	w.out = newOutbox(out.Context(), out, fs.senders)
	return w.run(out.Context())
}

// watch is one subscription.
type watch struct {
	journal    *feed.Journal
	counters   *counters
	reader     *feed.Reader
	filter     *filter.Filter
	wanted     wire.Projection
	failOnGap  bool
	heartbeat  time.Duration
	maxBatch   int
	left       uint64 // evictions until the limit; 0 is no limit
	noFollow   bool
	opening    bool // the place is told at once: the caller does not know it
	subscriber *subscriber
	out        *outbox

	// block is what was read, next the first of its events not handled yet, and
	// at the place behind the last one that was.
	block feed.Block
	next  int
	at    feed.Cursor

	eviction  tracker.Eviction // used again for each event that is looked at
	discovery wire.Discovery
}

// newWatch checks a request and finds its place in the feed.
func (fs *feedService) newWatch(ctx context.Context, req *whorlv1.WatchRequest) (*watch, error) {
	now := time.Now()
	f, err := compileFilter(req, filter.Source{Now: now.UnixNano(), Feed: true, Rules: fs.knowledge.ruleIDs()})
	if err != nil {
		return nil, badFilter(err)
	}
	w := &watch{
		journal: fs.journal, counters: fs.counters, filter: f,
		heartbeat: defaultHeartbeat, maxBatch: int(req.GetMaxBatch()),
		left: req.GetLimit(), noFollow: req.GetNoFollow(), opening: req.GetStart() == nil,
	}
	if w.wanted, err = projection(req); err != nil {
		return nil, err
	}
	switch req.GetGapPolicy() {
	case whorlv1.GapPolicy_GAP_POLICY_UNSPECIFIED, whorlv1.GapPolicy_GAP_POLICY_CONTINUE:
	case whorlv1.GapPolicy_GAP_POLICY_FAIL:
		w.failOnGap = true
	default:
		return nil, badNumber("gap_policy", int(req.GetGapPolicy()), "CONTINUE or FAIL")
	}
	if h := req.GetHeartbeatInterval(); h != nil {
		if h.CheckValid() != nil || h.AsDuration() < minHeartbeat || h.AsDuration() > maxHeartbeat {
			return nil, badField(ReasonBadField, "heartbeat_interval", h.AsDuration().String(), "1s to 5m")
		}
		w.heartbeat = h.AsDuration()
	}
	if w.maxBatch > maxWatchMax {
		return nil, badNumber("max_batch", req.GetMaxBatch(), "1 to 1000, or 0 for 100")
	}
	if w.maxBatch == 0 {
		w.maxBatch = defaultWatchMax
	}
	if s := req.GetSubscriber(); s != "" {
		if err := checkName("subscriber", s, maxSubscriberID); err != nil {
			return nil, err
		}
	}
	if w.reader, err = fs.start(ctx, req); err != nil {
		return nil, err
	}
	w.at = w.reader.Cursor()
	return w, nil
}

// start finds the place to read from.
func (fs *feedService) start(ctx context.Context, req *whorlv1.WatchRequest) (*feed.Reader, error) {
	switch s := req.GetStart().(type) {
	case *whorlv1.WatchRequest_AfterCursor:
		bad := func() error {
			return badField(ReasonBadCursor, "after_cursor", s.AfterCursor, "a cursor this feed gave out, such as "+fs.journal.Newest().String())
		}
		c, err := feed.ParseGiven(s.AfterCursor)
		if err != nil {
			return nil, bad()
		}
		r, err := fs.journal.ReadAfter(c)
		if err != nil {
			return nil, bad()
		}
		return r, nil
	case *whorlv1.WatchRequest_Since:
		if s.Since.CheckValid() != nil {
			return nil, badField(ReasonBadField, "since", s.Since.String(), "a time")
		}
		return fs.journal.ReadSince(ctx, s.Since.AsTime().UnixNano())
	case *whorlv1.WatchRequest_FromOldest:
		if s.FromOldest {
			return fs.journal.ReadOldest(), nil
		}
	case *whorlv1.WatchRequest_Last:
		return fs.journal.ReadLast(s.Last), nil
	}
	return fs.journal.ReadNow(), nil
}
