package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/probe"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// probeCmd captures and reports to a collector.
type probeCmd struct {
	captureFlags
	sendFlags
	DryRun bool `group:"report" help:"Print what would be sent, as JSON; connect to nobody."`
	clientFlags
}

func (*probeCmd) examples() []string {
	return []string{
		"sudo whorl probe -i eth0 --network berlin --collector col.example.net:4750 'not port 4750'",
		"whorl probe -r capture.pcap --network lab --flush",
		"sudo whorl probe -i eth0 --spool /var/spool/whorl",
	}
}

func (cmd *probeCmd) check() error {
	cmd.captureFlags.send = cmd.sendFlags
	if cmd.spoolAlone() {
		return errors.Join(cmd.sendFlags.check(), cmd.clientFlags.check())
	}
	return errors.Join(cmd.captureFlags.check(), cmd.sendFlags.check(), cmd.clientFlags.check())
}

func (cmd *probeCmd) defaults(*console) map[string]string {
	return map[string]string{"probe-id": cmd.probeName()}
}

// spoolAlone reports whether nothing is to be captured, only sent.
func (cmd *probeCmd) spoolAlone() bool {
	return cmd.Spool != "" && len(cmd.Interface) == 0 && len(cmd.Read) == 0 && !cmd.ListInterfaces
}

// Run captures until the files end or it is told to end.
func (cmd *probeCmd) Run(ctx context.Context, c *console) error {
	if cmd.ListInterfaces {
		return listInterfaces(c)
	}
	if cmd.spoolAlone() {
		return cmd.sendSpool(ctx, c)
	}
	var p *capturing
	bar := newProgress(c, func() string { return p.progress() })
	src, err := cmd.open(bar)
	if err != nil {
		return err
	}
	defer src.close()
	if cmd.DryRun {
		return cmd.dryRun(ctx, c, src)
	}
	cl, err := cmd.connect(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	if p, err = newCapturing(c, &cmd.captureFlags, src, cl, nil); err != nil {
		return err
	}
	if src.about != "" {
		c.say("%s", src.about)
		c.tellSystemd(nowReady)
	}
	err = p.run(ctx)
	bar.clear()
	if err != nil && !brokenOff(err) {
		return err
	}
	p.remark()
	if err := printTotals(c, c.out, p.totals()); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return p.incomplete()
}

// connect leaves it to the reporter to find the collector: a live capture starts
// without one, and files wait for it, see sendFlags.Wait. Only of files with a
// spool must be known at once where they go.
func (cmd *probeCmd) connect(ctx context.Context, c *console) (*client.Client, error) {
	if cmd.live() || cmd.Spool == "" {
		return cmd.dial(ctx, c, client.WithLazy())
	}
	cl, err := cmd.dial(ctx, c)
	var away *client.DialError
	if !errors.As(err, &away) {
		return cl, err
	}
	c.say("%s: what is read goes to the spool %s", c.explain(err).text, cmd.Spool)
	cmd.toSpool = true
	return cmd.dial(ctx, c, client.WithLazy())
}

// progress is what the progress line says beside the file.
func (p *capturing) progress() string {
	if p == nil {
		return ""
	}
	t, s := p.probe.Totals(), p.reporter.Stats()
	connections := ""
	if !p.flags.onlyCounts() {
		connections = ", " + output.Plural(t.Connections, "connection")
	}
	return fmt.Sprintf("%s, %s lost", connections, output.Number(s.LostPackets))
}

// printTotals prints the end line: text on a terminal, JSON elsewhere.
func printTotals(c *console, w io.Writer, t output.Totals) error {
	if c.outTerminal {
		_, err := fmt.Fprintln(w, t.Line(true))
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n", t.AppendJSON(nil))
	return err
}

// dryRun prints batches instead of sending them.
func (cmd *probeCmd) dryRun(ctx context.Context, c *console, src *sources) error {
	cfg, err := cmd.probeConfig(c, src)
	if err != nil {
		return err
	}
	start := c.now()
	p, err := probe.New(cfg, &batchPrinter{w: c.out}, src.all...)
	if err != nil {
		return failf(exitUsage, "%v", err)
	}
	err = p.Run(ctx)
	if err != nil && !brokenOff(err) {
		return err
	}
	t := p.Totals()
	totals := output.Totals{
		Packets: t.Packets, Bytes: t.Bytes, Connections: t.Connections, Fingerprints: t.Fingerprints,
		Undecodable: t.Undecodable, Uncounted: cmd.onlyCounts(), Elapsed: c.now().Sub(start),
	}
	c.say("%s", totals.Line(false))
	return err
}

// batchPrinter is a probe.Reporter that prints batches as JSON.
type batchPrinter struct {
	w        io.Writer
	sequence uint64
	encoded  []byte
	line     []byte
}

// Report prints b.
func (p *batchPrinter) Report(_ context.Context, b *flow.Batch) error {
	p.sequence++
	b.Sequence = p.sequence
	p.encoded = wire.AppendBatch(p.encoded[:0], b)
	var m whorlv1.Batch
	if err := proto.Unmarshal(p.encoded, &m); err != nil {
		return fmt.Errorf("print a batch: %w", err)
	}
	p.line = append(output.AppendJSON(p.line[:0], &m, nil), '\n')
	_, err := p.w.Write(p.line)
	return err
}
