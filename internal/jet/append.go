package jet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// publishWithin bounds one append: a disk that is only slow gets this long.
	publishWithin = 30 * time.Second
	// slowAppend is when an append that is not answered is looked into: JetStream
	// does not answer a write that failed.
	slowAppend = 200 * time.Millisecond
)

// Append stores data as the next message and returns its number once it is
// synced to the disk. It takes at most MaxMessageBytes and keeps nothing of data.
//
// After an error the outcome may be unknown. Who calls again with the same data,
// and with no other, gets it stored once: what is there is looked up first.
func (s *Stream) Append(ctx context.Context, data []byte) (number uint64, err error) {
	if len(data) > MaxMessageBytes {
		return 0, fmt.Errorf("append to stream %s: message has %d bytes, want at most %d", s.name, len(data), MaxMessageBytes)
	}
	e, _, err := s.stream(ctx)
	if err != nil {
		return 0, fmt.Errorf("append to stream %s: %w", s.name, err)
	}
	if s.unsettled {
		// An engine whose write failed has the message in its memory, and perhaps
		// nowhere else: only one that was started again can say what there is.
		if sick := e.healthy(); sick != nil {
			s.server.mend(e, sick)
			return 0, fmt.Errorf("append to stream %s: %w", s.name, sick)
		}
		stored, err := s.settle(ctx, data)
		if err != nil {
			return 0, fmt.Errorf("append to stream %s: %w", s.name, err)
		}
		if stored {
			return s.last, nil
		}
	}
	s.unsettled = true
	number, err = s.publish(ctx, e, data)
	if err == nil {
		if number != s.last+1 {
			return 0, fmt.Errorf("append to stream %s: message %d came behind %d: %w", s.name, number, s.last, ErrConflict)
		}
		// It counts when the file system takes changes behind its sync.
		if err := s.beat(); err != nil {
			return 0, fmt.Errorf("append to stream %s: not sure that it was synced: %w", s.name, err)
		}
		s.last, s.unsettled = number, false
		return number, nil
	}
	return 0, fmt.Errorf("append to stream %s: %w", s.name, s.explain(ctx, e, data, err))
}

// publish sends data and waits for the answer, or for signs that none will come.
func (s *Stream) publish(ctx context.Context, e *engine, data []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop(nil)
	watching.Go(func() {
		for wait(ctx, slowAppend) == nil {
			if err := e.healthy(); err != nil {
				stop(err)
			}
		}
	})

	ack, err := e.js.PublishMsg(ctx, &nats.Msg{Subject: s.name, Data: data}, jetstream.WithExpectLastSequence(s.last))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, err
	}
	return ack.Sequence, nil
}

// explain says what a failed append means, and has the engine restarted when it
// will not write any more.
func (s *Stream) explain(ctx context.Context, e *engine, data []byte, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		if api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			return err // an earlier try arrived late: the next settles it
		}
		// The server answered, so nothing was stored.
		if state, failed := s.State(ctx); failed == nil && state.Bytes+int64(len(data))+headroom > state.MaxBytes {
			return fmt.Errorf("%w: it holds %d of %d bytes", ErrFull, state.Bytes, state.MaxBytes)
		}
		return err
	}
	if sick := e.healthy(); sick != nil || errors.Is(err, nats.ErrConnectionClosed) {
		if sick != nil {
			err = sick
		}
		s.server.mend(e, err)
	}
	return err
}

// settle finds out whether data, whose append was tried before, is stored.
func (s *Stream) settle(ctx context.Context, data []byte) (stored bool, err error) {
	state, err := s.State(ctx)
	if err != nil {
		return false, err
	}
	switch state.Last {
	case s.last:
		return false, nil
	case s.last + 1:
		m, err := s.Read(ctx, state.Last)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(m.Data, data) {
			return false, fmt.Errorf("message %d is not ours: %w", m.Number, ErrConflict)
		}
		// It was read, from the page cache perhaps: the sync that failed, or was not
		// waited for, is made up for before it counts.
		if err := s.server.syncBlocks(s.name, appendedIn); err != nil {
			return false, err
		}
		if err := s.beat(); err != nil {
			return false, fmt.Errorf("not sure that it was synced: %w", err)
		}
		s.last, s.unsettled = state.Last, false
		return true, nil
	}
	return false, fmt.Errorf("it ends with message %d, want %d: %w", state.Last, s.last, ErrConflict)
}
