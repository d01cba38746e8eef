package window

import (
	"math/bits"
	"unsafe"

	"github.com/whorl-net/whorl/internal/analyst/state"
)

// ways is how many keys share a set. Eight tags and ages fill a cache line, so
// a lookup costs that line and, on a hit, the one of the slot.
const ways = 8

// protection is how many times as long a key stays that was seen again: a flood
// of keys seen once pushes out its like.
const protection = 16

// head is the directory of a set.
type head struct {
	tags [ways]uint32 // upper half of the key, 0: free
	ages [ways]uint32 // when it was used last, doubled; odd: more than once
}

// cache keeps the state S of up to a fixed number of keys. A key is known by its
// set and by 32 bits more: of some hundred million that are looked up one is
// taken for another, which no count of people's doings notices.
type cache[S any] struct {
	heads   []head
	slots   []S
	uses    uint64 // calls of find: the clock of ages
	used    int
	evicted uint64
	// release, if not nil, is called before a slot that was found again after it
	// was new is given to another key.
	release func(*S)
}

// cacheKeys returns for how many keys there is room when keys are asked for.
func cacheKeys(keys int) int { return ways << bits.Len(uint(max(keys, ways)-1)/ways) }

// cacheBytes returns what a cache for so many keys takes.
func cacheBytes[S any](keys int) int64 {
	var slot S
	return int64(cacheKeys(keys)) * int64(8+unsafe.Sizeof(slot))
}

// newCache makes room for at least keys keys.
func newCache[S any](keys int) *cache[S] {
	sets := cacheKeys(keys) / ways
	return &cache[S]{heads: make([]head, sets), slots: make([]S, sets*ways)}
}

// tick is the age clock: it moves once in 16 uses, so it takes years to wrap.
func (c *cache[S]) tick() uint32 { return uint32(c.uses>>4) << 1 }

func (c *cache[S]) set(key uint64) int { return int(key & uint64(len(c.heads)-1)) }

func tagOf(key uint64) uint32 { return max(1, uint32(key>>32)) }

// find returns the slot of key, and whether it is new: then the slot is zero.
func (c *cache[S]) find(key uint64) (slot *S, fresh bool) {
	c.uses++
	set := c.set(key)
	h := &c.heads[set]
	tag := tagOf(key)
	for w := range ways {
		if h.tags[w] == tag {
			h.ages[w] = c.tick() | 1
			return &c.slots[set*ways+w], false
		}
	}
	w := c.victim(h)
	i := set*ways + w
	if h.tags[w] == 0 {
		c.used++
	} else {
		c.evicted++
		// What was seen once holds nothing beside its slot, and so need not be
		// read: in a flood that saves a cache miss.
		if c.release != nil && h.ages[w]&1 != 0 {
			c.release(&c.slots[i])
		}
		var zero S
		c.slots[i] = zero
	}
	h.tags[w], h.ages[w] = tag, c.tick()
	return &c.slots[i], true
}

// victim returns a free way, else the one that was unused for longest, when
// what was seen again ages more slowly.
func (c *cache[S]) victim(h *head) int {
	best, bestAge := 0, int64(-1)
	now := c.tick()
	for w := range ways {
		if h.tags[w] == 0 {
			return w
		}
		age := int64((now-h.ages[w]&^1)>>1) * protection
		if h.ages[w]&1 != 0 {
			age /= protection
		}
		if age > bestAge {
			best, bestAge = w, age
		}
	}
	return best
}

// touch reads what find(key) will read first, and meet what it will read next,
// so that the cache misses of many keys overlap. The results mean nothing but
// must be used.
func (c *cache[S]) touch(key uint64) uint32 { return c.heads[c.set(key)].tags[0] }

func (c *cache[S]) meet(key uint64) uint32 {
	set := c.set(key)
	h := &c.heads[set]
	tag := tagOf(key)
	for w := range ways {
		if h.tags[w] == tag {
			return *(*uint32)(unsafe.Pointer(&c.slots[set*ways+w]))
		}
	}
	return 0
}

// save writes every key in use, in the order of places, so that what leaves
// next after a restore is what would have left.
func (c *cache[S]) save(w *state.Writer, slot func(*S)) {
	w.Uint(uint64(len(c.heads)))
	w.Uint(c.uses)
	w.Uint(c.evicted)
	w.Uint(uint64(c.used))
	last := -1
	for i := range c.slots {
		if c.heads[i/ways].tags[i%ways] == 0 {
			continue
		}
		w.Uint(uint64(i - last))
		last = i
		w.Uint(uint64(c.heads[i/ways].tags[i%ways]))
		w.Uint(uint64(c.heads[i/ways].ages[i%ways]))
		slot(&c.slots[i])
	}
}

// restore fills an empty cache. One of another size is an error.
func (c *cache[S]) restore(r *state.Reader, slot func(*S)) {
	if sets := r.Uint(); r.Err() == nil && sets != uint64(len(c.heads)) {
		r.Fail("%d sets of keys, want %d", sets, len(c.heads))
	}
	c.uses = r.Uint()
	c.evicted = r.Uint()
	n := int(r.UintUpTo(uint64(len(c.slots))))
	i := -1
	for range n {
		i += int(r.UintUpTo(uint64(len(c.slots))))
		tag := r.UintUpTo(1<<32 - 1)
		age := r.UintUpTo(1<<32 - 1)
		if r.Err() != nil {
			return
		}
		if i < 0 || i >= len(c.slots) || c.heads[i/ways].tags[i%ways] != 0 || tag == 0 {
			r.Fail("key %d lies where it cannot", i)
			return
		}
		h := &c.heads[i/ways]
		h.tags[i%ways], h.ages[i%ways] = uint32(tag), uint32(age)
		c.used++
		slot(&c.slots[i])
	}
}
