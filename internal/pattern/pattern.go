// Package pattern is the one language in which parts of fingerprints are
// written: in filters, in tables of known fingerprints and in rules.
//
// A fingerprint is parts between underscores. In a Pattern * stands for any one
// part, t13d1516h2_*_02713d6af862, and at the very end for any tail, further
// parts included: t13d*, ge11cn020000_9ed1ff1f7b03_*. A Pattern without * is
// one value.
package pattern

import "strings"

// Pattern is a compiled pattern. The zero Pattern matches the empty value alone.
// It never changes; Match is safe for concurrent use.
type Pattern struct {
	text  string   // as written; without stars it is the value
	parts []string // "*" is any; without the last one's star; nil if there is no star at all
	tail  bool     // the last part is only the beginning of the rest
}

// Exact returns the Pattern that matches value alone, in which a * is an
// ordinary letter.
func Exact(value string) Pattern { return Pattern{text: value} }

// Parse compiles text. It reports false when a * is neither a whole part nor
// the end of it.
func Parse(text string) (Pattern, bool) {
	p := Exact(text)
	if !strings.Contains(text, "*") {
		return p, true
	}
	p.parts = strings.Split(text, "_")
	last := len(p.parts) - 1
	p.parts[last], p.tail = strings.CutSuffix(p.parts[last], "*")
	for i, part := range p.parts {
		if strings.Contains(part, "*") && (i == last || part != "*") {
			return Pattern{}, false
		}
	}
	return p, true
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Exact reports whether p matches one value alone, its String.
func (p *Pattern) Exact() bool { return p.parts == nil }

// Parts returns the parts of a pattern with a star, in order: "*" is any one
// part. With tail the last one is the beginning of what follows, "" for
// anything. It returns nil for an Exact one. The parts are p's own.
func (p *Pattern) Parts() (parts []string, tail bool) { return p.parts, p.tail }

// Prefix returns how p begins if its only star is the last letter.
func (p *Pattern) Prefix() (prefix string, ok bool) {
	if !p.tail || strings.Count(p.text, "*") > 1 {
		return "", false
	}
	return p.text[:len(p.text)-1], true
}

// Match reports whether value is one that p stands for. It does not allocate.
func (p *Pattern) Match(value string) bool {
	if p.parts == nil {
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
