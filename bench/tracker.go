package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

// trackerCases measures the table beside the baseline, in one process and in
// turn. Each group of cases has tables of its own, which are gone before the
// next: a baseline that lies around would make every collection longer.
type trackerCases struct {
	table  *measure.Table
	rand   *rand.Rand
	rounds int
}

// pairs are both tables with the same flows in them.
type pairs struct {
	ours  *table
	two   *table // ours with two shards
	base  *baseline.Tracker
	flows int
}

// measureTracker runs the cases. Their names for -case are "table of 1 M" (or
// 5 M), "memory of 1 M" (or 5 M), "flood" and "idle".
func (b *bench) measureTracker() error {
	t := &trackerCases{rand: rand.New(rand.NewPCG(1, 2)), rounds: b.rounds}
	t.table = b.table("tracker", "The table beside the design it replaced", []measure.Column{
		{Name: "ours", Spread: true}, {Name: "baseline", Spread: true}, {Name: "ratio", Spread: true, More: true},
	}, fmt.Sprintf("CPU of the whole process; ratio: baseline / ours, both of the same round. Batches have %d rows; 16 shards; ours holds routing, queue and worker.", numbered.BatchRows),
		"No collection is due while the baseline is measured, so its garbage is free here; a collection of it is a row of its own.")
	const large = 5
	var weighed []int
	for _, n := range []int{b.packets, large * b.packets} {
		if b.chosen("table of "+millions(n), n > b.packets) {
			if err := t.filled(n); err != nil {
				return err
			}
		}
		if b.chosen("memory of "+millions(n), n > b.packets) {
			weighed = append(weighed, n)
		}
	}
	if b.chosen("flood", false) {
		if err := t.flood(b.packets); err != nil {
			return err
		}
	}
	if b.chosen("idle", false) {
		if err := t.idle(b.packets); err != nil {
			return err
		}
	}
	if len(weighed) == 0 {
		return nil
	}
	return t.memory(b, weighed)
}

// filled runs the cases on n flows that are there.
func (t *trackerCases) filled(n int) error {
	p, err := t.pairs(n)
	if err != nil {
		return err
	}
	err = measure.Rounds(t.rounds, t.update(p, 1), t.update(p, 8), t.all(p))
	if err == nil {
		err = t.get(p)
	}
	return errors.Join(err, p.ours.stop(), p.two.stop())
}

// add notes what a round found, in units of unit.
func (t *trackerCases) add(row string, ours, base, unit float64) {
	t.table.Add(row, "ours", ours/unit)
	t.table.Add(row, "baseline", base/unit)
	t.table.Add(row, "ratio", base/ours)
}

// millions is a number of flows in words.
func millions(n int) string {
	if n >= 1_000_000 {
		return fmt.Sprintf("%g M", float64(n)/1e6)
	}
	return fmt.Sprintf("%g k", float64(n)/1e3)
}

// pairs fills the tables with n flows that have spoken both ways.
func (t *trackerCases) pairs(n int) (p *pairs, err error) {
	p = &pairs{base: baseline.New(n+n/5, time.Minute, nil), flows: n}
	if p.ours, err = newTable(tracker.Config{MaxConnections: n + n/5}); err != nil {
		return nil, err
	}
	if p.two, err = newTable(tracker.Config{MaxConnections: n + n/5, Shards: 2}); err != nil {
		return nil, err
	}
	for _, of := range []func(int) flow.Tuple{numbered.UDPFlow, func(i int) flow.Tuple { return numbered.UDPFlow(i).Reverse() }} {
		fill := numbered.Rows{To: n, Of: of}.Batches()
		feed(p.base, fill)
		if err := errors.Join(p.ours.submit(fill), p.two.submit(fill)); err != nil {
			return nil, err
		}
	}
	if live := int(p.ours.Count().Live); live != n || p.base.Count() != n {
		return nil, fmt.Errorf("%d and %d flows are there, want %d", live, p.base.Count(), n)
	}
	return p, nil
}

// update is one packet on a flow chosen at random.
func (t *trackerCases) update(p *pairs, perFlow int) func() error {
	name := fmt.Sprintf("update, %s flows, uniform, ns per packet", millions(p.flows))
	two := "  with 2 shards"
	if perFlow > 1 {
		name = fmt.Sprintf("update, %s flows, %d packets of each in a batch", millions(p.flows), perFlow)
		two = "  with 2 shards, too"
	}
	return func() error {
		batches := numbered.Updates(t.rand, p.flows, p.flows, perFlow)
		few := batches[:max(len(batches)/4, 1)]
		ours, err := timed(func() error { return p.ours.submit(batches) })
		if err != nil {
			return err
		}
		base := used(func() { feed(p.base, few) })
		other, err := timed(func() error { return p.two.submit(batches) })
		baseEach := float64(base.CPU) / float64(numbered.Packets(few))
		t.add(name, float64(ours.CPU)/float64(numbered.Packets(batches)), baseEach, 1)
		t.add(two, float64(other.CPU)/float64(numbered.Packets(batches)), baseEach, 1)
		return err
	}
}

