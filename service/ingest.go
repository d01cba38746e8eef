package service

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/planted"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

const (
	// helloWithin is how long a stream may take to say who it is.
	helloWithin = 10 * time.Second
	// lastAckWithin bounds the time for the last Ack of a stream that ends.
	lastAckWithin = 2 * time.Second
)

// ingestService takes batches. It validates and decodes each once, appends it to
// the log, and acknowledges what the applier has done with it.
type ingestService struct {
	whorlv1.UnimplementedIngestServiceServer

	collectorID, epoch string
	durable            bool
	noJA4Plus          bool
	log                log.Log
	registry           *registry
	sessions           *sessions
	names              *names
	counters           *counters
	batches            *batchPool
	notices            *notices
	condition          *condition
	journal            *feed.Journal
	// receivers are the goroutines that receive or send for streams; they end
	// soon after the handlers do.
	receivers *sync.WaitGroup
	// applierEnded is closed when nothing will be applied any more.
	applierEnded <-chan struct{}
}

type ingestServerStream = grpc.BidiStreamingServer[whorlv1.IngestRequest, whorlv1.IngestResponse]

// Ingest serves one probe session.
func (in *ingestService) Ingest(g ingestServerStream) error {
	ctx, cancel := context.WithCancelCause(g.Context())
	defer cancel(nil)
	inbox := in.receive(ctx, g)

	hello, err := awaitHello(ctx, inbox)
	if err != nil {
		return err
	}
	session, err := checkHello(hello)
	if err != nil {
		return err
	}
	if err := checkIdentity(ctx, "hello.probe_id", session.Probe); err != nil {
		return err
	}
	if in.condition.refusing() != nil {
		return errUnwritable()
	}
	s := newStream(session, in.durable, cancel)
	if err := in.registry.claim(ctx, s, hello); err != nil {
		return err
	}
	defer in.depart(s)
	// Only who has a place takes names: they are few, and never given back.
	if err := in.names.admit(session.Network, session.Probe); err != nil {
		return err
	}

	err = in.serve(ctx, s, hello, inbox, g)
	in.notices.log(ctx, slog.LevelInfo, "probe gone",
		slog.String("probe", session.Probe), slog.String("network", session.Network),
		slog.String("peer", peerOf(ctx)), slog.String("how", s.ended(err)), slog.Any("err", err))
	return err
}

// serve runs a stream that has its place. When it returns, what it admitted is
// applied, and what it started has ended but for goroutines that only the end of
// the handler can interrupt: the collector waits for those.
func (in *ingestService) serve(ctx context.Context, s *stream, hello *whorlv1.Hello, inbox *inbox, g ingestServerStream) error {
	packets, lost := in.sessions.counts(keyOf(s.session))
	if err := in.resume(ctx, s, hello); err != nil {
		return err
	}
	in.registry.resumed(s, packets, lost)
	welcome := in.welcome(s)
	in.notices.log(ctx, slog.LevelInfo, "probe connected",
		slog.String("probe", s.session.Probe), slog.String("network", s.session.Network),
		slog.String("kind", kindOf(s.session)), slog.String("peer", peerOf(ctx)), slog.Uint64("applied", s.admitted))

	sendCtx, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	sent := make(chan struct{})
	in.receivers.Go(func() {
		defer close(sent)
		s.send(sendCtx, welcome, g.Send)
	})
	err := in.read(ctx, s, inbox)
	if reasonOf(err) == ReasonLogUnwritable || errors.Is(err, log.ErrUnavailable) {
		return err
	}
	in.settle(s)
	if err == nil || reasonOf(err) == ReasonDraining {
		s.sayGoodbye(sent)
	}
	return err
}

// depart gives the place of s back once all that it admitted is applied: whoever
// takes the place must find it so. While the log cannot be written that may take
// long, and the probe is not kept waiting for it.
func (in *ingestService) depart(s *stream) {
	leave := func() {
		in.settle(s)
		in.registry.leave(s)
	}
	if in.condition.refusing() == nil {
		leave()
		return
	}
	in.receivers.Go(leave)
}

// settle waits until all that s admitted is applied. The applier gets there: it
// ends after the streams, or in a failure that ends the collector.
func (in *ingestService) settle(s *stream) {
	for !s.settled() {
		select {
		case <-s.progress:
		case <-in.applierEnded:
			return
		}
	}
}

// sayGoodbye has the last Ack sent, if the probe reads it within lastAckWithin.
// sent is closed when the sender has ended.
func (s *stream) sayGoodbye(sent <-chan struct{}) {
	timer := time.NewTimer(lastAckWithin)
	defer timer.Stop()
	select {
	case s.answers <- nil:
	case <-sent:
		return
	case <-timer.C:
		return
	}
	select {
	case <-sent:
	case <-timer.C:
	}
}

