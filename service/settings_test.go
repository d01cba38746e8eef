package service

import (
	"testing"
	"time"
)

// A log is applied again under the settings it was applied under the first time,
// also when others are in force from now on: the feed goes on as if they had
// been changed between two records.
func TestChangedSettingsBeginBehindTheLog(t *testing.T) {
	for _, crash := range []bool{true, false} {
		cfg := durable(t.TempDir())
		encoded, packetCount := traffic(5, 300)
		r := newDiskRig(t, cfg)
		if acked := r.deliver(t, encoded, 300); acked != 300 {
			t.Fatalf("acknowledged up to %d, want 300", acked)
		}
		r.settle()
		live, fed := r.totals().GetConnections(), len(r.history())
		if live < 500 || fed == 0 {
			t.Fatalf("%d connections live, %d evicted: nothing is tested", live, fed)
		}
		if crash {
			r.crash()
		} else {
			r.end()
		}

		cfg.Tracker.MaxConnections = 200
		cfg.Tracker.Timeouts.UDP = time.Hour
		r = newDiskRig(t, cfg)
		st := r.totals()
		if st.GetPacketsApplied() != packetCount {
			t.Errorf("crash %v: %d packets applied, want %d", crash, st.GetPacketsApplied(), packetCount)
		}
		if st.GetMaxConnections() != 200 {
			t.Errorf("crash %v: room for %d connections, want 200", crash, st.GetMaxConnections())
		}
		r.checkIdentities()
		if again := len(r.history()); uint64(again) != uint64(fed)+live-r.totals().GetConnections() {
			t.Errorf("crash %v: %d evictions, %d before and %d connections live then", crash, again, fed, live)
		}
		r.end()
	}
}
