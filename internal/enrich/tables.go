package enrich

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/whorl-net/whorl/internal/pattern"
	"github.com/whorl-net/whorl/ja4"
)

// Limits of tables.
const (
	// MaxEntries bounds the entries of all tables together.
	MaxEntries = 65536
	// MaxPatterns bounds the patterns with a * among their values.
	MaxPatterns = 4096
	// MaxShared bounds the entries that one value or pattern may complete or
	// take part in. It bounds the time of a look-up.
	MaxShared = 64
	// MaxAlike bounds the patterns that only a search can tell apart: those with
	// the same whole part to go by, or without any, such as t13d15*.
	MaxAlike = 64
)

// Tables are entries made ready for matching. They never change; all methods
// are safe for concurrent use. A nil Tables has no entries.
type Tables struct {
	entries []*Entry
	types   [ja4.NumTypes]*index
	// combinations is how many entries have more than one part.
	combinations int
	bad          int
	hash         string
	// names are the ids of all entries that were read, once each and in order,
	// also of those that are not used.
	names   []string
	scratch sync.Pool // of *scratch
}

// target is a part of an entry that some value completes.
type target struct {
	entry *Entry
	// part is the place in Entry.Parts.
	part uint8
	// combination is the number of the entry among the combinations, from 1; 0
	// if it is none.
	combination int32
	// rank orders matches: a lower one is better. No two entries share one; of
	// an entry with alternatives each has its own.
	rank int32
}

// index finds the targets of one type.
type index struct {
	exact map[string][]target
	// Patterns are found by one of their whole parts: byPart[i] has those that
	// were filed under their part i. Those without one are found by their first
	// minLiteral letters, or, when a star comes before them, by trying.
	byPart  []map[string][]filed
	byStart map[string][]filed
	loose   []filed
	// Sieves of the keys of exact and byPart.
	whole sieve
	parts []sieve
}

// filed is a pattern in an index.
type filed struct {
	pattern *pattern.Pattern
	targets []target
}

// kind is how exact a match is; a greater one is better.
type kind uint8

const (
	kindPattern kind = iota
	kindPrefix
	kindExact
	kindCombination
)

// Compile makes tables of entries, which it keeps. The entries are valid ones,
// as Parse returns them. The error is a *FileError about the entry at which a
// limit was passed.
func Compile(entries []*Entry) (*Tables, error) {
	if len(entries) > MaxEntries {
		e := entries[MaxEntries]
		return nil, &FileError{File: e.Source, Line: e.Line, Reason: fmt.Sprintf("the tables have %d entries, at most %d", len(entries), MaxEntries)}
	}
	t := &Tables{entries: entries, hash: hashOf(entries)}
	var all []ranked
	patterns := 0
	for _, e := range entries {
		if e.Bad {
			t.bad++
		}
		combination := int32(0)
		if len(e.Parts) > 1 {
			t.combinations++
			combination = int32(t.combinations)
		}
		for i := range e.Parts {
			for k := range e.Parts[i].Patterns {
				p := &e.Parts[i].Patterns[k]
				if !p.Exact() {
					if patterns++; patterns > MaxPatterns {
						return nil, &FileError{File: e.Source, Line: e.Line, Reason: fmt.Sprintf("the tables have more than %d patterns with a *", MaxPatterns)}
					}
				}
				all = append(all, ranked{pattern: p, kind: kindOf(e, p), target: target{entry: e, part: uint8(i), combination: combination}})
			}
		}
	}
	slices.SortStableFunc(all, compareRanked)
	combinationRank := make([]int32, t.combinations+1) // that of the best of its values
	for i := range all {
		r := &all[i].target
		r.rank = int32(i + 1)
		if r.combination == 0 {
			continue
		}
		if rank := &combinationRank[r.combination]; *rank == 0 {
			*rank = r.rank
		}
		r.rank = combinationRank[r.combination]
	}
	for i := range all {
		if err := t.file(&all[i]); err != nil {
			return nil, err
		}
	}
	for _, e := range entries {
		t.names = append(t.names, e.ID)
	}
	t.name(nil)
	return t, t.settle()
}

