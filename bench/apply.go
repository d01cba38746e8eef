package main

import (
	"context"
	"sync"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/tracker"
)

// table is a running Tracker.
type table struct {
	*tracker.Tracker
	stop func() error
}

// newTable starts a Tracker.
func newTable(cfg tracker.Config) (*table, error) {
	t, err := tracker.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- t.Run(ctx) }()
	return &table{Tracker: t, stop: func() error { cancel(); return <-ended }}, nil
}

// wait returns when all that was submitted is applied.
func (t *table) wait() error {
	done := make(chan struct{})
	if err := t.Sync(context.Background(), func() { close(done) }); err != nil {
		return err
	}
	<-done
	return nil
}

// routeAndApply submits all batches to a new Tracker. What the submitting
// thread used is routing, the rest of the process was applying.
func (s *stages) routeAndApply() error {
	t, err := newTable(tracker.Config{MaxConnections: trackedConnections})
	if err != nil {
		return err
	}
	var route measure.Use
	both, err := timed(func() error {
		var wg sync.WaitGroup
		var err error
		wg.Go(func() {
			stop := measure.StartThread()
			for _, b := range s.batches {
				if err = t.Submit(context.Background(), tracker.Entry{}, tracker.Origin{}, b, nil); err != nil {
					break
				}
			}
			route = stop()
		})
		wg.Wait()
		if err != nil {
			return err
		}
		return t.wait()
	})
	if err != nil {
		return err
	}
	if err := t.stop(); err != nil {
		return err
	}
	s.collector.AddUse("route alone", route, s.packets)
	s.collector.AddUse("apply alone", measure.Use{CPU: both.CPU - route.CPU, Wall: both.Wall}, s.packets)
	return nil
}
