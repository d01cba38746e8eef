package service

import (
	"testing"
	"time"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// probe asks for what is known of one probe.
func (r *rig) probe(id string) *whorlv1.Probe {
	r.t.Helper()
	resp, err := r.status.ListProbes(r.t.Context(), &whorlv1.ListProbesRequest{IncludeGone: true})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range resp.GetProbes() {
		if p.GetProbeId() == id {
			return p
		}
	}
	r.t.Fatalf("no probe %s in %v", id, resp)
	return nil
}

func (p *probeStream) tell(report *whorlv1.ProbeReport) {
	p.t.Helper()
	p.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Report{Report: report}})
}

// A probe that finished holds nothing back, whatever it last reported; one that
// was cut may.
func TestFinishedProbesHoldNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(p *probeStream)
		want  uint64
	}{
		{"finished", func(p *probeStream) { p.finish(false) }, 0},
		{"finished with a flush", func(p *probeStream) { p.finish(true) }, 0},
		{"closed", func(p *probeStream) {
			_ = p.stream.CloseSend()
			for {
				if _, err := p.stream.Recv(); err != nil {
					return
				}
			}
		}, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			p, _ := r.report(helloOf("probe-1", "s1"))
			p.tell(&whorlv1.ProbeReport{SpoolBatches: 5})
			p.batch(packets(1, 0, 1))
			p.acked(1)
			if n := r.probe("probe-1").GetSpoolBatches(); n != 5 {
				t.Fatalf("%d batches held while connected, want 5", n)
			}
			tt.leave(p)
			got := r.probe("probe-1")
			if got.GetState() != whorlv1.ProbeState_PROBE_STATE_GONE || got.GetSpoolBatches() != tt.want {
				t.Errorf("%v with %d batches held, want gone with %d", got.GetState(), got.GetSpoolBatches(), tt.want)
			}
			p, _ = r.report(helloOf("probe-1", "s1"))
			p.tell(&whorlv1.ProbeReport{SpoolBatches: 7})
			p.batch(packets(2, 0, 1))
			p.acked(2)
			if n := r.probe("probe-1").GetSpoolBatches(); n != 7 {
				t.Errorf("%d batches held when it is back, want 7", n)
			}
		})
	}
}

// What was applied was received, also where no report has said so yet.
func TestReceivedIsAtLeastApplied(t *testing.T) {
	r := newRig(t, Config{})
	p, _ := r.report(helloOf("probe-1", "s1"))
	p.batch(packets(1, 0, upTo(12)...))
	p.acked(1)
	if got := r.probe("probe-1"); got.GetPacketsReceived() != 12 || got.GetPacketsApplied() != 12 {
		t.Errorf("%d received, %d applied; want 12 and 12", got.GetPacketsReceived(), got.GetPacketsApplied())
	}
	p.tell(&whorlv1.ProbeReport{PacketsReceived: 20})
	p.batch(packets(2, 0, 1))
	p.acked(2)
	if got := r.probe("probe-1"); got.GetPacketsReceived() != 20 || got.GetPacketsApplied() != 13 {
		t.Errorf("%d received, %d applied; want 20 and 13", got.GetPacketsReceived(), got.GetPacketsApplied())
	}
}

// A collector without memory takes a session where its probe still can: what it
// shows is what it knows, also before the first batch and after another stream.
func TestSessionGoesOnInANewEpoch(t *testing.T) {
	r := newRig(t, Config{})
	hello := helloOf("probe-1", "s1")
	hello.OldestSequence = 50
	p, w := r.report(hello)
	if w.GetAppliedSequence() != 49 {
		t.Errorf("welcome says applied %d, want 49", w.GetAppliedSequence())
	}
	check := func(when string, sequence, received, applied, lost uint64) {
		t.Helper()
		got := r.probe("probe-1")
		if got.GetAppliedSequence() != sequence || got.GetPacketsReceived() != received || got.GetPacketsApplied() != applied || got.GetPacketsLost() != lost {
			t.Errorf("%s: %v; want sequence %d, %d received, %d applied, %d lost", when, got, sequence, received, applied, lost)
		}
	}
	check("before a batch", 49, 0, 0, 0)
	p.batch(packets(50, 0, upTo(12)...))
	p.batch(packets(50, 0, upTo(12)...)) // sent again: counts once
	p.batch(packets(51, 0, 1))
	p.acked(51)
	check("after two", 51, 13, 13, 0)
	p.tell(&whorlv1.ProbeReport{PacketsReceived: 1000})
	p.finish(false)

	p, w = r.report(helloOf("probe-1", "s1"))
	if w.GetAppliedSequence() != 51 {
		t.Errorf("second welcome says applied %d, want 51", w.GetAppliedSequence())
	}
	check("another stream of the session", 51, 1000, 13, 0)
	p.batch(packets(52, 0, 1))
	p.acked(52)
	check("one batch more", 52, 1000, 14, 0)
	p.finish(false)

	p, _ = r.report(helloOf("probe-1", "s2"))
	check("another session", 0, 0, 0, 0)
	p.batch(packets(1, 0, 1, 2))
	p.acked(1)
	check("its first batch", 1, 2, 2, 0)
}

// After a crash the probes of before are known as gone, from the checkpoint and
// from the log behind it, each with its newest session and, if the log
// tells, when that was heard; one that comes back goes on.
func TestProbesOfAnEarlierLifeAreGone(t *testing.T) {
	dir := t.TempDir()
	r := newDiskRig(t, durable(dir))
	begin := time.Now()
	say := func(probe, session string, from, batches uint64) {
		p, _ := r.report(helloOf(probe, session))
		for n := from; n < from+batches; n++ {
			p.batch(packets(n, 0, 1, 2))
		}
		p.acked(from + batches - 1)
		p.finish(false)
	}
	say("kept", "s1", 1, 1)
	say("kept", "s2", 1, 2)
	r.end()
	middle := time.Now()
	r = newDiskRig(t, durable(dir))
	say("logged", "s", 1, 1)
	r.crash()
	r = newDiskRig(t, durable(dir))
	for _, tt := range []struct {
		probe            string
		applied          uint64
		earliest, latest time.Time
	}{
		{"kept", 2, begin, middle},
		{"logged", 1, middle, time.Now()},
	} {
		got := r.probe(tt.probe)
		heard := got.GetLastHeard().AsTime()
		if got.GetState() != whorlv1.ProbeState_PROBE_STATE_GONE || got.GetAppliedSequence() != tt.applied ||
			got.GetPacketsApplied() != 2*tt.applied || got.GetNetwork() != "default" || got.GetConnectedAt() != nil {
			t.Errorf("%s: %v, want gone with %d batches", tt.probe, got, tt.applied)
		}
		if got.GetLastHeard() == nil && tt.probe == "logged" {
			t.Errorf("%s: not known when it was heard", tt.probe)
		}
		if got.GetLastHeard() != nil && (heard.Before(tt.earliest) || heard.After(tt.latest)) {
			t.Errorf("%s: heard %v, want between %v and %v", tt.probe, heard, tt.earliest, tt.latest)
		}
	}
	say("kept", "s2", 3, 1)
	if got := r.probe("kept"); got.GetPacketsApplied() != 6 || got.GetConnectedAt() == nil {
		t.Errorf("back again: %v, want 6 packets", got)
	}
	r.end()
}
