package main

import (
	"context"
	"errors"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/probe"
)

// finishWithin is how long a live capture that ended waits for the collector.
const finishWithin = 10 * time.Second

// capturing is one run of a probe.
type capturing struct {
	flags    *captureFlags
	c        *console
	src      *sources
	probe    *probe.Probe
	reporter *client.Reporter
	start    time.Time
}

// newCapturing puts a probe together. printer, which may be nil, sees events and
// batches before the reporter does.
func newCapturing(c *console, f *captureFlags, src *sources, cl *client.Client, printer *fingerprintPrinter) (*capturing, error) {
	p := &capturing{flags: f, c: c, src: src, start: c.now()}
	var err error
	if p.reporter, err = cl.Reporter(f.reporterConfig(c, p.counters)); err != nil {
		return nil, failf(exitUsage, "%v", err)
	}
	cfg, err := f.probeConfig(c, src)
	if err != nil {
		return nil, err
	}
	var to probe.Reporter = p.reporter
	if printer != nil {
		printer.Reporter, cfg.OnEvent = to, printer.event
		to = printer
	}
	if p.probe, err = probe.New(cfg, to, src.all...); err != nil {
		return nil, failf(exitUsage, "%v", err)
	}
	return p, nil
}

// counters are those of the probe and of its rings. It is called from Run on.
func (p *capturing) counters() client.Counters {
	t := p.probe.Totals()
	_, kernel, iface := p.src.counters()
	return client.Counters{
		Received: t.Packets + kernel, DroppedKernel: kernel, DroppedInterface: iface,
		Undecodable: t.Undecodable, Untracked: t.Untracked,
	}
}

// run captures until the files end or ctx does, and then waits until the
// collector has acknowledged everything: for as long as it takes after files,
// for finishWithin after a live capture or when ctx has ended.
func (p *capturing) run(ctx context.Context) error {
	reporting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	capturing, abandon := context.WithCancel(ctx)
	defer abandon()
	reported := make(chan error, 1)
	go func() {
		err := p.reporter.Run(reporting)
		abandon() // who is refused for good captures for nobody, also in silence
		reported <- err
	}()

	captureErr := p.probe.Run(capturing)
	finishing, cancel := p.patience(ctx)
	defer cancel()
	finishErr := p.reporter.Finish(finishing, p.flags.Flush)
	stop()
	runErr := <-reported
	if captureErr != nil && !errors.Is(captureErr, client.ErrFinished) {
		return captureErr
	}
	if finishErr != nil && finishing.Err() == nil {
		return runErr // why the reporter ended before it was finished
	}
	return nil
}

// patience is how long Finish may take.
func (p *capturing) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if !p.flags.live() && ctx.Err() == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
}

// totals are what to say at the end.
func (p *capturing) totals() output.Totals {
	t, s := p.probe.Totals(), p.reporter.Stats()
	_, kernel, _ := p.src.counters()
	return output.Totals{
		Packets: t.Packets, Bytes: t.Bytes, Connections: t.Connections, Fingerprints: t.Fingerprints,
		Undecodable: t.Undecodable, Lost: s.LostPackets + s.RejectedPackets + s.HeldPackets + s.ForgottenPackets + kernel,
		Elapsed: p.c.now().Sub(p.start),
	}
}

// incomplete says what the exit code of the end is: 6 if a replay lost
// something, or a live capture gave batches up. What died with a collector that
// was restarted under a live capture is said, and no failure of the probe.
func (p *capturing) incomplete(interrupted bool) error {
	s := p.reporter.Stats()
	died := ""
	if s.ForgottenPackets > 0 {
		died = output.Plural(s.ForgottenPackets, "acknowledged packet") + " died with the collector, which started anew"
	}
	switch gone := s.LostPackets + s.RejectedPackets + s.HeldPackets; {
	case gone > 0 && died != "":
		return failf(exitIncomplete, "probe: %s never reached the collector, and %s", output.Plural(gone, "packet"), died)
	case gone > 0:
		return failf(exitIncomplete, "probe: %s never reached the collector", output.Plural(gone, "packet"))
	case died != "" && !p.flags.live():
		return failf(exitIncomplete, "probe: %s", died).hint("replay it again to have all of it in the new one")
	case !p.flags.live() && interrupted:
		return failf(exitIncomplete, "probe: interrupted before the end of the file")
	}
	return nil
}
