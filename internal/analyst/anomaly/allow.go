package anomaly

import (
	"slices"

	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/tracker"
)

// allow is one entry of the allowlist: what it says holds together.
type allow struct {
	id string
	// rules are the ids it silences; empty: every rule but known-bad.
	rules []string
	// known are the entries of tables it silences; then it silences nothing else.
	known []string
	// filter says for which connections; nil: all.
	filter *filter.Filter
}

// covers reports whether a speaks of r at all.
func (a *allow) covers(r *Rule) bool {
	return len(a.known) == 0 && (len(a.rules) == 0 || slices.Contains(a.rules, r.ID))
}

// allowed reports whether an entry silences r for the connection s.
func (rs *Rules) allowed(r *Rule, s *tracker.Snapshot) bool {
	for _, a := range rs.allow {
		if a.covers(r) && a.filter.Match(s) {
			return true
		}
	}
	return false
}

// allowedEvent is allowed for an event.
func (rs *Rules) allowedEvent(r *Rule, v *view) bool {
	for _, a := range rs.allow {
		if a.covers(r) && (a.filter.All() || a.filter.Match(v.asSnapshot())) {
			return true
		}
	}
	return false
}

// allowedEntry reports whether an entry of a table is silenced by name for s.
func (rs *Rules) allowedEntry(entry string, s *tracker.Snapshot) bool {
	for _, a := range rs.allow {
		if slices.Contains(a.known, entry) && a.filter.Match(s) {
			return true
		}
	}
	return false
}

// Allows reports whether there is any entry.
func (rs *Rules) Allows() bool { return len(rs.allow) > 0 }
