package tracker

import "context"

// owned returns the shards of worker w, from the first to before the last: they
// follow one another, so that what a batch has for a worker lies together.
func (t *Tracker) owned(w int) (from, to int) {
	n := len(t.queues)
	return w * len(t.shards) / n, (w + 1) * len(t.shards) / n
}

// concerned reports whether a shard of worker w has anything to do for j.
func (t *Tracker) concerned(j *job, w int) bool {
	from, to := t.owned(w)
	return j.kind != jobBatch || j.rowStarts[from] != j.rowStarts[to] || j.printStarts[from] != j.printStarts[to]
}

// work is the goroutine that owns the shards of worker w. It takes jobs in the
// order of the log, and leaves those that are queued when ctx ends: they are in
// the log.
func (t *Tracker) work(ctx context.Context, w int) {
	from, to := t.owned(w)
	shards := t.shards[from:to]
	if t.cfg.OnEvict != nil {
		leaving := new(departures)
		for _, s := range shards {
			s.leaving = leaving
		}
	}
	for ctx.Err() == nil {
		select {
		case j := <-t.queues[w]:
			for _, s := range shards {
				s.do(j)
			}
			if j.pending.Add(-1) == 0 {
				t.ending.finish(j, &t.jobs)
			}
		case <-ctx.Done():
		}
	}
}

func (s *shard) do(j *job) {
	switch j.kind {
	case jobBatch:
		if j.has(int(s.id)) {
			s.apply(j)
		}
	case jobTick:
		s.tick(j)
	case jobFlush:
		s.tick(j)
		s.flush(j)
	}
}

// tick evicts all that has expired by the job's clocks.
func (s *shard) tick(j *job) {
	s.mu.Lock()
	for n, net := range s.nets {
		if net != nil {
			net.clock = j.clocks[n]
			s.sweepAll(j, uint16(n))
		}
	}
	s.publish()
	s.announce(j)
	s.mu.Unlock()
}

// flush evicts what the job's request describes, slot by slot.
func (s *shard) flush(j *job) {
	var copied Snapshot
	n := 0
	s.mu.Lock()
	for slot := uint32(1); slot < s.fresh; slot++ {
		if slot%visitSlots == 0 {
			s.yieldTo(j)
		}
		h := s.hot(slot)
		if h.pair == freePair {
			continue
		}
		network := int(j.names.pairs[h.pair].network)
		if j.flushNetwork != anyLabel && j.flushNetwork != network ||
			j.flushProbe != anyLabel && !s.observedBy(slot, j.flushProbe, j.names.pairs) {
			continue
		}
		if j.flush.Match != nil {
			s.copyTo(&copied, slot, j.flush.Detail, j.names)
			s.mu.Unlock() // nobody else changes the shard
			j.t.enrich(&copied, j.flush.Detail)
			wanted := j.flush.Match(&copied)
			s.mu.Lock()
			if !wanted {
				continue
			}
		}
		s.evict(j, slot, CauseFlush, s.nets[network].clock)
		n++
	}
	s.publish()
	s.announce(j)
	s.mu.Unlock()
	j.flushed.Add(int64(n))
}

// observedBy reports whether the probe is one of a connection's observers.
func (s *shard) observedBy(slot uint32, probe int, pairs []pair) bool {
	var all [MaxObservers]counted
	n, _ := s.observed(slot, &all)
	for i := range n {
		if int(pairs[all[i].pair].probe) == probe {
			return true
		}
	}
	return false
}
