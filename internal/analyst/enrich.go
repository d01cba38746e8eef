package analyst

import (
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/tracker"
)

// Enrich adds to s the anomalies that it shows by itself: a tracker's Enrich
// hook, behind the one that fills in what follows from tables and from the MSS.
// It looks at the whole history of fingerprints, so s should have been copied
// with tracker.Histories or more. It is safe for concurrent use and allocates
// only when something is odd.
func (a *Analyst) Enrich(s *tracker.Snapshot) {
	before := len(s.Anomalies)
	s.Anomalies = a.rules.Load().Judge(s, s.Anomalies, nil)
	if len(s.Anomalies) > before && len(s.Anomalies) > 1 {
		sortAnomalies(s.Anomalies)
	}
}

// Annotate adds to s what was found about it from other connections: a tracker's
// Annotate hook. It is safe for concurrent use. What a departing connection gets
// comes from Take instead, in the order of the log.
func (a *Analyst) Annotate(s *tracker.Snapshot) {
	if f := a.found.get(s.UID); f != nil {
		f.Apply(s)
	}
}

// Evicted counts, for Stats, what Enrich found about a connection that leaves.
// A tracker's Encode hook calls it once for each.
func (a *Analyst) Evicted(e *tracker.Eviction) {
	rs := a.rules.Load()
	for i := range e.Connection.Anomalies {
		a.tally.of(e.Connection.Anomalies[i].Rule).raised.Add(1)
	}
	if !rs.Allows() {
		return
	}
	scratch := judged.Get().(*[]tracker.Anomaly)
	*scratch = rs.Judge(&e.Connection, (*scratch)[:0], func(r *anomaly.Rule) { a.tally.of(r.ID).suppressed.Add(1) })
	clear(*scratch)
	judged.Put(scratch)
}

// judged keeps room for what Evicted judges once more.
var judged = sync.Pool{New: func() any { return new([]tracker.Anomaly) }}

// tally counts by rule.
type tally struct {
	mu  sync.RWMutex
	all map[string]*counters // guarded by mu
}

// counters are those of one rule.
type counters struct{ raised, suppressed, dropped atomic.Uint64 }

func (t *tally) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = map[string]*counters{}
}

// maxCounted bounds the rules that are counted: rules come and go with reloads.
const maxCounted = 4 * anomaly.MaxRules

// of returns the counters of a rule.
func (t *tally) of(rule string) *counters {
	t.mu.RLock()
	c := t.all[rule]
	t.mu.RUnlock()
	if c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.all[rule]; c != nil {
		return c
	}
	c = new(counters)
	if len(t.all) < maxCounted {
		t.all[rule] = c
	}
	return c
}
