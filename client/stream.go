package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/internal/wire"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// takenPatience is how long a reporter tries to get a probe id that another
// session holds: a collector lets go of one after 15 s of silence, so a probe
// that was killed and started again gets its name back in this time.
const takenPatience = 30 * time.Second

// maxDrainGrace bounds what a collector may ask a reporter to wait.
const maxDrainGrace = 30 * time.Second

var (
	errDrained  = errors.New("the collector asked to connect again")
	errStreamed = errors.New("the collector ended the stream")
	errNoAnswer = errors.New("no answer to the hello")
)

// window is what may be sent and not acknowledged as durable. The zero window
// is closed.
type window struct {
	batches int
	bytes   int // 0 is no limit
}

// Run keeps a stream to the collector until Finish is complete (nil) or ctx
// ends (its cause). It reconnects after a jittered wait of 100 ms to 5 s,
// whatever cut the stream, but returns what no retry can mend, see
// ReporterConfig.MustConnect too: a status of
// Unauthenticated, PermissionDenied, InvalidArgument, FailedPrecondition or
// Unimplemented, and AlreadyExists when another session holds the probe id for
// more than 30 s. Run must be called once; what it starts has ended when it
// returns.
//
// With a spool Run ends when what is held is on disk, or is counted as lost
// because it could not be written. It then also fails, with
// FailedPrecondition, when the collector knows more of the session than the
// spool.
func (r *Reporter) Run(ctx context.Context) error {
	stop := r.startSpilling()
	err := r.run(ctx)
	r.mu.Lock()
	r.ended, r.failure = true, err
	r.stats.Connected = false
	r.madeRoomLocked() // who waits for room hears that nothing more is taken
	r.mu.Unlock()
	stop()
	if failed := r.settleSpool(); failed != nil {
		err = errors.Join(err, failed)
		r.mu.Lock()
		r.failure = err
		r.mu.Unlock()
	}
	close(r.done)
	return err
}

func (r *Reporter) run(ctx context.Context) error {
	var (
		wait  backoff
		taken time.Time // when the probe id was first found taken
		begun = time.Now()
	)
	for {
		before, start := r.Stats(), time.Now()
		err := r.stream(ctx)
		patience, bounded := r.patience(begun)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case status.Code(err) == codes.AlreadyExists:
			if taken.IsZero() {
				taken = start
				r.lost()
				r.cfg.OnTaken(takenPatience)
			}
			if time.Since(taken) > takenPatience {
				return err
			}
		case permanent(err), bounded && (patience <= 0 || hopeless(err)):
			return err
		}
		switch after := r.Stats(); {
		case after.Durable > before.Durable || time.Since(start) > 2*maxBackoff:
			wait.reset()
			taken = time.Time{}
		case after.Connects > before.Connects, bounded: // somebody is there, or somebody waits
			wait.ease()
		}
		d := wait.delay()
		if bounded && patience > 0 {
			d = min(d, patience)
		}
		switch {
		case !r.lost():
		case bounded && r.cfg.OnWait != nil:
			r.cfg.OnWait(err, patience)
		default:
			r.log.Warn("no stream to the collector, trying again", "probe", r.cfg.ProbeID, "err", err)
		}
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// patience returns how much longer Run, which began then, tries to connect for
// the first time; not bounded is for as long as it takes.
func (r *Reporter) patience(begun time.Time) (left time.Duration, bounded bool) {
	if !r.cfg.MustConnect || r.Stats().Connects > 0 {
		return 0, false
	}
	return r.cfg.ConnectWithin - time.Since(begun), true
}

// lost notes that the collector is away and reports whether that is news.
func (r *Reporter) lost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.away.IsZero() {
		return false
	}
	r.away = time.Now()
	return true
}

// back tells who wants to know that the collector is there again.
func (r *Reporter) back() {
	r.mu.Lock()
	since := r.away
	r.away = time.Time{}
	r.mu.Unlock()
	if !since.IsZero() {
		r.cfg.OnBack(time.Since(since))
	}
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument,
		codes.FailedPrecondition, codes.Unimplemented:
		return true
	}
	return false
}

