package window

import "github.com/whorl-net/whorl/internal/analyst/state"

// Once keeps something of each key that was seen only once, so that its first
// sight can be made up for when there is a second. Of keys that were seen again
// it only knows that they were: there it costs one line of memory.
//
// When there is no room the key that was unused for longest leaves, of eight that
// share a place; one seen again stays sixteen times as long.
type Once[S any] struct{ cache *cache[S] }

// Sight says how often a key was seen.
type Sight uint8

// The sights. A key that had to leave starts anew.
const (
	First Sight = iota
	Second
	Further
)

// NewOnce returns a Once with room for that many keys.
func NewOnce[S any](keys int) *Once[S] { return &Once[S]{newCache[S](keys)} }

// OnceBytes returns what a Once with room for so many keys takes.
func OnceBytes[S any](keys int) int64 { return cacheBytes[S](keys) }

// Visit counts a sight of key. At the first one the caller fills slot, whatever is
// left in it; at the second it finds there what it had put, and should empty it;
// later slot means nothing.
func (o *Once[S]) Visit(key uint64) (slot *S, s Sight) {
	c := o.cache
	h := &c.heads[c.set(key)]
	again := false
	if w := h.find(tagOf(key)); w < ways {
		again = h.ages[w]&1 != 0
	}
	slot, fresh := c.find(key)
	switch {
	case fresh:
		return slot, First
	case again:
		return slot, Further
	}
	return slot, Second
}

// Knows reports whether key was seen before and is still known.
func (o *Once[S]) Knows(key uint64) bool {
	return o.cache.heads[o.cache.set(key)].find(tagOf(key)) < ways
}

// Place returns the place of a key for Fetch.
func (o *Once[S]) Place(key uint64) Place {
	p := o.cache.place(key)
	p.size |= newOnly
	return p
}

// Room returns for how many keys there is room.
func (o *Once[S]) Room() int { return len(o.cache.slots) }

// Keys returns how many keys are held, and how many had to leave.
func (o *Once[S]) Keys() (held int, evicted uint64) { return o.cache.used, o.cache.evicted }

// Save writes all keys, and with slot what is kept of each.
func (o *Once[S]) Save(w *state.Writer, slot func(*S)) { o.cache.save(w, slot) }

// Restore fills an empty Once of the same size with what Save wrote.
func (o *Once[S]) Restore(r *state.Reader, slot func(*S)) { o.cache.restore(r, slot) }
