package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// flushCmd evicts live connections through the feed.
type flushCmd struct {
	Filter []string `arg:"" optional:"" help:"Which ones, as for list. Required, unless --all."`
	All    bool     `group:"select" help:"Every connection."`
	Yes    bool     `group:"select" help:"Do it; without it only the number is printed."`
	outputFlags
	clientFlags
}

func (*flushCmd) examples() []string {
	return []string{"whorl flush network:lab", "whorl flush --yes network:lab"}
}

func (cmd *flushCmd) check() error {
	switch {
	case cmd.All && len(cmd.Filter) > 0:
		return errors.New("--all and a filter: give one of them")
	case !cmd.All && strings.TrimSpace(strings.Join(cmd.Filter, "")) == "": // a blank filter matches all
		return errors.New("want a filter, or --all for every connection")
	}
	return cmd.clientFlags.check()
}

// Run counts or evicts, and prints the number.
func (cmd *flushCmd) Run(ctx context.Context, c *console) error {
	words := filterFlags{Filter: cmd.Filter}
	text, err := words.text(c, false)
	if err != nil {
		return err
	}
	kind := output.Flushes()
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	matched, err := cl.Flush(ctx, &whorlv1.FlushConnectionsRequest{Filter: text, Confirm: cmd.Yes})
	if err != nil {
		return err
	}
	if opts.Format != output.Table || opts.Select != nil {
		opts.Document = true
		w := output.NewWriter(c.out, kind, opts)
		if err := w.Write(output.Flushed{Matched: matched, Evicted: cmd.Yes}); err != nil {
			return err
		}
		return w.Close()
	}
	what := "would be evicted; --yes evicts"
	if cmd.Yes {
		what = "evicted"
	}
	_, err = fmt.Fprintf(c.out, "%s %s\n", output.Plural(matched, "connection"), what)
	return err
}
