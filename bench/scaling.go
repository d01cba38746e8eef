package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/tracker"
)

// applying says what a process of its own is to apply to a table.
type applying struct {
	// Sample is the capture that mixed traffic is made from; empty means
	// uniform traffic: updates of connections chosen at random.
	Sample      string
	Connections int
	// Packets are measured. Of mixed traffic it is all of them, from the first.
	Packets int
	// Shards of the table; 0 is the default.
	Shards int
}

// applied is what that took.
type applied struct{ CPU, Wall time.Duration }

// measureScaling shows how routing and applying scale: with cores and shards, and
// with connections.
func (b *bench) measureScaling() error {
	columns := []measure.Column{{Name: "CPU", Unit: "ns", Spread: true}, {Name: "wall", Unit: "ns"}, {Name: "packets/s", More: true}}
	cores := b.table("scaling/cores", fmt.Sprintf("Route and apply, by cores and shards: uniform updates of %s connections, per packet", millions(b.packets)), columns,
		"One goroutine routes, half of the processors are workers, at least one.")
	sizes := b.table("scaling/connections", "Route and apply, by connections, per packet", columns,
		"uniform: updates of connections chosen at random, all of them there; mixed: traffic with 20 packets per connection from the first on, with fingerprints, connections that begin and end.")
	var cases []func() error
	for procs := range 2 {
		for _, shards := range []int{1, 16, 64, 256} {
			cases = append(cases, func() error {
				return b.apply(cores, fmt.Sprintf("GOMAXPROCS %d, shards %d", procs+1, shards), procs+1,
					applying{Connections: b.packets, Packets: b.packets, Shards: shards})
			})
		}
	}
	counts := []int{max(b.packets/100, 50), b.packets / 10, b.packets}
	for _, n := range append(counts, 4*b.packets) {
		cases = append(cases, func() error {
			return b.apply(sizes, "uniform, "+millions(n), 0, applying{Connections: n, Packets: b.packets})
		})
	}
	if b.full {
		counts = append(counts, 4*b.packets)
	}
	for _, n := range counts {
		cases = append(cases, func() error {
			return b.apply(sizes, "mixed, "+millions(n), 0, applying{Sample: b.samplePath, Connections: n, Packets: max(20*n, b.packets/2)})
		})
	}
	return measure.Rounds(b.rounds, cases...)
}

// apply runs a in a process with that many cores; 0 is all.
func (b *bench) apply(table *measure.Table, row string, cores int, a applying) error {
	env := os.Environ()
	if cores > 0 {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(cores))
	}
	task, err := json.Marshal(a)
	if err != nil {
		return err
	}
	c, err := startRoleIn(env, "apply", string(task))
	if err != nil {
		return fmt.Errorf("%s: %w", row, err)
	}
	var done applied
	if err := errors.Join(json.Unmarshal([]byte(c.line), &done), c.stop()); err != nil {
		return fmt.Errorf("%s: %w", row, err)
	}
	table.AddUse(row, measure.Use(done), a.Packets)
	table.Add(row, "packets/s", float64(a.Packets)/done.Wall.Seconds())
	return nil
}

// applyRole applies in this process and prints what it took.
func applyRole(args []string) error {
	var a applying
	if len(args) != 1 {
		return fmt.Errorf("apply: %d arguments", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	// With room in each shard for more than its part.
	t, err := newTable(tracker.Config{MaxConnections: a.Connections*5/4 + 100*max(a.Shards, 64), Shards: a.Shards})
	if err != nil {
		return err
	}
	run := a.uniform
	if a.Sample != "" {
		run = a.mixed
	}
	use, err := run(t)
	if err := errors.Join(err, t.stop()); err != nil {
		return err
	}
	b, err := json.Marshal(applied(use))
	if err != nil {
		return err
	}
	ready(string(b))
	return nil
}

// uniform fills the table and then measures updates.
func (a *applying) uniform(t *table) (measure.Use, error) {
	const piece = 100_000
	back := func(n int) flow.Tuple { return numbered.UDPFlow(n).Reverse() }
	for from := 0; from < a.Connections; from += piece {
		fill := numbered.Rows{From: from, To: min(from+piece, a.Connections), Of: numbered.UDPFlow}
		if err := t.submit(fill.Batches()); err != nil {
			return measure.Use{}, err
		}
		fill.Of = back // both sides have spoken: updates change no state
		if err := t.submit(fill.Batches()); err != nil {
			return measure.Use{}, err
		}
	}
	if live := int(t.Count().Live); live != a.Connections {
		return measure.Use{}, fmt.Errorf("%d connections, want %d", live, a.Connections)
	}
	batches := numbered.Updates(rand.New(rand.NewPCG(1, 2)), a.Packets, a.Connections, 1)
	return timed(func() error { return t.submit(batches) })
}

// mixed measures as the traffic is made: a few batches at a time, while nothing
// else runs in this process.
func (a *applying) mixed(t *table) (measure.Use, error) {
	s, err := readSample(a.Sample)
	if err != nil {
		return measure.Use{}, err
	}
	g, err := traffic.New(traffic.Config{Shape: traffic.Mixed, Packets: a.Packets, Connections: a.Connections, Span: time.Minute}, s)
	if err != nil {
		return measure.Use{}, err
	}
	to := &applier{table: t}
	p, err := probe.New(probe.Config{}, to, g)
	if err != nil {
		return measure.Use{}, err
	}
	if err := p.Run(context.Background()); err != nil {
		return measure.Use{}, err
	}
	err = to.apply()
	return to.use, err
}

// applier is a probe.Reporter that applies what it is given, and measures that
// alone.
type applier struct {
	table *table
	held  traffic.Collected
	use   measure.Use
}

// atOnce is how many batches are applied at a time: as many as a collector lets
// be under way.
const atOnce = window

// Report implements probe.Reporter.
func (a *applier) Report(ctx context.Context, b *flow.Batch) error {
	if err := a.held.Report(ctx, b); err != nil || len(a.held.Batches) < atOnce {
		return err
	}
	return a.apply()
}

// apply applies what is held.
func (a *applier) apply() error {
	stop := measure.Start()
	err := a.table.submit(a.held.Batches)
	use := stop()
	a.use.CPU += use.CPU
	a.use.Wall += use.Wall
	a.held.Batches = a.held.Batches[:0]
	return err
}
