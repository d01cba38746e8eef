package main

import (
	"context"

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
	return w.Close()
}
