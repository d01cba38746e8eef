package filter

import (
	"slices"
	"strings"

	"github.com/whorl-net/whorl/internal/suggest"
	"github.com/whorl-net/whorl/tracker"
)

// parseRules reads names of rules, each of which there must be, but in quotes.
func (c *compiler) parseRules(w *word, values []value) ([]textPattern, []string, error) {
	ps, texts, err := parseTextPatterns(w, values)
	if err != nil || c.Rules == nil {
		return ps, texts, err
	}
	for i, v := range values {
		if !v.quoted && !slices.ContainsFunc(c.Rules, ps[i].matches) {
			e := v.place.errorf(v.text, "is no rule of this collector")
			if v.place.column > 0 {
				e.Problem += `, and "in quotes" any name is taken`
			}
			e.Suggestion = suggest.Nearest(strings.Trim(v.text, "*"), c.Rules)
			return nil, nil, e
		}
	}
	return ps, texts, nil
}

// compileRules: the connection has an anomaly of one of the rules.
func compileRules(c *compiler, w *word, values []value) (test, []string, error) {
	ps, texts, err := c.parseRules(w, values)
	return test{cost: costList * len(ps), detail: tracker.Newest, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		return anyRule(ps, s)
	}}, texts, err
}

func anyRule(ps []textPattern, s *tracker.Snapshot) bool {
	for i := range s.Anomalies {
		if anyText(ps, s.Anomalies[i].Rule) {
			return true
		}
	}
	return false
}

// compileAnomalies takes true and false, for any anomaly and for none, and the
// names of rules. In quotes, true is a name.
func compileAnomalies(c *compiler, w *word, values []value) (test, []string, error) {
	var some, none bool
	var rules []value
	var texts []string
	for _, v := range values {
		switch {
		case !v.quoted && v.text == "true":
			some = true
		case !v.quoted && v.text == "false":
			none = true
		case !v.quoted && slices.Contains([]string{"yes", "no", "true", "false"}, strings.ToLower(v.text)):
			return test{}, nil, v.place.errorf(v.text, "is neither true nor false nor, without quotes, the name of a rule")
		default:
			rules = append(rules, v)
			continue
		}
		texts = append(texts, v.text)
	}
	ps, ruleTexts, err := c.parseRules(w, rules)
	for _, text := range ruleTexts {
		if text == "true" || text == "false" {
			text = `"` + text + `"`
		}
		texts = append(texts, text)
	}
	return test{cost: costNumber + costList*len(ps), detail: tracker.Newest, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		if len(s.Anomalies) == 0 {
			return none
		}
		return some || anyRule(ps, s)
	}}, texts, err
}

// severities are the names, at the numbers.
var severities = [...]string{
	tracker.SeverityLow: "low", tracker.SeverityMedium: "medium", tracker.SeverityHigh: "high", tracker.SeverityCritical: "critical",
}

// compileSeverities: the connection has an anomaly of one of the severities. One
// whose severity is not stated never matches.
func compileSeverities(_ *compiler, _ *word, values []value) (test, []string, error) {
	var want [len(severities)]bool
	var texts []string
	for _, v := range values {
		op, name := "=", v.text
		for _, c := range comparisons {
			if rest, found := strings.CutPrefix(v.text, c); found {
				op, name = c, rest
				break
			}
		}
		n := severityNamed(name)
		if n == 0 {
			return test{}, nil, v.place.errorf(v.text, "is not a severity: low, medium, high or critical, perhaps with >= before it")
		}
		possible := false
		for i := tracker.SeverityLow; i <= tracker.SeverityCritical; i++ {
			if compare(op, i, n) {
				want[i], possible = true, true
			}
		}
		if !possible {
			return test{}, nil, v.place.errorf(v.text, "is never true")
		}
		texts = append(texts, strings.TrimPrefix(op, "=")+name)
	}
	return test{cost: costList, detail: tracker.Newest, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		for i := range s.Anomalies {
			if n := s.Anomalies[i].Severity; int(n) < len(want) && want[n] {
				return true
			}
		}
		return false
	}}, texts, nil
}

// severityNamed returns the severity of that name, 0 if there is none.
func severityNamed(name string) tracker.Severity {
	for i := tracker.SeverityLow; i <= tracker.SeverityCritical; i++ {
		if severities[i] == name {
			return i
		}
	}
	return 0
}

// compare applies one of comparisons.
func compare(op string, a, b tracker.Severity) bool {
	switch op {
	case ">=":
		return a >= b
	case "<=":
		return a <= b
	case ">":
		return a > b
	case "<":
		return a < b
	}
	return a == b
}
