package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
)

// sendFlags are those of a probe on its way to the collector: how it sends, and
// what it keeps when the collector has not taken it.
type sendFlags struct {
	Compress string `group:"report" enum:"none,zstd" default:"none" placeholder:"HOW" help:"zstd compresses what is sent, for slow links; none does not (default ${default})."`
	Spool    string `group:"report" placeholder:"DIR" help:"Keep batches in this directory when the collector is away for more than a second; the next start sends them. With -r and no collector the files are read into it. Without -i or -r: send what waits there, then exit."`
	SpoolMax size   `group:"report" default:"1GiB" placeholder:"SIZE" help:"What the spool may take; beyond, the oldest batches become one Lost record, with -r the reader waits (default ${default})."`
}

func (f *sendFlags) check() error {
	if f.SpoolMax < client.MinSpoolBytes {
		return fmt.Errorf("--spool-max: want at least %v", size(client.MinSpoolBytes))
	}
	return nil
}

// explainSpool says what to do about a Reporter that could not be made.
func explainSpool(err error) error {
	text := strings.TrimPrefix(err.Error(), "reporter: ")
	if client.SpoolInUse(err) {
		return failf(exitFailed, "%s", text).hint("another directory for each probe: --spool DIR")
	}
	if strings.HasPrefix(text, "spool ") || strings.Contains(text, "/") {
		return failf(orForbidden(exitFailed, err), "%s", text)
	}
	return failf(orForbidden(exitUsage, err), "%s", text)
}

// sendSpool sends what waits in the spool, under the name it was captured by.
func (cmd *probeCmd) sendSpool(ctx context.Context, c *console) error {
	if dir, err := os.Stat(cmd.Spool); isMissing(err) || err == nil && !dir.IsDir() {
		return failf(exitFailed, "spool %s: there is no such directory", cmd.Spool).hint(
			"to fill one: whorl probe -i INTERFACE --spool DIR, or -r FILE")
	}
	info, waiting, err := client.DescribeSpool(cmd.Spool)
	if err != nil {
		return failf(orForbidden(exitFailed, err), "%v", err)
	}
	if !waiting {
		c.say("nothing waits in %s", cmd.Spool)
		return printTotals(c, c.out, output.Totals{})
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	start := c.now()
	cfg := cmd.reporterConfig(c, nil)
	cfg.ProbeID, cfg.Network, cfg.Live, cfg.Full, cfg.MustConnect = info.ProbeID, info.Network, info.Live, client.Block, true
	r, err := cl.Reporter(cfg)
	if err != nil {
		return explainSpool(err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	finishErr := r.Finish(ctx, cmd.Flush && !info.Live)
	stop()
	runErr := <-ended
	s := r.Stats()
	err = cmd.printSent(c, output.Totals{Packets: s.SentPackets, Lost: gone(s), Elapsed: c.now().Sub(start)})
	switch {
	case err != nil:
		return err
	case finishErr != nil && ctx.Err() == nil && !errors.Is(runErr, context.Canceled):
		return runErr
	case s.SpooledPackets > 0:
		return failf(exitIncomplete, "probe: %s still wait in the spool %s", output.Plural(s.SpooledPackets, "packet"), cmd.Spool)
	case gone(s) > 0:
		return failf(exitIncomplete, "probe: %s never reached the collector", output.Plural(gone(s), "packet"))
	}
	return nil
}

// printSent prints what was sent: on a terminal without what nobody counted,
// elsewhere with the keys of every probe.
func (cmd *probeCmd) printSent(c *console, t output.Totals) error {
	if !c.outTerminal {
		return printTotals(c, c.out, t)
	}
	_, err := fmt.Fprintf(c.out, "%s sent from the spool %s, %s lost in %s\n", output.Plural(t.Packets, "packet"), cmd.Spool,
		output.Number(t.Lost), output.Elapsed(t.Elapsed))
	return err
}
