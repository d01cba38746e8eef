package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/whorl-net/whorl/internal/config"
	"github.com/whorl-net/whorl/internal/output"
)

// console is the world a command runs in: where it writes and talks.
type console struct {
	out, err                 io.Writer
	outTerminal, errTerminal bool
	now                      func() time.Time
	getenv                   func(string) string

	// What the flags for all commands made of it.
	quiet   bool
	color   bool
	logger  *slog.Logger
	command string       // name of the sub-command
	args    []string     // as they were typed
	file    *config.File // nil without one
}

// configure takes over the flags for all commands.
func (c *console) configure(g *globalFlags) {
	c.quiet = g.Quiet
	switch g.Color {
	case "always":
		c.color = true
	case "auto":
		c.color = c.outTerminal && c.getenv("NO_COLOR") == "" && c.getenv("TERM") != "dumb"
	}
	level := slog.LevelWarn
	switch {
	case g.Quiet:
		level = slog.LevelError
	case g.Verbose == 1:
		level = slog.LevelInfo
	case g.Verbose > 1:
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	if g.LogFormat == "json" {
		c.logger = slog.New(slog.NewJSONHandler(c.err, opts))
		return
	}
	c.logger = slog.New(slog.NewTextHandler(c.err, opts))
}

// say tells people something beside the data; not with --quiet.
func (c *console) say(format string, args ...any) {
	if !c.quiet {
		fmt.Fprintf(c.err, format+"\n", args...)
	}
}

// options returns how to show data under the flags of a command.
func (c *console) options(f *outputFlags, schema *output.Schema) (output.Options, error) {
	o := output.Options{Format: f.Output.On(c.outTerminal), Color: c.color}
	if len(f.Fields) == 0 {
		return o, nil
	}
	sel, err := schema.Select(f.Fields)
	if err != nil {
		return o, err
	}
	o.Select = sel
	return o, nil
}
