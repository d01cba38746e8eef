package main

import (
	"context"
	"fmt"

	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/selftest"
	"github.com/whorl-net/whorl/ja4"
)

// selftestCmd proves that this binary computes fingerprints as it should.
type selftestCmd struct {
	ja4plusFlag
	outputFlags
}

func (*selftestCmd) examples() []string {
	return []string{"whorl selftest", "whorl selftest --ja4plus=false -o jsonl"}
}

// maxSelftestLines is how many vectors that fail are shown with what they
// gave; the table has the number of all.
const maxSelftestLines = 4

// Run runs the embedded vectors and shows, by type, how many came out. It
// fails when one did not.
func (cmd *selftestCmd) Run(ctx context.Context, c *console) error {
	kind := output.Conformances()
	opts, err := c.options(&cmd.outputFlags, kind.Schema)
	if err != nil {
		return err
	}
	types := ja4.AllTypes.With(ja4.TypeJA4O)
	if !cmd.JA4Plus {
		types = ja4.JA4Only
	}
	tallies, err := selftest.Run(ctx, types)
	if err != nil {
		return fmt.Errorf("selftest: %w", err)
	}
	opts.Hold = len(tallies)
	w := output.NewWriter(c.out, kind, opts)
	vectors, passed := 0, 0
	var lines []string
	for _, t := range tallies {
		vectors, passed, lines = vectors+t.Vectors, passed+t.Passed, append(lines, t.Failures...)
		if err := w.Write(output.Conformance{Type: t.Type.String(), Vectors: t.Vectors, Passed: t.Passed}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if passed < vectors {
		return failf(exitFailed, "selftest: %d of %d failed: this binary must not be trusted with those types", vectors-passed, vectors).
			hint(lines[:min(len(lines), maxSelftestLines)]...)
	}
	c.say("%d vectors of %d types passed", passed, len(tallies))
	return nil
}
