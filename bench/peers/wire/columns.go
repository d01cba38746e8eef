package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

const columnsMethod = "/whorl.bench.Columns/Send"

// serveColumns takes batches as a collector does, with the tracking or without.
func serveColumns(track bool) func(*grpc.Server) error {
	return func(s *grpc.Server) error {
		var t *tracker.Tracker
		if track {
			var err error
			if t, err = tracker.New(tracker.Config{}); err != nil {
				return err
			}
			go t.Run(context.Background())
		}
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: "whorl.bench.Columns", HandlerType: (*any)(nil),
			Streams: []grpc.StreamDesc{{StreamName: "Send", ClientStreams: true, Handler: func(_ any, g grpc.ServerStream) error {
				return takeColumns(g, t)
			}}},
		}, struct{}{})
		return nil
	}
}

func takeColumns(g grpc.ServerStream, t *tracker.Tracker) error {
	free := sync.Pool{New: func() any { return new(flow.Batch) }}
	var frame wire.Frame
	var pending sync.WaitGroup
	for {
		err := g.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			pending.Wait()
			return g.SendMsg(&whorlv1.PushResponse{})
		}
		if err != nil {
			return err
		}
		p, _, err := wire.SplitIngest(frame.Data)
		if err != nil {
			return err
		}
		b := free.Get().(*flow.Batch)
		if err := wire.DecodeBatch(p, b); err != nil {
			return err
		}
		if t == nil {
			free.Put(b)
			continue
		}
		pending.Add(1)
		err = t.Submit(g.Context(), tracker.Entry{LogTime: time.Now().UnixNano()}, tracker.Origin{}, b, func() {
			free.Put(b)
			pending.Done()
		})
		if err != nil {
			return err
		}
	}
}

func sendColumns(ctx context.Context, conn *grpc.ClientConn, batches []*flow.Batch) error {
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, columnsMethod, grpc.ForceCodecV2(wire.Codec{}))
	if err != nil {
		return err
	}
	for _, b := range batches {
		body := wire.AppendBatch(nil, b)
		if err := st.SendMsg(wire.Pieces{wire.AppendIngestHeader(nil, len(body)), body}); err != nil {
			return err
		}
	}
	if err := st.CloseSend(); err != nil {
		return err
	}
	return st.RecvMsg(&whorlv1.PushResponse{})
}
