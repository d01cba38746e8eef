//go:build e2e

package faults

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
)

// The faults of this package notice bugs that break the promise: each of those
// planted in a build for it is caught by a run that the same build without it
// passes. The network repeats what was sent. Live traffic comes in bursts, and the
// collector is killed late in a silence, when time alone has evicted: an outage
// in a burst would be a silence too, and rightly cut connections in two.
func TestPlantedBugsAreCaught(t *testing.T) {
	if !long {
		t.Skip("it takes minutes: WHORL_FAULTS=long")
	}
	for _, b := range []struct {
		bug         string
		checkpoints string
		kills       int
		live        bool
	}{
		{"none", "200ms", 6, false},
		{"none, live", "1h", 3, true},
		{"no-dedupe", "200ms", 6, false},
		{"ack-before-fsync", "200ms", 20, false},
		{"trim-before-checkpoint", "1h", 3, false},
		{"wall-clock-in-apply", "1h", 4, true},
		{"feed-after-checkpoint", "50ms", 60, false},
	} {
		t.Run(b.bug, func(t *testing.T) {
			good := strings.HasPrefix(b.bug, "none")
			bug := b.bug
			if good {
				bug = ""
			}
			c := newCollector(t, t.TempDir(), "--checkpoint-every", b.checkpoints)
			c.plant(bug)
			c.start()
			up := startProxy(t, c.addr, 1000, 4, faultCut, faultRepeat)
			a := startAuditor(t, c.addr, 2, 30_000)
			f := startFeeder(t, dial(t, up.addr()), client.ReporterConfig{Live: b.live}, floorRate)
			rng := rand.New(rand.NewPCG(17, 17))
			var wrong []string
			for n := 0; n < b.kills && len(wrong) == 0; n++ {
				if b.live {
					f.awaitQuiet(time.Duration(4000+rng.IntN(1500))*time.Millisecond, time.Minute)
				} else {
					f.await(uint64(floorRate/2), 20*time.Second)
					time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
				}
				if bug == "feed-after-checkpoint" {
					// It takes evictions under way: not those that have just come, but
					// such as are in a checkpoint, and not in the feed yet.
					a.awaitFlow(10 * time.Second)
					time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
				c.kill()
				if _, err := c.tryStart(); err != nil {
					wrong = append(wrong, err.Error())
				}
				if !good {
					wrong = append(wrong, a.complaints()...)
				}
			}
			up.left.Store(0)
			if len(wrong) == 0 {
				wrong = f.finish(30 * time.Second)
			}
			if len(wrong) == 0 {
				wrong = append(a.verdict(f, 30*time.Second), counted(t, dial(t, c.addr), f)...)
			}
			switch {
			case good:
				clean(t, c, wrong, a.complaints())
			case len(wrong) == 0:
				t.Errorf("%s was not noticed", bug)
			default:
				t.Logf("noticed: %s", strings.Join(wrong[:min(len(wrong), 3)], "\n"))
			}
		})
	}
}

// complaints are what was found wrong so far.
func (a *auditor) complaints() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(append([]string(nil), a.wrong...), a.gaps...)
}

// awaitFlow waits until evictions come.
func (a *auditor) awaitFlow(patience time.Duration) {
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.feed)
	}
	before := count()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && count() == before; {
		time.Sleep(5 * time.Millisecond)
	}
}
