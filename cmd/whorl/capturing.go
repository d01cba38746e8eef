package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/ja4"
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
	cut      bool // somebody wanted to end before the capture did
}

// newCapturing puts a probe together. printer, which may be nil, sees events and
// batches before the reporter does.
func newCapturing(c *console, f *captureFlags, src *sources, cl *client.Client, printer *fingerprintPrinter) (*capturing, error) {
	p := &capturing{flags: f, c: c, src: src, start: c.now()}
	var err error
	if p.reporter, err = cl.Reporter(f.reporterConfig(c, p.counters)); err != nil {
		return nil, c.explainSpool(f.send.Spool, err)
	}
	if n := p.reporter.Stats().HeldPackets; n > 0 {
		c.say("%s wait in the spool %s and are sent first", output.Plural(n, "packet"), f.send.Spool)
	}
	cfg, err := f.probeConfig(c, src)
	if err != nil {
		return nil, errors.Join(err, p.reporter.Close())
	}
	var to probe.Reporter = p.reporter
	if printer != nil {
		printer.Reporter, cfg.OnEvent = to, printer.event
		to = printer
	}
	if p.probe, err = probe.New(cfg, to, src.all...); err != nil {
		return nil, errors.Join(failf(exitUsage, "%v", err), p.reporter.Close())
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

	captured := make(chan struct{})
	defer context.AfterFunc(ctx, func() { p.loosen(captured, stop) })()
	watching := p.watchRoom(captured)
	captureErr := p.probe.Run(capturing)
	close(captured)
	<-watching
	p.cut = ctx.Err() != nil
	finishing, cancel := p.patience(ctx)
	defer cancel()
	if reporting.Err() == nil {
		defer p.sayWaiting(finishing)()
	}
	finishErr := p.reporter.Finish(finishing, p.flags.Flush)
	stop()
	runErr := <-reported
	if captureErr != nil && !errors.Is(captureErr, client.ErrFinished) {
		return captureErr
	}
	if ctx.Err() != nil && errors.Is(runErr, context.Canceled) {
		return nil // stopped by loosen
	}
	if finishErr != nil && finishing.Err() == nil {
		return runErr // why the reporter ended before it was finished
	}
	return nil
}

// loosen stops the reporter when somebody wants to end while a batch of a file
// waits for room that nobody makes: a probe reports what it has read first.
func (p *capturing) loosen(captured <-chan struct{}, stop context.CancelFunc) {
	within := finishWithin
	if p.reporter.Stats().Away {
		within = time.Second
	}
	select {
	case <-captured:
	case <-time.After(within):
		stop()
	}
}

// roomEvery is how often a probe looks whether its files wait for room.
const roomEvery = 2 * time.Second

// watchRoom says, once each time, that files wait because the collector is away
// and all there is to keep them in is full. It ends soon after captured is
// closed, and closes what it returns.
func (p *capturing) watchRoom(captured <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(roomEvery)
		defer tick.Stop()
		said := false
		for {
			select {
			case <-captured:
				return
			case <-tick.C:
			}
			s := p.reporter.Stats()
			if full := s.Away && s.Waiting; full != said {
				if said = full; full {
					p.c.say("%s full: reading waits for the collector, which is away; Ctrl-C ends it", p.whatIsFull())
				}
			}
		}
	}()
	return done
}

// whatIsFull names what batches are kept in.
func (p *capturing) whatIsFull() string {
	buffer := fmt.Sprintf("the buffer (--buffer %v)", p.flags.Buffer)
	if p.flags.send.Spool == "" {
		return buffer + " is"
	}
	return fmt.Sprintf("%s and the spool %s (--spool-max %v) are", buffer, p.flags.send.Spool, p.flags.send.SpoolMax)
}

// patience is how long Finish may take. Who has a spool, or nothing to hand over,
// waits for nobody who is away.
func (p *capturing) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	within, s := finishWithin, p.reporter.Stats()
	switch {
	case p.flags.send.Spool != "" && (s.Away || p.flags.toSpool && s.Connects == 0):
		within = 0
	case p.flags.live() && s.Away && s.HeldPackets == 0 && s.LostPackets == 0:
		within = 0 // there is nothing to hand over
	case !p.flags.live() && ctx.Err() == nil:
		return p.untilInterrupted(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), within)
}

// untilInterrupted has no end before ctx ends, and then finishWithin if the
// collector is there: what is under way is acknowledged soon.
func (p *capturing) untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	finishing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !p.reporter.Stats().Away {
			select {
			case <-time.After(finishWithin):
			case <-finishing.Done():
			}
		}
		cancel()
	})
	return finishing, func() {
		stop()
		cancel()
	}
}

