package analyst

import (
	"cmp"
	"slices"

	"github.com/whorl-net/whorl/internal/analyst/anomaly"
	"github.com/whorl-net/whorl/tracker"
)

// MaxAnomalies bounds the anomalies of one connection.
const MaxAnomalies = anomaly.MaxPerConnection

// Findings is what an Analyst found out about one connection from others.
type Findings struct {
	// New says that it introduced a fingerprint to its network after the time
	// of learning.
	New bool
	// Anomalies are one for each rule, oldest first, then by rule.
	Anomalies []tracker.Anomaly
}

// Apply adds f to what s says already: New, and Anomalies, which are then sorted
// (oldest first, then by rule) and at most MaxAnomalies, one for each rule. s
// shares nothing with f but text: whoever owns s may use its memory again.
func (f *Findings) Apply(s *tracker.Snapshot) {
	s.New = s.New || f.New
	for i := range f.Anomalies {
		rule := f.Anomalies[i].Rule
		if !slices.ContainsFunc(s.Anomalies, func(a tracker.Anomaly) bool { return a.Rule == rule }) {
			a := f.Anomalies[i]
			a.Evidence = slices.Clone(a.Evidence)
			s.Anomalies = append(s.Anomalies, a)
		}
	}
	sortAnomalies(s.Anomalies)
	s.Anomalies = s.Anomalies[:min(len(s.Anomalies), MaxAnomalies)]
}

func sortAnomalies(as []tracker.Anomaly) {
	slices.SortStableFunc(as, func(x, y tracker.Anomaly) int {
		return cmp.Or(cmp.Compare(x.RaisedAt, y.RaisedAt), cmp.Compare(x.Rule, y.Rule))
	})
}
