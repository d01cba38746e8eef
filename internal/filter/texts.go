package filter

import (
	"strings"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// textPattern is a text, or the beginning or end of one.
type textPattern struct {
	text string
	kind textKind
	fold bool
}

type textKind uint8

const (
	wholeText textKind = iota
	textPrefix
	textSuffix
)

func parseTextPattern(v value, fold bool) (textPattern, string, error) {
	p := textPattern{text: v.text, fold: fold}
	switch {
	case v.starBefore:
		p.kind = textSuffix
	case v.starBehind:
		p.kind = textPrefix
	case v.quoted:
	case v.text == "":
		return p, "", v.place.errorf("", "is empty")
	default:
		if rest, found := strings.CutSuffix(v.text, "*"); found {
			p.text, p.kind = rest, textPrefix
		} else if rest, found := strings.CutPrefix(v.text, "*"); found {
			p.text, p.kind = rest, textSuffix
		}
		if strings.Contains(p.text, "*") {
			return p, "", v.place.errorf(v.text, `has a * that is neither its end nor its beginning; "in quotes" it is an ordinary letter`)
		}
	}
	switch {
	case p.kind == wholeText:
		return p, quote(p.text), nil
	case p.text == "":
		return p, "*", nil
	case p.kind == textPrefix:
		return p, quote(p.text) + "*", nil
	}
	return p, "*" + quote(p.text), nil
}

func (p *textPattern) matches(s string) bool {
	n := len(p.text)
	switch {
	case p.kind == wholeText:
		if p.fold {
			return strings.EqualFold(s, p.text)
		}
		return s == p.text
	case len(s) < n:
		return false
	case p.kind == textPrefix:
		s = s[:n]
	default:
		s = s[len(s)-n:]
	}
	// Folding by bytes cuts no letter in two that the pattern has whole; letters
	// whose other case has another length do not match, and need not.
	if p.fold {
		return strings.EqualFold(s, p.text)
	}
	return s == p.text
}

func parseTextPatterns(w *word, values []value) (ps []textPattern, texts []string, err error) {
	for _, v := range values {
		p, text, err := parseTextPattern(v, w.fold)
		if err != nil {
			return nil, nil, err
		}
		ps = append(ps, p)
		texts = append(texts, text)
	}
	return ps, texts, nil
}

func anyText(ps []textPattern, s string) bool {
	for i := range ps {
		if ps[i].matches(s) {
			return true
		}
	}
	return false
}

func compileTexts(_ *compiler, w *word, values []value) (test, []string, error) {
	ps, texts, err := parseTextPatterns(w, values)
	text, rowText := w.text, w.rowText
	t := test{cost: costText * len(ps), detail: w.detail, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		return anyText(ps, text(s))
	}}
	switch {
	case rowText != nil:
		t.row = func(r *tracker.Row) bool { return anyText(ps, rowText(r)) }
	case w.rowName:
		t.row = func(r *tracker.Row) bool {
			var name [flow.MaxServerNameLen]byte
			return anyText(ps, string(r.ServerName(name[:0])))
		}
	}
	return t, texts, err
}

func compileProbes(_ *compiler, w *word, values []value) (test, []string, error) {
	ps, texts, err := parseTextPatterns(w, values)
	is := func(probe string) bool { return anyText(ps, probe) }
	return test{
		cost: costList * len(ps), detail: tracker.Newest,
		match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
			for i := range s.Observers {
				if is(s.Observers[i].Probe) {
					return true
				}
			}
			return false
		},
		rowTest: rowTest{row: func(r *tracker.Row) bool { return r.AnyProbe(is) }},
	}, texts, err
}

// parsePattern reads a pattern for values of type typ, 0 for any.
func (c *compiler) parsePattern(v value, typ ja4.Type) (pattern.Pattern, error) {
	if v.text == "" {
		return pattern.Pattern{}, v.place.errorf("", "is empty")
	}
	if v.quoted {
		return pattern.Exact(v.text), nil
	}
	p, err := pattern.Parse(v.text)
	if err == nil && typ != 0 && !c.Replay {
		err = p.Fits(typ)
	}
	if err != nil {
		return p, v.place.errorf(v.text, "%v", err)
	}
	return p, nil
}

func compilePatterns(c *compiler, w *word, values []value) (test, []string, error) {
	c.patterns += len(values)
	if c.patterns > MaxPatterns {
		return test{}, nil, values[0].place.errorf("", "the filter has more than %d fingerprint patterns", MaxPatterns)
	}
	var ps []pattern.Pattern
	var texts []string
	for _, v := range values {
		p, err := c.parsePattern(v, w.typ)
		if err != nil {
			return test{}, nil, err
		}
		ps = append(ps, p)
		if p.Exact() {
			texts = append(texts, quote(v.text))
		} else {
			texts = append(texts, v.text)
		}
	}
	typ := w.typ
	rows := c.shows(tracker.PrintSet{Type: typ}, ps)
	return test{cost: costPattern * len(ps), detail: tracker.Histories, rowTest: rows, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		for i := range s.Fingerprints {
			if h := &s.Fingerprints[i]; (typ == 0 || h.Type == typ) && anyEvent(ps, h) {
				return true
			}
		}
		return false
	}}, texts, nil
}

func anyEvent(ps []pattern.Pattern, h *tracker.History) bool {
	for i := range h.Events {
		for k := range ps {
			if ps[k].Match(h.Events[i].Value) {
				return true
			}
		}
	}
	return false
}
