package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/planted"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// batch takes one encoded batch: appended once, acknowledged again, skipped for
// good, or asked for again.
func (in *ingestService) batch(ctx context.Context, s *stream, p []byte) error {
	if len(p) > maxBatchBytes {
		in.counters.batchesTooLarge.Add(1)
		return in.skip(ctx, s, p, whorlv1.RejectReason_REJECT_REASON_TOO_LARGE,
			fmt.Sprintf("batch has %d bytes, want at most %d", len(p), maxBatchBytes))
	}
	b := in.batches.get()
	err := wire.DecodeBatch(p, b)
	if err == nil && b.Sequence == 0 {
		err = errors.New("sequence: 0, want 1 or more")
	}
	if err != nil {
		in.batches.put(b)
		in.counters.batchesInvalid.Add(1)
		return in.skip(ctx, s, p, whorlv1.RejectReason_REJECT_REASON_INVALID, err.Error())
	}
	first, last := sequences(b)
	switch judge(s.admitted, first, last) {
	case verdictDuplicate:
		if planted.NoDedupe {
			break
		}
		in.batches.put(b)
		poke(s.ackable) // say again how far it is
		return nil
	case verdictGap:
		in.batches.put(b)
		return in.askAgain(ctx, s, first)
	}
	if in.withoutJA4Plus(b) {
		return in.append(ctx, s, b, nil, len(p))
	}
	return in.append(ctx, s, b, p, len(p))
}

// skip takes a batch that cannot be used out of the way for good: an empty one
// takes its number in the log. A batch whose number cannot be read ends the
// stream, for nothing could tell the probe which one was meant.
func (in *ingestService) skip(ctx context.Context, s *stream, p []byte, reason whorlv1.RejectReason, detail string) error {
	sequence := readSequence(p)
	if sequence == 0 {
		in.counters.streamsBroken.Add(1)
		return failure(codes.InvalidArgument, ReasonBadMessage, "batch: "+detail)
	}
	switch judge(s.admitted, sequence, sequence) {
	case verdictDuplicate:
		poke(s.ackable)
		return nil
	case verdictGap:
		return in.askAgain(ctx, s, sequence)
	}
	in.notices.log(ctx, slog.LevelWarn, "batch refused for good",
		slog.String("probe", s.session.Probe), slog.Uint64("sequence", sequence), slog.String("err", detail))
	if err := s.answer(ctx, reject(sequence, reason, detail)); err != nil {
		return err
	}
	b := in.batches.get()
	b.Sequence = sequence
	return in.append(ctx, s, b, nil, len(p))
}

// askAgain answers the first of a run of batches that came too early.
func (in *ingestService) askAgain(ctx context.Context, s *stream, sequence uint64) error {
	in.counters.batchesOutOfOrder.Add(1)
	again := s.askedBack != 0 && sequence > s.askedBack
	s.askedBack = sequence
	if again {
		return nil
	}
	return s.answer(ctx, reject(sequence, whorlv1.RejectReason_REJECT_REASON_OUT_OF_ORDER,
		fmt.Sprintf("batch %d came where %d was next: send again from there", sequence, s.admitted+1)))
}

func reject(sequence uint64, reason whorlv1.RejectReason, detail string) *whorlv1.IngestResponse {
	return &whorlv1.IngestResponse{Message: &whorlv1.IngestResponse_Reject{Reject: &whorlv1.Reject{
		Sequence: sequence, Reason: reason, Detail: toValid(detail),
	}}}
}

// answer queues resp for the sender; it blocks while a probe does not read.
func (s *stream) answer(ctx context.Context, resp *whorlv1.IngestResponse) error {
	select {
	case s.answers <- resp:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// append admits b: it has its place in the log when append returns, and once it
// is safe there it will be applied whatever becomes of the stream. encoded is b
// as it came, nil when b was made or changed here; nothing of it is kept. n is how
// many bytes count against the window.
func (in *ingestService) append(ctx context.Context, s *stream, b *flow.Batch, encoded []byte, n int) error {
	before := s.admitted
	_, last := sequences(b)
	record := log.Record{
		LogTime: time.Now().UnixNano(), Kind: log.KindBatch, Session: s.session,
		Batch: b, Note: s.ticketFor(b, n, in.registry),
	}
	var durable func(error)
	if in.durable {
		// The log copies what it keeps, so encoded may lie in the stream's memory.
		if record.Data = encoded; encoded == nil {
			record.Data = wire.AppendBatch(nil, b)
		}
		durable = func(err error) {
			if err == nil {
				s.kept(last)
			}
		}
	}
	s.admit(max(last, before), n)
	s.askedBack = 0
	if _, err := in.log.Submit(ctx, durable, record); err != nil {
		s.revoke(before, n)
		return err
	}
	if planted.AckBeforeFsync {
		s.kept(last)
	}
	return nil
}

// refusedTypes names the types of fingerprints that this collector takes out.
func (in *ingestService) refusedTypes() (types []string) {
	for t := ja4.TypeJA4; in.noJA4Plus && t < ja4.NumTypes; t++ {
		if t.Plus() {
			types = append(types, t.String())
		}
	}
	return types
}

// withoutJA4Plus takes the fingerprints of licensed methods out, when this
// collector refuses them, and reports whether there were any.
func (in *ingestService) withoutJA4Plus(b *flow.Batch) (changed bool) {
	if !in.noJA4Plus {
		return false
	}
	kept := b.Fingerprints[:0]
	for _, f := range b.Fingerprints {
		if f.Type.Plus() {
			in.counters.fingerprints[f.Type].Add(1)
			continue
		}
		kept = append(kept, f)
	}
	changed = len(kept) < len(b.Fingerprints)
	clear(b.Fingerprints[len(kept):])
	b.Fingerprints = kept
	return changed
}

// readSequence finds the number of a batch whose content is not understood; 0
// when there is none.
func readSequence(p []byte) (sequence uint64) {
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return sequence
		}
		p = p[n:]
		if num == 1 && typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(p)
			if n < 0 {
				return sequence
			}
			sequence = v
		}
		if n = protowire.ConsumeFieldValue(num, typ, p); n < 0 {
			return sequence
		}
		p = p[n:]
	}
	return sequence
}
