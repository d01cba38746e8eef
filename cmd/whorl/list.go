package main

import (
	"context"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// tableLimit is where a table on a terminal stops without --limit.
const tableLimit = 1000

// listCmd lists live connections.
type listCmd struct {
	filterFlags
	Bad     bool   `group:"select" help:"Only what is known to be bad: bad:true."`
	Anomaly string `group:"select" placeholder:"RULE" help:"Only what a rule found odd, such as port-scan: anomaly:RULE."`
	Limit   uint64 `group:"select" default:"0" placeholder:"N" help:"Stop after N (default 0: all; a table on a terminal stops at 1,000)."`
	View    string `group:"select" default:"full" enum:"basic,full" placeholder:"VIEW" help:"basic (no history, no raw forms) or full (default ${default})."`
	Cursor  bool   `group:"select" help:"Also print, on standard error, the feed cursor from which watch --resume misses nothing."`
	outputFlags
	clientFlags
}

func (*listCmd) examples() []string {
	return []string{"whorl list 'ja4:t13d* -port:53'", "whorl list --limit 10 -o json bad:true"}
}

func (cmd *listCmd) check() error { return cmd.clientFlags.check() }

var views = map[string]whorlv1.ConnectionView{
	"basic": whorlv1.ConnectionView_CONNECTION_VIEW_BASIC,
	"full":  whorlv1.ConnectionView_CONNECTION_VIEW_FULL,
}

// Run lists them.
func (cmd *listCmd) Run(ctx context.Context, c *console) error {
	if cmd.Bad {
		cmd.Filter = append(cmd.Filter, "bad:true")
	}
	if cmd.Anomaly != "" {
		cmd.Filter = append(cmd.Filter, "anomaly:"+cmd.Anomaly)
	}
	text, err := cmd.text(c, false)
	if err != nil {
		return err
	}
	kind := output.Connections(cmd.clock(c))
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	opts.Hold = tableLimit
	limit, capped := cmd.Limit, false
	if limit == 0 && opts.Format == output.Table && c.outTerminal {
		limit, capped = tableLimit, true
	}
	view := views[cmd.View]
	if opts.Format.ForPeople() && opts.Select == nil {
		view = whorlv1.ConnectionView_CONNECTION_VIEW_BASIC // a table shows no history
	}
	l := &listing{c: c, limit: limit, out: output.NewWriter(c.out, kind, opts)}
	all := &whorlv1.AllRequest{Filter: text, View: view, Fields: opts.Select.Top(), PageSize: uint32(min(limit, 500))}
	export := &whorlv1.ExportRequest{Filter: text, View: view, Fields: opts.Select.Top()}
	if cmd.PrintRequest {
		if limit > 0 {
			return printRequest(c, all)
		}
		return printRequest(c, export)
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	if limit > 0 {
		err = l.pages(ctx, cl, all)
	} else {
		err = l.export(ctx, cl, export)
	}
	if err != nil {
		l.out.Flush() // what came before the error is data
		return err
	}
	if err := l.out.Close(); err != nil {
		return err
	}
	if l.more && capped {
		c.say("stopped at %s: --limit N shows more, -o jsonl all", output.Number(tableLimit))
	}
	if cmd.Cursor {
		c.say("cursor %s", l.cursor)
	}
	return cmd.nothing(c, uint64(l.out.Count()), noneLive(text))
}

// listing is one run of list.
type listing struct {
	c      *console
	out    *output.Writer[*whorlv1.Connection]
	limit  uint64
	cursor string
	more   bool // there was at least one more than the limit
}

// pages lists up to the limit.
func (l *listing) pages(ctx context.Context, cl *client.Client, req *whorlv1.AllRequest) error {
	for page, err := range cl.Pages(ctx, req) {
		if err != nil {
			return err
		}
		if l.cursor == "" {
			l.cursor = page.GetFeedCursor()
		}
		for _, conn := range page.GetConnections() {
			if uint64(l.out.Count()) == l.limit {
				l.more = true
				return nil
			}
			if err := l.out.Write(conn); err != nil {
				return err
			}
		}
		if uint64(l.out.Count()) == l.limit && page.GetNextPageToken() != "" {
			l.more = true
			return nil
		}
	}
	return nil
}

// export lists the whole table.
func (l *listing) export(ctx context.Context, cl *client.Client, req *whorlv1.ExportRequest) error {
	for resp, err := range cl.Export(ctx, req) {
		if err != nil {
			return err
		}
		for _, conn := range resp.GetConnections() {
			if err := l.out.Write(conn); err != nil {
				return err
			}
		}
		l.cursor = resp.GetFeedCursor()
	}
	if l.cursor == "" {
		return failf(exitIncomplete, "list: the collector ended the listing before its end")
	}
	return nil
}