// ingestStream is the stream as a Reporter uses it: SendMsg takes wire.Pieces too.
type ingestStream = grpc.BidiStreamingClient[whorlv1.IngestRequest, whorlv1.IngestResponse]

// stream runs one stream to its end; nil says that Finish is complete. One
// goroutine receives, this one sends; when either ends so does the other.
func (r *Reporter) stream(ctx context.Context) error {
	if err := r.connect(ctx); err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	options := []grpc.CallOption{grpc.ForceCodecV2(wire.Codec{})}
	if r.cfg.Compress {
		options = append(options, grpc.UseCompressor(rpc.Zstd))
	}
	st, err := r.client.ingest.Ingest(ctx, options...)
	if err != nil {
		return r.client.callError(err)
	}
	if err := r.greet(ctx, st, cancel); err != nil {
		return err
	}
	defer r.parted()

	received := make(chan error, 1)
	go func() {
		err := r.receive(st)
		received <- err
		cancel(errStreamed) // ends the sender
	}()
	err = r.send(ctx, st)
	cancel(err) // ends the receiver, if the sender was first
	answer := <-received
	switch {
	case ended(answer) && r.finished():
		return nil
	case outer.Err() != nil:
		return context.Cause(outer)
	case errors.Is(err, errDrained):
		return err
	case ended(answer):
		return errStreamed
	case ended(err), errors.Is(err, errStreamed):
		return r.client.callError(answer)
	}
	return r.client.callError(err)
}

func (r *Reporter) connect(ctx context.Context) error {
	ctx, cancel := r.client.bound(ctx)
	defer cancel()
	return r.client.connect(ctx)
}

// greet says hello and takes the welcome.
func (r *Reporter) greet(ctx context.Context, st ingestStream, cancel context.CancelCauseFunc) error {
	if d := r.client.opts.timeout; d > 0 {
		timer := time.AfterFunc(d, func() { cancel(errNoAnswer) })
		defer timer.Stop()
	}
	hello := proto.CloneOf(r.hello)
	hello.ProbeTime = timestamppb.Now()
	r.mu.Lock()
	hello.OldestSequence = r.ring.oldest()
	r.mu.Unlock()
	// An error of Send is io.EOF: Recv has the reason.
	_ = st.SendMsg(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: hello}})
	resp, err := st.Recv()
	switch {
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return &DialError{Addr: r.client.addr, Err: errNoAnswer}
	case ended(err):
		return errStreamed
	case err != nil:
		return r.client.callError(err)
	}
	if resp.GetWelcome() == nil {
		return fmt.Errorf("collector %s: first answer is %T, want a welcome", r.client.addr, resp.GetMessage())
	}
	if err := r.welcomed(resp.GetWelcome()); err != nil {
		return err
	}
	r.back()
	r.tellRefused(resp.GetWelcome().GetRefusedTypes())
	return nil
}

// tellRefused says once that the collector does not keep everything.
func (r *Reporter) tellRefused(types []string) {
	r.mu.Lock()
	news := len(types) > 0 && !r.refused
	r.refused = r.refused || news
	r.mu.Unlock()
	if news {
		r.cfg.OnRefused(types)
	}
}

// welcomed goes back to where the collector is.
func (r *Reporter) welcomed(w *whorlv1.Welcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if counted := max(w.GetAppliedSequence(), w.GetDurableSequence()); r.spool != nil && counted >= r.ring.next {
		return streamErrorf(codes.FailedPrecondition,
			"spool %s: the collector has batches up to %d of this session, the spool knows of %d: it is an older copy of itself; move it away",
			r.spool.Dir(), counted, r.ring.next-1)
	}
	r.enterLocked(w.GetCollectorEpoch())
	r.ackedLocked(w.GetAppliedSequence(), w.GetDurableSequence())
	r.ring.rewind(max(w.GetAppliedSequence(), w.GetDurableSequence()))
	r.window = window{batches: int(w.GetMaxUnackedBatches()), bytes: int(w.GetMaxUnackedBytes())}
	r.drain = time.Time{}
	r.stats.Connects++
	r.stats.Connected = true
	r.log.Info("collector welcomes this probe", "probe", r.cfg.ProbeID, "network", r.cfg.Network,
		"collector", w.GetCollectorId(), "applied", w.GetAppliedSequence(), "held", r.ring.batches())
	return nil
}

