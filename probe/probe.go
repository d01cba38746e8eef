// Package probe turns captured packets into batches: capture, decode,
// fingerprint, batch.
//
// A Probe reads sources, one after the other (files) or side by side (the
// rings of a live capture), finds fingerprints with one handshake.Engine per
// goroutine, and gives batches to a Reporter. It owns nothing that outlives
// Run: sources belong to the caller, batches to nobody once they are reported.
// It neither dials nor spools; that is the reporter's part.
//
// Fingerprints is the same without batches, for who only wants to see them.
package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// Config says what to do with packets. The zero Config works: all fingerprint
// types, innermost addresses, one source after the other as fast as it goes.
type Config struct {
	// Types are the fingerprints to compute; 0 means ja4.AllTypes.
	Types ja4.TypeSet
	// Outer takes the outermost addresses of tunnelled packets.
	Outer bool
	// Count stops after that many packets; 0 means never.
	Count uint64
	// Speed paces a source by its capture times: 1 as captured, 10 ten times
	// as fast; 0 means as fast as possible. Not with Live.
	Speed float64
	// Retime shifts times so that the first packet is captured now. Not with
	// Live.
	Retime bool
	// Coalesce merges packets of one flow and direction into one row as long
	// as they come within this time after the first; 0 means a row for each.
	// SYN, FIN and RST keep rows of their own.
	Coalesce time.Duration
	// Live runs the sources side by side, each in a goroutine. All packets of
	// a flow must come from one source. A source must return capture.ErrIdle
	// at least every 100 ms when it has no packets.
	Live bool
	// MaxFlows, MaxBytes and SSHWindow are those of handshake.Config;
	// MaxFlows and MaxBytes are shared out among live sources.
	MaxFlows  int
	MaxBytes  int64
	SSHWindow int
	// Secrets are those of connections to look into, nil for none; see
	// handshake.Config. They may be added to at any time.
	Secrets *cleartext.KeyLog
	// patient is for captures that are read to their end: see fileIdle.
	patient bool
	// KeyFile, if not nil, fills Secrets. With Live, Run looks every second
	// whether it has grown, and connections wait some seconds for their
	// secrets. The probe owns it until Run has returned.
	KeyFile *KeyFile
	// OnEvent, if not nil, is given each fingerprint event before the batch that
	// carries it is reported, those of connections that ended and those of the
	// end too, with the engine's time, tuple and packet number. The event is
	// lent for the call. An error ends the run. With Live it is called by
	// several goroutines at a time.
	OnEvent func(*handshake.Event) error
	// OnPanic, if not nil, is told of each packet that hit a bug of ours. The
	// packet was skipped and is counted. It is called by the goroutine that
	// met it; in is lent for the call.
	OnPanic func(in *capture.Packet, cause any, stack []byte)
}

func (c *Config) check() error {
	switch {
	case c.Live && c.Speed != 0:
		return errors.New("a live capture has the speed it has: leave Speed out")
	case c.Live && c.Retime:
		return errors.New("a live capture is of now: leave Retime out")
	case c.Speed < 0 || math.IsNaN(c.Speed) || math.IsInf(c.Speed, 0):
		return fmt.Errorf("speed %v is not a number from 0 up", c.Speed)
	case c.Coalesce < 0:
		return fmt.Errorf("coalesce %v is negative", c.Coalesce)
	case c.MaxFlows < 0 || c.MaxBytes < 0 || c.SSHWindow < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

// Probe reads sources and reports batches.
type Probe struct {
	cfg      Config
	reporter Reporter
	workers  []*worker
	started  atomic.Bool

	packets   atomic.Uint64 // read, when Count is set
	reporting sync.Mutex    // one call of the reporter at a time
	sequence  uint64        // of the last batch; guarded by reporting
}

// New returns a Probe that will read the sources, which stay the caller's to
// close after Run has returned. It fails if cfg contradicts itself.
func New(cfg Config, r Reporter, sources ...capture.Source) (*Probe, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	p := &Probe{cfg: cfg, reporter: r}
	if !cfg.Live {
		p.workers = []*worker{newWorker(p, sources, 1)}
		return p, nil
	}
	for _, s := range sources {
		p.workers = append(p.workers, newWorker(p, []capture.Source{s}, len(sources)))
	}
	if len(p.workers) > 0 {
		p.workers[0].keyFile = cfg.KeyFile
	}
	return p, nil
}

// Run reads the sources to their end, or to the end of ctx, and returns when
// all that was read has been reported and every goroutine it started has
// ended. The end of ctx is no error and reaches neither Source.Next, which has
// to return by itself, nor the reporter: what was read is reported first. A
// caller that cannot wait makes its reporter fail.
//
// A capture file cut short (capture.ErrTruncated) is read as far as it goes,
// the sources behind it too, and its error is returned in the end. Any other
// error of a source or of the reporter ends the run.
//
// Run may be called once.
func (p *Probe) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("probe: Run was called twice")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(p.workers))
	var wg sync.WaitGroup
	for i, w := range p.workers {
		wg.Go(func() {
			if errs[i] = w.run(ctx); errs[i] != nil && !errors.Is(errs[i], capture.ErrTruncated) {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Totals returns the counters so far. It may be called at any time; while Run
// works they lag by some hundred packets.
func (p *Probe) Totals() Totals {
	var t Totals
	for _, w := range p.workers {
		t.add(w.published())
	}
	return t
}

// report gives b to the reporter, with its number and watermark.
func (p *Probe) report(ctx context.Context, b *flow.Batch) error {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	b.Sequence = p.sequence + 1
	b.Watermark = p.watermark()
	if err := p.reporter.Report(ctx, b); err != nil {
		return err
	}
	p.sequence++
	return nil
}

// watermark returns the time before which everything captured has been
// batched, as far as captures are in order of time; 0 when unknown.
func (p *Probe) watermark() int64 {
	low := int64(math.MaxInt64)
	for _, w := range p.workers {
		low = min(low, w.mark.Load())
	}
	if low == math.MaxInt64 {
		return 0
	}
	return low
}

// take reports whether the packet that was just read is within Config.Count.
func (p *Probe) take() bool {
	return p.cfg.Count == 0 || p.packets.Add(1) <= p.cfg.Count
}

// counted reports whether Config.Count was reached.
func (p *Probe) counted() bool {
	return p.cfg.Count > 0 && p.packets.Load() >= p.cfg.Count
}
