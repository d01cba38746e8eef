package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// What a probe may have under way on one stream. The collector stops reading
// when that much is admitted and not applied, so a stream costs a bounded amount
// of memory whatever its probe does.
const (
	maxUnackedBatches = 64
	maxUnackedBytes   = 8 << 20
	// maxBatchBytes bounds an encoded batch; probes keep theirs under 32 KiB.
	maxBatchBytes = 1 << 20
	// ackEvery is the shortest time between two Acks, unless pressingBatches or more
	// wait for one: batches are applied in spates, and an Ack for each was as many
	// wakings here and there.
	ackEvery        = 10 * time.Millisecond
	pressingBatches = maxUnackedBatches / 2
	// maxWaitingAnswers bounds the Rejects a probe has not read yet; beyond, the
	// stream is not read on.
	maxWaitingAnswers = 16
)

// stream is one probe session's connection. Its handler goroutine decides, one
// goroutine receives and one sends; they end when the handler returns.
type stream struct {
	session log.Session
	probe   *probe // set by registry.claim, guarded by the registry
	// left is closed when the place in the registry is given back: everything
	// admitted is applied then.
	left   chan struct{}
	cancel context.CancelCauseFunc
	// busy says that the handler works on a message: not silent, only slow.
	busy atomic.Bool
	// finished says that a Finish was taken and all before it is applied. Only
	// the handler uses it.
	finished bool

	// What was admitted: appended to the log. Only the handler uses these.
	admitted                       uint64 // sequence
	admittedBatches, admittedBytes uint64

	// What of it is applied. Written in log order.
	applied                      atomic.Uint64 // sequence
	appliedBatches, appliedBytes atomic.Uint64
	// durable says that the log survives a crash: then safe is the sequence that
	// it has made safe, otherwise what is applied is as safe as it will ever be.
	durable   bool
	safe      atomic.Uint64
	newest    atomic.Uint64 // admitted, for the sender
	askedBack uint64        // sequence of the last out-of-order batch answered; handler only

	progress chan struct{} // capacity 1: the handler may go on
	ackable  chan struct{} // capacity 1: the sender may have something to say
	answers  chan *whorlv1.IngestResponse
}

func newStream(session log.Session, durable bool, cancel context.CancelCauseFunc) *stream {
	return &stream{
		session: session, durable: durable, cancel: cancel,
		left:     make(chan struct{}),
		progress: make(chan struct{}, 1),
		ackable:  make(chan struct{}, 1),
		answers:  make(chan *whorlv1.IngestResponse, maxWaitingAnswers),
	}
}

// end makes the handler return err, once what was admitted is applied.
func (s *stream) end(err error) { s.cancel(err) }

// startAt says what was applied before this stream.
func (s *stream) startAt(sequence uint64) {
	s.admitted = sequence
	s.newest.Store(sequence)
	s.applied.Store(sequence)
	s.safe.Store(sequence)
}

// full reports whether no more may be read before something is applied.
func (s *stream) full() bool {
	return s.admittedBatches-s.appliedBatches.Load() >= maxUnackedBatches ||
		s.admittedBytes-s.appliedBytes.Load() >= maxUnackedBytes
}

// settled reports whether all that was admitted is applied.
func (s *stream) settled() bool { return s.appliedBatches.Load() == s.admittedBatches }

// admit counts a batch of n encoded bytes that is about to be appended to the
// log. last is the sequence the session is at then.
func (s *stream) admit(last uint64, n int) {
	s.admitted = last
	s.newest.Store(last)
	s.admittedBatches++
	s.admittedBytes += uint64(n)
}

// revoke takes back an admit whose append failed.
func (s *stream) revoke(before uint64, n int) {
	s.admitted = before
	s.newest.Store(before)
	s.admittedBatches--
	s.admittedBytes -= uint64(n)
}

// done notes that a batch is applied. Called in log order, must not block.
func (s *stream) done(sequence uint64, n int) {
	s.applied.Store(sequence)
	s.appliedBatches.Add(1)
	s.appliedBytes.Add(uint64(n))
	poke(s.progress)
	poke(s.ackable)
}

// kept notes that the log has made everything up to sequence safe. Called in log
// order, must not block.
func (s *stream) kept(sequence uint64) {
	s.safe.Store(sequence)
	poke(s.ackable)
}

// ack says how far this session is.
func (s *stream) ack() *whorlv1.Ack {
	applied := s.applied.Load()
	durable := applied
	if s.durable {
		durable = s.safe.Load()
	}
	return &whorlv1.Ack{AppliedSequence: applied, DurableSequence: durable, MaxUnackedBatches: maxUnackedBatches}
}

// poke fills a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// send sends the welcome, then answers and, when something was applied, a
// cumulative Ack: what is applied shortly after one, or behind a slow reader, has
// one together. It ends after a nil answer, which is the last Ack, or when ctx does;
// an error of Send ends the stream.
func (s *stream) send(ctx context.Context, welcome *whorlv1.IngestResponse, out func(*whorlv1.IngestResponse) error) {
	if err := out(welcome); err != nil {
		s.end(err)
		return
	}
	var (
		ackable = s.ackable // nil while an Ack waits for its time
		said    time.Time   // when the newest Ack was sent
		durable uint64      // what it said
		rest    = time.NewTimer(ackEvery)
	)
	defer rest.Stop()
	for {
		var resp *whorlv1.IngestResponse
		last := false
		select {
		case resp = <-s.answers:
			last = resp == nil
		case <-ackable:
			if wait := ackEvery - time.Since(said); wait > 0 && s.newest.Load()-durable < pressingBatches {
				rest.Reset(wait)
				ackable = nil
				continue
			}
		case <-rest.C:
			if ackable != nil {
				continue // nothing waits for it
			}
		case <-ctx.Done():
			return
		}
		if resp == nil {
			ack := s.ack()
			said, durable, ackable = time.Now(), ack.GetDurableSequence(), s.ackable
			resp = &whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Ack{Ack: ack}}
		}
		if err := out(resp); err != nil {
			s.end(err)
			return
		}
		if last {
			return
		}
	}
}

// ticketFor makes the note of a batch of this stream.
func (s *stream) ticketFor(b *flow.Batch, n int, r *registry) *ticket {
	_, last := sequences(b)
	watermark := b.Watermark
	lost := uint64(0)
	if b.Lost != nil {
		lost = b.Lost.Packets
	}
	return &ticket{applied: func(result applied) {
		if !result.duplicate {
			r.counted(s, last, watermark, result.packets, lost)
		}
		s.done(last, n)
	}}
}
