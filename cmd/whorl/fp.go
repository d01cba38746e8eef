package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// fpCmd prints the fingerprints of capture files.
type fpCmd struct {
	Files   []string `arg:"" name:"file" placeholder:"FILE" help:"Capture files: pcap or pcapng, also in gzip; - is standard input."`
	Network string   `group:"select" default:"default" placeholder:"NAME" help:"Network to print with each (default ${default}, which is left out)."`
	Raw     bool     `group:"select" help:"Show the unhashed form in tables too; --types ja4_ro does."`
	Outer   bool     `group:"select" help:"The outer addresses of tunnelled packets instead of the innermost."`
	Keylog  string   `group:"select" placeholder:"FILE" help:"TLS secrets (SSLKEYLOGFILE format), to fingerprint what is inside."`
	typeFlags
	outputFlags
}

func (*fpCmd) examples() []string {
	return []string{"whorl fp capture.pcap", "whorl fp --types ja4,ja4s -o jsonl *.pcapng | jq -r .value"}
}

func (cmd *fpCmd) check() error {
	if err := flow.CheckNetwork(cmd.Network); err != nil {
		return err
	}
	_, err := cmd.set()
	return err
}

// Run prints them, file after file. A file that cannot be read does not keep
// the others from being.
func (cmd *fpCmd) Run(ctx context.Context, c *console) error {
	kind := output.Fingerprints(output.FromFirst, cmd.clock(c), cmd.Raw || slices.Contains(cmd.Types, "ja4_ro"))
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	opts.Hold = tableLimit
	set, err := cmd.set()
	if err != nil {
		return err
	}
	secrets, _, err := openSecrets(cmd.Keylog)
	if err != nil {
		return err
	}
	c.remarkSecrets(cmd.Keylog, secrets, false)
	tables, err := enrich.Load(enrich.Config{})
	if err != nil {
		return err
	}
	p := &printer{secrets: secrets, tables: tables, cmd: cmd, c: c, set: set, start: c.now(), out: output.NewWriter(c.out, kind, opts)}
	failed := error(nil)
	for _, name := range cmd.Files {
		err := p.file(ctx, name)
		var broken *capture.FileError
		if err != nil && !errors.As(err, &broken) {
			return err // nothing more can be written, or nobody wants more
		}
		if err == nil {
			continue
		}
		if err := p.out.Flush(); err != nil {
			return err
		}
		code := c.report(err)
		if failed == nil {
			failed = &failure{code: code} // said already
		}
	}
	if err := p.out.Close(); err != nil {
		return err
	}
	p.totals.Elapsed = c.now().Sub(p.start)
	for i := range p.read {
		p.read[i].remark(c, len(cmd.Files) > 1)
	}
	if failed == nil || p.totals.Packets > 0 {
		c.say("%s", p.totals.Line(false))
	}
	return failed
}

// printer is one run of fp.
type printer struct {
	cmd     *fpCmd
	c       *console
	set     ja4.TypeSet
	secrets *cleartext.KeyLog
	tables  *enrich.Tables
	start   time.Time
	out     *output.Writer[output.Fingerprint]
	totals  output.Totals
	read    []fileTotals
}

// fileTotals are what was counted of one file.
type fileTotals struct {
	name string
	probe.Totals
}

// remark says what kept packets of the file from giving all they could.
func (t *fileTotals) remark(c *console, named bool) {
	prefix := ""
	if named {
		prefix = t.name + ": "
	}
	c.remarkCapture(prefix, &t.Totals, true)
}

// file prints the fingerprints of one file, as far as it can be read.
func (p *printer) file(ctx context.Context, name string) error {
	f, err := capture.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	probe.TakeSecrets(f, p.secrets)
	src := &fileSource{file: f, source: f}
	if piped(name) {
		src.source = capture.NewStream(f)
	}
	if !p.c.outTerminal { // rows would run into the line
		src.bar = newProgress(p.c, nil)
	}
	defer src.bar.clear()
	totals, err := probe.Fingerprints(ctx, src, probe.Config{Types: p.set, Outer: p.cmd.Outer, Secrets: p.secrets}, func(e *handshake.Event) error {
		app, bad := p.tables.Value(e.Type, e.Value)
		return p.out.Write(output.Fingerprint{
			Time: e.Time, Since: src.first, Network: p.cmd.Network, Tuple: e.Tuple,
			Event: e.Event, PacketNum: e.PacketNum, App: app, Bad: bad,
		})
	})
	p.read = append(p.read, fileTotals{name, totals})
	p.totals.Packets += totals.Packets
	p.totals.Bytes += totals.Bytes
	p.totals.Connections += totals.Connections
	p.totals.Fingerprints += totals.Fingerprints
	p.totals.Undecodable += totals.Undecodable
	return err
}
