package enrich

import (
	"slices"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// MaxMatches bounds the matches of one connection; of more the best are kept.
const MaxMatches = 32

// Match appends the entries that the fingerprints of s match to dst, best
// first, at most MaxMatches: those that condemn before others, combinations
// before single values, whole values before prefixes and those before other
// patterns, then the surer ones. All events in s count, so a copy with
// tracker.Newest may match less than one with tracker.Histories.
//
// The evidence of a match is the oldest event, of each part, that matched. dst's
// memory beyond its length is used again, as a reset Snapshot's is; strings are
// those of s and of the tables. It allocates nothing when dst has room and s
// matches few entries.
func (t *Tables) Match(s *tracker.Snapshot, dst []tracker.TableMatch) []tracker.TableMatch {
	if t == nil || len(t.entries) == 0 {
		return dst
	}
	m := matcher{tables: t, s: s}
	var few [8]target
	for h := range s.Fingerprints {
		ix := t.index(s.Fingerprints[h].Type)
		if ix == nil {
			continue
		}
		events := s.Fingerprints[h].Events
		for i := range events {
			for _, hit := range ix.lookup(events[i].Value, few[:0]) {
				m.hit(hit, place{uint16(h), uint16(i)})
			}
		}
	}
	for i := range m.best[:m.n] {
		dst = m.appendMatch(dst, &m.best[i])
	}
	if m.combinations != nil {
		t.scratch.Put(m.combinations)
	}
	return dst
}

func (t *Tables) index(typ ja4.Type) *index {
	if !typ.Valid() {
		return nil
	}
	return t.types[typ]
}

// matcher is one Match at work.
type matcher struct {
	tables *Tables
	s      *tracker.Snapshot
	n      int
	best   [MaxMatches]candidate // the first n, in order of rank
	// combinations says which parts were seen of which; nil until one was.
	combinations *scratch
}

// place is where an event is in a Snapshot.
type place struct{ history, event uint16 }

// candidate is an entry that matches, by the event at place.
type candidate struct {
	target target
	place  place
}

// scratch remembers the parts of combinations that were seen.
type scratch struct {
	partial []partial // by number of the combination
	used    []int32   // which of them are not zero
}

type partial struct {
	seen   uint8 // bit i: part i
	places [MaxParts]place
}

// hit takes note that the event at p completes a part of an entry.
func (m *matcher) hit(h target, p place) {
	if h.combination == 0 {
		m.insert(candidate{h, p})
		return
	}
	if m.combinations == nil {
		m.combinations, _ = m.tables.scratch.Get().(*scratch)
		if m.combinations == nil {
			m.combinations = &scratch{partial: make([]partial, m.tables.combinations+1)}
		}
		m.combinations.reset()
	}
	x := &m.combinations.partial[h.combination]
	if x.seen == 0 {
		m.combinations.used = append(m.combinations.used, h.combination)
	}
	if x.seen>>h.part&1 != 0 {
		return
	}
	x.seen |= 1 << h.part
	x.places[h.part] = p
	if int(x.seen) == 1<<len(h.entry.Parts)-1 {
		m.insert(candidate{h, p})
	}
}

func (c *scratch) reset() {
	for _, n := range c.used {
		c.partial[n] = partial{}
	}
	c.used = c.used[:0]
}

// insert puts c where it belongs among the best. Of the ways in which an entry
// matches it keeps the best one.
func (m *matcher) insert(c candidate) {
	at, found := m.n, false
	for i := range m.best[:m.n] {
		b := &m.best[i]
		if !found && c.target.rank < b.target.rank {
			at, found = i, true
		}
		if b.target.entry != c.target.entry {
			continue
		}
		if !found {
			return // as good a way is known
		}
		copy(m.best[i:], m.best[i+1:m.n])
		m.n--
		break
	}
	if at == MaxMatches {
		return
	}
	m.n = min(m.n+1, MaxMatches)
	copy(m.best[at+1:m.n], m.best[at:m.n])
	m.best[at] = c
}

func (m *matcher) appendMatch(dst []tracker.TableMatch, c *candidate) []tracker.TableMatch {
	e := c.target.entry
	if len(dst) < cap(dst) {
		dst = dst[:len(dst)+1]
	} else {
		dst = append(dst, tracker.TableMatch{})
	}
	to := &dst[len(dst)-1]
	*to = tracker.TableMatch{App: e.App, Bad: e.Bad, Note: e.Note, Confidence: e.Confidence,
		Entry: e.ID, Source: e.Source, Evidence: to.Evidence[:0]}
	if c.target.combination == 0 {
		to.Evidence = append(to.Evidence, m.evidence(c.place))
		return dst
	}
	x := &m.combinations.partial[c.target.combination]
	for _, p := range x.places[:len(e.Parts)] {
		to.Evidence = append(to.Evidence, m.evidence(p))
	}
	return dst
}

func (m *matcher) evidence(p place) tracker.Evidence {
	h := &m.s.Fingerprints[p.history]
	e := &h.Events[p.event]
	return tracker.Evidence{Type: h.Type, Value: e.Value, PacketNum: e.PacketNum, Probe: e.Probe, SeenAt: e.SeenAt}
}

// Hit is a part of an entry that a value completes. An entry matches a
// connection that has shown all its parts.
type Hit struct {
	Entry *Entry
	// Part is a place in Entry.Parts.
	Part int
}

// Hits appends the parts of entries that one value of type typ completes, in no
// order that matters, at most MaxShared for each value and pattern that
// matches. It is for those who see fingerprints one by one.
func (t *Tables) Hits(typ ja4.Type, value string, dst []Hit) []Hit {
	if t == nil {
		return dst
	}
	ix := t.index(typ)
	if ix == nil {
		return dst
	}
	var few [8]target
	for _, h := range ix.lookup(value, few[:0]) {
		dst = append(dst, Hit{h.entry, int(h.part)})
	}
	return dst
}

// Needed describes fingerprints without one of which a connection matches no entry
// of t: those of a type, or of all types when it is 0, for which match is true.
// Of a combination it is those of one part. match is safe for concurrent use.
func (t *Tables) Needed() (typ ja4.Type, match func(value string) bool) {
	var needed []*Entry
	for i, e := range t.Entries() {
		// The types that name somebody alone are the rare ones.
		part := slices.IndexFunc(e.Parts, func(p Part) bool { return weak(p.Type) == "" })
		needed = append(needed, &Entry{ID: e.ID, Parts: e.Parts[max(part, 0) : max(part, 0)+1]})
		if part := needed[i].Parts[0].Type; i == 0 || part == typ {
			typ = part
		} else {
			typ = 0
		}
	}
	ones, err := Compile(needed)
	if err != nil {
		// Taken one by one the parts passed no limit; whoever fears it looks at all.
		return 0, func(string) bool { return true }
	}
	return typ, func(value string) bool {
		var few [8]target
		for _, ix := range ones.types {
			if ix != nil && len(ix.lookup(value, few[:0])) > 0 {
				return true
			}
		}
		return false
	}
}

// Value says what one value of type typ is known for on its own: the application
// of the best entry that names one and is sure enough, and whether any entry
// condemns it.
func (t *Tables) Value(typ ja4.Type, value string) (app string, bad bool) {
	if t == nil {
		return "", false
	}
	ix := t.index(typ)
	if ix == nil {
		return "", false
	}
	var few [8]target
	best := int32(0)
	for _, h := range ix.lookup(value, few[:0]) {
		if h.combination != 0 {
			continue
		}
		bad = bad || h.entry.Bad
		if h.entry.App != "" && h.entry.Confidence >= MinIdentify && (best == 0 || h.rank < best) {
			app, best = h.entry.App, h.rank
		}
	}
	return app, bad
}
