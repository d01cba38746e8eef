package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/tracker"
)

// The passes of the idle cases: one each second of packet time, in each of
// which 1 of 1,000 flows has been idle for the timeout.
const (
	idleAfter = 30 * time.Second // the tracker's default for UDP one way
	idleShare = 1000
	busyFor   = 20 // seconds over which flows begin
)

// idle makes the cases of finding idle connections: with the other flows far
// from their deadlines, and with a twentieth of them due by their first packet
// but active since, which the table has to look at and put back.
func (t *trackerCases) idle(n int) error {
	var evicted int
	count := func(int, *tracker.Eviction) { evicted++ } // one worker
	cfg := tracker.Config{MaxConnections: n + n/5, Workers: 1, OnEvict: count}
	fresh, err := newTable(cfg)
	if err != nil {
		return err
	}
	due, err := newTable(cfg)
	if err != nil {
		return err
	}
	base := baseline.New(n+n/5, idleAfter, func(*baseline.Connection) {})
	second := func(s int) int64 { return numbered.Epoch + int64(s)*int64(time.Second) }
	// Flow f begins in second f*busyFor/n, and is idle from then on if it is one
	// of the chosen; the others speak again in the last second.
	begins := func(f int) int64 { return second(f * busyFor / n) }
	chosen := func(f int) bool { return f%(idleShare/busyFor) == 0 }
	begun := numbered.Rows{To: n, Of: numbered.UDPFlow, At: begins}
	idle := begun
	idle.Only = chosen
	again := numbered.Rows{
		To: n, Of: numbered.UDPFlow, Only: func(f int) bool { return !chosen(f) },
		At: func(int) int64 { return second(busyFor) },
	}
	feed(base, begun.Batches())
	feed(base, again.Batches())
	for _, part := range []struct {
		t *table
		r numbered.Rows
	}{{due, begun}, {due, again}, {fresh, idle}, {fresh, again}} {
		if err := part.t.submit(part.r.Batches()); err != nil {
			return err
		}
	}
	var cases []func() error
	for _, c := range []struct {
		t    *table
		name string
	}{
		{fresh, fmt.Sprintf("idle pass, 0.1 %% of %s idle, ms", millions(n))},
		{due, "  with 5 % due and active since, ms"},
	} {
		pass := 0
		cases = append(cases, func() error {
			at := second(int(idleAfter/time.Second) + pass + 1)
			pass++
			if pass > busyFor {
				return nil // all the chosen are gone
			}
			evicted = 0
			ours, err := timed(func() error { return c.t.tick(at) })
			if err != nil {
				return err
			}
			if evicted < n/idleShare*9/10 || evicted > n/idleShare*11/10 {
				return fmt.Errorf("pass %d: %d connections left, want about %d", pass, evicted, n/idleShare)
			}
			// Of the second case it finds none left, which costs as much.
			use := used(func() { base.Evict(time.Unix(0, at)) })
			t.add(c.name, float64(ours.CPU), float64(use.CPU), 1e6)
			return nil
		})
	}
	return errors.Join(measure.Rounds(t.rounds, cases...), fresh.stop(), due.stop())
}
