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
