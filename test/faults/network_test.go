//go:build e2e

package faults

import (
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
)

// clean fails a test for everything that is wrong.
func clean(t *testing.T, c *collector, wrong ...[]string) {
	t.Helper()
	for _, list := range wrong {
		for _, w := range list {
			t.Error(w)
		}
	}
	if bad := c.trouble(); bad != "" {
		t.Errorf("the collector's log speaks of a bug:\n%s", bad)
	}
}

// modes runs a test against a collector in memory and one on disk.
func modes(t *testing.T, f func(t *testing.T, c *collector)) {
	t.Run("memory", func(t *testing.T) { f(t, newCollector(t, "")) })
	t.Run("disk", func(t *testing.T) { f(t, newCollector(t, t.TempDir())) })
}

// Whatever the network does to the probe's stream and to those of subscribers,
// every packet is counted once and every eviction is read once.
func TestNetworkFaults(t *testing.T) {
	modes(t, func(t *testing.T, c *collector) {
		c.start()
		faults := scaled(40, 200)
		up := startProxy(t, c.addr, faults, 1, faultCut, faultCut, faultStall, faultTrickle, faultDelay, faultRepeat, faultOneWay)
		down := startProxy(t, c.addr, faults/4, 2, faultCut, faultStall, faultTrickle, faultDelay)
		down.answers = true
		a := startAuditor(t, down.addr(), 3, 20_000)
		f := startFeeder(t, dial(t, up.addr()), client.ReporterConfig{}, 4*floorRate/3)
		deadline := time.Now().Add(scaled(90*time.Second, 10*time.Minute))
		for up.faults() < int64(faults) && time.Now().Before(deadline) {
			time.Sleep(100 * time.Millisecond)
		}
		if rate, ok := f.load(floorRate/2, 30*time.Second); !ok {
			t.Errorf("with all faults behind it the load is %.0f packets/s, want %.0f", rate, floorRate/2)
		}
		clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
		if u, d := up.faults(), down.faults(); u < int64(faults) || d < int64(faults/4) {
			t.Errorf("%d faults towards the collector and %d towards subscribers, want %d and %d", u, d, faults, faults/4)
		}
		s := f.reporter.Stats()
		t.Logf("%d packets, %d connections, %d streams; towards the collector:%s; towards subscribers:%s; cut off by themselves: %d",
			s.Packets, f.truth.connections, s.Connects, " "+up.summary(), " "+down.summary(), a.cuts)
	})
}

// A connection over which nothing passes any more, without a word, is given up
// and what was under way is sent again.
func TestHalfOpen(t *testing.T) {
	if !long {
		t.Skip("it takes the time of a keepalive: WHORL_FAULTS=long")
	}
	// So long a silence evicts, and rightly: here nothing may but the end.
	c := newCollector(t, t.TempDir(), "--idle-timeout-tcp-half-open=0", "--idle-timeout-tcp=0", "--idle-timeout-tcp-closed=0",
		"--idle-timeout-udp-one-way=0", "--idle-timeout-udp=0", "--idle-timeout-other=0")
	c.start()
	up := startProxy(t, c.addr, 1, 3, faultHalfOpen)
	a := startAuditor(t, c.addr, 1, 0)
	f := startFeeder(t, dial(t, up.addr()), client.ReporterConfig{}, 4*floorRate/3)
	for up.faults() == 0 {
		time.Sleep(50 * time.Millisecond)
	}
	begin := time.Now()
	if !f.await(uint64(floorRate), 2*time.Minute) {
		t.Fatalf("nothing is acknowledged two minutes after the connection fell silent: %+v", f.reporter.Stats())
	}
	t.Logf("back %.0f s after the connection fell silent", time.Since(begin).Seconds())
	clean(t, c, f.finish(time.Minute), a.verdict(f, time.Minute), counted(t, dial(t, c.addr), f))
}
