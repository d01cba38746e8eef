package main

import (
	"context"
	"errors"

	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// countCmd counts live connections.
type countCmd struct {
	filterFlags
	By    []string `group:"select" placeholder:"FIELD" help:"Count by app, src_ip, src_ip/24, dst_port, protocol, network, probe, ja4 …"`
	Top   uint32   `group:"select" default:"20" placeholder:"N" help:"Groups to show, 1 to 1000 (default ${default})."`
	Order string   `group:"select" default:"connections" enum:"connections,packets,bytes" placeholder:"BY" help:"Largest groups by connections, packets or bytes (default ${default})."`
	outputFlags
	clientFlags
}

func (*countCmd) examples() []string {
	return []string{"whorl count --by app --top 10 proto:tcp", "whorl count -o compact bad:true"}
}

func (cmd *countCmd) check() error {
	if cmd.Top < 1 || cmd.Top > 1000 {
		return errors.New("--top: want 1 to 1000")
	}
	return cmd.clientFlags.check()
}

var orders = map[string]whorlv1.GroupOrder{
	"connections": whorlv1.GroupOrder_GROUP_ORDER_CONNECTIONS,
	"packets":     whorlv1.GroupOrder_GROUP_ORDER_PACKETS,
	"bytes":       whorlv1.GroupOrder_GROUP_ORDER_BYTES,
}

// Run counts and shows it.
func (cmd *countCmd) Run(ctx context.Context, c *console) error {
	text, err := cmd.text(c, false)
	if err != nil {
		return err
	}
	req := &whorlv1.CountRequest{Filter: text, GroupBy: cmd.By}
	if len(cmd.By) > 0 {
		req.Limit, req.OrderBy = cmd.Top, orders[cmd.Order]
	}
	if cmd.PrintRequest {
		return printRequest(c, req)
	}
	schema := output.Count().Schema
	if len(cmd.By) > 0 {
		schema = output.Groups(cmd.By).Schema
	}
	opts, err := c.options(&cmd.outputFlags, schema)
	if err != nil {
		return err
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	resp, err := cl.Count(ctx, req)
	if err != nil {
		return err
	}
	if len(cmd.By) > 0 {
		err = cmd.groups(c, resp, opts)
	} else {
		err = cmd.plain(c, resp, opts)
	}
	if err != nil {
		return err
	}
	if len(cmd.By) == 0 { // the number says it all
		return cmd.nothing(c, resp.GetCount(), "")
	}
	return cmd.nothing(c, resp.GetCount(), noneLive(text))
}

func (cmd *countCmd) plain(c *console, resp *whorlv1.CountResponse, opts output.Options) error {
	opts.Document = true
	if opts.Format == output.Compact && opts.Select == nil {
		// The bare number, for scripts: no comma in it.
		opts.Format, opts.Select = output.Compact, mustSelect(output.Count().Schema, "count")
	}
	w := output.NewWriter(c.out, output.Count(), opts)
	if err := w.Write(resp); err != nil {
		return err
	}
	return w.Close()
}

func (cmd *countCmd) groups(c *console, resp *whorlv1.CountResponse, opts output.Options) error {
	opts.Hold = len(resp.GetGroups()) + 1
	w := output.NewWriter(c.out, output.Groups(cmd.By), opts)
	rest := resp.GetCount()
	for _, g := range resp.GetGroups() {
		if err := w.Write(output.Group{Group: g}); err != nil {
			return err
		}
		rest -= min(rest, g.GetConnections()) // a connection may be in several groups
	}
	if others := resp.GetOtherGroups(); others > 0 {
		if opts.Format == output.Table && opts.Select == nil {
			if err := w.Write(output.Group{Group: &whorlv1.Group{Connections: rest}, Others: others}); err != nil {
				return err
			}
		} else {
			c.say("%s beyond --top %d", output.Plural(others, "group"), cmd.Top)
		}
	}
	return w.Close()
}

// mustSelect selects names that are known to exist.
func mustSelect(s *output.Schema, names ...string) *output.Selection {
	sel, err := s.Select(names)
	if err != nil {
		panic(err) // a name in this program
	}
	return sel
}