// resume finds out where the session stands.
func (in *ingestService) resume(ctx context.Context, s *stream, hello *whorlv1.Hello) error {
	last, known := in.sessions.last(keyOf(s.session))
	if planted.NoDedupe {
		last, known = 0, false
	}
	oldest := hello.GetOldestSequence()
	if !known {
		in.notices.log(ctx, slog.LevelInfo, "new session",
			slog.String("probe", s.session.Probe), slog.String("network", s.session.Network),
			slog.String("session", hex.EncodeToString(s.session.ID[:])), slog.Uint64("first", max(oldest, 1)))
	}
	if oldest <= last+1 {
		s.startAt(last)
		return nil
	}
	if !known {
		// A session from before this collector's memory: what came before
		// oldest was acknowledged by an earlier life of it.
		s.startAt(oldest - 1)
		return nil
	}
	// The probe says it has given up batches that were never applied, and has no
	// Lost record for them. They are counted, and the numbering moves on.
	s.startAt(last)
	in.counters.batchesMissing.Add(oldest - 1 - last)
	in.notices.log(ctx, slog.LevelWarn, "probe no longer has batches that were never applied",
		slog.String("probe", s.session.Probe), slog.Uint64("first", last+1), slog.Uint64("last", oldest-1))
	b := in.batches.get()
	b.Sequence = last + 1
	b.Lost = &flow.Lost{FirstSequence: last + 1, LastSequence: oldest - 1, Reason: "missing"}
	return in.append(ctx, s, b, nil, 0)
}

func (in *ingestService) welcome(s *stream) *whorlv1.IngestResponse {
	ack := s.ack()
	return &whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Welcome{Welcome: &whorlv1.Welcome{
		CollectorId: in.collectorID, CollectorEpoch: in.epoch,
		// What resume appended is on its way and will be counted.
		AppliedSequence: max(ack.GetAppliedSequence(), s.admitted), DurableSequence: ack.GetDurableSequence(),
		MaxUnackedBatches: maxUnackedBatches, MaxUnackedBytes: maxUnackedBytes, MaxBatchBytes: maxBatchBytes,
		CollectorTime: timestamppb.Now(), RefusedTypes: in.refusedTypes(),
	}}}
}

// read takes messages until the probe has finished (nil), the stream is ended
// (its cause), or something is wrong with it.
func (in *ingestService) read(ctx context.Context, s *stream, inbox *inbox) error {
	for {
		// Backpressure: what is not taken from the inbox is not received, and
		// the window of HTTP/2 stops the probe.
		messages := inbox.messages
		full := s.full()
		if full {
			messages = nil
		}
		s.busy.Store(full)
		select {
		case m := <-messages:
			s.busy.Store(true)
			finished, err := in.message(ctx, s, m)
			in.registry.heard(s)
			inbox.release(m)
			if finished || err != nil {
				return err
			}
		case <-s.progress:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// message handles one message; finished says that it was the last.
func (in *ingestService) message(ctx context.Context, s *stream, m message) (finished bool, err error) {
	if errors.Is(m.err, io.EOF) {
		return true, nil // closed without Finish: as good, without a flush
	}
	if m.err != nil {
		return false, m.err
	}
	batch, other, err := wire.SplitIngest(m.frame.Data)
	if err != nil {
		in.counters.streamsBroken.Add(1)
		return false, failure(codes.InvalidArgument, ReasonBadMessage, err.Error())
	}
	if batch != nil {
		return false, in.batch(ctx, s, batch)
	}
	switch {
	case other.GetReport() != nil:
		if len(m.frame.Data) > maxControlBytes {
			return false, badLength("report", len(m.frame.Data), "at most 32768 bytes")
		}
		other.GetReport().ProtoReflect().SetUnknown(nil) // it is kept
		in.registry.reported(s, other.GetReport())
		return false, nil
	case other.GetFinish() != nil:
		err := in.finish(ctx, s, other.GetFinish().GetFlush())
		s.finished = err == nil
		return true, err
	case other.GetHello() != nil:
		in.counters.streamsBroken.Add(1)
		return false, failure(codes.InvalidArgument, ReasonBadMessage, "hello: sent twice on one stream")
	}
	in.counters.streamsBroken.Add(1)
	return false, failure(codes.InvalidArgument, ReasonBadMessage, "message: empty, or of a kind this collector does not know")
}

// finish closes the session in the log and, when asked, has its connections
// evicted first. It returns when that is applied.
func (in *ingestService) finish(ctx context.Context, s *stream, flush bool) error {
	done := make(chan struct{})
	now := time.Now().UnixNano()
	var records []log.Record
	if flush {
		records = append(records, log.Record{LogTime: now, Kind: log.KindFlush, Session: s.session})
	}
	records = append(records, log.Record{
		LogTime: now, Kind: log.KindClose, Session: s.session,
		Note: &ticket{applied: func(applied) { close(done) }},
	})
	if _, err := in.log.Submit(ctx, nil, records...); err != nil {
		return err
	}
	select {
	case <-done:
		if flush { // who looks into the feed now is to find what was evicted
			return in.journal.WaitDurable(ctx, uint64(records[0].Position))
		}
		return nil
	case <-in.applierEnded:
		return errDraining()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
