package service

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// trackerService answers questions about the live connections. It holds no
// state of its own but the key of its page tokens.
type trackerService struct {
	whorlv1.UnimplementedTrackerServiceServer

	tracker   *tracker.Tracker
	journal   *feed.Journal
	knowledge *knowledge
	counters  *counters
	tokens    *tokens
}

func newTrackerService(t *tracker.Tracker, j *feed.Journal, k *knowledge, c *counters) *trackerService {
	return &trackerService{tracker: t, journal: j, knowledge: k, counters: c, tokens: newTokens(j.Epoch())}
}

// Get returns one live connection.
func (ts *trackerService) Get(_ context.Context, req *whorlv1.GetRequest) (*whorlv1.GetResponse, error) {
	p, err := projection(req)
	if err != nil {
		return nil, err
	}
	var s tracker.Snapshot
	switch target := req.GetTarget().(type) {
	case *whorlv1.GetRequest_Uid:
		uid, err := tracker.ParseUID(target.Uid)
		if err != nil {
			return nil, badField(ReasonBadID, "uid", target.Uid, fmt.Sprintf("a uid of %d characters", tracker.UIDLen))
		}
		if !ts.tracker.GetUID(uid, p.Detail(), &s) {
			return nil, failure(codes.NotFound, ReasonNotTracked, fmt.Sprintf("connection %s is not tracked now", target.Uid))
		}
	case *whorlv1.GetRequest_Id:
		key, network, err := flow.ParseID(target.Id)
		if err != nil {
			return nil, badField(ReasonBadID, "id", target.Id, "a connection id such as tcp/10.0.0.5:51234-93.184.216.34:443")
		}
		if !ts.tracker.Get(key, network, p.Detail(), &s) {
			return nil, ts.notTracked(key, network)
		}
	case *whorlv1.GetRequest_Tuple:
		tuple, err := parseTuple("tuple.", target.Tuple)
		if err != nil {
			return nil, err
		}
		network := networkOf(target.Tuple.GetNetwork())
		if err := flow.CheckNetwork(network); err != nil {
			return nil, badField(ReasonBadField, "tuple.network", network, "1 to 63 letters, digits, dots, dashes or underscores")
		}
		key, _ := tuple.Key()
		if !ts.tracker.Get(key, network, p.Detail(), &s) {
			return nil, ts.notTracked(key, network)
		}
	default:
		return nil, badField(ReasonBadField, "target", "", "one of id, uid or tuple")
	}
	resp := &whorlv1.GetResponse{}
	wire.SetField1(resp, p.AppendConnectionFrame(nil, &s))
	return resp, nil
}

// notTracked says that a connection is not there, and what the feed knows of its
// last eviction.
func (ts *trackerService) notTracked(key flow.Key, network string) error {
	message := fmt.Sprintf("connection %s is not tracked now", key.ID(network))
	sequence, event, ok := ts.journal.Recent(&key, network)
	if !ok {
		return failure(codes.NotFound, ReasonNotTracked, message)
	}
	var e tracker.Eviction
	if _, err := wire.DecodeEviction(event, tracker.Bare, &e); err != nil {
		return failure(codes.NotFound, ReasonNotTracked, message)
	}
	// Hashes can collide: another connection's eviction is no answer.
	if e.Connection.Key != key || networkOf(e.Connection.Network) != network {
		return failure(codes.NotFound, ReasonNotTracked, message)
	}
	at := feed.Cursor{Epoch: ts.journal.Epoch(), Sequence: sequence}
	before := feed.Cursor{Epoch: at.Epoch, Sequence: sequence - 1}
	evicted := time.Unix(0, e.EvictedAt).UTC().Format(time.RFC3339Nano)
	return failure(codes.NotFound, ReasonNotTracked,
		fmt.Sprintf("%s: it was evicted at %s (%v), feed cursor %s", message, evicted, e.Cause, at),
		"evicted_cursor", at.String(), "watch_after_cursor", before.String(),
		"evicted_sequence", strconv.FormatUint(sequence, 10), "evicted_at", evicted, "cause", e.Cause.String())
}

// Count says how many connections match.
func (ts *trackerService) Count(ctx context.Context, req *whorlv1.CountRequest) (*whorlv1.CountResponse, error) {
	now := time.Now()
	f, err := compileFilter(req, filter.Source{Now: now.UnixNano(), Rules: ts.knowledge.ruleIDs()})
	if err != nil {
		return nil, badFilter(err)
	}
	groups, err := newGrouping(req)
	if err != nil {
		return nil, err
	}
	resp := &whorlv1.CountResponse{AsOf: timestamppb.New(now)}
	if groups == nil {
		resp.Count, err = countMatching(ctx, ts.tracker, f)
		return resp, err
	}
	if resp.Count, err = groups.count(ctx, ts.tracker, f); err != nil {
		return nil, err
	}
	resp.Groups, resp.OtherGroups = groups.top()
	return resp, nil
}
