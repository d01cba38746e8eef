package main

import (
	"context"

	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// statusCmd shows the state of the collector.
type statusCmd struct {
	Shards bool `group:"select" help:"Each shard too."`
	outputFlags
	clientFlags
}

func (*statusCmd) examples() []string {
	return []string{"whorl status", "whorl status -o json | jq .drops"}
}

// Help explains the lines that do not explain themselves.
func (*statusCmd) Help() string {
	return `packets late: applied, though they came later than an idle timeout of their network's clock, or from its future. They moved no clock: two captures in one network, or a probe with a wrong clock.

dropped PLACE: what was dropped or refused, and where. Nothing is missing; docs/operations.md says of each place what happened and what to do. tracker.fingerprints_orphaned, for one, are fingerprints that became known after their connection had left the table.

The same numbers are at /metrics of the collector's admin address.`
}

func (cmd *statusCmd) check() error { return cmd.clientFlags.check() }

// Run asks and shows it.
func (cmd *statusCmd) Run(ctx context.Context, c *console) error {
	kind := output.Status()
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	resp, err := cl.Status(ctx, &whorlv1.GetStatusRequest{IncludeShards: cmd.Shards})
	if err != nil {
		return err
	}
	if opts.Format.ForPeople() && opts.Select == nil {
		return showFacts(c, output.StatusFacts(resp, c.now()), opts)
	}
	opts.Document = true
	w := output.NewWriter(c.out, kind, opts)
	if err := w.Write(resp); err != nil {
		return err
	}
	return w.Close()
}

func showFacts(c *console, facts []output.Fact, opts output.Options) error {
	opts.Hold = len(facts)
	w := output.NewWriter(c.out, output.Facts(), opts)
	for _, f := range facts {
		if err := w.Write(f); err != nil {
			return err
		}
	}
	return w.Close()
}
