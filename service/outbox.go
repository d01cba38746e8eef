package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// errStalled says that a subscriber has read nothing for stalledAfter.
var errStalled = errors.New("subscriber reads nothing")

// outbox sends the messages of one subscriber from a goroutine of its own, so
// that the handler can give up on a Send that stands still: only the end of the
// handler interrupts it. It holds one message at a time.
type outbox struct {
	messages chan wire.Pieces
	ended    chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // guards the fields below
	started time.Time  // of the Send that stands, zero when none does
	err     error      // of the Send that failed
}

// newOutbox starts the goroutine; senders is told when it ends. It ends after
// close, after an error, or when ctx does.
func newOutbox(ctx context.Context, out grpc.ServerStreamingServer[whorlv1.WatchResponse], senders *sync.WaitGroup) *outbox {
	o := &outbox{messages: make(chan wire.Pieces), ended: make(chan struct{})}
	senders.Go(func() {
		defer close(o.ended)
		for {
			select {
			case m, ok := <-o.messages:
				if !ok {
					return
				}
				o.begin()
				if err := o.end(out.SendMsg(m)); err != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return o
}

func (o *outbox) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.started = time.Now()
}

func (o *outbox) end(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.started, o.err = time.Time{}, err
	return err
}

// patience is how long the Send of now may go on standing.
func (o *outbox) patience() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started.IsZero() {
		return stalledAfter
	}
	return stalledAfter - time.Since(o.started)
}

// send hands m over once the message before it is on its way. It returns
// errStalled when that one stands still for stalledAfter.
func (o *outbox) send(ctx context.Context, m wire.Pieces) error {
	timer := time.NewTimer(o.patience())
	defer timer.Stop()
	select {
	case o.messages <- m:
		return nil
	case <-o.ended:
		return o.failure(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errStalled
	}
}

// close waits until the last message is on its way.
func (o *outbox) close(ctx context.Context) error {
	timer := time.NewTimer(o.patience())
	defer timer.Stop()
	close(o.messages)
	select {
	case <-o.ended:
		return o.failure(ctx)
	case <-timer.C:
		return errStalled
	}
}

// failure says why the goroutine has ended: nil after close.
func (o *outbox) failure(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	return context.Cause(ctx)
}
