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

// find returns the slot of key, and whether it is new: then what is in the slot
// is left from another key, and the caller writes all of it.
func (c *cache[S]) find(key uint64) (slot *S, fresh bool) {
	c.uses++
	set := c.set(key)
	h := &c.heads[set]
	tag := tagOf(key)
	if w := h.find(tag); w < ways {
		h.ages[w] = c.tick() | 1
		return &c.slots[set*ways+w], false
	}
	w := h.victim(c.tick())
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
	}
	h.tags[w], h.ages[w] = tag, c.tick()
	return &c.slots[i], true
}

// find returns the way of a tag, ways if there is none.
func (h *head) find(tag uint32) int {
	for w := range ways {
		if h.tags[w] == tag {
			return w
		}
	}
	return ways
}

// victim returns a free way, else the one that was unused for longest, when
// what was seen again ages more slowly.
func (h *head) victim(now uint32) int {
	best, bestAge := 0, int64(-1)
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

// Place is where a key lies, or will: who has many keys to add calls Fetch for
// the places of all of them before, so that their cache misses overlap. It has
// four words, which registers hold.
type Place struct {
	head  *head
	slots unsafe.Pointer // first of the set
	// size is that of a slot; newOnly in it says that the slot of a key that is
	// known will not be read.
	size uintptr
	// tag is that of the key in the upper half, the tick in the lower.
	tag uint64
}

const newOnly = 1 // sizes are even

func (c *cache[S]) place(key uint64) Place {
	set := c.set(key)
	return Place{
		&c.heads[set], unsafe.Pointer(&c.slots[set*ways]), unsafe.Sizeof(c.slots[0]), uint64(tagOf(key))<<32 | uint64(c.tick()),
	}
}

// Fetch reads from memory what adding the keys of places will use: of a key that
// is not known the slot that it will get, unless another one is faster. It
// changes nothing but places, which mean nothing then. The result means nothing
// either, but must be used, so that it is computed.
func Fetch(places []Place) (sum uint32) {
	// Loops of a few instructions, so that many of them are under way at once.
	for i := range places {
		sum += places[i].head.tags[0]
	}
	for i := range places {
		p := &places[i]
		w := p.head.find(uint32(p.tag >> 32))
		if w == ways {
			w = p.head.victim(uint32(p.tag))
		} else if p.size&newOnly != 0 {
			p.slots = unsafe.Pointer(p.head)
			continue
		}
		p.slots = unsafe.Add(p.slots, uintptr(w)*(p.size&^newOnly))
	}
	for i := range places {
		sum += *(*uint32)(places[i].slots)
	}
	return sum
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
