package tracker

import (
	"cmp"
	"slices"

	"github.com/whorl-net/whorl/flow"
)

// Get copies the connection of key in network into into, whose memory it
// reuses, and reports whether it is tracked. An empty network is the default
// one.
func (t *Tracker) Get(key flow.Key, network string, d Detail, into *Snapshot) bool {
	n, ok := t.labels.network(network)
	if !ok {
		return false
	}
	k := makeKeyIn(&key, n)
	label := t.labelSecret(cmp.Or(network, flow.DefaultNetwork))
	s := t.shards[t.shardOf(&k, &label)]
	hash := s.hash(&k)
	s.worker.gate.enter()
	slot := s.find(hash, &k, t.names.Load().pairs)
	return t.copyLocked(s, slot, d, into)
}

// GetUID is Get for one incarnation of a connection.
func (t *Tracker) GetUID(u UID, d Detail, into *Snapshot) bool {
	if u.epoch() != t.cfg.Epoch || int(u.shard()) >= len(t.shards) {
		return false
	}
	s := t.shards[u.shard()]
	s.worker.gate.enter()
	slot := u.slot()
	if slot == 0 || slot >= s.fresh || s.hot(slot).pair == freePair || s.meta(slot).number != u.number() {
		slot = 0
	}
	return t.copyLocked(s, slot, d, into)
}

// copyLocked copies the connection in slot, if that is not 0, and unlocks s.
func (t *Tracker) copyLocked(s *shard, slot uint32, d Detail, into *Snapshot) bool {
	if slot == 0 {
		s.worker.gate.leave()
		return false
	}
	s.copyTo(into, slot, d, t.names.Load())
	s.worker.gate.leave()
	t.enrich(into, d)
	return true
}

// enriches reports whether there is anything that enrich would do.
func (t *Tracker) enriches(d Detail) bool {
	return d != Bare && (t.cfg.Enrich != nil || t.cfg.Annotate != nil)
}

// enrich completes what a query has copied.
func (t *Tracker) enrich(s *Snapshot, d Detail) {
	if d == Bare {
		return
	}
	if t.cfg.Enrich != nil {
		t.cfg.Enrich(s)
	}
	if t.cfg.Annotate != nil {
		t.cfg.Annotate(s)
	}
}

// Cursor is a place in a walk over the table. The zero Cursor is its start.
// Any value is safe to pass to Page; it is meant for the same Tracker.
type Cursor struct {
	Shard, Slot uint32
}

const (
	// visitSlots and visitCells bound what one visit to a shard looks at:
	// together well under 50 µs, but for a single connection with long
	// histories, which is copied whole.
	visitSlots = 256
	visitCells = 1024
)

// Page copies up to limit connections from place c on into the memory of page
// (which may be nil) and returns them, the place to go on, and whether there is
// anything left to walk. The last page of a walk may be empty. A limit below 1
// counts as 1.
//
// A connection that is alive from the first to the last page of a walk is on
// exactly one of them; one that comes or goes meanwhile is on one or none. A
// page is not an instant: shards are visited one after another, for at most
// 50 µs each time.
func (t *Tracker) Page(c Cursor, d Detail, limit int, page []Snapshot) (_ []Snapshot, next Cursor, more bool) {
	limit = max(limit, 1)
	page = page[:0]
	for int(c.Shard) < len(t.shards) {
		if len(page) == limit {
			return page, c, true
		}
		from := len(page)
		var done bool
		page, c.Slot, done = t.shards[c.Shard].visit(c.Slot, d, limit, page, t)
		if t.enriches(d) {
			for i := range page[from:] {
				t.enrich(&page[from+i], d)
			}
		}
		if done {
			c = Cursor{Shard: c.Shard + 1}
		}
	}
	return page, Cursor{Shard: uint32(len(t.shards))}, false
}

// room sees to it that page has room for n more connections, and those for an
// observer each: all in one piece, which is filled faster than many.
func room(page []Snapshot, n int, d Detail) []Snapshot {
	page = slices.Grow(page, n)
	more := page[len(page) : len(page)+n]
	if d == Bare || n == 0 || cap(more[n-1].Observers) > 0 {
		return page
	}
	observers := make([]Observer, n)
	for i := range more {
		if cap(more[i].Observers) == 0 {
			more[i].Observers = observers[i : i : i+1]
		}
	}
	return page
}

// visit copies connections from slot on, until page has limit or the visit has
// been long enough. It returns where to go on and whether the shard is done.
func (s *shard) visit(slot uint32, d Detail, limit int, page []Snapshot, t *Tracker) ([]Snapshot, uint32, bool) {
	page = room(page, min(visitSlots, limit-len(page)), d) // not under the lock
	s.worker.gate.enter()
	defer s.worker.gate.leave()
	names := t.names.Load()
	slot = max(slot, 1)
	cells := uint32(0)
	for end := slot + visitSlots; slot < s.fresh && slot < end; slot++ {
		if s.hot(slot).pair == freePair {
			continue
		}
		if len(page) == limit || cells > visitCells {
			return page, slot, false
		}
		if d != Bare {
			cells += s.meta(slot).weight()
		}
		page = page[:len(page)+1]
		s.copyTo(&page[len(page)-1], slot, d, names)
	}
	return page, slot, slot >= s.fresh
}