// enterLocked notes the epoch of the collector. What one of an earlier epoch
// acknowledged is gone with its memory.
func (r *Reporter) enterLocked(epoch string) {
	forgotten := uint64(0)
	if r.epoch != "" && epoch != r.epoch {
		forgotten = r.stats.DurablePackets
	}
	r.epoch = epoch
	if forgotten == 0 {
		return
	}
	r.stats.DurablePackets = 0
	r.stats.ForgottenPackets += forgotten
	r.log.Warn("acknowledged packets died with the collector, which started anew", "probe", r.cfg.ProbeID,
		"packets", forgotten, "epoch", epoch)
}

// parted closes the window until the next welcome.
func (r *Reporter) parted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.window = window{}
	r.rhythm.idle()
	r.stats.Connected = false
}

// finished reports whether Finish was called and everything is acknowledged.
func (r *Reporter) finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.ring.next - 1
	return r.finish != nil && r.stats.Applied >= last && r.stats.Durable >= last
}

// receive takes answers until the stream ends, and returns its error.
func (r *Reporter) receive(st ingestStream) error {
	for {
		resp, err := st.Recv()
		if err != nil {
			return err
		}
		switch m := resp.GetMessage().(type) {
		case *whorlv1.IngestResponse_Ack:
			r.acked(m.Ack)
		case *whorlv1.IngestResponse_Reject:
			if err := r.rejected(m.Reject); err != nil {
				return err
			}
		case *whorlv1.IngestResponse_Drain:
			r.drained(m.Drain)
		}
		r.signal()
	}
}

func (r *Reporter) acked(a *whorlv1.Ack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ackedLocked(a.GetAppliedSequence(), a.GetDurableSequence())
	r.window.batches = int(a.GetMaxUnackedBatches())
}

// ackedLocked forgets what is durable. Acknowledgements are cumulative, so one
// that lags behind another says nothing new.
func (r *Reporter) ackedLocked(applied, durable uint64) {
	r.stats.Applied = max(r.stats.Applied, applied)
	r.stats.Durable = max(r.stats.Durable, durable)
	counted, rejected := r.ring.trim(r.stats.Durable)
	r.stats.DurablePackets += counted
	r.stats.RejectedPackets += rejected
	r.stats.HeldPackets -= counted + rejected
	r.madeRoomLocked()
	if r.spool != nil && counted+rejected > 0 {
		r.spill() // segments may go
	}
}

// madeRoomLocked wakes who waits for room.
func (r *Reporter) madeRoomLocked() {
	close(r.room)
	r.room = make(chan struct{})
}

