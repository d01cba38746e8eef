package anomaly

import (
	"errors"
	"fmt"
	"slices"

	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/tracker"
)

// allow is one entry of the allowlist: what it says holds together.
type allow struct {
	id string
	// rules are the ids it silences; empty: every rule but known-bad.
	rules []string
	// known are the entries of tables it silences; then it silences nothing else.
	// They stand in lines of file.
	known []string
	lines []int
	file  string
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

// CheckEntries reports, as an *Error for each, what allow entries name that is no
// entry of a table: names are the ids of all there are. nil: nothing.
func (rs *Rules) CheckEntries(names []string) error {
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	var errs []error
	for _, a := range rs.allow {
		for i, id := range a.known {
			if known[id] || len(errs) == maxErrors {
				continue
			}
			e := &Error{File: a.file, Line: a.lines[i], Problem: fmt.Sprintf(
				"allow: known-bad: no table has an entry %q, neither the built-in one nor a file", clip(id, 64))}
			if near := suggest.Nearest(id, names); near != "" {
				e.Problem += "; did you mean " + near + "?"
			}
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

// Allows reports whether there is any entry.
func (rs *Rules) Allows() bool { return len(rs.allow) > 0 }
