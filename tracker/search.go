package tracker

import "slices"

// Query says which connections a Search is about.
type Query struct {
	// Match is asked about each connection in its place. It is called while the
	// shard is held: it must be quick, must not call the Tracker and must keep
	// nothing of r. Nil matches all.
	Match func(r *Row) bool
	// Cost is about how long Match takes, in nanoseconds, without Row.Shows: the
	// longer, the fewer connections are looked at at a time.
	Cost int
	// Prints are the sets of fingerprints that Match asks Row.Shows about, by
	// index. Needs are those of them without one of which Match is never true: a
	// shard where nothing shows it is passed by.
	Prints []PrintSet
	Needs  []int
}

// Search is a walk over the connections that a Query describes, with the promises
// of Tracker.Page. It is for one goroutine.
type Search struct {
	t     *Tracker
	q     Query
	at    Cursor
	on    uint32 // 1 + the shard that found is about
	found []foundPrints
	texts textBlock
	row   Row // used again
}

// Search begins a walk at place c. The zero Query matches all.
func (t *Tracker) Search(q Query, c Cursor) *Search {
	s := &Search{t: t, q: q, at: c, found: make([]foundPrints, len(q.Prints))}
	for i := range s.found {
		s.found[i].set = &q.Prints[i]
	}
	return s
}

// Cursor returns the place where the walk goes on.
func (s *Search) Cursor() Cursor { return s.at }

const (
	// visitCost bounds what one visit to a shard takes, in ns or so, but for a
	// single connection with long histories.
	visitCost = 30_000
	costRow   = 12
	costCell  = 10
	costSum   = 10
	costCopy  = 100
	costEach  = 40 // what f takes, as far as it does not look at cells
	// pageVisits bounds the visits of one call of Page, so that who asks for
	// little among much can stop in between.
	pageVisits = 64
)

// Page copies up to limit connections that match into the memory of page (which
// may be nil) and returns them and whether there is anything left to walk. There
// may be few of them, or none, although there is more. A limit below 1 counts as 1.
func (s *Search) Page(d Detail, limit int, page []Snapshot) (_ []Snapshot, more bool) {
	limit = max(limit, 1)
	page = page[:0]
	for range pageVisits {
		if len(page) == limit {
			break
		}
		from := len(page)
		page = slices.Grow(page, min(visitSlots, limit-from)) // not under the lock
		room := page[:min(from+visitSlots, limit)]
		n := from
		more = s.visit(func(r *Row) bool {
			r.s.copyTo(&room[n], r.slot, d, r.names)
			n++
			r.cost += costCopy
			if d != Bare {
				r.cost += costCell * int(r.s.meta(r.slot).weight())
			}
			return n < len(room)
		})
		page = room[:n]
		for i := range page[from:] {
			s.t.enrich(&page[from+i], d)
		}
		if !more {
			return page, false
		}
	}
	return page, true
}

// Each calls f with the next connections that match, in their places and while
// their shard is held: what Query.Match must not do, f must not either. It returns
// after at most some thousand connections, and whether there is anything left to
// walk.
func (s *Search) Each(f func(r *Row)) (more bool) {
	return s.visit(func(r *Row) bool {
		f(r)
		r.cost += costEach
		return true
	})
}

// visit calls take with the connections that match, from where the walk is, until
// take says that it is enough, or the visit has been long enough, or the shard is
// at its end. It reports whether there is anything left to walk.
func (s *Search) visit(take func(r *Row) bool) (more bool) {
	if int(s.at.Shard) >= len(s.t.shards) {
		return false
	}
	sh := s.t.shards[s.at.Shard]
	if s.on != 1+s.at.Shard {
		s.on = 1 + s.at.Shard
		for i := range s.found {
			s.found[i].find(sh, &s.texts)
		}
	}
	for _, i := range s.q.Needs {
		if s.found[i].nowhere() {
			return s.next()
		}
	}
	sh.worker.gate.enter()
	done := s.visitHeld(sh, take)
	sh.worker.gate.leave()
	if done {
		return s.next()
	}
	return true
}

// next goes on to the next shard and reports whether there is one.
func (s *Search) next() bool {
	s.at = Cursor{Shard: s.at.Shard + 1}
	return int(s.at.Shard) < len(s.t.shards)
}

// visitHeld is what visit does while sh is held. It reports whether the shard is
// done.
func (s *Search) visitHeld(sh *shard, take func(r *Row) bool) bool {
	r := &s.row
	*r = Row{s: sh, names: s.t.names.Load(), found: s.found}
	slot := max(s.at.Slot, 1)
	enough := false
	for ; slot < sh.fresh && r.cost < visitCost && !enough; slot++ {
		h := sh.hot(slot)
		r.cost += costRow
		if h.pair == freePair {
			continue
		}
		r.at(slot, h)
		if s.q.Match != nil {
			r.cost += s.q.Cost
			if !s.q.Match(r) {
				continue
			}
		}
		enough = !take(r)
	}
	s.at.Slot = slot
	return slot >= sh.fresh
}
