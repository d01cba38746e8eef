package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"time"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/tracker"
)

// knowing is a tracker that says what fingerprints mean and finds what is new
// and what is odd, or one that does neither: what a collector has behind its
// door, without gRPC and feed.
type knowing struct {
	*table
	analyst *analyst.Analyst // nil knows nothing
	taken   uint64           // evictions
	body    []byte
}

// newKnowing starts one for so many connections.
func newKnowing(on bool, connections int) (*knowing, error) {
	k := new(knowing)
	cfg := tracker.Config{MaxConnections: connections, MaxMemoryBytes: 4 << 30, Enrich: enrich.Snapshot, OnOutput: k.take}
	cfg.Encode = wire.AppendEviction
	if on {
		tables, err := enrich.New(enrich.Config{})
		if err != nil {
			return nil, err
		}
		if k.analyst, err = analyst.New(analyst.Config{Learn: 24 * time.Hour, Seed: 1}); err != nil {
			return nil, err
		}
		cfg.Events, cfg.EventTypes = true, analyst.EventTypes(k.analyst.Rules())
		cfg.Enrich = func(s *tracker.Snapshot) { tables.Snapshot(s); k.analyst.Enrich(s) }
		cfg.Encode = func(dst []byte, e *tracker.Eviction) []byte {
			k.analyst.Evicted(e)
			return wire.AppendEviction(dst, e)
		}
	}
	var err error
	k.table, err = newTable(cfg)
	return k, err
}

// take is the tracker's OnOutput.
func (k *knowing) take(o *tracker.Output) {
	if k.analyst != nil {
		k.analyst.Take(o, func(d *tracker.Departure, f *analyst.Findings) {
			k.body, _ = wire.AmendEviction(k.body[:0], d.Body, f.New, f.Anomalies)
		})
	}
	for i := range o.Items {
		if o.Items[i].Departure != nil {
			k.taken++
		}
	}
}

// knowledgeCase is traffic of which all connections open, show their
// fingerprints and leave.
type knowledgeCase struct {
	name        string
	shape       traffic.Shape
	batches     []*flow.Batch
	connections int
}

// run brings all of it into a tracker, and then has every connection leave. A
// profile tells both ways apart: go tool pprof -tagfocus knowledge=with.
func (c *knowledgeCase) run(on bool) (use measure.Use, err error) {
	way := "without"
	if on {
		way = "with"
	}
	pprof.Do(context.Background(), pprof.Labels("traffic", c.shape.String(), "knowledge", way), func(context.Context) {
		use, err = c.pass(on)
	})
	return use, err
}

func (c *knowledgeCase) pass(on bool) (measure.Use, error) {
	k, err := newKnowing(on, c.connections+c.connections/10+1000)
	if err != nil {
		return measure.Use{}, err
	}
	use, err := timed(func() error {
		if err := k.submit(c.batches); err != nil {
			return err
		}
		done := make(chan struct{})
		err := k.Flush(context.Background(), tracker.Entry{LogTime: numbered.Epoch}, tracker.FlushRequest{}, func(int) { close(done) })
		if err == nil {
			<-done
		}
		return err
	})
	if err == nil && k.taken < uint64(c.connections)*99/100 {
		err = fmt.Errorf("%d of %d connections left", k.taken, c.connections)
	}
	return use, errors.Join(err, ignoreEnd(k.stop()))
}

// measureKnowledge measures what all that is known of fingerprints costs by
// itself: the same batches into a tracker with and without, in one process, in
// turn. What it costs is per connection, from its opening to its eviction; a
// packet of a connection that is there costs nothing.
func (b *bench) measureKnowledge() error {
	connections := b.packets * 3 / 10
	if b.full {
		connections = b.packets
	}
	t := b.table("knowledge", "What fingerprints mean, what is new and odd: a tracker with and without, per connection", []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "added", Unit: "ns", Spread: true},
		{Name: "added per packet of 100", Unit: "ns", Spread: true},
	}, "CPU of the process for route, apply, merge and encoded evictions; added: to the run without in the same pair.")
	var cases []func() error
	for _, cfg := range []traffic.Config{
		{Shape: traffic.Mixed, Packets: 20 * connections, Connections: connections, Span: 20 * time.Second},
		{Shape: traffic.Flood, Packets: connections, Span: 10 * time.Second},
	} {
		c, err := b.knowledgeCase(cfg)
		if err != nil {
			return err
		}
		cases = append(cases, func() error {
			off, err := c.run(false)
			if err != nil {
				return err
			}
			on, err := c.run(true)
			if err != nil {
				return err
			}
			n := float64(c.connections)
			t.Add(c.name+", without", "CPU", float64(off.CPU)/n)
			t.Add(c.name+", with", "CPU", float64(on.CPU)/n)
			t.Add(c.name+", with", "added", float64(on.CPU-off.CPU)/n)
			t.Add(c.name+", with", "added per packet of 100", float64(on.CPU-off.CPU)/n/100)
			return nil
		})
	}
	return measure.Rounds(b.rounds, cases...)
}

// knowledgeCase makes the traffic.
func (b *bench) knowledgeCase(cfg traffic.Config) (*knowledgeCase, error) {
	r, err := b.capture("knowledge, "+cfg.Shape.String(), cfg)
	if err != nil {
		return nil, err
	}
	src, err := capture.Open(r.path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	c := &knowledgeCase{
		name:        fmt.Sprintf("%v, %s connections of %d packets", cfg.Shape, millions(int(r.stats.Connections)), r.stats.Packets/r.stats.Connections),
		shape:       cfg.Shape,
		connections: int(r.stats.Connections),
	}
	c.batches, err = traffic.Batches(src, probe.Config{})
	return c, err
}
