package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// inboxFrames is how many messages of a stream are in memory: one is handled
// while the next is received.
const inboxFrames = 2

// maxControlBytes bounds a message that is not a batch: the largest hello within
// the limits of its fields.
const maxControlBytes = 32 << 10

// inbox is what a stream has received and its handler has not taken.
type inbox struct {
	messages chan message
	free     chan *wire.Frame
}

// message is a received message, or the error that ended receiving (io.EOF when
// the probe closed its side).
type message struct {
	frame *wire.Frame
	err   error
}

// receive starts the goroutine that receives from g. It lives in a goroutine of
// its own because only the end of the handler can interrupt a receive: the
// handler must be free to return at any time.
func (in *ingestService) receive(ctx context.Context, g ingestServerStream) *inbox {
	b := &inbox{messages: make(chan message), free: make(chan *wire.Frame, inboxFrames)}
	for range inboxFrames {
		b.free <- new(wire.Frame)
	}
	in.receivers.Go(func() {
		for {
			var m message
			select {
			case m.frame = <-b.free:
			case <-ctx.Done():
				return
			}
			m.err = g.RecvMsg(m.frame)
			select {
			case b.messages <- m:
			case <-ctx.Done():
				return
			}
			if m.err != nil {
				return
			}
		}
	})
	return b
}

// release lets the memory of m be used for another message.
func (b *inbox) release(m message) { b.free <- m.frame }

// awaitHello takes the first message, which must be a Hello.
func awaitHello(ctx context.Context, b *inbox) (*whorlv1.Hello, error) {
	timer := time.NewTimer(helloWithin)
	defer timer.Stop()
	select {
	case m := <-b.messages:
		defer b.release(m)
		if m.err != nil {
			if errors.Is(m.err, io.EOF) {
				return nil, failure(codes.InvalidArgument, ReasonBadMessage, "message: the stream was closed before a hello")
			}
			return nil, m.err
		}
		if len(m.frame.Data) > maxControlBytes {
			return nil, badLength("hello", len(m.frame.Data), fmt.Sprintf("at most %d bytes", maxControlBytes))
		}
		_, other, err := wire.SplitIngest(m.frame.Data)
		if err != nil {
			return nil, failure(codes.InvalidArgument, ReasonBadMessage, err.Error())
		}
		if other.GetHello() == nil {
			return nil, failure(codes.InvalidArgument, ReasonBadMessage, "message: the first on a stream must be a hello")
		}
		// It is kept for as long as the probe is remembered.
		other.GetHello().ProtoReflect().SetUnknown(nil)
		return other.GetHello(), nil
	case <-timer.C:
		return nil, failure(codes.DeadlineExceeded, ReasonBadMessage, "no hello within "+helloWithin.String())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
