//go:build e2e

package faults

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
)

// often has checkpoints come so often that crashes hit them.
var often = []string{"--checkpoint-every", "2s"}

// crashes kills the collector n times under load and starts it again, at moments
// of every kind: soon after the floor was met, later, and while it restores.
// Cycles whose load was below the floor do not count; it returns those that did
// and the times that the restarts took.
func crashes(t *testing.T, c *collector, f *feeder, n int, rng *rand.Rand) (counted int, restarts []time.Duration) {
	t.Helper()
	for tries := 0; counted < n && tries < 2*n+5; tries++ {
		rate, ok := f.load(floorRate, 20*time.Second)
		if !ok {
			t.Logf("try %d does not count: the load was %.0f packets/s, want %.0f", tries, rate, floorRate)
			continue
		}
		time.Sleep(time.Duration(rng.IntN(2500)) * time.Millisecond)
		c.kill()
		counted++
		for rng.IntN(4) == 0 { // and again, while it restores
			c.begin()
			time.Sleep(time.Duration(20+rng.IntN(400)) * time.Millisecond)
			c.kill()
		}
		restarts = append(restarts, c.start())
	}
	if counted < n {
		t.Errorf("%d kills under load, want %d", counted, n)
	}
	return counted, restarts
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
	n, restarts := crashes(t, c, f, scaled(5, 50), rand.New(rand.NewPCG(11, 11)))
	f.finish(2 * time.Minute)
	clean(t, c, a.verdict(f, 2*time.Minute), counted(t, dial(t, c.addr), f))
	slices.Sort(restarts)
	t.Logf("%d kills: %d packets, %d connections, %d fingerprints, %d streams of the probe, %d cuts of subscribers; restart median %v, longest %v",
		n, f.truth.packets, f.conns, f.truth.fingerprints, f.reporter.Stats().Connects, a.cuts, restarts[len(restarts)/2].Round(time.Millisecond), restarts[len(restarts)-1].Round(time.Millisecond))
}

// A collector that is told to stop loses nothing either, and the next start goes
// on where it ended.
func TestStop(t *testing.T) {
	c := newCollector(t, t.TempDir())
	c.start()
	a := startAuditor(t, c.addr, 2, 30_000)
	f := startFeeder(t, dial(t, c.addr), client.ReporterConfig{}, 4*floorRate/3)
	for range scaled(2, 10) {
		if rate, ok := f.load(floorRate, 30*time.Second); !ok {
			t.Fatalf("the load is %.0f packets/s, want %.0f", rate, floorRate)
		}
		c.stop()
		c.start()
	}
	f.finish(time.Minute)
	clean(t, c, a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
}