// used measures f without a collection before it.
func used(f func()) measure.Use {
	stop := measure.Start()
	f()
	return stop()
}

// all copies every connection.
func (t *trackerCases) all(p *pairs) func() error {
	name := fmt.Sprintf("All over %s, ms", millions(p.flows))
	return func() error {
		n := 0
		ours, err := timed(func() error {
			var page []tracker.Snapshot
			var at tracker.Cursor
			for more := true; more; {
				page, at, more = p.ours.Page(at, tracker.Full, 1000, page)
				n += len(page)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if n != p.flows {
			return fmt.Errorf("%d connections on the pages, want %d", n, p.flows)
		}
		base := used(func() { n = len(p.base.All()) })
		t.add(name, float64(ours.CPU), float64(base.CPU), 1e6)
		return nil
	}
}

// flood sends SYNs from ever new sources into full tables that also hold
// established connections.
func (t *trackerCases) flood(capacity int) error {
	var copies, lost, baseLost atomic.Uint64
	ours, err := newTable(tracker.Config{MaxConnections: capacity, OnEvict: func(_ int, e *tracker.Eviction) {
		copies.Add(1)
		if e.Connection.TCPState == tracker.TCPEstablished {
			lost.Add(1)
		}
	}})
	if err != nil {
		return err
	}
	var copied *baseline.Connection // as a channel would keep it
	base := baseline.New(capacity, time.Minute, func(c *baseline.Connection) {
		copied = c
		if copied.ByteCount == establishedBytes {
			baseLost.Add(1)
		}
	})
	established := capacity / 20
	open := opened(established)
	feed(base, open)
	next := 1 << 26
	syns := func(n int) []*flow.Batch {
		next += n
		return numbered.Rows{
			From: next - n, To: next, Of: numbered.TCPFlow, Flags: flow.SYN,
			At: func(int) int64 { return numbered.Epoch + int64(time.Second) },
		}.Batches()
	}
	full := syns(capacity - established)
	feed(base, full)
	if err := errors.Join(ours.submit(open), ours.submit(full)); err != nil {
		return err
	}
	name := fmt.Sprintf("SYN flood at %s capacity, ns per SYN", millions(capacity))
	err = measure.Rounds(t.rounds, func() error {
		batches := syns(capacity)
		few := batches[:max(len(batches)/4, 1)]
		use, err := timed(func() error { return ours.submit(batches) })
		if err != nil {
			return err
		}
		baseUse := used(func() { feed(base, few) })
		t.add(name, float64(use.CPU)/float64(numbered.Packets(batches)), float64(baseUse.CPU)/float64(numbered.Packets(few)), 1)
		gone := "  established connections lost to it so far, of " + millions(established)
		t.table.Add(gone, "ours", float64(lost.Load()))
		t.table.Add(gone, "baseline", float64(baseLost.Load()))
		return nil
	})
	return errors.Join(err, ours.stop())
}

// establishedBytes are those of a connection that opened made.
const establishedBytes = 3 * 101

// opened makes n established TCP connections.
func opened(n int) []*flow.Batch {
	var all []*flow.Batch
	for i := 0; i < n; {
		b := new(flow.Batch)
		for ; i < n && b.Rows()+3 <= numbered.BatchRows; i++ {
			f := b.AddFlow(numbered.TCPFlow(i))
			b.AddPacket(f, false, numbered.Epoch, 101, flow.SYN)
			b.AddPacket(f, true, numbered.Epoch, 101, flow.SYN|flow.ACK)
			b.AddPacket(f, false, numbered.Epoch, 101, flow.ACK)
		}
		all = append(all, b)
	}
	return all
}

// tick lets the clock of the table pass to at, and returns when what expired has
// left.
func (t *table) tick(at int64) error {
	b := new(flow.Batch)
	b.AddPacket(b.AddFlow(numbered.TCPFlow(1<<30)), false, at, 100, flow.ACK)
	done := make(chan struct{})
	err := t.Submit(context.Background(), tracker.Entry{LogTime: at}, tracker.Origin{}, b, nil)
	if err == nil {
		err = t.Tick(context.Background(), tracker.Entry{LogTime: at}, func() { close(done) })
	}
	if err == nil {
		<-done
	}
	return err
}
