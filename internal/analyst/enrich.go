package analyst

import (
	"sync"

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
	if h := a.found.get(s.UID); h != nil {
		h.findings().Apply(s)
	}
}

// Evicted notes, for Stats, what Enrich found about a connection that leaves: it
// counts once Take sees the departure. A tracker's Encode hook calls it once for
// each. It is safe for concurrent use and allocates only when something is odd.
func (a *Analyst) Evicted(e *tracker.Eviction) {
	rs := a.rules.Load()
	var v judgement
	for i := range e.Connection.Anomalies {
		v.raised = append(v.raised, e.Connection.Anomalies[i].Rule)
	}
	if rs.Allows() {
		scratch := judged.Get().(*[]tracker.Anomaly)
		*scratch = rs.Judge(&e.Connection, (*scratch)[:0], func(r *anomaly.Rule) { v.suppressed = append(v.suppressed, r.ID) })
		clear(*scratch)
		judged.Put(scratch)
	}
	if (v.raised != nil || v.suppressed != nil) && !a.judged.add(e.Connection.UID, v) {
		a.tally.count(v)
	}
}

// judged keeps room for what Evicted judges once more.
var judged = sync.Pool{New: func() any { return new([]tracker.Anomaly) }}
