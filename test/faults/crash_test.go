//go:build e2e

package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
)

// often has checkpoints come so often that crashes hit them.
var often = []string{"--checkpoint-every", "2s"}

// kills are what a run of crashes came to.
type kills struct {
	counted  int
	restarts []time.Duration
	wrong    []string
}

// crashes kills the collector n times under load and starts it again, at moments
// of every kind: soon after the floor was met, later, and while it restores.
// Cycles whose load was below the floor do not count.
func crashes(t *testing.T, c *collector, f *feeder, n int, rng *rand.Rand) (k kills) {
	t.Helper()
	for tries := 0; k.counted < n && tries < 2*n+5; tries++ {
		rate, ok := f.load(floorRate, 20*time.Second)
		if !ok {
			t.Logf("try %d does not count: the load was %.0f packets/s, want %.0f", tries, rate, floorRate)
			continue
		}
		time.Sleep(time.Duration(rng.IntN(2500)) * time.Millisecond)
		c.kill()
		k.counted++
		for rng.IntN(4) == 0 { // and again, while it restores
			c.begin()
			time.Sleep(time.Duration(20+rng.IntN(400)) * time.Millisecond)
			c.kill()
		}
		took, err := c.tryStart()
		if err != nil {
			k.wrong = append(k.wrong, fmt.Sprintf("start %d: %v", k.counted, err))
			return k
		}
		k.restarts = append(k.restarts, took)
	}
	if k.counted < n {
		k.wrong = append(k.wrong, fmt.Sprintf("%d kills under load, want %d", k.counted, n))
	}
	slices.Sort(k.restarts)
	return k
}

func (k kills) String() string {
	n := len(k.restarts)
	if n == 0 {
		return fmt.Sprintf("%d kills, no restart", k.counted)
	}
	return fmt.Sprintf("%d kills, restart median %v, longest %v", k.counted, k.restarts[n/2].Round(time.Millisecond), k.restarts[n-1].Round(time.Millisecond))
}

// describe is a line about a run.
func describe(f *feeder, a *auditor) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%d packets, %d connections, %d fingerprints, %d streams of the probe, subscribers cut off %d times",
		f.truth.packets, f.truth.connections, f.truth.fingerprints, f.reporter.Stats().Connects, a.cuts)
}

// A collector that is killed under load, at any moment, and again while it
// restores, has lost nothing and counted nothing twice: packets, bytes,
// fingerprints, evictions. Subscribers that keep their cursors see one feed
// without a hole, and what they read before a crash is what they read after it.
func TestKill(t *testing.T) {
	c := newCollector(t, t.TempDir(), often...)
	c.start()
	a := startAuditor(t, c.addr, 3, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	k := crashes(t, c, f, scaled(5, 50), rand.New(rand.NewPCG(11, 11)))
	clean(t, c, k.wrong, f.finish(2*time.Minute), a.verdict(f, 2*time.Minute), counted(t, dial(t, c.addr), f))
	t.Logf("%v: %s", k, describe(f, a))
}

// A collector that is told to stop loses nothing either, and the next start goes
// on where it ended.
func TestStop(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.start()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for range scaled(2, 10) {
		underLoad(t, c, f)
		c.stop()
		c.start()
	}
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
}
