package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// watchers are subscribers of the feed, in this process, each with a
// connection of its own.
type watchers struct {
	n         uint64
	cancel    context.CancelFunc
	all       sync.WaitGroup
	evictions atomic.Uint64 // received, by all together
	missed    atomic.Uint64 // told to be lost
	mu        sync.Mutex    // guards err
	err       error         // the first
}

// watch starts n subscribers and waits until each has heard the collector.
func watch(addr string, n int) (*watchers, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watchers{n: uint64(n), cancel: cancel}
	heard := make(chan struct{}, n)
	for range n {
		c, err := client.Dial(ctx, addr)
		if err != nil {
			return nil, errors.Join(err, w.end())
		}
		w.all.Go(func() {
			defer c.Close()
			w.follow(ctx, c, heard)
		})
	}
	for range n {
		<-heard
	}
	return w, nil
}

// follow counts what comes. The first heartbeat says that it is there.
func (w *watchers) follow(ctx context.Context, c *client.Client, heard chan<- struct{}) {
	said := false
	defer func() {
		if !said {
			heard <- struct{}{}
		}
	}()
	req := &whorlv1.WatchRequest{HeartbeatInterval: durationpb.New(time.Second)}
	for e, err := range c.Watch(ctx, req, client.WithHeartbeats()) {
		if !said {
			said = true
			heard <- struct{}{}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.mu.Lock()
			w.err = errors.Join(w.err, err)
			w.mu.Unlock()
			return
		case e.Eviction != nil:
			w.evictions.Add(1)
		case e.Gap != nil:
			w.missed.Add(e.Gap.GetLostCount())
		}
	}
}

// caughtUp waits until all subscribers have heard of every eviction of the
// collector at addr.
func (w *watchers) caughtUp(addr string) error {
	var have uint64
	for range 600 {
		s, err := status(addr)
		if err != nil {
			return err
		}
		if have = evicted(s); w.evictions.Load()+w.missed.Load() >= w.n*have {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%d subscribers have heard of %d evictions and of %d lost ones, %d times %d there were",
		w.n, w.evictions.Load(), w.missed.Load(), w.n, have)
}

// end ends all subscribers and returns what was wrong with them.
func (w *watchers) end() error {
	w.cancel()
	w.all.Wait()
	return w.err
}

// status asks a collector for its own.
func status(addr string) (*whorlv1.GetStatusResponse, error) {
	ctx := context.Background()
	c, err := client.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(ctx, &whorlv1.GetStatusRequest{})
}

// evicted is how many connections have left.
func evicted(s *whorlv1.GetStatusResponse) (n uint64) {
	for _, e := range s.GetEvictions() {
		n += e.GetCount()
	}
	return n
}
