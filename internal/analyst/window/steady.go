package window

import "github.com/whorl-net/whorl/internal/analyst/state"

// Steady finds keys that show another value after they have shown the same one
// for a while.
type Steady struct{ cache *cache[steady] }

// steady is the state of one key.
type steady struct {
	value uint64
	times uint32
}

// NewSteady returns a Steady with room for that many keys.
func NewSteady(keys int) *Steady { return &Steady{cache: newCache[steady](keys)} }

// SteadyBytes returns what a Steady with room for so many keys takes.
func SteadyBytes(keys int) int64 { return cacheBytes[steady](keys) }

// Add notes that key showed value. It returns how many times in a row it had
// shown another one just before, 0 when it is the same or the first.
func (y *Steady) Add(key, value uint64) (times uint32) {
	s, fresh := y.cache.find(key)
	if fresh {
		*s = steady{value, 1}
		return 0
	}
	if s.value == value {
		s.times = max(s.times, s.times+1)
		return 0
	}
	times = s.times
	*s = steady{value, 1}
	return times
}

// Place returns the place of a key for Fetch.
func (y *Steady) Place(key uint64) Place { return y.cache.place(key) }

// Keys returns how many keys are held, and how many had to leave.
func (y *Steady) Keys() (held int, evicted uint64) { return y.cache.used, y.cache.evicted }

// Save writes all keys.
func (y *Steady) Save(w *state.Writer) {
	y.cache.save(w, func(s *steady) {
		w.Fixed(s.value)
		w.Uint(uint64(s.times))
	})
}

// Restore fills an empty Steady of the same size with what Save wrote.
func (y *Steady) Restore(r *state.Reader) {
	y.cache.restore(r, func(s *steady) {
		s.value = r.Fixed()
		s.times = uint32(r.UintUpTo(1<<32 - 1))
	})
}
