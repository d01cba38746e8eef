package window

import (
	"github.com/whorl-net/whorl/internal/analyst/state"
)

// Counts counts how often each key was seen within a window. A tumbling window
// begins at multiples of its length; a sliding one moves on by eighths of it,
// so it holds seven eighths to the whole.
//
// When a key is seen more than Threshold times, it has crossed: it starts anew
// and is not counted for the length of a window.
type Counts struct {
	limit Limit
	step  int64 // length of a part
	cache *cache[counted]
}

// Limit is what a key has to cross, and in which time.
type Limit struct {
	// Window is a length in nanoseconds, MinWindow to MaxWindow.
	Window int64
	// Sliding says that the window moves with the time.
	Sliding bool
	// Threshold is crossed by more than so many.
	Threshold uint32
	// Keys is how many keys there is room for; it is rounded up to a power of
	// two.
	Keys int
}

// Bounds of a Limit.
const (
	MinWindow    = int64(1e9)
	MaxWindow    = 24 * 3600 * int64(1e9)
	MaxThreshold = 1 << 24
	MaxKeys      = 1 << 20
)

// counted is the state of one key.
type counted struct {
	quiet int64 // not counted before this time
	part  int64 // number of the newest part
	parts [8]uint32
}

// NewCounts returns an empty Counts.
func NewCounts(l Limit) *Counts {
	c := &Counts{limit: l, step: l.Window, cache: newCache[counted](l.Keys)}
	if l.Sliding {
		c.step = l.Window / 8
	}
	return c
}

// Add counts key at a time and reports whether it has crossed, and how often it
// was seen then. What comes late counts as of the newest time of its key; what
// is a whole window older than that makes the key start anew, so that one wrong
// clock does not stop it for good.
func (c *Counts) Add(key uint64, at int64) (n uint32, crossed bool) {
	s, fresh := c.cache.find(key)
	part := at / c.step
	if fresh {
		*s = counted{part: part}
	}
	if c.limit.quiet(s.quiet, at) {
		return 0, false
	}
	if c.limit.Sliding {
		n = s.slide(part)
	} else {
		n = s.tumble(part)
	}
	if n <= c.limit.Threshold {
		return n, false
	}
	*s = counted{quiet: at + c.limit.Window}
	return n, true
}

// quiet reports whether at is in the window before until.
func (l *Limit) quiet(until, at int64) bool { return at < until && until-at <= l.Window }

func (s *counted) tumble(part int64) uint32 {
	if part != s.part && part != s.part-1 {
		*s = counted{part: part}
	}
	s.parts[0]++
	return s.parts[0]
}

func (s *counted) slide(part int64) (n uint32) {
	switch {
	case part > s.part+7 || part < s.part-7:
		*s = counted{part: part}
	case part < s.part:
		part = s.part
	}
	for ; s.part < part; s.part++ {
		s.parts[(s.part+1)&7] = 0
	}
	s.parts[part&7]++
	for _, p := range s.parts {
		n += p
	}
	return n
}

// Place returns the place of a key for Fetch.
func (c *Counts) Place(key uint64) Place { return c.cache.place(key) }

// Keys returns how many keys are held, and how many had to leave.
func (c *Counts) Keys() (held int, evicted uint64) { return c.cache.used, c.cache.evicted }

// CountsBytes returns the most that a Counts with this limit takes.
func (l Limit) CountsBytes() int64 { return cacheBytes[counted](l.Keys) }

// DistinctBytes returns the most that a Distinct with this limit takes.
func (l Limit) DistinctBytes() int64 {
	need := int(l.Threshold) + 1
	// A block that was outgrown waits for another key, so each class may be as
	// large as if all keys were in it.
	block := 0
	for i := 0; need > inline && i < len(classSize) && (i == 0 || classSize[i-1] < need); i++ {
		block += 8 * classSize[i]
	}
	if need > Exact {
		block += 2 * registers
	}
	return cacheBytes[gathered](l.Keys) + int64(cacheKeys(l.Keys))*int64(block)
}

// Save writes all keys.
func (c *Counts) Save(w *state.Writer) {
	c.cache.save(w, func(s *counted) {
		w.Int(s.quiet)
		w.Int(s.part)
		for _, p := range s.parts {
			w.Uint(uint64(p))
		}
	})
}

// Restore fills an empty Counts of the same Limit with what Save wrote.
func (c *Counts) Restore(r *state.Reader) {
	c.cache.restore(r, func(s *counted) {
		s.quiet = r.Int()
		s.part = r.Int()
		for i := range s.parts {
			s.parts[i] = uint32(r.UintUpTo(1<<32 - 1))
		}
	})
}
