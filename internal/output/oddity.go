package output

import (
	"time"
)

// Oddity is an anomaly that a rule raised, with the connection it is about.
type Oddity struct {
	RaisedAt                   time.Time
	Severity, Rule, Connection string
	Description                string
	Evidence                   []string
}

// severityStyle colours what is worth a look.
func severityStyle(severity string) Style {
	switch severity {
	case "high", "critical":
		return StyleBad
	case "medium":
		return StyleWarn
	}
	return StylePlain
}

// Oddities is the Kind of rules test.
func Oddities(clock Clock) Kind[Oddity] {
	return Kind[Oddity]{
		Columns: []Column[Oddity]{
			{Name: "RAISED", Cell: func(o Oddity) string {
				return clock.in(o.RaisedAt).Format(dateOfTime)
			}},
			{Name: "SEVERITY", Cell: func(o Oddity) string { return o.Severity }, Style: func(o Oddity) Style { return severityStyle(o.Severity) }},
			{Name: "RULE", Cell: func(o Oddity) string { return o.Rule }},
			{Name: "CONNECTION", Cell: func(o Oddity) string { return o.Connection }},
			{Name: "DESCRIPTION", Cell: func(o Oddity) string { return o.Description }},
		},
		Schema: fieldList("raised_at", "severity", "rule", "id", "description", "evidence"),
		JSON: func(dst []byte, o Oddity, sel *Selection) []byte {
			dst = append(dst, '{')
			if _, ok := sel.has("raised_at"); ok {
				dst = appendTime(appendKey(dst, "raised_at"), o.RaisedAt)
			}
			for _, m := range [][2]string{{"severity", o.Severity}, {"rule", o.Rule}, {"id", o.Connection}, {"description", o.Description}} {
				if _, ok := sel.has(m[0]); ok {
					dst = appendString(appendKey(dst, m[0]), m[1])
				}
			}
			if _, ok := sel.has("evidence"); ok && len(o.Evidence) > 0 {
				dst = append(appendKey(dst, "evidence"), '[')
				for i, e := range o.Evidence {
					if i > 0 {
						dst = append(dst, ',')
					}
					dst = appendString(dst, e)
				}
				dst = append(dst, ']')
			}
			return append(dst, '}')
		},
	}
}

// Rule is one rule in force.
type Rule struct{ ID, Severity, Source, What string }

// RuleList is the Kind of rules check.
func RuleList() Kind[Rule] {
	return Kind[Rule]{
		Columns: []Column[Rule]{
			{Name: "RULE", Cell: func(r Rule) string { return r.ID }},
			{Name: "SEVERITY", Cell: func(r Rule) string { return r.Severity }, Style: func(r Rule) Style { return severityStyle(r.Severity) }},
			{Name: "SOURCE", Cell: func(r Rule) string { return r.Source }},
			{Name: "WHAT", Cell: func(r Rule) string { return r.What }},
		},
		Schema: fieldList("rule", "severity", "source", "what"),
		JSON: func(dst []byte, r Rule, sel *Selection) []byte {
			dst = append(dst, '{')
			for _, m := range [][2]string{{"rule", r.ID}, {"severity", r.Severity}, {"source", r.Source}, {"what", r.What}} {
				if _, ok := sel.has(m[0]); ok {
					dst = appendString(appendKey(dst, m[0]), m[1])
				}
			}
			return append(dst, '}')
		},
	}
}
