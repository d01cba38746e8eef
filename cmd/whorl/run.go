package main

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/test/bufconn"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/rpc"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/handshake"
	"github.com/whorl-net/whorl/service"
)

// runCmd is a collector and a probe in one process.
type runCmd struct {
	captureFlags
	collectorFlags
	Durability string `group:"keep" enum:"disk,memory" default:"memory" placeholder:"MODE" help:"disk: what was acknowledged survives crashes and power cuts; memory: nothing survives a restart (default ${default})."`
	outputFlags
}

func (*runCmd) examples() []string {
	return []string{"sudo whorl run -i eth0", "whorl run -r capture.pcap --speed 1x"}
}

func (cmd *runCmd) check() error {
	return errors.Join(cmd.captureFlags.check(), cmd.collectorFlags.check(cmd.Durability))
}

func (cmd *runCmd) defaults(c *console) map[string]string {
	found := cmd.collectorFlags.defaults(c, cmd.Durability)
	found["probe-id"] = cmd.probeName()
	return found
}

// Run starts the collector, captures into it and prints fingerprints as they
// come. After files it stays until it is told to end.
func (cmd *runCmd) Run(ctx context.Context, c *console) error {
	if cmd.ListInterfaces {
		return listInterfaces(c)
	}
	kind := output.Fingerprints(output.TimeOfDay, cmd.clock(c), false)
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	src, err := cmd.open(nil)
	if err != nil {
		return err
	}
	defer src.close()

	inside := bufconn.Listen(1 << 20) // the way of the probe: no port, no TLS
	admin, err := cmd.admin(c)
	if err != nil {
		return err
	}
	col, err := cmd.collector(c, inside, admin)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served := make(chan error, 1)
	go func() { served <- admin.during(serving, col) }()
	select {
	case <-col.Ready():
	case err := <-served:
		return err
	}

	err = cmd.capture(ctx, c, src, inside, &fingerprintPrinter{out: output.NewWriter(c.out, kind, opts), network: cmd.Network, knownFor: col.KnownFor})
	if err == nil && ctx.Err() == nil { // the files have ended
		c.say("the collector stays: whorl list, whorl watch; end it with Ctrl-C")
		select {
		case <-ctx.Done():
		case err := <-served:
			return err
		}
	}
	stop()
	return errors.Join(err, <-served)
}

// collector builds one that listens as the flags say and to inside.
func (cmd *runCmd) collector(c *console, inside net.Listener, admin *adminServer) (*service.Collector, error) {
	cfg, err := cmd.collectorFlags.config(c, cmd.Durability, !cmd.JA4Plus)
	if err != nil {
		return nil, err
	}
	cfg.Listeners = []net.Listener{inside}
	public := true
	for _, addr := range cmd.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, err
		}
		cfg.Listeners = append(cfg.Listeners, l)
		public = public && !rpc.Loopback(addr)
	}
	if cfg.Reflection == service.ReflectionAuto && !public {
		cfg.Reflection = service.ReflectionOn
	}
	col, err := newCollector(cfg)
	if err != nil {
		return nil, err
	}
	var addrs []net.Addr
	for _, l := range cfg.Listeners[1:] {
		addrs = append(addrs, l.Addr())
	}
	c.say("collector on %s (gRPC)%s; %s", addresses(addrs), admin.about(), kept(&cfg, col))
	return col, nil
}

// capture runs the probe against the collector behind inside.
func (cmd *runCmd) capture(ctx context.Context, c *console, src *sources, inside *bufconn.Listener, printer *fingerprintPrinter) error {
	cl, err := client.Dial(ctx, client.DefaultAddr, client.WithLogger(c.logger),
		client.WithDialer(func(ctx context.Context, _ string) (net.Conn, error) { return inside.DialContext(ctx) }))
	if err != nil {
		return err
	}
	defer cl.Close()
	p, err := newCapturing(c, &cmd.captureFlags, src, cl, printer)
	if err != nil {
		return err
	}
	if src.about != "" {
		c.say("%s", src.about)
	}
	err = p.run(ctx)
	if err != nil && !brokenOff(err) {
		return err
	}
	if closeErr := printer.out.Close(); closeErr != nil {
		return closeErr
	}
	p.remark()
	c.say("%s", p.totals().Line(true))
	p.cut = false // it is how a run ends
	return errors.Join(err, p.incomplete())
}

// fingerprintPrinter prints fingerprints as the probe finds them, and shows what
// it printed whenever a batch is reported.
type fingerprintPrinter struct {
	probe.Reporter
	network  string
	knownFor func(t ja4.Type, value string) (app string, bad bool)

	mu  sync.Mutex // guards out: each queue of a live capture is a goroutine
	out *output.Writer[output.Fingerprint]
}

// event prints e. What cannot be printed ends the capture.
func (p *fingerprintPrinter) event(e *handshake.Event) error {
	app, bad := p.knownFor(e.Type, e.Value)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(output.Fingerprint{
		Time: e.Time, Network: p.network, Tuple: e.Tuple, Event: e.Event, PacketNum: e.PacketNum, App: app, Bad: bad,
	})
}

// Report shows what was printed and passes b on.
func (p *fingerprintPrinter) Report(ctx context.Context, b *flow.Batch) error {
	if len(b.Fingerprints) > 0 {
		p.mu.Lock()
		err := p.out.Flush()
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return p.Reporter.Report(ctx, b)
}