// rejected notes a batch that is skipped for good. For one that came out of
// order the stream starts again: the welcome says where.
func (r *Reporter) rejected(m *whorlv1.Reject) error {
	if m.GetReason() == whorlv1.RejectReason_REJECT_REASON_OUT_OF_ORDER {
		return streamErrorf(codes.Aborted, "batch %d came out of order: %s", m.GetSequence(), m.GetDetail())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring.reject(m.GetSequence()) {
		r.stats.RejectedBatches++
		r.log.Error("the collector refused a batch for good", "probe", r.cfg.ProbeID,
			"sequence", m.GetSequence(), "reason", m.GetReason().String(), "detail", m.GetDetail())
	}
	return nil
}

func (r *Reporter) drained(m *whorlv1.Drain) {
	grace := min(max(m.GetGrace().AsDuration(), 0), maxDrainGrace)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drain = time.Now().Add(grace)
	r.log.Info("the collector drains", "probe", r.cfg.ProbeID, "grace", grace, "reason", m.GetReason())
}

// send sends what there is until the stream ends.
func (r *Reporter) send(ctx context.Context, st ingestStream) error {
	tick := time.NewTicker(r.cfg.ReportInterval)
	defer tick.Stop()
	if err := r.sendReport(st); err != nil {
		return err
	}
	finishing := false
	for {
		step, message, rest := r.step(finishing)
		var err error
		switch step {
		case stepBatch:
			err = st.SendMsg(wire.Pieces{message})
		case stepFinish:
			finishing = true
			tick.Stop() // nothing may be sent behind the end
			err = errors.Join(r.sendReport(st), st.Send(&whorlv1.IngestRequest{
				Message: &whorlv1.IngestRequest_Finish{Finish: r.finish}}), st.CloseSend())
		case stepDrained:
			return errDrained
		case stepLoad:
			err = r.load(ctx)
		case stepWait:
			err = r.pause(ctx, rest, tick.C, st)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C: // also while there is always a batch to send
			if err := r.sendReport(st); err != nil {
				return err
			}
		default:
		}
	}
}

// What a stream does next.
type step uint8

const (
	stepWait step = iota
	stepBatch
	stepLoad
	stepFinish
	stepDrained
)

// step decides what to do next, and takes the batch if that is to send one. Waiting
// has an end only if rest is more than 0.
func (r *Reporter) step(finishing bool) (do step, batch []byte, rest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case finishing:
		return stepWait, nil, 0
	case !r.drain.IsZero():
		if len(r.ring.sent) == 0 || !time.Now().Before(r.drain) {
			return stepDrained, nil, 0
		}
		return stepWait, nil, 0
	case len(r.ring.queued) == 0 && r.finish != nil:
		return stepFinish, nil, 0
	case len(r.ring.queued) == 0 || !r.openWindowLocked():
		r.rhythm.idle()
		return stepWait, nil, 0
	case r.ring.queued[0].stored != nil:
		return stepLoad, nil, 0
	}
	if rest := r.rhythm.delay(time.Now(), r.muchLocked()); rest > 0 {
		return stepWait, nil, rest
	}
	h := r.ring.take()
	if h.first > r.sentTo {
		r.sentTo = h.last
		if !h.lost() {
			r.stats.SentPackets += h.packets
		}
	}
	if h.lost() {
		return stepBatch, ingestRequest(nil, h.first, wire.AppendBatch(nil, h.record())), 0
	}
	return stepBatch, h.body, 0
}

// openWindowLocked reports whether the next batch may be sent. Beside the
// collector's window at most half of the buffer is on its way, so that the
// other half is there to be given up when the collector goes away.
func (r *Reporter) openWindowLocked() bool {
	n := len(r.ring.sent)
	bytes := r.ring.sentBytes + len(r.ring.queued[0].body)
	return n < r.window.batches &&
		(n == 0 || r.window.bytes == 0 || bytes <= r.window.bytes) &&
		(n == 0 || bytes <= r.ring.maxBytes/2)
}

// pause waits until there may be something to do: for rest at most, unless that is
// 0.
func (r *Reporter) pause(ctx context.Context, rest time.Duration, tick <-chan time.Time, st ingestStream) error {
	r.mu.Lock()
	drain := r.drain
	r.mu.Unlock()
	if !drain.IsZero() {
		rest = max(time.Until(drain), 1)
	}
	var rested <-chan time.Time
	if rest > 0 {
		rested = time.After(rest)
	}
	select {
	case <-r.wake:
	case <-rested:
	case <-tick:
		return r.sendReport(st)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// sendReport tells the collector how the capture and the buffer are doing.
func (r *Reporter) sendReport(st ingestStream) error {
	c, s := r.cfg.Counters(), r.Stats()
	return st.Send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Report{Report: &whorlv1.ProbeReport{
		ProbeTime:               timestamppb.Now(),
		PacketsReceived:         c.Received,
		PacketsDroppedKernel:    c.DroppedKernel,
		PacketsDroppedInterface: c.DroppedInterface,
		PacketsDroppedProbe:     c.DroppedProbe,
		PacketsUndecodable:      c.Undecodable,
		PacketsUntracked:        c.Untracked,
		PacketsReported:         s.Packets + s.ResumedPackets,
		PacketsAcknowledged:     s.DurablePackets + s.RejectedPackets + s.ForgottenPackets,
		PacketsBuffered:         s.HeldPackets,
		PacketsLost:             s.LostByReason,
		SpoolBatches:            s.HeldBatches,
		SpoolBytes:              s.HeldBytes,
		SpoolCapacityBytes:      uint64(r.cfg.BufferBytes) + uint64(r.spoolCapacity()),
	}}})
}
