package tracker

import "math/bits"

// touchBlock is how many flows are looked up together: a cache miss that is
// waited for costs 150 ns and more, one that overlaps with others 14 ns.
const touchBlock = 128

// seen is what a worker knows of a flow of the batch.
type seen struct {
	hash  uint64 // in the index of its shard
	hot   *hot   // nil if there was no connection yet
	slot  uint32 // of hot
	shard uint16
	side  uint8 // 1 if the tuple's source is the key's B side
}

// touch looks up the connections of flows. It goes over them several times, so
// that in each pass cache misses overlap.
func (w *worker) touch(j *job, list []uint16) {
	var keys [touchBlock]keyIn
	var buckets [touchBlock]*bucket
	tuples, flows, shards, routed := j.b.Flows, w.flows, j.t.shards, len(j.t.workers) > 1
	secret, label := &j.t.secret, &j.label
	network := uint64(j.network) << networkShift
	for i, at := range list {
		k, f := &keys[i%touchBlock], &flows[at]
		f.side = uint8(k.putTuple(&tuples[at], 0))
		if routed {
			f.shard = j.shardAt[at]
		} else {
			hi, _ := bits.Mul64(label.hash(k), uint64(len(shards)))
			f.shard = uint16(hi)
		}
		k.ends |= network
		f.hash = secret.hash(k)
		index := shards[f.shard].index
		buckets[i%touchBlock] = &index[index.home(f.hash)]
	}
	var sum uint32
	for _, b := range buckets[:len(list)] {
		sum += uint32(b.lanes[0])
	}
	for i, at := range list {
		f, b := &flows[at], buckets[i%touchBlock]
		f.hot, f.slot = nil, b.candidate(f.hash)
		if f.slot != 0 {
			f.hot = shards[f.shard].hot(f.slot)
		} else if b.over() > 0 { // perhaps it is in the next one
			index := shards[f.shard].index
			sum += uint32(index[index.next(index.home(f.hash))].lanes[0])
		}
	}
	for _, at := range list {
		if h := flows[at].hot; h != nil {
			sum += uint32(h.state)
		}
	}
	w.touched += sum
	for i, at := range list {
		f, k := &flows[at], &keys[i%touchBlock]
		s := shards[f.shard]
		if s.appliedTo >= j.entry.Position {
			f.hot = nil
			continue
		}
		s.batch = w.batches
		h := f.hot
		if h != nil && h.holds(k) && h.pair == j.origin {
			continue
		}
		if h != nil || buckets[i%touchBlock].over() > 0 {
			f.slot = s.find(f.hash, k, j.names.pairs)
		}
		if f.slot == 0 {
			f.hot = nil
			s.unknown++
			w.unknown++
			continue
		}
		f.hot = s.hot(f.slot)
	}
}

// touchVictims looks up the index buckets of the connections that have to go if
// all flows looked up since it was called last, and not found, open new ones: so
// that their cache misses overlap.
func (w *worker) touchVictims() {
	if w.unknown == 0 {
		return
	}
	w.unknown = 0
	var sum uint32
	for _, s := range w.shards {
		if n := s.live + s.unknown - s.maxLive; s.unknown > 0 && n > 0 {
			sum += s.touchOldest(min(n, applyBlock))
		}
	}
	var buckets [applyBlock]*bucket
	found := 0
	for _, s := range w.shards {
		if n := s.live + s.unknown - s.maxLive; s.unknown > 0 && n > 0 {
			found += s.victims(buckets[found:min(found+n, len(buckets))])
		}
		s.unknown = 0
	}
	for _, b := range buckets[:found] {
		sum += uint32(b.lanes[0])
	}
	w.touched += sum
}

// oldestSlot returns the connection that makeRoom would look at first, 0 if there
// is none, and its network and wheel.
func (s *shard) oldestSlot() (slot uint32, n uint16, r *ring) {
	for c := range numClasses {
		if len(s.open[c]) > 0 {
			n = s.oldestNet(c)
			r = s.nets[n].rings[c]
			return r.heads[r.oldest(s.nets[n].clock)], n, r
		}
	}
	return 0, 0, nil
}

// touchOldest loads the records of the n connections that makeRoom is most likely
// to evict, if they have their slots in the order in which they came; victims
// then finds them in the cache, one by the other. The sum means nothing.
func (s *shard) touchOldest(n int) (sum uint32) {
	slot, _, _ := s.oldestSlot()
	if slot == 0 {
		return 0
	}
	for end := min(slot+uint32(n), s.fresh); slot < end; slot++ {
		sum += uint32(s.hot(slot).state) + s.meta(slot).word
	}
	return sum
}

// victims finds the index buckets of the connections that makeRoom is most likely
// to evict, and returns how many. It keeps the hashes for remove.
func (s *shard) victims(buckets []*bucket) int {
	slot, network, r := s.oldestSlot()
	if slot == 0 {
		return 0
	}
	n := min(len(buckets), r.n)
	for i := range n {
		k := s.hot(slot).in(network)
		h := s.hash(&k)
		s.hashes[slot%touchBlock] = slotHash{slot, h}
		buckets[i] = &s.index[s.index.home(h)]
		slot = s.meta(slot).next
	}
	return n
}

// slotHash is the index hash of the connection in slot.
type slotHash struct {
	slot uint32
	hash uint64
}
