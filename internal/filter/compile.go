package filter

import (
	"fmt"
	"strings"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
	"github.com/whorl-net/whorl/tracker"
)

// compiler counts what a filter uses up.
type compiler struct {
	*Source
	values, patterns int
	prints           []tracker.PrintSet
}

// Costs of tests, in nanoseconds or so.
const (
	costNumber  = 1
	costAddr    = 2
	costText    = 4
	costList    = 8
	costPattern = 32
)

// clause compiles one clause and returns it in canonical form too.
func (c *compiler) clause(cl *clause) (test, string, error) {
	c.values += len(cl.values)
	if c.values > MaxValues {
		return test{}, "", cl.values[0].place.errorf("", "the filter has more than %d values", MaxValues)
	}
	if cl.word.feed && !c.Feed {
		return test{}, "", cl.place.errorf(cl.word.name, "is known of evictions only: it works on the feed")
	}
	if cl.word.learned && c.Logged {
		return test{}, "", cl.place.errorf(cl.word.name,
			"comes from tables and rules, which may be others when the log is read again: select by what a connection shows itself, such as ja4:t13d*, src:10.0.0.5 or network:lab")
	}
	t, texts, err := cl.word.compile(c, cl.word, cl.values)
	if err != nil {
		return test{}, "", err
	}
	text := cl.word.name + ":" + strings.Join(texts, ",")
	if cl.negate {
		t.match = not(t.match)
		t.rowTest = t.not()
		text = "-" + text
	}
	return t, text, nil
}

func not(m match) match {
	return func(s *tracker.Snapshot, cause tracker.Cause) bool { return !m(s, cause) }
}

// anyOf joins matches by OR.
func anyOf(ms []match) match {
	if len(ms) == 1 {
		return ms[0]
	}
	return func(s *tracker.Snapshot, cause tracker.Cause) bool {
		for _, m := range ms {
			if m(s, cause) {
				return true
			}
		}
		return false
	}
}

// entries compiles include (or, negated, exclude): entries joined by OR. The
// test is empty when there are none.
func (c *compiler) entries(name string, entries []*whorlv1.ConnectionFilter, negate bool) (test, string, error) {
	if len(entries) == 0 {
		return test{}, "", nil
	}
	var all test
	var ms []match
	var rows []rowTest
	var texts []string
	for i, e := range entries {
		field := fmt.Sprintf("%s[%d]", name, i)
		clauses, err := typedClauses(field, e)
		if err != nil {
			return test{}, "", err
		}
		var tests []test
		var parts []string
		for _, alternatives := range clauses {
			t, text, err := c.alternatives(alternatives)
			if err != nil {
				return test{}, "", err
			}
			tests = append(tests, t)
			parts = append(parts, text)
			all.detail = max(all.detail, t.detail)
			all.cost += t.cost
		}
		if len(tests) == 0 {
			return test{}, "", place{field: field}.errorf("", "sets no field")
		}
		sortByCost(tests)
		rows = append(rows, allRows(tests))
		ms = append(ms, func(s *tracker.Snapshot, cause tracker.Cause) bool { return matchAll(tests, s, cause) })
		texts = append(texts, strings.Join(parts, " "))
	}
	all.match, all.rowTest = anyOf(ms), anyRow(rows)
	text := texts[0]
	if negate || len(texts) > 1 {
		text = "{" + strings.Join(texts, "|") + "}"
	}
	if negate {
		all.match, all.rowTest = not(all.match), all.rowTest.not()
		text = "-" + text
	}
	return all, text, nil
}

// alternatives compiles the clauses of one field of a typed filter, joined by OR.
func (c *compiler) alternatives(clauses []clause) (test, string, error) {
	var all test
	var ms []match
	var rows []rowTest
	var texts []string
	for i := range clauses {
		t, text, err := c.clause(&clauses[i])
		if err != nil {
			return test{}, "", err
		}
		ms, rows = append(ms, t.match), append(rows, t.rowTest)
		texts = append(texts, text)
		all.cost += t.cost
		all.detail = max(all.detail, t.detail)
	}
	all.match, all.rowTest = anyOf(ms), anyRow(rows)
	if len(texts) == 1 {
		return all, texts[0], nil
	}
	return all, "{" + strings.Join(texts, "|") + "}", nil
}