// sayAfter is how long a probe that has captured everything waits in silence.
const sayAfter = 2 * time.Second

// sayWaiting says what Finish waits for, until the function it returns is
// called: at once when somebody wants to end and the collector is away.
func (p *capturing) sayWaiting(finishing context.Context) (stop func()) {
	say := func() {
		s := p.reporter.Stats()
		if s.HeldPackets == 0 || finishing.Err() != nil || !p.flags.live() && s.Connects == 0 && p.flags.send.Wait > 0 {
			return // there is nothing to wait for, or it was said, see OnWait
		}
		which, patience := "the collector", ""
		if s.Away {
			which = "the collector, which is away"
		}
		if until, bounded := finishing.Deadline(); bounded {
			patience = " up to " + units.Duration(time.Until(until).Round(time.Second))
		}
		p.c.say("waiting%s for %s, to acknowledge %s; Ctrl-C gives up", patience, which, output.Plural(s.HeldPackets, "packet"))
	}
	if _, bounded := finishing.Deadline(); bounded && p.reporter.Stats().Away {
		say()
		return func() {}
	}
	timer := time.AfterFunc(sayAfter, say)
	return func() { timer.Stop() }
}

// totals are what to say at the end.
func (p *capturing) totals() output.Totals {
	t, s := p.probe.Totals(), p.reporter.Stats()
	_, kernel, _ := p.src.counters()
	return output.Totals{
		Packets: t.Packets, Bytes: t.Bytes, Connections: t.Connections, Fingerprints: t.Fingerprints,
		Undecodable: t.Undecodable, Lost: gone(s) + s.ForgottenPackets + kernel, Uncounted: p.flags.onlyCounts(),
		Elapsed: p.c.now().Sub(p.start),
	}
}

// remark says what kept packets from giving all they could.
func (p *capturing) remark() {
	t := p.probe.Totals()
	set, err := p.flags.set()
	p.c.remarkCapture("", &t, err == nil && set != ja4.NoTypes)
}

// gone is what the collector will never have.
func gone(s client.ReporterStats) uint64 {
	return s.LostPackets + s.RejectedPackets + s.HeldPackets - s.SpooledPackets
}

// incomplete says what the exit code of the end is: 6 if a replay lost
// something or left it in the spool, or a live capture gave batches up. What a
// live capture leaves in its spool is said, for the next one sends it; so is
// what died with a collector that was restarted.
func (p *capturing) incomplete() error {
	s, replay := p.reporter.Stats(), !p.flags.live()
	if _, kernel, _ := p.src.counters(); kernel > 0 {
		p.c.say("%s of those lost were dropped by the kernel, because the probe was too slow: a larger --ring, or --fanout", output.Plural(kernel, "packet"))
	}
	died := ""
	if s.ForgottenPackets > 0 {
		died = output.Plural(s.ForgottenPackets, "acknowledged packet") + " died with the collector, which started anew"
	}
	if n := s.DamagedSegments; n > 0 {
		p.c.say("%s of the spool %s set aside, as *.damaged: what could not be read of them is counted as lost",
			output.Plural(n, "damaged segment"), p.flags.send.Spool)
	}
	if s.SpooledPackets > 0 && !replay {
		p.c.say("%s wait in the spool %s: the next start sends them, or: %s",
			output.Plural(s.SpooledPackets, "packet"), p.flags.send.Spool, p.c.sendSpoolLine(p.flags.send.Spool, false))
	}
	switch n := gone(s); {
	case n > 0 && died != "":
		return failf(exitIncomplete, "probe: %s never reached the collector, and %s", output.Plural(n, "packet"), died)
	case n > 0:
		return failf(exitIncomplete, "probe: %s never reached the collector", output.Plural(n, "packet"))
	case died != "" && replay:
		return failf(exitIncomplete, "probe: %s", died).hint("replay it again to have all of it in the new one")
	case replay && p.cut && s.SpooledPackets > 0:
		return p.spooled(s.SpooledPackets, "interrupted: ")
	case replay && p.cut:
		return failf(exitIncomplete, "probe: interrupted before the end of the file")
	case replay && s.SpooledPackets > 0:
		return p.spooled(s.SpooledPackets, "")
	}
	return nil
}

// spooled is the end of a replay that is kept, and not yet counted.
func (p *capturing) spooled(packets uint64, why string) error {
	wait := "wait"
	if packets == 1 {
		wait = "waits"
	}
	return failf(exitIncomplete, "probe: %s%s %s in the spool %s, and the collector has not acknowledged them",
		why, output.Plural(packets, "packet"), wait, p.flags.send.Spool).hint("send them: " + p.c.sendSpoolLine(p.flags.send.Spool, p.flags.Flush))
}
