package window

import (
	"math/bits"
	"slices"

	"github.com/whorl-net/whorl/internal/analyst/state"
)

// Rhythm finds keys that are seen at regular intervals. It keeps the newest
// intervals of each key and scores how much they differ: 1000 when all are
// equal, 0 when the median deviation is half of the median interval or more.
//
// What comes less than a second after the beat before belongs to it: many
// programs open a few connections at once. After a silence of more than
// MaxInterval a key starts anew.
type Rhythm struct {
	cache *cache[beating]
}

// Intervals is how many intervals of a key are kept.
const Intervals = 16

// MinInterval and MaxInterval bound an interval, in nanoseconds.
const (
	MinInterval = int64(1e9)
	MaxInterval = 24 * 3600 * int64(1e9)
)

// beating is the state of one key.
type beating struct {
	last  int64          // time of the newest beat
	quiet int64          // not scored before this time
	n     uint32         // intervals since the key started, also those that left
	gaps  [Intervals]gap // ring
	_     [12]byte       // so that a slot is one line of the cache
}

// gap is an interval of up to a day in units of 2^20 ns (1 ms), to a thousandth:
// eleven bits of it, and above them by how many bits they are to be shifted.
type gap uint16

func makeGap(interval int64) gap {
	n := uint32(interval >> 20)
	shift := max(0, bits.Len32(n)-11)
	return gap(uint32(shift)<<11 | n>>shift)
}

func (g gap) units() uint32 { return uint32(g&(1<<11-1)) << (g >> 11) }

// Beat is what a Rhythm knows of a key.
type Beat struct {
	// Interval is the median of the kept intervals, in nanoseconds.
	Interval int64
	// Score is 0 to 1000.
	Score int
	// Beats is how many intervals there were since the key started.
	Beats int
}

// RhythmBytes returns what a Rhythm with room for so many keys takes.
func RhythmBytes(keys int) int64 { return cacheBytes[beating](keys) }

// NewRhythm returns a Rhythm with room for that many keys.
func NewRhythm(keys int) *Rhythm { return &Rhythm{cache: newCache[beating](keys)} }

// Add notes that key was seen at a time. It returns the beat of the key, and
// true, when this was a new beat and least intervals or more are kept.
func (r *Rhythm) Add(key uint64, at int64, least int) (Beat, bool) {
	s, fresh := r.cache.find(key)
	if fresh {
		*s = beating{last: at}
		return Beat{}, false
	}
	switch gap := at - s.last; {
	case gap < MinInterval && gap > -MaxInterval:
		return Beat{}, false // the same beat, or a late packet
	case gap > MaxInterval || gap < 0:
		*s = beating{last: at}
		return Beat{}, false
	}
	s.gaps[s.n%Intervals] = makeGap(at - s.last)
	s.last = at
	s.n++
	if int(s.n) < least || at < s.quiet && s.quiet-at <= MaxInterval {
		return Beat{}, false
	}
	return s.beat(), true
}

// Quiet makes Add say nothing of key before a time.
func (r *Rhythm) Quiet(key uint64, until int64) {
	s, fresh := r.cache.find(key)
	if fresh {
		*s = beating{last: until} // not after Add
	}
	s.quiet = until
}

func (s *beating) beat() Beat {
	n := int(min(s.n, Intervals))
	var sorted [Intervals]uint32
	for i, g := range s.gaps[:n] {
		sorted[i] = g.units()
	}
	slices.Sort(sorted[:n])
	median := sorted[n/2]
	for i, g := range sorted[:n] {
		if g > median {
			sorted[i] = g - median
		} else {
			sorted[i] = median - g
		}
	}
	slices.Sort(sorted[:n])
	// Of ten intervals nine decide: the deviation at the ninth decile, not at the
	// median, so that two rhythms at once do not look like one.
	deviation := sorted[(n-1)*9/10]
	score := 1000 - min(1000, 2000*uint64(deviation)/uint64(max(1, median)))
	return Beat{Interval: int64(median) << 20, Score: int(score), Beats: int(s.n)}
}

// Place returns the place of a key for Fetch.
func (r *Rhythm) Place(key uint64) Place { return r.cache.place(key) }

// Keys returns how many keys are held, and how many had to leave.
func (r *Rhythm) Keys() (held int, evicted uint64) { return r.cache.used, r.cache.evicted }

// Save writes all keys.
func (r *Rhythm) Save(w *state.Writer) {
	r.cache.save(w, func(s *beating) {
		w.Int(s.last)
		w.Int(s.quiet)
		w.Uint(uint64(s.n))
		for _, g := range s.gaps[:min(s.n, Intervals)] {
			w.Uint(uint64(g))
		}
	})
}

// Restore fills an empty Rhythm of the same size with what Save wrote.
func (r *Rhythm) Restore(rd *state.Reader) {
	r.cache.restore(rd, func(s *beating) {
		s.last = rd.Int()
		s.quiet = rd.Int()
		s.n = uint32(rd.UintUpTo(1<<32 - 1))
		for i := range min(s.n, Intervals) {
			s.gaps[i] = gap(rd.UintUpTo(17<<11 - 1))
		}
	})
}

// Room returns for how many keys there is room.
func (r *Rhythm) Room() int { return len(r.cache.slots) }

// Room returns for how many keys there is room when so many are asked for.
func Room(keys int) int { return cacheKeys(keys) }
