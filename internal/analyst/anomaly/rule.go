package anomaly

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/analyst/window"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// MaxPerConnection bounds the anomalies of one connection.
const MaxPerConnection = 64

// MaxEvidence bounds the evidence of one anomaly.
const MaxEvidence = 16

// measure is what a stream rule counts.
type measure uint8

const (
	byConnection measure = iota // not a stream rule: judge, or filter alone
	byCount                     // how often a key is seen
	byDistinct                  // with how many different elements
	byBeat                      // how regularly
	bySteadiness                // a key that changes
	byNovelty                   // raised by the memory of fingerprints
)

// Rule is one rule with its settings.
type Rule struct {
	// ID is stable, such as "port-scan"; at most 63 characters.
	ID string
	// Severity is that of what it raises.
	Severity tracker.Severity
	// Source is "builtin" or the name of the file.
	Source string

	text    template
	about   string // one line, of a rule that judges
	measure measure

	// What a stream rule looks at: opened connections, fingerprints of types.
	opened bool
	types  ja4.TypeSet
	// accept, of a built-in rule, and filter, of one from a file, say which of
	// these count; nil: all.
	accept func(r *Rule, ev *tracker.Event) bool
	filter *filter.Filter
	key    []field
	// narrow are fields that are part of the key when the destination port is
	// one of commonPorts.
	narrow      []field
	commonPorts ports
	of          field // what byDistinct counts
	limit       window.Limit

	// judge, of a built-in connection rule.
	judge func(r *Rule, s *tracker.Snapshot) (tracker.Anomaly, bool)

	exceptPorts ports
	minBytes    uint64
	networks    []netip.Prefix
	stable      uint32 // bySteadiness: after so many equal ones
	score       int    // byBeat: at least, of 1000
	intervals   int    // byBeat: at least, at most window.Intervals
	shortest    time.Duration
	longest     time.Duration
}

// stream reports whether r needs the events of many connections.
func (r *Rule) stream() bool { return r.measure != byConnection }

// definition is what the state of a stream rule depends on: while it is the
// same, a reload keeps the state.
func (r *Rule) definition() string {
	return fmt.Sprint(r.ID, r.measure, r.opened, r.types, r.filter.String(), r.key, r.narrow, r.commonPorts.list,
		r.of, r.limit, r.exceptPorts.list, r.networks, r.stable)
}

// bytes returns the most that the state of r takes.
func (r *Rule) bytes() int64 {
	switch r.measure {
	case byCount:
		return r.limit.CountsBytes()
	case byDistinct:
		return r.limit.DistinctBytes()
	case bySteadiness:
		return window.SteadyBytes(r.limit.Keys)
	case byBeat:
		return window.RhythmBytes(r.limit.Keys)
	}
	return 0
}

// ports is a set of ports.
type ports struct {
	bits *[65536 / 64]uint64
	list []uint16 // in order, each once
}

func portSet(list ...uint16) ports {
	if len(list) == 0 {
		return ports{}
	}
	list = slices.Clone(list)
	slices.Sort(list)
	p := ports{new([65536 / 64]uint64), slices.Compact(list)}
	for _, n := range list {
		p.bits[n/64] |= 1 << (n % 64)
	}
	return p
}

func (p ports) has(n uint16) bool { return p.bits != nil && p.bits[n/64]>>(n%64)&1 != 0 }

// Rules is a set of rules in force, and what is allowed. It never changes.
type Rules struct {
	all    []*Rule
	judges []*Rule // connection rules
	stream []*Rule
	byType [ja4.NumTypes][]*Rule // stream rules on fingerprints of a type
	opened []*Rule               // stream rules on opened connections
	allow  []*allow
	known  *Rule // known-bad, nil when it is off
	novel  *Rule // new-fingerprint, nil when it is off
}

// newRules puts rules in order.
func newRules(all []*Rule, allowed []*allow) *Rules {
	rs := &Rules{all: all, allow: allowed}
	for _, r := range all {
		switch {
		case r.ID == ruleKnownBad:
			rs.known = r
		case r.measure == byNovelty:
			rs.novel = r
		case !r.stream():
			rs.judges = append(rs.judges, r)
		default:
			rs.stream = append(rs.stream, r)
			if r.opened {
				rs.opened = append(rs.opened, r)
			}
			for t := range ja4.Type(ja4.NumTypes) {
				if r.types.Has(t) {
					rs.byType[t] = append(rs.byType[t], r)
				}
			}
		}
	}
	return rs
}

// All returns the rules that are on, built-in ones first.
func (rs *Rules) All() []*Rule { return slices.Clone(rs.all) }

// Types returns the types of fingerprints that any stream rule counts.
func (rs *Rules) Types() (types ja4.TypeSet) {
	for _, r := range rs.stream {
		types |= r.types
	}
	return types
}

// Novel returns the rule for what a network shows first, nil when it is off.
func (rs *Rules) Novel() *Rule { return rs.novel }

// Rule returns the rule with an id, nil if there is none or it is off.
func (rs *Rules) Rule(id string) *Rule {
	for _, r := range rs.all {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// Text returns one line on what r does, for people.
func (r *Rule) Text() string {
	switch r.measure {
	case byCount, byDistinct:
		what := "events"
		if r.measure == byDistinct {
			what = "different " + r.of.String()
		}
		slides := ""
		if r.limit.Sliding {
			slides = ", sliding"
		}
		return fmt.Sprintf("more than %d %s for each %s in %v%s", r.limit.Threshold, what, fieldNames(r.key),
			units.Duration(time.Duration(r.limit.Window)), slides)
	case byBeat:
		return fmt.Sprintf("every %v to %v, at least %d times, score %.2f or more", units.Duration(r.shortest), units.Duration(r.longest), r.intervals, float64(r.score)/1000)
	case bySteadiness:
		return fmt.Sprintf("another value after %d equal ones for each %s", r.stable, fieldNames(r.key))
	case byNovelty:
		return "the first sight of a fingerprint in its network, after learning"
	}
	if !r.filter.All() {
		return r.filter.String()
	}
	return r.about
}

// Stats are counters of one rule since its state was made.
type Stats struct {
	ID       string
	Severity tracker.Severity
	Source   string
	// Raised counts anomalies, Suppressed those an allowlist kept silent,
	// Dropped those there was no room to keep.
	Raised, Suppressed, Dropped uint64
	// Keys are those held now, KeysEvicted those that had to leave because
	// there was no room.
	Keys        int
	KeysEvicted uint64
}

// template is a text with {places}.
type template struct {
	parts  []string // between the places
	places []string
}

// parseTemplate refuses places that are not in known.
func parseTemplate(text string, known []string) (t template, err error) {
	for {
		before, rest, found := strings.Cut(text, "{")
		t.parts = append(t.parts, before)
		if !found {
			return t, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return t, fmt.Errorf("{%.20s has no }", rest)
		}
		if !slices.Contains(known, name) {
			return t, fmt.Errorf("{%.20s} is not one of {%s}", name, strings.Join(known, "} {"))
		}
		t.places = append(t.places, name)
		text = after
	}
}

// maxPlace bounds what is put into one place of a text, in bytes.
const maxPlace = 80

// render fills the places. What a connection says of itself is cut to a length
// that keeps a description one line.
func (t *template) render(value func(name string) string) string {
	var b strings.Builder
	for i, part := range t.parts {
		b.WriteString(part)
		if i < len(t.places) {
			b.WriteString(clip(value(t.places[i]), maxPlace))
		}
	}
	return b.String()
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func inPrefixes(ps []netip.Prefix, a flow.Addr) bool {
	ip := a.Netip()
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(ip) })
}
