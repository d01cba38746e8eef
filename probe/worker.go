package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

const (
	// maxBatchAge is how long a packet may wait in a batch, in wall time.
	maxBatchAge = 200 * time.Millisecond
	// maxChunkAge ends the chunk of a live source, by packet time, so that the
	// age of its batch is looked at.
	maxChunkAge = 50 * time.Millisecond
	// idleMargin is how far behind now the packets of a silent live source
	// may still be: its poll interval and then some.
	idleMargin = time.Second
)

// A worker takes the packets of its sources, in turn, from capture to batch.
// One goroutine runs it.
type worker struct {
	probe   *Probe
	sources []capture.Source
	analyser
	batcher batcher
	pace    pace
	keyFile *KeyFile // nil when nothing is to be followed
	keysDue time.Time

	since  time.Time // when the batch was first seen to hold something; zero before
	waits  bool      // a source has had nothing for a while: it is slow, such as a pipe
	newest int64     // greatest packet time
	broken bool      // the reporter refused a batch

	mark atomic.Int64 // see Probe.watermark
	mu   sync.Mutex
	seen Totals // copy of totals for others; guarded by mu
}

func newWorker(p *Probe, sources []capture.Source, share int) *worker {
	w := &worker{
		probe: p, sources: sources,
		batcher: batcher{window: int64(p.cfg.Coalesce)},
		pace:    pace{speed: p.cfg.Speed, retime: p.cfg.Retime},
		newest:  math.MinInt64,
	}
	if p.cfg.Types == ja4.NoTypes {
		w.analyser = newAnalyser(&p.cfg, nil)
		w.batcher.index = newFlowIndex()
	} else {
		w.analyser = newAnalyser(&p.cfg, newEngine(&p.cfg, share, flow.MaxValueLen))
	}
	w.batcher.next()
	return w
}

// run reads the sources and reports until they or ctx end.
func (w *worker) run(ctx context.Context) error {
	var errs []error
	for _, s := range w.sources {
		err := w.drain(ctx, s)
		if err != nil {
			errs = append(errs, err)
		}
		if err != nil && !errors.Is(err, capture.ErrTruncated) || ctx.Err() != nil || w.probe.counted() {
			break
		}
	}
	if err := w.finish(ctx); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// drain takes the packets of one source.
func (w *worker) drain(ctx context.Context, s capture.Source) error {
	for ctx.Err() == nil && !w.probe.counted() || w.pending() {
		w.refreshKeys()
		err := w.chunk(ctx, s)
		w.publish()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, capture.ErrIdle):
			w.waits = true
			if w.probe.cfg.Live {
				now := time.Now().Add(-idleMargin).UnixNano()
				w.mark.Store(max(w.mark.Load(), now))
				if err := w.pass(ctx, now); err != nil {
					return err
				}
			}
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil
		default:
			return err
		}
		if err := w.cutAged(ctx); err != nil {
			return err
		}
	}
	return nil
}

// refreshKeys looks for new secrets when it is time to.
func (w *worker) refreshKeys() {
	if w.keyFile == nil {
		return
	}
	if now := time.Now(); !now.Before(w.keysDue) {
		w.keyFile.refresh()
		w.keysDue = now.Add(keyFileEvery)
	}
}

// chunk takes some chunkPackets packets. A panic over the bytes of a packet ends
// the chunk, not the worker: the packet is skipped and counted, and those that
// were read with it are for the next chunk.
func (w *worker) chunk(ctx context.Context, s capture.Source) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = w.recovered(cause)
		}
	}()
	most := blockPackets
	if w.pace.active() || w.probe.cfg.Count > 0 {
		most = 1 // before the next one is read, it may be too late for this one
	}
	var begin int64
	for n := 0; n < chunkPackets; {
		if !w.pending() {
			if err := w.read(s, most); err != nil {
				return err
			}
			if !w.probe.take() {
				w.block.read = 0
				return nil
			}
			if err := w.setTimes(ctx); err != nil {
				return err
			}
		}
		if n == 0 {
			begin = w.block.in[w.block.next].Time
		}
		for w.pending() {
			if err := w.one(ctx); err != nil {
				return err
			}
			n++
		}
		if w.probe.counted() || w.probe.cfg.Live && w.in.Time-begin > int64(maxChunkAge) {
			break
		}
	}
	return nil
}

// setTimes makes the times of the packets that were just read those that they
// count as captured at, and waits until they are due.
func (w *worker) setTimes(ctx context.Context) error {
	for i := range w.block.in[:w.block.read] {
		in := &w.block.in[i]
		clamped := clampTime(in)
		if w.pace.active() {
			if err := w.keepPace(ctx, in); err != nil {
				return err
			}
			clamped = clampTime(in) || clamped
		}
		if clamped {
			w.totals.TimesClamped++
		}
	}
	return nil
}

