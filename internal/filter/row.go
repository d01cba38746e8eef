package filter

import (
	"slices"

	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/tracker"
)

// rowTest is a test of a connection in its place in the table, before anything of
// it is copied.
type rowTest struct {
	// row says what match says of a live connection; nil if a row does not tell.
	row func(r *tracker.Row) bool
	// asks are the sets of fingerprints, of compiler.prints, that row asks about;
	// needs are those without which it is never true.
	asks, needs []int
	// alone says that the test is whether the connection shows needs[0], and no more.
	alone bool
}

// shows returns the test whether a connection has a fingerprint of set, which ps
// completes.
func (c *compiler) shows(set tracker.PrintSet, ps []pattern.Pattern) rowTest {
	var open []pattern.Pattern
	for _, p := range ps {
		if p.Exact() {
			set.Values = append(set.Values, p.String())
		} else {
			open = append(open, p)
		}
	}
	if len(open) > 0 {
		set.Match = func(value string) bool {
			for i := range open {
				if open[i].Match(value) {
					return true
				}
			}
			return false
		}
	}
	n := len(c.prints)
	c.prints = append(c.prints, set)
	return rowTest{
		row:  func(r *tracker.Row) bool { return r.Shows(n) },
		asks: []int{n}, needs: []int{n}, alone: true,
	}
}

// not returns the contrary of t.
func (t *rowTest) not() rowTest {
	n := rowTest{asks: t.asks}
	if row := t.row; row != nil {
		n.row = func(r *tracker.Row) bool { return !row(r) }
	}
	return n
}

// allRows joins the rows of tests by AND.
func allRows(tests []test) rowTest {
	if len(tests) == 1 {
		return tests[0].rowTest
	}
	var all rowTest
	var rows []func(r *tracker.Row) bool
	for i := range tests {
		t := &tests[i]
		if t.row == nil {
			return rowTest{}
		}
		rows = append(rows, t.row)
		all.asks = append(all.asks, t.asks...)
		all.needs = append(all.needs, t.needs...)
	}
	all.row = func(r *tracker.Row) bool {
		for _, row := range rows {
			if !row(r) {
				return false
			}
		}
		return true
	}
	return all
}

// anyRow joins rows by OR.
func anyRow(tests []rowTest) rowTest {
	if len(tests) == 1 {
		return tests[0]
	}
	var any rowTest
	for i := range tests {
		if tests[i].row == nil {
			return rowTest{}
		}
		any.asks = append(any.asks, tests[i].asks...)
	}
	any.row = func(r *tracker.Row) bool {
		for i := range tests {
			if tests[i].row(r) {
				return true
			}
		}
		return false
	}
	return any
}

// Split returns f in two parts, which together say what f says of a connection that
// is live: a query of the table, and what is left to ask about copies of what it
// finds. rest is nil when nothing is.
func (f *Filter) Split() (q tracker.Query, rest *Filter) {
	if f == nil {
		return tracker.Query{}, nil
	}
	var rows []test
	rest = new(Filter)
	for _, t := range f.tests {
		if t.row == nil {
			rest.tests = append(rest.tests, t)
			rest.detail = max(rest.detail, t.detail)
			continue
		}
		rows = append(rows, t)
		if len(t.asks) == 0 {
			q.Cost += t.cost
		}
	}
	if len(rest.tests) == 0 {
		rest = nil
	}
	if len(rows) == 0 {
		return q, rest
	}
	all := allRows(rows)
	q.Match, q.Needs = all.row, all.needs
	q.Prints = slices.Clone(f.prints)
	for i := range q.Prints {
		if !slices.Contains(all.asks, i) { // of a test that is in rest
			q.Prints[i] = tracker.PrintSet{}
		}
	}
	return q, rest
}

// Prints returns the set of fingerprints that f asks for, if that is all that f
// does.
func (f *Filter) Prints() (p tracker.PrintSet, ok bool) {
	if f == nil || len(f.tests) != 1 || !f.tests[0].alone {
		return p, false
	}
	return f.prints[f.tests[0].needs[0]], true
}
