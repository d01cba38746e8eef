package tracker

import "context"

// worker is the goroutine that owns some shards, and the only one to change
// them. It takes jobs in the order of the log and hands what it has to say of
// each to the merging goroutine.
type worker struct {
	t  *Tracker
	id uint16
	// shards follow one another, so that what a batch has for a worker lies
	// together.
	shards []*shard

	in   chan *job
	out  chan portion
	free chan *part // parts that came back
	quit <-chan struct{}

	// gate guards the shards.
	gate gate

	// The worker's own.

	batches uint64   // applied so far
	flows   []seen   // of the batch
	numbers []uint16 // from 0 on, see counting
	// removed counts connections that left its shards. As long as none does, what
	// seen says holds.
	removed uint64
	unknown int    // flows looked up and not found, see touchVictims
	opens   opens  // of this batch
	touched uint32 // keeps the compiler from dropping loads that only warm the cache

	order   uint64 // where in the entry it is
	part    *part  // what it has to say so far; nil if nobody listens
	parts   int    // that it has made
	leaves  bool   // somebody wants to know of evictions
	events  bool   // and of events
	leaving leaving
}

// portion is a part on its way to the merging goroutine, nil if it is empty.
type portion struct {
	part *part
	last bool // of its worker for this entry
}

// leaving holds copies of connections that left until the worker has let go of
// its lock and announces them.
type leaving struct {
	list  []Eviction
	shard []uint16
	n     int
	cells int // that hung on them
}

func newWorker(t *Tracker, id uint16) *worker {
	w := &worker{
		t: t, id: id, in: make(chan *job, t.cfg.QueueBatches),
		// Room for all parts, and for the ends of entries that need none: a send
		// never waits.
		out:  make(chan portion, partsPerWorker+t.cfg.QueueBatches),
		free: make(chan *part, partsPerWorker),
	}
	if t.cfg.OnOutput != nil {
		w.part, w.parts = new(part), 1
		w.events = t.cfg.Events
	}
	w.leaves = w.part != nil || t.cfg.OnEvict != nil
	return w
}

// run applies jobs until ctx ends. It leaves those that are queued then: they
// are in the log.
func (w *worker) run(ctx context.Context) {
	w.quit = ctx.Done()
	for ctx.Err() == nil {
		select {
		case j := <-w.in:
			w.do(j)
			w.announceAll(j)
			w.hand(true)
		case <-ctx.Done():
		}
	}
}

func (w *worker) do(j *job) {
	switch j.kind {
	case jobBatch:
		w.apply(j)
		return
	case jobSave:
		j.image.shard.copyFrom(w.t.shards[j.image.shard.id])
		return
	}
	for _, s := range w.shards {
		if s.appliedTo >= j.entry.Position {
			continue
		}
		w.order = orderShards + uint64(s.id)
		s.tick(j)
		if j.kind == jobFlush {
			s.flush(j)
		}
	}
}

// leave returns the memory for a copy of a connection of the shard that is about
// to leave, with so many cells.
func (w *worker) leave(shard uint16, cells int) *Eviction {
	l := &w.leaving
	if l.n == len(l.list) {
		l.list = append(l.list, Eviction{})
		l.shard = append(l.shard, 0)
	}
	l.shard[l.n] = shard
	l.cells += cells
	l.n++
	if w.part != nil {
		p := w.part
		p.items = append(p.items, item{order: w.order, at: uint32(len(p.departures) + l.n - 1), kind: itemDeparture})
	}
	return &l.list[l.n-1]
}

// opened and printed note an event for the merging goroutine.
func (w *worker) opened(of subject, k *packet, row int) {
	p := w.part
	p.items = append(p.items, item{order: w.order, at: uint32(len(p.opened)), kind: itemOpened})
	p.opened = append(p.opened, opened{subject: of, sender: k.side, row: uint32(row)})
}

// printed returns the memory of the newest one, whose previous is empty: the caller
// fills in the rest.
func (w *worker) printed() *printed {
	p := w.part
	p.items = append(p.items, item{order: w.order, at: uint32(len(p.printed)), kind: itemPrinted})
	if len(p.printed) == cap(p.printed) {
		p.printed = append(p.printed, printed{})
	} else {
		p.printed = p.printed[:len(p.printed)+1]
	}
	return &p.printed[len(p.printed)-1]
}

// announce tells what there is to tell, without the lock: the caller holds it
// and gets it back.
func (w *worker) announce(j *job) {
	w.gate.unlock()
	w.announceAll(j)
	if w.part != nil && w.part.full() {
		w.hand(false)
	}
	w.gate.lock()
}

// announceAll hands the departures to OnEvict and to the part.
func (w *worker) announceAll(j *job) {
	l, cfg := &w.leaving, &j.t.cfg
	for i := range l.list[:l.n] {
		e := &l.list[i]
		if cfg.Enrich != nil {
			cfg.Enrich(&e.Connection)
		}
		if cfg.OnEvict != nil {
			cfg.OnEvict(int(l.shard[i]), e)
		}
		if w.part != nil {
			w.part.depart(l.shard[i], e, cfg.Encode)
		}
	}
	l.n, l.cells = 0, 0
}

// yield lets waiting queries in, and tells what there is to tell if it is
// enough. The caller holds the lock and gets it back.
func (w *worker) yield(j *job) {
	if w.part != nil && w.part.full() {
		w.announce(j)
		return
	}
	w.gate.pause()
}

// hand gives the part to the merging goroutine and gets an empty one, for which
// it may have to wait; last ends the entry. The lock is not held and nothing is
// left to announce.
func (w *worker) hand(last bool) {
	if w.part == nil || len(w.part.items) == 0 {
		if last {
			w.send(portion{last: true})
		}
		return
	}
	w.part.seal()
	w.send(portion{w.part, last})
	w.part = w.nextPart()
}

func (w *worker) send(p portion) {
	select {
	case w.out <- p:
	case <-w.quit: // nobody reads any more
	}
}

// nextPart returns an empty part. When all are on their way it waits for one;
// once the tracker stops, what a part would say is of no interest.
func (w *worker) nextPart() *part {
	select {
	case p := <-w.free:
		return p
	default:
	}
	if w.parts < partsPerWorker {
		w.parts++
		return new(part)
	}
	select {
	case p := <-w.free:
		return p
	case <-w.quit:
		return new(part)
	}
}

// tick evicts all that has expired by the job's clocks.
func (s *shard) tick(j *job) {
	s.worker.gate.lock()
	for n, net := range s.nets {
		if net != nil {
			net.clock = j.clocks[n]
			s.sweepAll(j, uint16(n))
		}
	}
	s.publish()
	s.worker.gate.unlock()
}

// flush evicts what the job's request describes, slot by slot.
func (s *shard) flush(j *job) {
	if j.flushNetwork == noLabel || j.flushProbe == noLabel {
		return // nobody has ever been there
	}
	var copied Snapshot
	n := 0
	s.worker.gate.lock()
	for slot := uint32(1); slot < s.fresh; slot++ {
		if slot%visitSlots == 0 {
			s.worker.yield(j)
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
			s.worker.gate.unlock() // nobody else changes the shard
			if j.t.cfg.Enrich != nil && j.flush.Detail != Bare {
				j.t.cfg.Enrich(&copied)
			}
			wanted := j.flush.Match(&copied)
			s.worker.gate.lock()
			if !wanted {
				continue
			}
		}
		s.evict(j, slot, CauseFlush, s.nets[network].clock)
		n++
	}
	s.publish()
	s.worker.gate.unlock()
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
