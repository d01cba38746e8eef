package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/internal/output"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// fingerprintsCmd shows what networks have shown, and forgets it.
type fingerprintsCmd struct {
	Pattern []string `arg:"" optional:"" help:"Which values: whole ones, t13d* or t13d1516h2_*_02713d6af862; any may match. Of a ja4h the first two parts are kept."`
	Type    string   `group:"select" placeholder:"TYPE" help:"Of this type only, such as ja4."`
	Network string   `group:"select" placeholder:"LABEL" help:"Of this network only."`
	Since   moment   `group:"select" placeholder:"TIME" help:"First seen since then: an age such as 2h, or an RFC 3339 time."`
	Bad     bool     `group:"select" help:"Only those that a table knows to be bad."`
	Limit   uint64   `group:"select" default:"0" placeholder:"N" help:"Stop after N (default 0: all)."`
	Forget  bool     `group:"select" help:"Forget that they were ever seen, so that they are new again; with --yes only."`
	Yes     bool     `group:"select" help:"Do it; without it --forget only prints the number."`
	outputFlags
	clientFlags
}

func (*fingerprintsCmd) examples() []string {
	return []string{"whorl fingerprints --type ja4 --since 24h", "whorl fingerprints --forget --yes 't13d1516h2_*_02713d6af862'"}
}

func (cmd *fingerprintsCmd) check() error {
	switch {
	case cmd.Yes && !cmd.Forget:
		return errors.New("--yes is for --forget")
	case cmd.Forget && len(cmd.Pattern) == 0 && cmd.Type == "":
		return errors.New("--forget wants a pattern, or --type: '*' stands for all")
	case cmd.Forget && (cmd.Since.set() || cmd.Bad || cmd.Limit > 0):
		return errors.New("--forget goes with patterns, --type and --network alone")
	}
	if cmd.Type != "" {
		if _, err := parseType(cmd.Type); err != nil {
			return fmt.Errorf("--type: %w", err)
		}
	}
	return cmd.clientFlags.check()
}

// Run asks and shows them.
func (cmd *fingerprintsCmd) Run(ctx context.Context, c *console) error {
	kind := output.Inventory(c.now())
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	if cmd.Forget {
		matched, err := cl.Forget(ctx, &whorlv1.ForgetFingerprintsRequest{
			Type: cmd.Type, Pattern: cmd.Pattern, Network: cmd.Network, Confirm: cmd.Yes,
		})
		if err != nil {
			return err
		}
		what := "would be forgotten; --yes forgets"
		if cmd.Yes {
			what = "forgotten"
		}
		_, err = fmt.Fprintf(c.out, "%s %s\n", output.Plural(matched, "fingerprint"), what)
		return err
	}
	req := &whorlv1.ListFingerprintsRequest{Type: cmd.Type, Pattern: cmd.Pattern, Network: cmd.Network, BadOnly: cmd.Bad}
	if cmd.Since.set() {
		req.FirstSeenAfter = timestamppb.New(cmd.Since.on(c.now()))
	}
	opts.Hold = tableLimit
	w := output.NewWriter(c.out, kind, opts)
	for f, err := range cl.Fingerprints(ctx, req) {
		if err != nil {
			w.Flush() // what came before the error is data
			return err
		}
		if err := w.Write(f); err != nil {
			return err
		}
		if cmd.Limit > 0 && uint64(w.Count()) == cmd.Limit {
			break
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if w.Count() == 0 {
		c.say("%s", cmd.none())
	}
	return nil
}

// none says that nothing was found, and under what conditions.
func (cmd *fingerprintsCmd) none() string {
	if len(cmd.Pattern) == 0 && cmd.Type == "" && cmd.Network == "" && !cmd.Since.set() && !cmd.Bad {
		return "no network has shown a fingerprint yet"
	}
	return "no fingerprint that was shown matches; live connections: whorl list fp:PATTERN"
}

// reloadCmd makes the collector read its files again.
type reloadCmd struct {
	clientFlags
}

func (*reloadCmd) examples() []string { return []string{"whorl reload"} }

func (cmd *reloadCmd) check() error { return cmd.clientFlags.check() }

// Run asks for it and says what changed.
func (cmd *reloadCmd) Run(ctx context.Context, c *console) error {
	cl, err := cmd.dial(ctx, c)
	if err != nil {
		return err
	}
	defer cl.Close()
	resp, err := cl.Reload(ctx)
	if err != nil {
		return err
	}
	if len(resp.GetChanged()) == 0 {
		fmt.Fprintf(c.out, "nothing changed; configuration %s\n", resp.GetConfigHash())
	}
	for _, what := range resp.GetChanged() {
		fmt.Fprintf(c.out, "changed: %s\n", what)
	}
	for _, what := range resp.GetIgnoredUntilRestart() {
		fmt.Fprintf(c.out, "waits for a restart: %s\n", what)
	}
	return nil
}
