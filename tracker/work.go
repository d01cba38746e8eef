package tracker

import "context"

// work is the goroutine that owns the shards whose number modulo the number of
// workers is w. It takes jobs in the order of the log, and leaves those that
// are queued when ctx ends: they are in the log.
func (t *Tracker) work(ctx context.Context, w int) {
	if t.cfg.OnEvict != nil {
		leaving := new(departures)
		for i := w; i < len(t.shards); i += len(t.queues) {
			t.shards[i].leaving = leaving
		}
	}
	for ctx.Err() == nil {
		select {
		case j := <-t.queues[w]:
			for i := w; i < len(t.shards); i += len(t.queues) {
				t.shards[i].do(j)
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
	r := &j.flush
	network, ok := j.names.network(r.Network)
	if r.Network != "" && !ok {
		return
	}
	probe, ok := j.names.probe(r.Probe)
	if r.Probe != "" && !ok {
		return
	}
	var copied Snapshot
	n := 0
	s.mu.Lock()
	for slot := uint32(1); slot < s.fresh; slot++ {
		if slot%visitSlots == 0 {
			s.yieldTo(j)
		}
		h := s.hot(slot)
		if h.pair == freePair || r.Network != "" && j.names.pairs[h.pair].network != network ||
			r.Probe != "" && !s.observedBy(slot, probe, j.names.pairs) {
			continue
		}
		if r.Match != nil {
			s.copyTo(&copied, slot, r.Detail, j.names)
			s.mu.Unlock() // nobody else changes the shard
			j.t.enrich(&copied, r.Detail)
			wanted := r.Match(&copied)
			s.mu.Lock()
			if !wanted {
				continue
			}
		}
		s.evict(j, slot, CauseFlush, s.nets[j.names.pairs[h.pair].network].clock)
		n++
	}
	s.publish()
	s.announce(j)
	s.mu.Unlock()
	j.flushed.Add(int64(n))
}

// observedBy reports whether the probe is one of a connection's observers.
func (s *shard) observedBy(slot uint32, probe uint16, pairs []pair) bool {
	var all [MaxObservers]counted
	n, _ := s.observed(slot, &all)
	for i := range n {
		if pairs[all[i].pair].probe == probe {
			return true
		}
	}
	return false
}
