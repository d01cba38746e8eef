package probe

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/handshake"
)

// OnEvent sees every event that a batch carries, with the number of its packet.
func TestOnEventSeesWhatBatchesCarry(t *testing.T) {
	var seen []string
	cfg := Config{OnEvent: func(e *handshake.Event) error {
		if e.PacketNum == 0 || e.Time == 0 || e.Tuple == (flow.Tuple{}) {
			t.Errorf("%v %s has packet %d, time %d, tuple %v", e.Type, e.Value, e.PacketNum, e.Time, e.Tuple)
		}
		seen = append(seen, e.Value)
		return nil
	}}
	c, totals := mustRun(t, cfg, &list{packets: traffic(3000, 50)})
	var carried []string
	for _, b := range c.batches {
		for i := range b.Fingerprints {
			carried = append(carried, b.Fingerprints[i].Event.Value)
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(seen)), slices.Sorted(slices.Values(carried))) || uint64(len(seen)) != totals.Fingerprints || len(seen) == 0 {
		t.Errorf("OnEvent saw %d events, batches carry %d, totals say %d", len(seen), len(carried), totals.Fingerprints)
	}
}

// An error of OnEvent ends the run.
func TestOnEventEndsTheRun(t *testing.T) {
	full := errors.New("full")
	p, err := New(Config{OnEvent: func(*handshake.Event) error { return full }}, &collector{}, &list{packets: traffic(3000, 50)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("Run: %v, want the error of OnEvent", err)
	}
}

// A batch holds only times that a collector takes, whatever a file says, and
// packets that had to be moved are counted.
func TestTimesBeyondABatchAreClamped(t *testing.T) {
	for _, retime := range []bool{false, true} {
		packets := traffic(6, 1)
		for i, at := range []int64{math.MinInt64, -1, 0, flow.MaxTime, flow.MaxTime + 1, math.MaxInt64} {
			packets[i].Time = at
		}
		c, totals := mustRun(t, Config{Retime: retime}, &list{packets: packets})
		rows := 0
		for _, b := range c.batches {
			for _, at := range b.Time {
				rows++
				if at < 0 || at > flow.MaxTime {
					t.Errorf("retime %v: a row has time %d", retime, at)
				}
			}
			if b.Watermark < 0 || b.Watermark > flow.MaxTime {
				t.Errorf("retime %v: watermark %d", retime, b.Watermark)
			}
		}
		if want := uint64(4); rows != 6 || !retime && totals.TimesClamped != want || totals.TimesClamped < want {
			t.Errorf("retime %v: %d rows, %d clamped, want 6 and %d", retime, rows, totals.TimesClamped, want)
		}
	}
}
