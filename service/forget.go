package service

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// ForgetFingerprints makes what matches new again or, without confirm, counts it.
// What is forgotten stays so: it has its place in the log, and a replay forgets
// there too.
func (ss *statusService) ForgetFingerprints(ctx context.Context, req *whorlv1.ForgetFingerprintsRequest) (*whorlv1.ForgetFingerprintsResponse, error) {
	k := ss.c.knowledge
	if k == nil {
		return nil, errNothingKnown()
	}
	if req.GetType() == "" && len(req.GetPattern()) == 0 {
		return nil, badField(ReasonBadField, "pattern", "", `given, nor is type: the pattern "*" stands for all`)
	}
	patterns, err := inventoryPatterns(req)
	if err != nil {
		return nil, err
	}
	req = &whorlv1.ForgetFingerprintsRequest{Type: req.GetType(), Pattern: patterns, Network: req.GetNetwork(), Confirm: req.GetConfirm()}
	match, err := inventoryMatch(req)
	if err != nil {
		return nil, err
	}
	if !req.GetConfirm() {
		return &whorlv1.ForgetFingerprintsResponse{Matched: uint64(k.analyst.Matching(match))}, nil
	}
	if err := ss.c.registry.refuses(); err != nil {
		return nil, err
	}
	forgotten, err := ss.forget(ctx, req)
	if err != nil {
		return nil, err
	}
	return &whorlv1.ForgetFingerprintsResponse{Matched: uint64(forgotten)}, nil
}

// forget appends the request to the log and waits until it is on the disk and
// applied.
func (ss *statusService) forget(ctx context.Context, req *whorlv1.ForgetFingerprintsRequest) (int, error) {
	data, err := proto.Marshal(req)
	if err != nil {
		return 0, err
	}
	done := make(chan applied, 1)
	record := log.Record{
		LogTime: time.Now().UnixNano(), Kind: log.KindForget, Data: data,
		Note: &ticket{applied: func(result applied) { done <- result }},
	}
	// A reader is given what is safe only, so what is applied is safe.
	if _, err := ss.c.log.Submit(ctx, nil, record); err != nil {
		return 0, err
	}
	select {
	case result := <-done:
		return result.forgotten, nil
	case <-ss.c.applierEnded:
		return 0, errStopping
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// applyForget forgets what the record says when all before it has been looked at
// and nothing behind it.
func (a *applier) applyForget(ctx context.Context, r *log.Record, t *ticket) error {
	if a.knowledge == nil {
		a.skip(r, t, applied{}) // of a life that knew something
		return nil
	}
	var req whorlv1.ForgetFingerprintsRequest
	if err := proto.Unmarshal(r.Data, &req); err != nil {
		return fmt.Errorf("forget request: %w", err)
	}
	match, err := inventoryMatch(&req)
	if err != nil {
		return fmt.Errorf("forget request: %w", err)
	}
	result := &applied{}
	c := a.begin(r, t, result)
	position := uint64(r.Position)
	return a.tracker.Sync(ctx, func() {
		result.forgotten = a.knowledge.analyst.Forget(position, match)
		a.pending.end(c)
	})
}
