package filter

import (
	"strings"

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
	text := w.text
	t := test{cost: costText * len(ps), detail: tracker.Newest}
	if w.name == "network" {
		t.detail = tracker.Bare
	}
	t.match = func(s *tracker.Snapshot, _ tracker.Cause) bool { return anyText(ps, text(s)) }
	return t, texts, err
}

func compileProbes(_ *compiler, w *word, values []value) (test, []string, error) {
	ps, texts, err := parseTextPatterns(w, values)
	return test{cost: costList * len(ps), detail: tracker.Newest, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		for i := range s.Observers {
			if anyText(ps, s.Observers[i].Probe) {
				return true
			}
		}
		return false
	}}, texts, err
}

func compileRules(_ *compiler, w *word, values []value) (test, []string, error) {
	ps, texts, err := parseTextPatterns(w, values)
	return test{cost: costList * len(ps), detail: tracker.Newest, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		for i := range s.Anomalies {
			if anyText(ps, s.Anomalies[i].Rule) {
				return true
			}
		}
		return false
	}}, texts, err
}

// pattern is a fingerprint pattern: parts between underscores. "*" is any one
// part; the last part may end in *, which then stands for any tail, further
// parts included.
type pattern struct {
	parts []string // "*" is any; without the last one's star
	tail  bool     // the last part is only the beginning of the rest
	text  string   // as written; without stars it is the value
	plain bool     // no star at all: values are compared as a whole
}

func parsePattern(v value) (pattern, error) {
	p := pattern{text: v.text, plain: v.quoted || !strings.Contains(v.text, "*")}
	if v.text == "" {
		return p, v.place.errorf("", "is empty")
	}
	if p.plain {
		return p, nil
	}
	p.parts = strings.Split(v.text, "_")
	last := len(p.parts) - 1
	p.parts[last], p.tail = strings.CutSuffix(p.parts[last], "*")
	for i, part := range p.parts {
		if strings.Contains(part, "*") && (i == last || part != "*") {
			return p, v.place.errorf(v.text, "has a * that is neither a whole part nor its end, as in t13d* or t13d1516h2_*_02713d6af862")
		}
	}
	return p, nil
}

func (p *pattern) matches(value string) bool {
	if p.plain {
		return value == p.text
	}
	last := len(p.parts) - 1
	for _, part := range p.parts[:last] {
		i := strings.IndexByte(value, '_')
		if i < 0 || part != "*" && value[:i] != part {
			return false
		}
		value = value[i+1:]
	}
	if p.tail {
		return strings.HasPrefix(value, p.parts[last])
	}
	return value == p.parts[last]
}

func compilePatterns(c *compiler, w *word, values []value) (test, []string, error) {
	c.patterns += len(values)
	if c.patterns > MaxPatterns {
		return test{}, nil, values[0].place.errorf("", "the filter has more than %d fingerprint patterns", MaxPatterns)
	}
	var ps []pattern
	var texts []string
	for _, v := range values {
		p, err := parsePattern(v)
		if err != nil {
			return test{}, nil, err
		}
		ps = append(ps, p)
		if p.plain {
			texts = append(texts, quote(v.text))
		} else {
			texts = append(texts, v.text)
		}
	}
	typ := w.typ
	return test{cost: costPattern * len(ps), detail: tracker.Full, match: func(s *tracker.Snapshot, _ tracker.Cause) bool {
		for i := range s.Fingerprints {
			if h := &s.Fingerprints[i]; (typ == 0 || h.Type == typ) && anyEvent(ps, h) {
				return true
			}
		}
		return false
	}}, texts, nil
}

func anyEvent(ps []pattern, h *tracker.History) bool {
	for i := range h.Events {
		for k := range ps {
			if ps[k].matches(h.Events[i].Value) {
				return true
			}
		}
	}
	return false
}
