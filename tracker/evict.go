package tracker

const (
	// announceAt is how many departures, or how many cells of theirs, make a
	// worker pause to announce them: enough to pay for the lock, few enough to
	// stay in the cache.
	announceAt      = 64
	announceCellsAt = 4096
	// sweepSlice is how many connections a sweep looks at before it lets
	// queries in.
	sweepSlice = 256
	// sweepPart is how many connections a part of a batch may sweep, so that
	// dying connections never delay live ones for long.
	sweepPart = 1024
	// secondChances bounds how many active connections are put back on the way
	// to a victim.
	secondChances = 8
)

// evict takes a connection out of the table and keeps a copy to announce, which
// may happen at once: then the lock is let go of for a while, which changes
// nothing for the caller, since nobody else changes the shard.
func (s *shard) evict(j *job, slot uint32, cause Cause, at int64) {
	s.evicted++
	s.tally.evicted[cause]++
	w := s.worker
	if w.leaves {
		e := w.leave(s.id, int(s.meta(slot).weight()))
		e.Number, e.Cause, e.EvictedAt = s.evicted, cause, at
		s.copyTo(&e.Connection, slot, Full, j.names)
	}
	s.remove(slot, j.names.pairs)
	if w.leaving.n >= announceAt || w.leaving.cells >= announceCellsAt {
		w.announce(j)
	}
}

// evictIdle evicts a connection that has expired, as CauseIdle or, after its
// close, as CauseClosed. The time is that of its own packets: the network's
// clock at a late packet depends on when it came, and evictions must not.
func (s *shard) evictIdle(j *job, slot uint32) {
	h := s.hot(slot)
	c, cause := h.class(), CauseIdle
	if c == classClosed {
		cause = CauseClosed
	}
	s.evict(j, slot, cause, h.lastSeen+s.timeouts[c])
}

// sweepAll evicts everything in the network that has expired.
func (s *shard) sweepAll(j *job, n uint16) {
	for c := range numClasses {
		for !s.sweep(j, n, c, sweepSlice, true) {
			s.worker.yield(j)
		}
	}
}

// sweep looks at up to budget connections of the buckets that the clock has
// passed, and with whole also of the bucket it is in: it evicts those that have
// expired and puts the others where they belong. It reports whether it came to
// the end.
func (s *shard) sweep(j *job, n uint16, c class, budget int, whole bool) bool {
	net := s.nets[n]
	r := net.rings[c]
	if r == nil || r.n == 0 {
		return true
	}
	now := r.position(net.clock)
	if now-r.swept >= ringBuckets {
		r.swept = now - ringBuckets + 1 // so that each bucket is visited once
		r.until = 0
	}
	for ; r.swept < now && r.n > 0; r.swept++ {
		if budget = s.sweepBucket(j, n, r, uint16(r.swept%ringBuckets), budget); budget == 0 {
			return false
		}
	}
	return !whole || r.n == 0 || s.sweepBucket(j, n, r, uint16(now%ringBuckets), budget) > 0
}

// sweepBucket looks once at each connection that lies in bucket b, while
// budget lasts. It returns what is left, 0 if it has not come to the end; then
// r.until remembers it.
func (s *shard) sweepBucket(j *job, n uint16, r *ring, b uint16, budget int) int {
	if r.until == 0 {
		if r.heads[b] == 0 {
			return budget
		}
		r.until = s.meta(r.heads[b]).prev
	}
	clock := s.nets[n].clock
	for ; budget > 0; budget-- {
		slot := r.heads[b]
		last := slot == r.until
		if last {
			r.until = 0
		}
		activity := s.activity(slot, s.hot(slot))
		switch {
		case clock-activity <= r.timeout:
			s.unlink(r, slot)
			s.link(r, slot, r.bucketOf(activity+r.timeout))
		case r.expires:
			s.evictIdle(j, slot)
		default:
			s.unlink(r, slot)
			s.link(r, slot, parked)
		}
		if last {
			return budget
		}
	}
	return 0
}

// makeRoom evicts one connection, in the order of classes and in each class the
// one that was unused for longest, to one bucket's width: a 254th of the
// timeout. What has expired goes first, as idle or closed, if it is met.
//
// A shard that was restored with more connections than it may have now gives up
// two for each that comes.
func (s *shard) makeRoom(j *job) {
	for range 2 {
		slot, ok := s.victim(j)
		if !ok {
			return
		}
		s.evictVictim(j, slot)
		if s.live < s.maxLive {
			return
		}
	}
}

func (s *shard) evictVictim(j *job, slot uint32) {
	n := j.names.pairs[s.hot(slot).pair].network
	if s.expired(slot, n) {
		s.evictIdle(j, slot)
		return
	}
	s.evict(j, slot, CauseCapacity, s.nets[n].clock)
}

// victim returns the connection to go first. On the way it puts up to
// secondChances connections that were active since they were listed where they
// belong.
func (s *shard) victim(j *job) (uint32, bool) {
	chances := secondChances
	for c := range numClasses {
		for len(s.open[c]) > 0 {
			n := s.oldestNet(c)
			r := s.nets[n].rings[c]
			b := r.oldest(s.nets[n].clock)
			slot := r.heads[b]
			if chances == 0 {
				return slot, true
			}
			activity := s.activity(slot, s.hot(slot))
			if b == parked && s.nets[n].clock-activity > r.timeout {
				return slot, true
			}
			to := r.bucketOf(activity + r.timeout)
			if to == b {
				return slot, true
			}
			chances--
			s.unlink(r, slot)
			s.link(r, slot, to)
		}
	}
	return 0, false
}

// oldestNet returns the network whose connections of class c were unused for
// longest, each on its own clock.
func (s *shard) oldestNet(c class) uint16 {
	open := s.open[c]
	best := open[0]
	if len(open) == 1 {
		return best
	}
	var bestAge int64 = -1
	for _, n := range open {
		r, clock := s.nets[n].rings[c], s.nets[n].clock
		if age := r.age(r.oldest(clock), clock); age > bestAge {
			best, bestAge = n, age
		}
	}
	return best
}
