package filter

import (
	"slices"
	"strings"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// Limits of a filter. They bound the time of a match.
const (
	// MaxTextLen bounds the line of text in bytes.
	MaxTextLen = 4096
	// MaxValues bounds the values of all words, and of typed filters, together.
	MaxValues = 1024
	// MaxPatterns bounds the fingerprint patterns among them: each is compared
	// with every event of a history.
	MaxPatterns = 64
	// MaxEntries bounds include and exclude, together.
	MaxEntries = 64
)

// Source is where a filter comes from. Empty parts are left out; the zero Source
// makes a filter that matches everything.
type Source struct {
	// Text is one line in the filter language.
	Text string
	// Include and Exclude are the typed form: (no include, or any include) and
	// not (any exclude), ANDed with Text.
	Include, Exclude []*whorlv1.ConnectionFilter
	// Now is what ages such as "after:5m" are counted from, in Unix nanoseconds.
	Now int64
	// Feed allows the word cause, which only an eviction has.
	Feed bool
	// Rules are the ids of the anomaly rules there are: a name of rules that is none
	// of them is refused, but in quotes. Nil takes any name.
	Rules []string
	// Logged refuses words whose meaning comes from tables and rules: what is kept
	// in a log must mean the same when it is read again.
	Logged bool
	// Replay takes all that was ever taken and is in a log: it leaves out what a
	// newer version refuses because it never matches.
	Replay bool
}

// Filter is a compiled filter. It never changes; all methods are safe for
// concurrent use. A nil Filter matches everything.
type Filter struct {
	tests  []test
	text   string
	detail tracker.Detail
	prints []tracker.PrintSet // those that rows of tests ask about
}

// match is one compiled condition. cause is 0 for a connection that is live.
type match func(s *tracker.Snapshot, cause tracker.Cause) bool

// test is a match and what it takes.
type test struct {
	match  match
	cost   int // in ns or so; cheap tests go first
	detail tracker.Detail
	rowTest
}

// Parse compiles one line of text. now is what ages are counted from, in Unix
// nanoseconds. Errors are of type *Error.
func Parse(text string, now int64) (*Filter, error) {
	return Compile(Source{Text: text, Now: now})
}

// Compile makes a filter. Errors are of type *Error.
func Compile(src Source) (*Filter, error) {
	c := compiler{Source: &src}
	clauses, err := parseText(src.Text)
	if err != nil {
		return nil, err
	}
	f := new(Filter)
	var words []string
	for i := range clauses {
		t, word, err := c.clause(&clauses[i])
		if err != nil {
			return nil, err
		}
		f.tests = append(f.tests, t)
		words = append(words, word)
	}
	if n := len(src.Include) + len(src.Exclude); n > MaxEntries {
		return nil, place{field: "include"}.errorf("", "and exclude have %d entries, at most %d", n, MaxEntries)
	}
	for _, list := range []struct {
		name    string
		entries []*whorlv1.ConnectionFilter
		negate  bool
	}{{"include", src.Include, false}, {"exclude", src.Exclude, true}} {
		t, word, err := c.entries(list.name, list.entries, list.negate)
		if err != nil {
			return nil, err
		}
		if t.match != nil {
			f.tests = append(f.tests, t)
			words = append(words, word)
		}
	}
	for _, t := range f.tests {
		f.detail = max(f.detail, t.detail)
	}
	sortByCost(f.tests)
	f.text = strings.Join(words, " ")
	f.prints = c.prints
	return f, nil
}

// All reports whether f matches everything without looking.
func (f *Filter) All() bool { return f == nil || len(f.tests) == 0 }

// Detail says how much of a connection f looks at.
func (f *Filter) Detail() tracker.Detail {
	if f == nil {
		return tracker.Bare
	}
	return f.detail
}

// Match reports whether f selects the live connection s, which was copied with
// at least f.Detail. It does not allocate.
func (f *Filter) Match(s *tracker.Snapshot) bool {
	return f == nil || matchAll(f.tests, s, 0)
}

// MatchEviction is Match for the feed: e's cause counts too.
func (f *Filter) MatchEviction(e *tracker.Eviction) bool {
	return f == nil || matchAll(f.tests, &e.Connection, e.Cause)
}

// sortByCost puts cheap tests first: most connections fail one of them.
func sortByCost(tests []test) {
	slices.SortStableFunc(tests, func(a, b test) int { return a.cost - b.cost })
}

func matchAll(tests []test, s *tracker.Snapshot, cause tracker.Cause) bool {
	for i := range tests {
		if !tests[i].match(s, cause) {
			return false
		}
	}
	return true
}

// String returns the filter in one form for all that mean the same by spelling:
// values as they are printed elsewhere, ages as times. Parse reads it again if
// the filter has no typed part with a choice; typed parts are shown as
// {entry|entry}, with - in front of what is excluded.
func (f *Filter) String() string {
	if f == nil {
		return ""
	}
	return f.text
}
