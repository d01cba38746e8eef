package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/whorl-net/whorl/bench/baseline"
	"github.com/whorl-net/whorl/bench/numbered"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/tracker"
)

// getsPerFlow is how many Gets are asked for per round, one at a time: 5,000 for
// a million flows.
const getsPerFlow = 1. / 200

// get measures how long a Get takes while updates take half of the time: wall
// time, the one case where that is what matters.
func (t *trackerCases) get(p *pairs) error {
	n := max(int(getsPerFlow*float64(p.flows)), 100)
	for range t.rounds {
		batches := numbered.Updates(t.rand, 64*numbered.BatchRows, p.flows, 1)
		ours, err := underLoad(n, func(i int) error { return p.ours.submit(batches[i%len(batches):][:1]) }, func(n int) error {
			var s tracker.Snapshot
			f := numbered.UDPFlow(n % p.flows)
			key, _ := f.Key()
			if !p.ours.Get(key, "", tracker.Full, &s) {
				return errors.New("a connection is missing")
			}
			return nil
		})
		if err != nil {
			return err
		}
		base, err := underLoad(n, func(i int) error { feed(p.base, batches[i%len(batches):][:1]); return nil }, func(n int) error {
			f := numbered.UDPFlow(n % p.flows)
			if _, ok := p.base.Get(keyOf(f)); !ok {
				return errors.New("a connection is missing in the baseline")
			}
			return nil
		})
		if err != nil {
			return err
		}
		t.add("Get at half load, p50, µs of wall time", ours[len(ours)/2], base[len(base)/2], 1e3)
		t.add("  p99", ours[len(ours)*99/100], base[len(base)*99/100], 1e3)
	}
	return nil
}

func keyOf(f flow.Tuple) string {
	return baseline.MakeKey(f.Src.Netip(), f.SrcPort, f.Dst.Netip(), f.DstPort, f.Protocol)
}

// underLoad calls ask n times, with pauses, while load takes half of the
// time, and returns how long each took, sorted, in nanoseconds.
func underLoad(n int, load func(i int) error, ask func(n int) error) ([]float64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var loadErr error
	wg.Go(func() {
		for i := 0; ctx.Err() == nil && loadErr == nil; i++ {
			start := time.Now()
			loadErr = load(i)
			time.Sleep(time.Since(start))
		}
	})
	took := make([]float64, n)
	var err error
	for i := range took {
		start := time.Now()
		if err = ask(i * 7919); err != nil {
			err = fmt.Errorf("get %d: %w", i, err)
			break
		}
		took[i] = float64(time.Since(start))
		time.Sleep(20 * time.Microsecond)
	}
	cancel()
	wg.Wait()
	slices.Sort(took)
	return took, errors.Join(err, loadErr)
}
