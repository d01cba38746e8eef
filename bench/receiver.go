package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// depth is how much a receiver does with a batch.
type depth uint8

const (
	receiveOnly depth = iota
	receiveDecode
	receiveTrack
)

// receiver is a collector cut off behind a stage: it takes the streams of
// Reporters and acknowledges.
type receiver struct {
	whorlv1.UnimplementedIngestServiceServer
	depth   depth
	tracker *tracker.Tracker
	free    sync.Pool // of *flow.Batch
}

// ackEvery is how many batches one Ack stands for; window is how many may be
// under way, as many as a collector allows.
const (
	ackEvery = 8
	window   = 64
)

// serveFrames is a receiver in a process of its own.
func serveFrames(d depth) error {
	r := &receiver{depth: d, free: sync.Pool{New: func() any { return new(flow.Batch) }}}
	if d == receiveTrack {
		var err error
		if r.tracker, err = tracker.New(tracker.Config{MaxConnections: trackedConnections}); err != nil {
			return err
		}
		go r.tracker.Run(context.Background())
	}
	return serve(func(s *grpc.Server) { whorlv1.RegisterIngestServiceServer(s, r) }, rpc.ServerConfig{
		Codec: wire.Codec{}, Quiet: []string{whorlv1.IngestService_Ingest_FullMethodName},
	})
}

// trackedConnections is what a default collector holds.
const trackedConnections = 1_000_000

// serve serves until the parent is gone.
func serve(register func(*grpc.Server), cfg rpc.ServerConfig) error {
	l, err := onLoopback()
	if err != nil {
		return err
	}
	s := rpc.NewServer(cfg)
	register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	ready(l.Addr().String())
	s.Stop()
	return <-served
}

// Ingest takes one session. What the collector's does beside, it leaves out:
// names, order, the log.
func (r *receiver) Ingest(g grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse]) error {
	var (
		frame   wire.Frame
		last    uint64
		pending sync.WaitGroup
	)
	ack := func() error {
		return g.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Ack{Ack: &whorlv1.Ack{
			AppliedSequence: last, DurableSequence: last, MaxUnackedBatches: window,
		}}})
	}
	for {
		err := g.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		batch, other, err := wire.SplitIngest(frame.Data)
		switch {
		case err != nil:
			return err
		case batch != nil:
			last++
			if err := r.take(g.Context(), batch, &pending); err != nil {
				return fmt.Errorf("batch %d: %w", last, err)
			}
			if last%ackEvery == 0 {
				if err := ack(); err != nil {
					return err
				}
			}
		case other.GetHello() != nil:
			err := g.Send(&whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Welcome{Welcome: &whorlv1.Welcome{
				CollectorId: "bench", MaxUnackedBatches: window,
			}}})
			if err != nil {
				return err
			}
		case other.GetFinish() != nil:
			pending.Wait()
			return ack()
		}
	}
}

// take does with a batch what the receiver's depth says.
func (r *receiver) take(ctx context.Context, p []byte, pending *sync.WaitGroup) error {
	if r.depth == receiveOnly {
		return nil
	}
	b := r.free.Get().(*flow.Batch)
	if err := wire.DecodeBatch(p, b); err != nil {
		return err
	}
	if r.depth == receiveDecode {
		r.free.Put(b)
		return nil
	}
	pending.Add(1)
	return r.tracker.Submit(ctx, tracker.Entry{LogTime: time.Now().UnixNano()}, tracker.Origin{}, b, func() {
		r.free.Put(b)
		pending.Done()
	})
}
