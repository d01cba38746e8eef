//go:build e2e

package faults

import (
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// exactly checks that what was sent is what the collector counted and what it
// was told to be lost, to the packet.
func exactly(t *testing.T, addr string, f *feeder, reason string) {
	t.Helper()
	cl := dial(t, addr)
	st, s := status(t, cl), f.reporter.Stats()
	probes, err := cl.Probes(t.Context(), &whorlv1.ListProbesRequest{IncludeGone: true})
	if err != nil || len(probes) != 1 {
		t.Fatalf("probes: %v, %v", probes, err)
	}
	p := probes[0]
	if st.GetPacketsApplied()+p.GetPacketsLost() != f.truth.packets || p.GetPacketsLost() != s.LostPackets {
		t.Errorf("%d packets sent; the collector counted %d and was told of %d lost, the reporter lost %d",
			f.truth.packets, st.GetPacketsApplied(), p.GetPacketsLost(), s.LostPackets)
	}
	if reason == "" && s.LostPackets > 0 || reason != "" && (s.LostPackets == 0 || s.LostByReason[reason] != s.LostPackets) {
		t.Errorf("lost %d packets, by reason %v; want %q", s.LostPackets, s.LostByReason, reason)
	}
	t.Logf("%d packets sent = %d counted + %d lost %v", f.truth.packets, st.GetPacketsApplied(), p.GetPacketsLost(), s.LostByReason)
}

// A collector that is away costs nothing that the buffer or the spool can hold;
// beyond, what is given up is counted to the packet.
func TestCollectorAway(t *testing.T) {
	// A batch of 4,000 packets takes some 40 KB: 100,000 packets/s are 1 MB/s.
	for _, c := range []struct {
		name   string
		away   time.Duration
		cfg    client.ReporterConfig
		reason string
	}{
		{"10 s within the buffer", 10 * time.Second, client.ReporterConfig{}, ""},
		{"beyond the buffer", 6 * time.Second, client.ReporterConfig{BufferBytes: 1 << 20}, "ring-full"},
		{"beyond the buffer, within the spool", 6 * time.Second, client.ReporterConfig{BufferBytes: 1 << 20, SpoolDir: "spool"}, ""},
		{"beyond the spool", 8 * time.Second, client.ReporterConfig{BufferBytes: 1 << 20, SpoolDir: "spool", SpoolMaxBytes: 3 << 20}, "spool-full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			col := newCollector(t, "")
			col.start()
			c.cfg.Full = client.DropOldest
			if c.cfg.SpoolDir != "" {
				c.cfg.SpoolDir = t.TempDir()
			}
			up := startProxy(t, col.addr, 0, 1, faultCut)
			f := startFeeder(t, dial(t, up.addr()), c.cfg, 4*floorRate/3)
			underLoad(t, col, f)
			up.away(true)
			time.Sleep(c.away)
			// A smaller load takes longer to fill what there is.
			for deadline := time.Now().Add(time.Minute); c.reason != "" && f.reporter.Stats().LostPackets == 0 && time.Now().Before(deadline); {
				time.Sleep(100 * time.Millisecond)
			}
			up.away(false)
			if !f.await(uint64(floorRate), time.Minute) {
				t.Fatalf("nothing is acknowledged after the collector is back: %+v", f.reporter.Stats())
			}
			clean(t, col, f.finish(time.Minute))
			exactly(t, col.addr, f, c.reason)
		})
	}
}

// away refuses everything and cuts what stands, or stops doing so.
func (p *proxy) away(yes bool) {
	p.down.Store(yes)
	if yes {
		p.cutAll()
	}
}
