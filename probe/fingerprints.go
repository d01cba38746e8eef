package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// In a capture that is read to its end a connection may be silent for long, and
// so may the time be between its end and the last packet: nobody waits for what
// is not told yet, and memory is bounded by Config.MaxFlows and MaxBytes.
const (
	fileIdle   = 24 * time.Hour
	fileLinger = time.Minute
)

// Fingerprints reads one source to its end and calls emit with every
// fingerprint, in the order of the packets that completed them and, within a
// packet, of their types; windows still open at the end come last. Values may
// be longer than a batch could hold, up to flow.MaxRawLen. Of cfg it
// heeds Types, Outer, Count, Secrets and the limits.
//
// It returns what it counted also with an error: the source's, emit's, or the
// cause of ctx, which it looks at every few hundred packets. The event is lent
// for the call.
func Fingerprints(ctx context.Context, src capture.Source, cfg Config, emit func(*handshake.Event) error) (Totals, error) {
	if err := cfg.check(); err != nil {
		return Totals{}, fmt.Errorf("fingerprints: %w", err)
	}
	cfg.patient = !cfg.Live
	f := &finder{analyser: newAnalyser(&cfg, newEngine(&cfg, 1, flow.MaxRawLen)), emit: emit, left: cfg.Count}
	if cfg.Count == 0 {
		f.left = math.MaxUint64
	}
	var err error
	for err == nil {
		if err = context.Cause(ctx); err == nil {
			err = f.chunk(src)
		}
	}
	f.decoder.Flush()
	if err == io.EOF || errors.Is(err, capture.ErrTruncated) || errors.Is(err, capture.ErrMalformed) {
		if err == io.EOF {
			err = nil
		}
		err = errors.Join(err, f.finish())
	}
	return f.counts(), err
}

// A finder is a worker without batches.
type finder struct {
	analyser
	emit func(*handshake.Event) error
	left uint64 // packets to be read still
}

// chunk takes up to chunkPackets packets. It returns io.EOF after the last.
func (f *finder) chunk(src capture.Source) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = f.recovered(cause)
		}
	}()
	for n := 0; n < chunkPackets; n++ {
		if !f.pending() {
			if f.left == 0 {
				return io.EOF
			}
			err := f.read(src, int(min(f.left, blockPackets)))
			switch {
			case errors.Is(err, capture.ErrIdle):
				return nil
			case errors.Is(err, io.EOF):
				return io.EOF
			case err != nil:
				return err
			}
			f.left -= uint64(f.block.read)
		}
		if err := f.one(); err != nil {
			return err
		}
	}
	return nil
}

// one takes the next packet and emits what it completed.
func (f *finder) one() error {
	if !f.take() {
		return nil
	}
	f.totals.Reported += 1 + uint64(len(f.packet.Held))
	for i := range f.result.Ended {
		if err := f.emit(&f.result.Ended[i].Event); err != nil {
			return err
		}
	}
	for i := range f.result.Events {
		if err := f.emit(&f.result.Events[i]); err != nil {
			return err
		}
	}
	return nil
}

// finish emits the windows that are still open.
func (f *finder) finish() (err error) {
	f.engine.Finish(func(e handshake.EndEvent) {
		if err == nil {
			err = f.emit(&e.Event)
		}
	})
	return err
}
