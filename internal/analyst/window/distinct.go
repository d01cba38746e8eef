package window

import (
	"slices"

	"github.com/whorl-net/whorl/internal/analyst/state"
)

// Distinct counts how many different elements each key was seen with in a
// window. Up to Exact elements it keeps each with its time: a sliding window
// then slides exactly. A threshold above Exact is watched by a sketch of 1,024
// registers instead, once there are so many elements: its standard error is
// 3.3 %, and a sliding window then moves on by halves.
//
// Elements are 32-bit numbers; two different things of one number are one. What
// has crossed starts anew and is not counted for the length of a window.
type Distinct struct {
	limit Limit
	cache *cache[gathered]
	sets  arena
	// Sketches in use and, by number, those that are free.
	sketches     []*sketch
	freeSketches []uint32
	found        []uint32 // of the key that crossed last
}

// Exact is how many elements of a key are kept one by one.
const Exact = 256

// inline is how many of them lie in the slot itself.
const inline = 4

// element is one that was seen, and when: in units of 2^20 ns (1 ms), modulo
// 2^32. No element is looked at later than a window, at most a day, after it
// was kept, so the modulus does not matter.
type element struct{ what, when uint32 }

func stamp(at int64) uint32 { return uint32(at >> 20) }

// gathered is the state of one key.
type gathered struct {
	quiet int64 // not counted before this time
	last  int64 // time of the newest element
	few   [inline]element
	// many is the block of the arena that holds the elements instead, 0: none;
	// when sketched, the number of the sketch.
	many     uint32
	estimate uint32 // of the sketch
	n        uint16 // elements
	class    uint8  // of the block
	sketched bool
}

// NewDistinct returns an empty Distinct.
func NewDistinct(l Limit) *Distinct {
	d := &Distinct{limit: l, cache: newCache[gathered](l.Keys)}
	d.cache.release = func(s *gathered) {
		if s.many != 0 || s.sketched {
			d.letGo(s)
		}
	}
	return d
}

// Add counts element under key at a time and reports whether the key has
// crossed, and with how many elements. Late and wrong times are as in Counts.Add.
func (d *Distinct) Add(key uint64, what uint32, at int64) (n uint32, crossed bool) {
	s, fresh := d.cache.find(key)
	if fresh {
		*s = gathered{last: at, n: 1, few: [inline]element{{what, stamp(at)}}}
		return 1, false
	}
	if d.limit.quiet(s.quiet, at) {
		return 0, false
	}
	if at-s.last > d.limit.Window || s.last-at > d.limit.Window || !d.limit.Sliding && d.isLater(s, at) {
		d.letGo(s)
		*s = gathered{last: at}
	}
	before := s.last
	at = max(at, s.last)
	s.last = at
	if s.sketched {
		n = d.addToSketch(s, what, before)
	} else {
		n = d.keep(s, what, at)
	}
	if n <= d.limit.Threshold {
		return n, false
	}
	d.found = d.found[:0]
	if !s.sketched {
		for _, e := range d.elements(s) {
			d.found = append(d.found, e.what)
		}
		slices.Sort(d.found)
	}
	d.letGo(s)
	*s = gathered{quiet: at + d.limit.Window}
	return n, true
}

// Found returns the elements of the key that crossed in the last call of Add, in
// order; none if they were only counted. They are valid until the next call.
func (d *Distinct) Found() []uint32 { return d.found }

// isLater reports whether at is in a tumbling window behind that of s.
func (d *Distinct) isLater(s *gathered, at int64) bool {
	return at/d.limit.Window > s.last/d.limit.Window
}

func (d *Distinct) elements(s *gathered) []element {
	if s.many != 0 {
		return d.sets.block(s.many, s.class)[:s.n]
	}
	return s.few[:s.n]
}

// keep adds an element to those kept one by one, letting go of those that are
// too old, and returns how many there are.
func (d *Distinct) keep(s *gathered, what uint32, at int64) uint32 {
	es := d.elements(s)
	now := stamp(at)
	window := stamp(d.limit.Window)
	known := false
	live := es[:0]
	for _, e := range es {
		if d.limit.Sliding && now-e.when > window {
			continue
		}
		if e.what == what {
			known = true
			e.when = now
		}
		live = append(live, e)
	}
	s.n = uint16(len(live))
	if known {
		return uint32(s.n)
	}
	if int(s.n) == Exact {
		d.beginSketch(s, at)
		return d.addToSketch(s, what, at)
	}
	d.grow(s)
	s.n++
	d.elements(s)[s.n-1] = element{what, now}
	return uint32(s.n)
}

// grow makes room for one more element.
func (d *Distinct) grow(s *gathered) {
	switch {
	case s.many == 0 && s.n < inline:
		return
	case s.many == 0:
		s.many, s.class = d.sets.take(0), 0
		copy(d.sets.block(s.many, 0), s.few[:s.n])
	case int(s.n) == classSize[s.class]:
		more := d.sets.take(s.class + 1)
		copy(d.sets.block(more, s.class+1), d.elements(s))
		d.sets.release(s.many, s.class)
		s.many, s.class = more, s.class+1
	}
}

// letGo gives back the block or the sketch of s.
func (d *Distinct) letGo(s *gathered) {
	switch {
	case s.sketched:
		d.freeSketches = append(d.freeSketches, s.many)
	case s.many != 0:
		d.sets.release(s.many, s.class)
	}
	s.many, s.sketched = 0, false
}

// Place returns the place of a key for Fetch.
func (d *Distinct) Place(key uint64) Place { return d.cache.place(key) }

// Keys returns how many keys are held, and how many had to leave.
func (d *Distinct) Keys() (held int, evicted uint64) { return d.cache.used, d.cache.evicted }

// Save writes all keys.
func (d *Distinct) Save(w *state.Writer) {
	d.cache.save(w, func(s *gathered) {
		w.Int(s.quiet)
		w.Int(s.last)
		w.Bool(s.sketched)
		if s.sketched {
			w.Uint(uint64(s.estimate))
			d.sketches[s.many].save(w)
			return
		}
		w.Uint(uint64(s.n))
		for _, e := range d.elements(s) {
			w.Uint(uint64(e.what))
			w.Uint(uint64(e.when))
		}
	})
}

// Restore fills an empty Distinct of the same Limit with what Save wrote.
func (d *Distinct) Restore(r *state.Reader) {
	d.cache.restore(r, func(s *gathered) {
		s.quiet = r.Int()
		s.last = r.Int()
		if s.sketched = r.Bool(); s.sketched {
			s.estimate = uint32(r.UintUpTo(1<<32 - 1))
			s.many = d.takeSketch()
			d.sketches[s.many].restore(r)
			return
		}
		n := r.UintUpTo(Exact)
		for range n {
			d.grow(s)
			s.n++
			d.elements(s)[s.n-1] = element{uint32(r.UintUpTo(1<<32 - 1)), uint32(r.UintUpTo(1<<32 - 1))}
		}
	})
}
