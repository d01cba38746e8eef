// Package pattern is the one language in which parts of fingerprints are
// written: in filters, in tables of known fingerprints and in rules.
//
// A fingerprint is parts between underscores. In a Pattern a * stands for any
// letters of its part, none included: t13d*_*_02713d6af862, *h2_8daaf6152771_*.
// As the very last letter it stands for any tail, further parts included: t13d*,
// ge11cn020000_9ed1ff1f7b03_*. A Pattern without * is one value.
package pattern

import (
	"errors"
	"strings"
)

// Pattern is a compiled pattern. The zero Pattern matches the empty value alone.
// It never changes; Match is safe for concurrent use.
type Pattern struct {
	text string // as written; without stars it is the value
	// parts are what is written between underscores, without the last letter's
	// star; nil if there is no star at all. globs are the same, cut at stars.
	parts []string
	globs [][]string
	tail  bool // the last part is only the beginning of the rest
}

// errTwoStars is what is wrong with a pattern such as t13d**.
var errTwoStars = errors.New("has ** in it: one * stands for any letters of its part, and at the end for all that follows")

// Exact returns the Pattern that matches value alone, in which a * is an
// ordinary letter.
func Exact(value string) Pattern { return Pattern{text: value} }

// Parse compiles text. It refuses ** alone. The text of an error goes on behind
// the pattern, which it does not repeat.
func Parse(text string) (Pattern, error) {
	p := Exact(text)
	if !strings.Contains(text, "*") {
		return p, nil
	}
	if strings.Contains(text, "**") {
		return Pattern{}, errTwoStars
	}
	p.parts = strings.Split(text, "_")
	last := len(p.parts) - 1
	p.parts[last], p.tail = strings.CutSuffix(p.parts[last], "*")
	for _, part := range p.parts {
		p.globs = append(p.globs, strings.Split(part, "*"))
	}
	return p, nil
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Exact reports whether p matches one value alone, its String.
func (p *Pattern) Exact() bool { return p.parts == nil }

// Parts returns the parts of a pattern with a star as they were written, in
// order: those with a * stand for more than themselves. With tail the last one is
// the beginning of what follows, "" for anything. It returns nil for an Exact one.
// The parts are p's own.
func (p *Pattern) Parts() (parts []string, tail bool) { return p.parts, p.tail }

// Prefix returns how p begins if its only star is the last letter.
func (p *Pattern) Prefix() (prefix string, ok bool) {
	if !p.tail || strings.Count(p.text, "*") > 1 {
		return "", false
	}
	return p.text[:len(p.text)-1], true
}

// Match reports whether value is one that p stands for, in time linear in both
// together. It does not allocate.
func (p *Pattern) Match(value string) bool {
	if p.parts == nil {
		return value == p.text
	}
	last := len(p.globs) - 1
	for _, glob := range p.globs[:last] {
		i := strings.IndexByte(value, '_')
		if i < 0 || !matchPart(glob, value[:i]) {
			return false
		}
		value = value[i+1:]
	}
	glob := p.globs[last]
	if !p.tail {
		return matchPart(glob, value)
	}
	if len(glob) > 1 { // a * before the last one ends with its part
		if i := strings.IndexByte(value, '_'); i >= 0 {
			value = value[:i]
		}
	}
	_, ok := matchStart(glob, value)
	return ok
}

// matchPart reports whether part is one part, and the pieces of glob with
// anything between them.
func matchPart(glob []string, part string) bool {
	last := len(glob) - 1
	if last == 0 {
		return part == glob[0]
	}
	if strings.IndexByte(part, '_') >= 0 { // it is several parts
		return false
	}
	rest, ok := matchStart(glob[:last], part)
	return ok && strings.HasSuffix(rest, glob[last])
}

// matchStart reports whether text begins with the pieces of glob, with anything
// between them, and returns what is behind the earliest such place: none leaves
// more for what is to follow.
func matchStart(glob []string, text string) (rest string, ok bool) {
	if !strings.HasPrefix(text, glob[0]) {
		return "", false
	}
	text = text[len(glob[0]):]
	for _, piece := range glob[1:] {
		i := strings.Index(text, piece)
		if i < 0 {
			return "", false
		}
		text = text[i+len(piece):]
	}
	return text, true
}
