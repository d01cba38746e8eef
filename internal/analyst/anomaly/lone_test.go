package anomaly

import (
	"fmt"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/tracker"
)

// A flood of sources that come once each takes no room from those that rules
// count; the first attempt of a source is made up for when there is a second.
func TestLoneAttemptsWait(t *testing.T) {
	rs := Builtin()
	e := NewEngine(rs, 7)
	never := func(x *Raised) { t.Fatalf("%s was raised", x.Rule.ID) }
	flood := func(from int) {
		for i := range 4000 {
			e.Event(opened(fmt.Sprintf("100.%d.%d.%d", from, i>>8, i&255), "192.0.2.1", 443, time.Duration(i)*10*time.Millisecond), 0, never)
		}
	}
	flood(1)
	if n, evicted := e.Lone(); n != 4000 || evicted != 0 {
		t.Errorf("%d sources wait, %d had to leave", n, evicted)
	}
	for _, id := range []string{"port-scan", "host-sweep", "beacon-fast"} {
		if n, _ := e.Keys(id); n != 0 {
			t.Errorf("%s holds %d keys of sources that came once", id, n)
		}
	}
	// Its first beat waited: sixteen intervals need seventeen beats, not eighteen.
	var fired []int
	for i := range 20 {
		e.Event(opened("10.0.0.1", "192.0.2.9", 8443, time.Duration(i)*30*time.Second), 0, func(x *Raised) {
			if x.Rule.ID == "beacon-fast" {
				fired = append(fired, i)
			}
		})
		flood(2 + i)
	}
	if len(fired) != 1 || fired[0] != 16 {
		t.Errorf("the beacon was raised at its beats %v, want 16, counted from 0", fired)
	}
}

// What waits is told of in the words of the second attempt, also after a restart
// and when the rules changed meanwhile.
func TestLoneAttemptsOutliveARestart(t *testing.T) {
	rs := load(t, "builtin:\n  port-scan: {threshold: 1}\n")
	e := NewEngine(rs, 7)
	e.Event(opened("10.0.0.1", "192.0.2.9", 1, 0), 3, func(*Raised) { t.Fatal("one port is no scan") })
	var w state.Writer
	e.Save(&w)
	f := NewEngine(rs, 7)
	if err := f.Restore(state.NewReader(w.B)); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*Engine{"went on": e, "restored": f} {
		e.Use(load(t, "builtin:\n  port-scan: {threshold: 1}\n  beacon-slow: {enabled: false}\n"))
		n := 0
		ev := opened("10.0.0.1", "192.0.2.9", 2, time.Second)
		ev.UID = tracker.UID{1}
		e.Event(ev, 3, func(x *Raised) {
			n++
			if x.Rule.ID != "port-scan" || x.Anomaly.RaisedAt != at(time.Second) || len(x.Anomaly.Evidence) != 4 {
				t.Errorf("%s: %+v", name, x.Anomaly)
			}
		})
		if n != 1 {
			t.Errorf("%s: raised %d times", name, n)
		}
	}
}

// Damaged bytes of lone attempts are an error.
func TestLoneRefusesDamage(t *testing.T) {
	text := "builtin:\n"
	for _, id := range []string{"client-change", "ja4-flood", "certificate-diversity", "port-scan", "host-sweep", "connection-flood", "ssh-fan-out", "beacon-fast", "beacon-slow"} {
		text += "  " + id + ": {keys: 64}\n"
	}
	rs := load(t, text)
	e := NewEngine(rs, 7)
	for i := range 50 {
		e.Event(opened(fmt.Sprintf("10.0.0.%d", i), "192.0.2.9", 1, 0), 0, func(*Raised) {})
	}
	var w state.Writer
	e.Save(&w)
	taken := 0
	for n := range w.B {
		if err := NewEngine(rs, 7).Restore(state.NewReader(w.B[:n])); err == nil {
			taken++
		}
	}
	// Cut off where the state of the version before ended it is one of that version.
	if taken > 1 {
		t.Errorf("%d cuts of %d bytes are taken", taken, len(w.B))
	}
}