// clampTime moves the time of in to the nearest that a batch can hold and
// reports whether it had to. The file of a stranger may say anything, and a
// collector refuses the whole batch for one such time.
func clampTime(in *capture.Packet) bool {
	t := min(max(in.Time, 0), flow.MaxTime)
	moved := t != in.Time
	in.Time = t
	return moved
}

// tell gives e to who wants to see events as they come.
func (w *worker) tell(e *handshake.Event) error {
	if w.probe.cfg.OnEvent == nil {
		return nil
	}
	return w.probe.cfg.OnEvent(e)
}

// one handles the next packet.
func (w *worker) one(ctx context.Context) error {
	if !w.take() {
		return nil
	}
	w.newest = max(w.newest, w.packet.Time)
	if w.engine == nil {
		w.batcher.count(w.packet)
		if w.batcher.full() {
			return w.cut(ctx)
		}
		return nil
	}
	if err := w.ended(ctx); err != nil {
		return err
	}
	index, row := w.batcher.packet(w.packet, &w.result)
	for i := range w.result.Events {
		e := &w.result.Events[i]
		if err := w.tell(e); err != nil {
			return err
		}
		if !w.batcher.fits(e) {
			if err := w.cut(ctx); err != nil {
				return err
			}
			index, _ = w.batcher.flow(w.packet, &w.result)
			row = 0 // it is in the batch before
		}
		w.batcher.event(index, row, e)
	}
	if w.batcher.full() {
		return w.cut(ctx)
	}
	return nil
}

// ended takes the fingerprints of connections that have ended. In a capture that
// is read faster than it was made, a batch may hold hours: one that belongs to no
// row of it must come before those hours, while a tracker still holds the
// connection, so the batch ends there.
func (w *worker) ended(ctx context.Context) error {
	placed := true
	for i := range w.result.Ended {
		e := &w.result.Ended[i]
		if err := w.tell(&e.Event); err != nil {
			return err
		}
		if err := w.room(ctx, &e.Event); err != nil {
			return err
		}
		placed = w.batcher.endEvent(e) && placed
	}
	if placed || w.probe.cfg.Live {
		return nil
	}
	return w.cut(ctx)
}

// pass lets time pass without a packet, for what ends by itself.
func (w *worker) pass(ctx context.Context, now int64) error {
	if w.engine == nil {
		return nil
	}
	w.engine.Idle(now, &w.result)
	return w.ended(ctx)
}

// room cuts the batch if e has no room in it.
func (w *worker) room(ctx context.Context, e *handshake.Event) error {
	if w.batcher.fits(e) {
		return nil
	}
	return w.cut(ctx)
}

// cutAged cuts the batch when its first packet has waited long enough, and
// does so only where somebody waits: with live, paced or slow sources.
func (w *worker) cutAged(ctx context.Context) error {
	if !w.probe.cfg.Live && !w.pace.active() && !w.waits || w.batcher.empty() {
		return nil
	}
	now := time.Now()
	if w.since.IsZero() {
		w.since = now
		return nil
	}
	if now.Sub(w.since) < maxBatchAge {
		return nil
	}
	return w.cut(ctx)
}

// cut reports the batch and begins the next. What was read is reported also
// when ctx has ended.
func (w *worker) cut(ctx context.Context) error {
	w.since = time.Time{}
	if w.batcher.empty() {
		return nil
	}
	w.mark.Store(max(w.mark.Load(), w.newest))
	b := &w.batcher.batch
	packets, bytes := b.Packets()
	if err := w.probe.report(context.WithoutCancel(ctx), b); err != nil {
		w.broken = true
		return fmt.Errorf("report a batch: %w", err)
	}
	w.totals.Batches++
	w.totals.Reported += packets
	w.totals.ReportedBytes += bytes
	w.batcher.next()
	return nil
}

// finish ends all connections and reports what is left.
func (w *worker) finish(ctx context.Context) error {
	defer func() {
		w.mark.Store(math.MaxInt64)
		w.publish()
	}()
	w.decoder.Flush()
	if w.broken {
		return nil
	}
	if w.engine == nil {
		return w.cut(ctx)
	}
	var err error
	w.engine.Finish(func(e handshake.EndEvent) {
		if err == nil {
			err = w.tell(&e.Event)
		}
		if err == nil {
			err = w.room(ctx, &e.Event)
		}
		if err == nil {
			w.batcher.endEvent(&e)
		}
	})
	if err == nil {
		err = w.cut(ctx)
	}
	return err
}

// publish makes the totals visible to Probe.Totals.
func (w *worker) publish() {
	t := w.counts()
	w.mu.Lock()
	w.seen = t
	w.mu.Unlock()
}

func (w *worker) published() Totals {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}
