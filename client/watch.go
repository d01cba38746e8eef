package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Event is one step of a watch: an eviction, a discovery, a gap, or, with none
// of them, a heartbeat.
type Event struct {
	// Eviction is a connection that left the table; nil otherwise.
	Eviction *whorlv1.Eviction
	// Discovery is something found out later about a connection; nil otherwise.
	Discovery *whorlv1.Discovery
	// Gap says what was lost before the events that follow; nil otherwise.
	Gap *whorlv1.Gap
	// Cursor is where to resume once this event is handled: what follows is the
	// next event, nothing twice and nothing missing. At most 64 bytes.
	Cursor string
	// ServerTime and Backlog (events between Cursor and the newest) are those
	// of the message the event came in.
	ServerTime time.Time
	Backlog    uint64
	// Last says that no event of the same message follows: a good moment to
	// flush what was made of the events before, and to store Cursor.
	Last bool
}

// Heartbeat reports whether e is neither an eviction nor a discovery nor a gap.
func (e *Event) Heartbeat() bool { return e.Eviction == nil && e.Discovery == nil && e.Gap == nil }

// WatchOption changes how a watch behaves.
type WatchOption func(*watchOptions)

type watchOptions struct {
	heartbeats bool
	noResume   bool
	onResume   func(err error, wait time.Duration)
}

// WithHeartbeats yields heartbeats too. They carry a cursor, which moves past
// what a filter leaves out.
func WithHeartbeats() WatchOption { return func(o *watchOptions) { o.heartbeats = true } }

// WithoutResume ends the watch with an error when the stream is cut.
func WithoutResume() WatchOption { return func(o *watchOptions) { o.noResume = true } }

// WithResumeNotice calls f before each wait that precedes a resumption, with
// what cut the stream. It is called from the goroutine that ranges.
func WithResumeNotice(f func(err error, wait time.Duration)) WatchOption {
	return func(o *watchOptions) { o.onResume = f }
}

// Watch follows the feed of evicted connections, from where req says.
//
// Without a start position the watch begins behind the newest eviction there is
// at the call: the collector is asked for that cursor first, so that nothing is
// missed if the stream is cut before its first message.
//
// Once the collector has accepted the watch, it survives: when the stream is cut,
// ends without reason, or falls silent for more than two heartbeat intervals,
// it resumes from its own cursor after a jittered wait of 100 ms to 5 s, for as
// long as it takes. Evictions that were lost meanwhile come as one event with a
// Gap, whose count is exact. Before that an error ends it.
//
// The sequence of each eviction and discovery is checked: without a filter it follows the one
// before or a gap, with a filter it rises. Anything else ends the watch with a
// *SequenceError.
//
// The watch ends without error when req.Limit of them came, or with NoFollow
// when it has caught up; otherwise its last element is an error: the cause of
// ctx, or a status for which resuming is no help (a bad filter, no permission,
// OutOfRange under GAP_POLICY_FAIL). req is not changed. While the caller holds
// an event the feed waits in the network; a caller slower than the feed for
// long gets a Gap, never a growing queue.
func (c *Client) Watch(ctx context.Context, req *whorlv1.WatchRequest, opts ...WatchOption) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{client: c, req: proto.CloneOf(req), yield: yield}
		for _, opt := range opts {
			opt(&w.opts)
		}
		w.order, w.limit = newFeedOrder(req), req.GetLimit() > 0
		if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(Event{}, err)
		}
	}
}

// errStopped says that the caller of a watch wants no more, or has all of it.
var errStopped = errors.New("nothing more is wanted")

// errSilent is the cause of a stream that was given up for silence.
var errSilent = errors.New("nothing heard for more than two heartbeat intervals")

// watch is one call of Watch.
type watch struct {
	client *Client
	req    *whorlv1.WatchRequest // moves on: start and limit are those of the next stream
	opts   watchOptions
	yield  func(Event, error) bool
	order  feedOrder
	limit  bool // the caller asked for a limit; req.Limit is what is left of it
	heard  bool // the collector accepted a stream at least once
	wait   backoff
}