// name adds ids of entries to names.
func (t *Tables) name(ids []string) {
	t.names = append(t.names, ids...)
	slices.Sort(t.names)
	t.names = slices.Compact(t.names)
}

type ranked struct {
	pattern *pattern.Pattern
	kind    kind
	target  target
}

func kindOf(e *Entry, p *pattern.Pattern) kind {
	if len(e.Parts) > 1 {
		return kindCombination
	}
	if p.Exact() {
		return kindExact
	}
	if _, ok := p.Prefix(); ok {
		return kindPrefix
	}
	return kindPattern
}

// compareRanked puts better ones first: what condemns, then what is more exact,
// then what is surer; the rest only makes the order a total one.
func compareRanked(a, b ranked) int {
	x, y := a.target.entry, b.target.entry
	bad := func(e *Entry) int {
		if e.Bad {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(bad(x), bad(y)), cmp.Compare(b.kind, a.kind), cmp.Compare(y.Confidence, x.Confidence),
		cmp.Compare(typeRank[x.Parts[a.target.part].Type], typeRank[y.Parts[b.target.part].Type]),
		cmp.Compare(x.Source, y.Source), cmp.Compare(x.ID, y.ID),
	)
}

// typeRank says whose word counts more: that of a client's program before that
// of its operating system, and that before the server's.
var typeRank = func() (rank [ja4.NumTypes]uint8) {
	for i, t := range []ja4.Type{
		ja4.TypeJA4, ja4.TypeJA4O, ja4.TypeJA4H, ja4.TypeJA4HRO, ja4.TypeJA4SSH, ja4.TypeJA4X, ja4.TypeJA4D, ja4.TypeJA4D6,
		ja4.TypeJA4T, ja4.TypeJA4TS, ja4.TypeJA4S, ja4.TypeJA4L, ja4.TypeJA4LS,
	} {
		rank[t] = uint8(i)
	}
	return rank
}()

// file puts r into the index of its type.
func (t *Tables) file(r *ranked) error {
	typ := r.target.entry.Parts[r.target.part].Type
	ix := t.types[typ]
	if ix == nil {
		ix = &index{exact: make(map[string][]target)}
		t.types[typ] = ix
	}
	if r.pattern.Exact() {
		targets := append(ix.exact[r.pattern.String()], r.target)
		ix.exact[r.pattern.String()] = targets
		return shared(targets, r)
	}
	for i := range ix.loose { // settle files them
		if f := &ix.loose[i]; f.pattern.String() == r.pattern.String() {
			f.targets = append(f.targets, r.target)
			return shared(f.targets, r)
		}
	}
	ix.loose = append(ix.loose, filed{r.pattern, []target{r.target}})
	return nil
}

func shared(targets []target, r *ranked) error {
	if len(targets) <= MaxShared {
		return nil
	}
	e := r.target.entry
	return &FileError{File: e.Source, Line: e.Line, Reason: fmt.Sprintf(
		"entry %s: %q is in more than %d entries", e.ID, r.pattern.String(), MaxShared)}
}

// settle files each pattern under that of its whole parts which fewest others
// have.
func (t *Tables) settle() error {
	for _, ix := range t.types {
		if ix == nil {
			continue
		}
		if err := ix.settle(); err != nil {
			return err
		}
		ix.whole = sieveOf(ix.exact)
		for _, keys := range ix.byPart {
			ix.parts = append(ix.parts, sieveOf(keys))
		}
	}
	return nil
}

func (ix *index) settle() error {
	type place struct {
		i    int
		text string
	}
	count := make(map[place]int)
	places := func(p *pattern.Pattern) (ps []place) {
		parts, tail := p.Parts()
		if tail {
			parts = parts[:len(parts)-1]
		}
		for i, text := range parts {
			if !strings.Contains(text, "*") {
				ps = append(ps, place{i, text})
			}
		}
		return ps
	}
	for i := range ix.loose {
		for _, p := range places(ix.loose[i].pattern) {
			count[p]++
		}
	}
	loose := ix.loose
	ix.loose = nil
	for _, f := range loose {
		ps := places(f.pattern)
		if len(ps) == 0 {
			if err := ix.fileTail(f); err != nil {
				return err
			}
			continue
		}
		best := slices.MinFunc(ps, func(a, b place) int { return cmp.Compare(count[a], count[b]) })
		for len(ix.byPart) <= best.i {
			ix.byPart = append(ix.byPart, nil)
		}
		if ix.byPart[best.i] == nil {
			ix.byPart[best.i] = make(map[string][]filed)
		}
		bucket := append(ix.byPart[best.i][best.text], f)
		ix.byPart[best.i][best.text] = bucket
		if len(bucket) > MaxAlike {
			return alike(f, fmt.Sprintf("with %q and no rarer whole part", best.text))
		}
	}
	return nil
}

// fileTail files a pattern that has no whole part to go by, such as t13d*.
func (ix *index) fileTail(f filed) error {
	parts, _ := f.pattern.Parts()
	if len(parts) > 1 || len(parts[0]) < minLiteral || strings.Contains(parts[0][:minLiteral], "*") {
		ix.loose = append(ix.loose, f)
		if len(ix.loose) > MaxAlike {
			return alike(f, "without a whole part")
		}
		return nil
	}
	start := parts[0][:minLiteral]
	if ix.byStart == nil {
		ix.byStart = make(map[string][]filed)
	}
	ix.byStart[start] = append(ix.byStart[start], f)
	if len(ix.byStart[start]) > MaxAlike {
		return alike(f, fmt.Sprintf("without a whole part that begin with %q", start))
	}
	return nil
}

func alike(f filed, what string) error {
	e := f.targets[0].entry
	return &FileError{File: e.Source, Line: e.Line, Reason: fmt.Sprintf(
		"entry %s: %q is one of more than %d patterns %s", e.ID, f.pattern.String(), MaxAlike, what)}
}

// lookup appends the targets of value to dst. It allocates nothing when dst has
// room.
func (ix *index) lookup(value string, dst []target) []target {
	if ix.whole.may(value) {
		dst = append(dst, ix.exact[value]...)
	}
	if len(ix.byPart) > 0 {
		rest := value
		for i, more := 0, true; more && i < len(ix.byPart); i++ {
			var part string
			part, rest, more = strings.Cut(rest, "_")
			if ix.parts[i].may(part) {
				dst = appendMatching(dst, ix.byPart[i][part], value)
			}
		}
	}
	if len(ix.byStart) > 0 && len(value) >= minLiteral {
		dst = appendMatching(dst, ix.byStart[value[:minLiteral]], value)
	}
	return appendMatching(dst, ix.loose, value)
}

func appendMatching(dst []target, fs []filed, value string) []target {
	for i := range fs {
		if fs[i].pattern.Match(value) {
			dst = append(dst, fs[i].targets...)
		}
	}
	return dst
}

// Entries returns the entries, which must not be changed.
func (t *Tables) Entries() []*Entry {
	if t == nil {
		return nil
	}
	return t.entries
}

// Names returns the ids of all entries that were read, in order, those included
// that are not used because they are disabled or need a method that is off. Do
// not change it.
func (t *Tables) Names() []string {
	if t == nil {
		return nil
	}
	return t.names
}

// Count returns how many entries name an application, and how many condemn.
func (t *Tables) Count() (apps, bad int) {
	if t == nil {
		return 0, 0
	}
	return len(t.entries) - t.bad, t.bad
}

// Hash returns 16 hex digits that change with the content of the tables.
func (t *Tables) Hash() string {
	if t == nil {
		return hashOf(nil)
	}
	return t.hash
}

func hashOf(entries []*Entry) string {
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%q %q %q %t %q %d %s\n", e.Source, e.ID, e.App, e.Bad, e.Note, e.Confidence, e.signature())
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// signature is what e matches, as text: equal for entries that match the same.
func (e *Entry) signature() string {
	var b strings.Builder
	for _, p := range e.Parts {
		texts := make([]string, len(p.Patterns))
		for i := range p.Patterns {
			texts[i] = p.Patterns[i].String()
		}
		slices.Sort(texts)
		fmt.Fprintf(&b, "%v:%s ", p.Type, strings.Join(slices.Compact(texts), ","))
	}
	return b.String()
}
