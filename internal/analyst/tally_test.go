package analyst

import (
	"bytes"
	"testing"

	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/tracker"
)

// raised returns how often a rule has spoken.
func raised(a *Analyst, rule string) uint64 {
	for _, r := range a.Stats().Rules {
		if r.ID == rule {
			return r.Raised
		}
	}
	return 0
}

// What Enrich found about connections that leave counts when their departure is
// taken: a worker that is ahead of a checkpoint makes nothing count twice after a
// restart, nor does a replay of what the checkpoint holds.
func TestCountersSurviveAReplay(t *testing.T) {
	const rule = "reverse-ssh"
	evicted := func(a *Analyst, n byte) {
		e := &tracker.Eviction{Connection: tracker.Snapshot{UID: tracker.UID{15: n}, Anomalies: []tracker.Anomaly{{Rule: rule}}}}
		a.Evicted(e)
	}
	left := func(a *Analyst, n byte) {
		a.Take(&tracker.Output{Position: uint64(n), Last: true, Items: []tracker.Item{{Departure: &tracker.Departure{UID: tracker.UID{15: n}}}}}, nil)
	}
	restored := func(data []byte) *Analyst {
		a, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if data != nil {
			if err := a.Restore(data); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	a := restored(nil)
	evicted(a, 1)
	evicted(a, 2) // the worker is ahead
	left(a, 1)
	if n := raised(a, rule); n != 1 {
		t.Errorf("%d are counted of one that has left", n)
	}
	data, position, err := a.Save(nil)
	if err != nil || position != 1 {
		t.Fatal(position, err)
	}
	left(a, 2)

	b := restored(data)
	for n := byte(1); n <= 2; n++ { // the log is replayed from its beginning
		evicted(b, n)
		left(b, n)
	}
	if x, y := raised(a, rule), raised(b, rule); x != 2 || y != 2 {
		t.Errorf("%d are counted, after a restart %d, want 2", x, y)
	}
	if n := b.judged.n.Load(); n != 0 {
		t.Errorf("%d wait for departures that have been", n)
	}
}

// What waits for departures is bounded: beyond it counts at once.
func TestCountersAreBounded(t *testing.T) {
	a, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	e := &tracker.Eviction{Connection: tracker.Snapshot{Anomalies: []tracker.Anomaly{{Rule: "tunnel-mss"}}}}
	for n := range maxJudgements + 10 {
		e.Connection.UID = tracker.UID{13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
		a.Evicted(e)
	}
	if n, counted := a.judged.n.Load(), raised(a, "tunnel-mss"); n != maxJudgements || counted != 10 {
		t.Errorf("%d wait, %d are counted", n, counted)
	}
}

// A state of the version before, without compact first sights and lone attempts,
// is read.
func TestRestoreReadsTheVersionBefore(t *testing.T) {
	a, err := New(Config{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	u := tracker.UID{15: 9}
	w := state.Writer{}
	w.Uint(1)
	w.Fixed(5)
	w.Uint(77)
	a.saveNetworks(&w)
	w.Block(a.memory.Save)
	w.Block(func(w *state.Writer) { w.Uint(0); w.Bool(false) }) // no rule has state
	w.Block(func(w *state.Writer) {
		w.Uint(0)
		w.Uint(1)
		w.Bytes(u[:])
		w.Bool(true)
		w.Uint(1)
		saveAnomaly(w, &tracker.Anomaly{Rule: "new-fingerprint", Description: "it is new", Severity: tracker.SeverityLow})
	})
	w.Block(a.tally.save)
	if err := a.Restore(w.B); err != nil {
		t.Fatal(err)
	}
	s := tracker.Snapshot{UID: u}
	a.Annotate(&s)
	if a.Position() != 77 || !s.New || len(s.Anomalies) != 1 || s.Anomalies[0].Description != "it is new" {
		t.Errorf("at %d: %+v", a.Position(), s)
	}
}

// Who looks at the counters changes nothing that is saved.
func TestStatsChangesNothing(t *testing.T) {
	a, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := a.Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Stats().Rules) == 0 {
		t.Fatal("no rules to look at")
	}
	after, _, err := a.Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("Stats made %d bytes of state out of %d", len(after), len(before))
	}
}
