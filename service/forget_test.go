package service

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// What was forgotten stays forgotten over a crash, and what was shown again since
// is not forgotten a second time, wherever the checkpoints are: a forget has its
// place in the log.
func TestForgettingSurvivesCrashes(t *testing.T) {
	const value = "t13d1516h2_8daaf6152771_02713d6af862"
	// Bits: a checkpoint before the forget, behind it, and behind the second sight.
	for checkpoints := range 8 {
		t.Run(fmt.Sprintf("checkpoints %03b", checkpoints), func(t *testing.T) {
			dir := t.TempDir()
			cfg := durable(dir)
			cfg.CheckpointEvery = time.Hour
			r := newDiskRig(t, cfg)
			checkpoint := func(bit int) {
				t.Helper()
				if checkpoints&bit == 0 {
					return
				}
				if err := r.collector.checkpointer.round(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			p, _ := r.report(helloOf("edge", "s"))
			p.batch(withFingerprint(packets(1, 1*time.Second, 1), ja4.TypeJA4, value))
			p.acked(1)
			checkpoint(1)
			resp, err := r.status.ForgetFingerprints(t.Context(), &whorlv1.ForgetFingerprintsRequest{Pattern: []string{value}, Confirm: true})
			if err != nil || resp.GetMatched() != 1 {
				t.Fatalf("forget: %v, %v", resp, err)
			}
			checkpoint(2)
			p.batch(withFingerprint(packets(2, 2*time.Second, 2), ja4.TypeJA4, value))
			p.batch(withFingerprint(packets(3, 3*time.Second, 3), ja4.TypeJA4, value))
			p.acked(3)
			checkpoint(4)
			want := r.shown()
			if len(want) != 1 || want[0].GetFirstConnectionId() != id(2) || want[0].GetConnections() != 2 {
				t.Fatalf("before the crash: %v", want)
			}
			for range 2 {
				r.crash()
				r = newDiskRig(t, cfg)
				got := r.shown()
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("after a crash: %v, want %v", got, want)
				}
				var isNew []string
				for _, c := range r.matching("new:true") {
					isNew = append(isNew, c.GetId())
				}
				slices.Sort(isNew)
				if fmt.Sprint(isNew) != fmt.Sprint([]string{id(1), id(2)}) {
					t.Errorf("new are %v, want the connections that were first before and after it", isNew)
				}
			}
		})
	}
}

// A log with a forget in it can be applied by a collector that knows nothing.
func TestForgettingIsPassedOverByWhoKnowsNothing(t *testing.T) {
	cfg := durable(t.TempDir())
	r := newDiskRig(t, cfg)
	p, _ := r.report(helloOf("edge", "s"))
	p.batch(withFingerprint(packets(1, 1*time.Second, 1), ja4.TypeJA4, "t13d1516h2_8daaf6152771_02713d6af862"))
	p.acked(1)
	if _, err := r.status.ForgetFingerprints(t.Context(), &whorlv1.ForgetFingerprintsRequest{Type: "ja4", Confirm: true}); err != nil {
		t.Fatal(err)
	}
	r.crash()
	cfg.Knowledge.Off = true
	r = newDiskRig(t, cfg)
	if got := r.totals().GetConnections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

// shown is the inventory.
func (r *rig) shown() []*whorlv1.KnownFingerprint {
	r.t.Helper()
	resp, err := r.status.ListFingerprints(r.t.Context(), &whorlv1.ListFingerprintsRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.GetFingerprints()
}
