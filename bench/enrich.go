package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
)

// enrichSlices is into how many slices the traffic of the suite is cut, behind the
// one packet of each connection that it begins with.
const enrichSlices = 60

// measureEnrichment compares a collector that says what fingerprints mean with one
// that does not. What disturbs a process for a second is more than the difference,
// so both run at once and are fed the same slices of a second of work in turn, while
// the other one rests.
func (b *bench) measureEnrichment() error {
	p, err := b.newProgram()
	if err != nil {
		return err
	}
	live := b.packets
	packets := 10 * live
	if b.full {
		packets = 20 * live
	}
	t := b.table("enrich", fmt.Sprintf("What enrichment adds to a whole collector with %s live connections, per packet", millions(live)), []measure.Column{
		{Name: "without", Unit: "ns"}, {Name: "with", Unit: "ns"}, {Name: "added", Unit: "ns", Spread: true},
		{Name: "from", Unit: "ns"}, {Name: "to", Unit: "ns"}, {Name: "slices"},
	}, "CPU of the process. Two collectors at once, with --enrich=false and without it, are fed the same slices in turn, each while the other rests, in changing order: medians of slices; added: median of the paired differences; from, to: within them it lies with 95 %.",
		fmt.Sprintf("Connections of the mixed traffic, 100 packets to each, %s packets behind the first one of each. Enrichment is tables, novelty and anomaly rules.", millions(packets-live)),
		"At first: the first packet of each live connection, which opens it.")
	cfg := traffic.Config{Shape: traffic.Steady, Connections: live, Packets: packets}
	return measure.Rounds(b.rounds, func() error { return b.enrichRound(p, t, cfg) })
}

// enrichRound starts both collectors and feeds them.
func (b *bench) enrichRound(p *program, t *measure.Table, cfg traffic.Config) (err error) {
	e := &enrichPair{first: cfg.Connections, slice: max((cfg.Packets-cfg.Connections)/enrichSlices, 1)}
	for i, flags := range [][]string{{"--enrich=false"}, nil} {
		col, err := p.startCollector(append(flags, room(cfg.Connections+cfg.Packets/100))...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, col.end()) }()
		e.sides[i].collector = col
	}
	g, err := traffic.New(cfg, b.sample)
	if err != nil {
		return err
	}
	source, err := probe.New(probe.Config{}, e, g)
	if err != nil {
		return err
	}
	run := func() error {
		if err := source.Run(context.Background()); err != nil {
			return err
		}
		return e.feed()
	}
	err = reporting(e.sides[0].line, func(off *client.Reporter) error {
		return reporting(e.sides[1].line, func(on *client.Reporter) error {
			e.sides[0].to, e.sides[1].to = off, on
			return run()
		})
	})
	if err != nil {
		return err
	}
	if len(e.added) < 2 {
		return fmt.Errorf("%d slices", len(e.added))
	}
	t.Add("at first", "without", e.begun[0])
	t.Add("at first", "with", e.begun[1])
	t.Add("at first", "added", e.begun[1]-e.begun[0])
	from, to := medianWithin(e.added)
	t.Add("then", "without", e.sides[0].each.Median())
	t.Add("then", "with", e.sides[1].each.Median())
	t.Add("then", "added", e.added.Median())
	t.Add("then", "from", from)
	t.Add("then", "to", to)
	t.Add("then", "slices", float64(len(e.added)))
	return nil
}

// medianWithin returns between which of the values the median of all that could have
// been measured lies with 95 %: order statistics, whatever the distribution.
func medianWithin(s measure.Series) (from, to float64) {
	sorted := slices.Sorted(slices.Values(s))
	n := float64(len(sorted))
	k := int(math.Floor((n - 1.96*math.Sqrt(n)) / 2))
	k = max(k, 0)
	return sorted[k], sorted[len(sorted)-1-k]
}

// enrichPair is a probe.Reporter that feeds two collectors.
type enrichPair struct {
	sides [2]side
	// first is how many packets open the connections, slice how many come at a
	// time then.
	first, slice int
	held         traffic.Collected
	rows, fed    int
	turn         int
	begun        [2]float64     // per packet of the first
	added        measure.Series // of each slice behind
}

// side is one of the collectors.
type side struct {
	*collector
	to      *client.Reporter
	applied uint64
	each    measure.Series // ns per packet of each slice
}

// Report implements probe.Reporter.
func (e *enrichPair) Report(ctx context.Context, b *flow.Batch) error {
	if err := e.held.Report(ctx, b); err != nil {
		return err
	}
	e.rows += b.Rows()
	if e.fed == 0 && e.rows < e.first || e.fed > 0 && e.rows < e.slice {
		return nil
	}
	return e.feed()
}

// feed gives what is held to both, one after the other.
func (e *enrichPair) feed() error {
	if e.rows == 0 {
		return nil
	}
	var ns [2]float64
	for i := range e.sides {
		which := (i + e.turn) % 2
		cpu, err := e.sides[which].feed(e.held.Batches)
		if err != nil {
			return err
		}
		ns[which] = float64(cpu) / float64(e.rows)
	}
	switch {
	case e.fed == 0:
		e.begun = ns
	case e.rows >= e.slice: // the last one is shorter
		for i := range e.sides {
			e.sides[i].each = append(e.sides[i].each, ns[i])
		}
		e.added = append(e.added, ns[1]-ns[0])
	}
	e.fed += e.rows
	e.rows, e.held.Batches = 0, e.held.Batches[:0]
	e.turn++
	return nil
}

// feed reports batches and returns what the collector used until all are applied.
func (s *side) feed(batches []*flow.Batch) (time.Duration, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	for _, b := range batches {
		if err := s.to.Report(context.Background(), b); err != nil {
			return 0, err
		}
		s.applied += uint64(b.Rows())
	}
	for s.to.Stats().HeldPackets > 0 {
		time.Sleep(time.Millisecond)
	}
	for {
		st, err := status(s.line)
		if err != nil {
			return 0, err
		}
		if st.GetPacketsApplied() == s.applied {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	after, err := s.cpu()
	return after - before, err
}
