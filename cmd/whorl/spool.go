package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
)

// sendFlags are those of a probe on its way to the collector: how it sends, and
// what it keeps when the collector has not taken it.
type sendFlags struct {
	Wait     time.Duration `group:"report" default:"30s" placeholder:"DURATION" help:"With -r, or --spool alone: how long to try while the collector is not there yet (default ${default}; 0 tries once). Once it was there, a file waits for as long as it takes."`
	Compress string        `group:"report" enum:"none,zstd" default:"none" placeholder:"HOW" help:"zstd compresses what is sent, for slow links; none does not (default ${default})."`
	Spool    string        `group:"report" placeholder:"DIR" help:"Keep batches in this directory when the collector is away for more than a second; the next start sends them. With -r and no collector the files are read into it. Without -i or -r: send what waits there, then exit."`
	SpoolMax size          `group:"report" default:"1GiB" placeholder:"SIZE" help:"What the spool may take; beyond, the oldest batches become one Lost record, with -r the reader waits (default ${default})."`
}

func (f *sendFlags) check() error {
	switch {
	case f.SpoolMax < client.MinSpoolBytes:
		return fmt.Errorf("--spool-max: want at least %v", size(client.MinSpoolBytes))
	case f.Wait < 0:
		return errors.New("--wait: want 0 or more")
	}
	return nil
}

// explainSpool says what to do about a Reporter on the spool dir that could not
// be made.
func (c *console) explainSpool(dir string, err error) error {
	text := strings.TrimPrefix(plainPath(err), "reporter: ")
	switch {
	case client.SpoolInUse(err):
		return failf(exitFailed, "%s", text).hint("another directory for each probe: --spool DIR")
	case client.SpoolTaken(err):
		return failf(exitFailed, "%s", text).hint(
			hintLine("send those:", c.sendSpoolLine(dir, false)), hintLine("or elsewhere:", "a directory for each probe and network: --spool DIR"))
	}
	if strings.HasPrefix(text, "spool ") || strings.Contains(text, "/") {
		return failf(orForbidden(exitFailed, err), "%s", text)
	}
	return failf(orForbidden(exitUsage, err), "%s", text)
}

// sendSpoolLine is the command that sends what waits in a spool, to the
// collector that was typed.
func (c *console) sendSpoolLine(dir string, flush bool) string {
	words := []string{"whorl", "probe", "--spool", dir}
	if flush {
		words = append(words, "--flush")
	}
	return shellLine(append(words, c.typed("config", "collector", "tls-ca", "tls-cert", "tls-key", "tls-server-name",
		"token-file", "insecure", "timeout", "wait", "compress", "spool-max")...))
}

// typed are those of these long flags that were on the command line, with their
// values. All but insecure have one.
func (c *console) typed(flags ...string) (words []string) {
	for i := 0; i < len(c.args) && c.args[i] != "--"; i++ {
		name, ok := strings.CutPrefix(c.args[i], "--")
		name, _, hasValue := strings.Cut(name, "=")
		if !ok || !slices.Contains(flags, name) {
			continue
		}
		words = append(words, c.args[i])
		if !hasValue && name != "insecure" && i+1 < len(c.args) {
			i++
			words = append(words, c.args[i])
		}
	}
	return words
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
	cl, err := cmd.dial(ctx, c, client.WithLazy())
	if err != nil {
		return err
	}
	defer cl.Close()
	start := c.now()
	cfg := cmd.reporterConfig(c, nil)
	cfg.ProbeID, cfg.Network, cfg.Live, cfg.Full, cfg.MustConnect = info.ProbeID, info.Network, info.Live, client.Block, true
	r, err := cl.Reporter(cfg)
	if err != nil {
		return c.explainSpool(cmd.Spool, err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	finishErr := r.Finish(ctx, cmd.Flush && !info.Live)
	stop()
	runErr := <-ended
	s := r.Stats()
	if s.Connects == 0 && ctx.Err() == nil {
		return runErr // nobody was there to send it to
	}
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
