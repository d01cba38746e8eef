package main

import (
	"context"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// probesCmd shows the fleet.
type probesCmd struct {
	Gone bool `group:"select" help:"Probes that are no longer connected too."`
	outputFlags
	clientFlags
}

func (*probesCmd) examples() []string {
	return []string{"whorl probes", "whorl probes --gone --fields probe_id,state,packets_lost"}
}

func (cmd *probesCmd) check() error { return cmd.clientFlags.check() }

// Run asks and shows them.
func (cmd *probesCmd) Run(ctx context.Context, c *console) error {
	kind := output.Probes(c.now())
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	probes, err := cl.Probes(ctx, &whorlv1.ListProbesRequest{IncludeGone: cmd.Gone})
	if err != nil {
		return err
	}
	opts.Hold = len(probes)
	w := output.NewWriter(c.out, kind, opts)
	for _, p := range probes {
		if err := w.Write(p); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return cmd.none(ctx, c, cl, len(probes))
}

// none says that there are no probes, and whether there were some.
func (cmd *probesCmd) none(ctx context.Context, c *console, cl *client.Client, n int) error {
	switch {
	case n > 0:
		return nil
	case cmd.Gone:
		c.say("this collector knows of no probe")
		return nil
	}
	gone, err := cl.Probes(ctx, &whorlv1.ListProbesRequest{IncludeGone: true})
	if err != nil {
		return err
	}
	if len(gone) == 0 {
		c.say("no probe is connected; one for a test: whorl probe -r FILE")
		return nil
	}
	c.say("no probe is connected; %s gone: whorl probes --gone", output.Plural(uint64(len(gone)), "probe"))
	return nil
}