// run goes through as many streams as it takes.
func (w *watch) run(ctx context.Context) error {
	if err := w.startNow(ctx); err != nil {
		return err
	}
	for {
		err := w.stream(ctx)
		switch {
		case err == nil, errors.Is(err, errStopped):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !w.heard, w.opts.noResume, !transient(err):
			return err
		}
		d := w.wait.delay()
		if w.opts.onResume != nil {
			w.opts.onResume(err, d)
		}
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// startNow makes a watch without a start position begin behind the newest
// eviction of now. A collector that does not say where that is, because the
// caller may not ask or it does not know the call, is asked to start anywhere.
func (w *watch) startNow(ctx context.Context) error {
	if w.req.GetStart() != nil {
		return nil
	}
	state, err := w.client.Status(ctx, &whorlv1.GetStatusRequest{})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case transient(err):
		return err
	}
	w.resumeAt(state.GetFeed().GetNewestCursor())
	w.order = newFeedOrder(w.req)
	return nil
}

// stream runs one stream to its end. nil says that the watch is complete.
func (w *watch) stream(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := w.client.feed.Watch(ctx, w.req)
	if err != nil {
		return w.client.callError(err)
	}
	silence := time.AfterFunc(w.patience(), func() { cancel(errSilent) })
	defer silence.Stop()
	// The header comes when the watch is accepted, perhaps long before the
	// first message. Without one Recv has the reason.
	if header, err := stream.Header(); err == nil && header != nil {
		w.heard = true
		w.wait.reset()
	}
	for {
		resp, err := stream.Recv()
		silence.Stop() // while the caller works the clock stands
		switch {
		case ended(err) && w.req.GetNoFollow():
			return nil
		case ended(err):
			return streamErrorf(codes.Unavailable, "the collector ended the stream")
		case errors.Is(context.Cause(ctx), errSilent):
			return &DialError{Addr: w.client.addr, Err: errSilent}
		case err != nil:
			return w.client.callError(err)
		}
		w.heard = true
		w.wait.reset()
		if err := w.message(resp); err != nil {
			return err
		}
		silence.Reset(w.patience())
	}
}

func (w *watch) connect(ctx context.Context) error {
	ctx, cancel := w.client.bound(ctx)
	defer cancel()
	return w.client.connect(ctx)
}

// patience is how long a stream may be silent: two heartbeats and the time of a
// call, so that the first message has it too.
func (w *watch) patience() time.Duration {
	beat := 10 * time.Second
	if w.req.GetHeartbeatInterval() != nil {
		beat = min(max(w.req.GetHeartbeatInterval().AsDuration(), time.Second), 5*time.Minute)
	}
	return 2*beat + max(w.client.opts.timeout, 5*time.Second)
}

// message yields what a message holds, in order, and moves the request on
// behind each event.
func (w *watch) message(resp *whorlv1.WatchResponse) error {
	at := Event{ServerTime: resp.GetServerTime().AsTime(), Backlog: resp.GetBacklog()}
	if gap := resp.GetGap(); gap != nil {
		cursor, err := w.order.gap(gap, resp)
		if err != nil {
			return err
		}
		e := at
		e.Gap, e.Cursor, e.Last = gap, cursor, len(resp.GetEvictions())+len(resp.GetDiscoveries()) == 0
		if err := w.deliver(e); err != nil {
			return err
		}
	}
	evictions, discoveries := resp.GetEvictions(), resp.GetDiscoveries()
	told := len(evictions) + len(discoveries)
	for i := range told {
		e := at
		var sequence uint64
		if len(discoveries) == 0 || len(evictions) > 0 && evictions[0].GetSequence() < discoveries[0].GetSequence() {
			e.Eviction, sequence = evictions[0], evictions[0].GetSequence()
			evictions = evictions[1:]
		} else {
			e.Discovery, sequence = discoveries[0], discoveries[0].GetSequence()
			discoveries = discoveries[1:]
		}
		cursor, err := w.order.event(sequence, resp.GetCursor())
		if err != nil {
			return err
		}
		if e.Last = i == told-1; e.Last {
			cursor = resp.GetCursor()
		}
		e.Cursor = cursor
		if err := w.deliver(e); err != nil {
			return err
		}
	}
	if err := w.order.end(resp.GetCursor()); err != nil {
		return err
	}
	if told > 0 || resp.GetGap() != nil {
		return nil
	}
	at.Cursor, at.Last = resp.GetCursor(), true
	if !w.opts.heartbeats {
		w.resumeAt(at.Cursor)
		return nil
	}
	return w.deliver(at)
}

// deliver gives e to the caller. The request moves on behind it even if the
// caller stops there.
func (w *watch) deliver(e Event) error {
	w.resumeAt(e.Cursor)
	last := false
	if (e.Eviction != nil || e.Discovery != nil) && w.limit {
		w.req.Limit-- // never sent as 0, which would mean no limit
		last = w.req.GetLimit() == 0
	}
	if !w.yield(e, nil) || last {
		return errStopped
	}
	return nil
}

func (w *watch) resumeAt(cursor string) {
	if cursor != "" {
		w.req.Start = &whorlv1.WatchRequest_AfterCursor{AfterCursor: cursor}
	}
}

// transient reports whether a watch that failed with err may go well when it is
// tried again.
func transient(err error) bool {
	var broken *SequenceError
	if errors.As(err, &broken) {
		return false
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.OutOfRange,
		codes.Unimplemented, codes.NotFound, codes.FailedPrecondition, codes.AlreadyExists:
		return false
	}
	return true
}
