package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	journal "github.com/whorl-net/whorl/internal/feed"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/tracker"
)

// measureFeed shows what subscribers cost on the side of the tracker, which
// encodes an eviction once and appends it to the journal.
func (b *bench) measureFeed() error {
	events := max(b.packets/4, 1000)
	table := b.table("feed", fmt.Sprintf("%d evictions encoded and appended, by subscribers that follow, per eviction", events), []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "ratio", Spread: true}, {Name: "wall", Unit: "ns"}, {Name: "all CPU", Unit: "ns"}, {Name: "missed"},
	}, "CPU: of the thread that encodes and appends; ratio: to one subscriber in the same round; all CPU: with that of the subscribers, which take blocks of 100 frames as a Watch does and send them nowhere.")
	evictions, err := someEvictions()
	if err != nil {
		return err
	}
	var one float64
	var cases []func() error
	for _, n := range []int{0, 1, 100} {
		cases = append(cases, func() error {
			row := fmt.Sprintf("%d subscribers", n)
			thread, all, missed, err := publish(evictions, events, n)
			if err != nil {
				return err
			}
			if n == 1 {
				one = float64(thread.CPU)
			}
			table.AddUse(row, thread, events)
			table.Add(row, "all CPU", float64(all.CPU)/float64(events))
			table.Add(row, "missed", float64(missed))
			if n > 0 {
				table.Add(row, "ratio", float64(thread.CPU)/one)
			}
			return nil
		})
	}
	return measure.Rounds(b.rounds, cases...)
}

// publish appends evictions in turn while n subscribers follow, and returns when
// all have heard of all: what the thread of the publisher used, and all threads.
func publish(evictions []tracker.Eviction, events, n int) (thread, all measure.Use, missed uint64, err error) {
	j, err := journal.New(journal.Config{})
	if err != nil {
		return thread, all, 0, err
	}
	var (
		readers sync.WaitGroup
		lost    atomic.Uint64
		errs    = make([]error, n)
	)
	for i := range n {
		r := j.ReadNow()
		readers.Go(func() { errs[i] = follow(r, &lost) })
	}
	all, err = timed(func() error {
		stop := measure.StartThread()
		var body []byte
		for i := range events {
			e := &evictions[i%len(evictions)]
			body = wire.AppendEviction(body[:0], e)
			if _, err := j.Append(context.Background(), numbered.Epoch, &journal.Event{
				Position: uint64(i), Key: &e.Connection.Key, Network: e.Connection.Network, Body: body,
			}); err != nil {
				stop()
				return err
			}
		}
		thread = stop()
		j.Close()
		readers.Wait()
		return nil
	})
	return thread, all, lost.Load(), errors.Join(append(errs, err)...)
}

// follow reads to the end of the journal.
func follow(r *journal.Reader, lost *atomic.Uint64) error {
	for {
		b, err := r.Next(context.Background(), 100, 1<<20)
		switch {
		case errors.Is(err, journal.ErrClosed):
			return nil
		case err != nil:
			return err
		case b.Gap != nil:
			lost.Add(b.Gap.Count)
		case b.Len() == 0:
			if err := r.Wait(context.Background()); err != nil && !errors.Is(err, journal.ErrClosed) {
				return err
			}
		}
	}
}

// someEvictions are those of connections with fingerprints.
func someEvictions() ([]tracker.Eviction, error) {
	t, err := newTable(tracker.Config{MaxConnections: 2 * numbered.Distinct})
	if err != nil {
		return nil, err
	}
	b, prints := new(flow.Batch), numbered.NewPrints()
	for i := range numbered.Distinct {
		b.AddPacket(b.AddFlow(numbered.UDPFlow(i)), false, numbered.Epoch, 100, 0)
		prints.Add(b, i)
	}
	err = t.submit([]*flow.Batch{b})
	var all []tracker.Eviction
	for at, more := (tracker.Cursor{}), err == nil; more; {
		var page []tracker.Snapshot // its memory is kept
		page, at, more = t.Page(at, tracker.Full, numbered.Distinct, nil)
		for _, s := range page {
			all = append(all, tracker.Eviction{Cause: tracker.CauseIdle, EvictedAt: numbered.Epoch, Connection: s})
		}
	}
	if err := errors.Join(err, t.stop()); err != nil {
		return nil, err
	}
	if len(all) != numbered.Distinct {
		return nil, fmt.Errorf("%d connections, want %d", len(all), numbered.Distinct)
	}
	return all, nil
}
