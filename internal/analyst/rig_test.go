package analyst

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/internal/enrich"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is where the tests' time begins.
const start = int64(1_700_000_000_000_000_000)

func at(d time.Duration) int64 { return start + int64(d) }

// rig is an analyst behind a real tracker.
type rig struct {
	testing.TB
	*tracker.Tracker
	*Analyst
	position uint64
	gone     []*tracker.Eviction // as the feed would have them
	outputs  []*tracker.Output   // deep copies, if kept
	keep     bool
}

// newRig starts a tracker with so many shards and an analyst.
func newRig(t testing.TB, shards int, cfg Config, keep bool) *rig {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := enrich.New(enrich.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, Analyst: a, keep: keep}
	r.Tracker, err = tracker.New(tracker.Config{
		Shards: shards, MaxConnections: 100_000, Events: true, OnOutput: r.output,
		Encode: func(dst []byte, e *tracker.Eviction) []byte {
			a.Evicted(e)
			return wire.AppendEviction(dst, e)
		},
		Enrich: func(s *tracker.Snapshot) {
			tables.Snapshot(s)
			a.Enrich(s)
		},
		Annotate: a.Annotate,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Tracker.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// output is the way of a collector: the analyst first, then the feed.
func (r *rig) output(o *tracker.Output) {
	if r.keep {
		r.outputs = append(r.outputs, cloneOutput(o))
	}
	found := map[*tracker.Departure]Findings{}
	r.Take(o, func(d *tracker.Departure, f *Findings) { found[d] = *f })
	for _, it := range o.Items {
		if it.Departure == nil {
			continue
		}
		e := new(tracker.Eviction)
		if _, err := wire.DecodeEviction(slices.Clone(it.Departure.Body), tracker.Full, e); err != nil {
			r.Error(err)
		}
		if f, ok := found[it.Departure]; ok {
			f.Apply(&e.Connection)
		}
		r.gone = append(r.gone, e)
	}
}

func cloneOutput(o *tracker.Output) *tracker.Output {
	c := &tracker.Output{Position: o.Position, LogTime: o.LogTime, Last: o.Last}
	for _, it := range o.Items {
		var x tracker.Item
		if it.Event != nil {
			ev := *it.Event
			ev.Network, ev.Probe, ev.Value, ev.Raw = clone(ev.Network), clone(ev.Probe), clone(ev.Value), clone(ev.Raw)
			ev.ServerName, ev.Previous = clone(ev.ServerName), clone(ev.Previous)
			x.Event = &ev
		}
		if it.Departure != nil {
			d := *it.Departure
			d.Network, d.Body = clone(d.Network), slices.Clone(d.Body)
			x.Departure = &d
		}
		c.Items = append(c.Items, x)
	}
	return c
}

func clone(s string) string { return string([]byte(s)) }

func (r *rig) entry(log time.Duration) tracker.Entry {
	r.position++
	return tracker.Entry{Position: r.position, LogTime: at(log)}
}

// submit applies a batch of a network, in which all times are d or later.
func (r *rig) submit(network string, log time.Duration, b *flow.Batch) {
	r.Helper()
	o, err := r.Origin(network, "probe-"+network, false)
	if err != nil {
		r.Fatal(err)
	}
	done := make(chan struct{})
	if err := r.Submit(context.Background(), r.entry(log), o, b, func() { close(done) }); err != nil {
		r.Fatal(err)
	}
	<-done
}

// flush evicts everything and returns all evictions so far, sorted by id.
func (r *rig) flush(log time.Duration) []*tracker.Eviction {
	r.Helper()
	done := make(chan struct{})
	if err := r.Flush(context.Background(), r.entry(log), tracker.FlushRequest{}, func(int) { close(done) }); err != nil {
		r.Fatal(err)
	}
	<-done
	slices.SortStableFunc(r.gone, func(a, b *tracker.Eviction) int {
		if a.Connection.ID() < b.Connection.ID() {
			return -1
		}
		return 1
	})
	return r.gone
}

// get returns a live connection as a query has it, nil if there is none.
func (r *rig) get(tu flow.Tuple, network string) *tracker.Snapshot {
	k, _ := tu.Key()
	var s tracker.Snapshot
	if !r.Get(k, network, tracker.Full, &s) {
		return nil
	}
	return &s
}

func tuple(src, dst string, srcPort, dstPort uint16) flow.Tuple {
	return flow.Tuple{
		Src: flow.AddrFrom(netip.MustParseAddr(src)), Dst: flow.AddrFrom(netip.MustParseAddr(dst)),
		SrcPort: srcPort, DstPort: dstPort, Protocol: flow.TCP,
	}
}

// act is one packet, with the fingerprints that it completes.
type act struct {
	flow  flow.Tuple
	at    time.Duration
	flags uint8
	back  bool
	fps   []ja4.Event
}

func syn(tu flow.Tuple, d time.Duration) act { return act{flow: tu, at: d, flags: flow.SYN} }

func hello(tu flow.Tuple, d time.Duration, t ja4.Type, value string) act {
	return act{flow: tu, at: d, flags: flow.ACK, fps: []ja4.Event{{Type: t, Value: value}}}
}

// batch makes a batch of acts, in order.
func batch(acts []act) *flow.Batch {
	b := new(flow.Batch)
	flows := map[flow.Tuple]uint32{}
	for _, a := range acts {
		f, ok := flows[a.flow]
		if !ok {
			f = b.AddFlow(a.flow)
			flows[a.flow] = f
		}
		b.AddPacket(f, a.back, at(a.at), 100, a.flags)
		for _, e := range a.fps {
			b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f, Row: uint32(b.Rows()), Event: e})
		}
	}
	return b
}

// verdict is what was said of a connection, in one line.
func verdict(s *tracker.Snapshot) string {
	line := s.ID()
	if s.New {
		line += " new"
	}
	for _, a := range s.Anomalies {
		line += fmt.Sprintf(" [%s %v %d %q %d]", a.Rule, time.Duration(a.RaisedAt-start), a.PacketNum, a.Description, len(a.Evidence))
	}
	return line
}

func verdicts(es []*tracker.Eviction) (lines []string) {
	for _, e := range es {
		lines = append(lines, verdict(&e.Connection))
	}
	return lines
}

// rules compiles one rules file.
func rules(t testing.TB, text string) *anomaly.Rules {
	t.Helper()
	rs, err := anomaly.Load(anomaly.File{Name: "rules.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func anomalyRules(s *tracker.Snapshot) (ids []string) {
	for _, a := range s.Anomalies {
		ids = append(ids, a.Rule)
	}
	return ids
}
