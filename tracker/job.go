package tracker

import (
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/flow"
)

type jobKind uint8

const (
	jobBatch jobKind = iota
	jobTick
	jobFlush
)

// job is one entry of the log on its way through the workers. All workers
// concerned share it; each reads what Submit has prepared and writes only to
// the flows whose shards it owns.
type job struct {
	t     *Tracker
	kind  jobKind
	names *names

	// Of a batch: what belongs to a shard lies together, in the order of the
	// batch; only fingerprints are in the order of their rows.
	b                                  *flow.Batch
	origin, network                    uint16
	endClock                           int64
	flows                              []routed
	rows                               []row
	prints                             []print
	flowStarts, rowStarts, printStarts ranges

	// Of a tick and a flush: the clock of each network.
	clocks  []int64
	flush   FlushRequest
	flushed atomic.Int64

	pending atomic.Int32 // workers that have not applied it
	done    func()
	doneN   func(n int)

	// finished and next belong to Tracker.ending.
	finished bool
	next     *job
}

// concerns reports whether a shard of worker w of n has anything to do for j.
func (j *job) concerns(w, n int) bool {
	if j.kind != jobBatch {
		return true
	}
	for i := w; i < len(j.rowStarts)-1; i += n {
		if j.has(i) {
			return true
		}
	}
	return false
}

// has reports whether the batch has rows or fingerprints for shard i.
func (j *job) has(i int) bool {
	return !j.rowStarts.empty(i) || !j.printStarts.empty(i)
}

// routed is a flow of a batch on its way to its shard.
type routed struct {
	key    flow.Key
	turned uint32 // 1: the flow's source is the key's B side
	slot   uint32 // where the worker found it, 0: not yet
	shard  uint32
	hash   uint64 // in the shard's index
}

// row is a row of a batch on its way to its shard: a packet, or a run of
// packets of one direction.
type row struct {
	first, last int64
	clock       int64 // the network's, at this row
	packets     uint32
	bytes       uint32
	flow        uint32 // index into job.flows
	index       uint16 // in the batch
	flags       uint8
	side        uint8 // who sent it: 0 is the key's A side
	future      bool  // more than 24 h ahead of the log in a live session
}

// print is a fingerprint of a batch on its way to its shard.
type print struct {
	index uint32 // in the batch
	flow  uint32 // index into job.flows
	row   uint32 // index in the batch, noRow if it is of none
}

const noRow = 1<<32 - 1

// keepRows bounds the batches whose jobs are kept for reuse, so that one giant
// does not stay for good.
const keepRows = 16384

func (j *job) recycle(pool *sync.Pool) {
	if cap(j.rows) > keepRows || cap(j.flows) > keepRows || cap(j.prints) > keepRows {
		return
	}
	j.names, j.b, j.done, j.doneN, j.next = nil, nil, nil, nil, nil
	j.flush = FlushRequest{}
	j.flushed.Store(0)
	j.finished = false
	pool.Put(j)
}

// resize returns s with length n and unspecified content.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}

// ending calls the done functions of jobs one at a time and in the order in
// which the jobs were submitted, whichever worker finishes last.
type ending struct {
	mu          sync.Mutex // guards all fields
	first, last *job       // jobs not yet ended
	calling     bool       // somebody is at it
}

func (e *ending) add(j *job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last == nil {
		e.first = j
	} else {
		e.last.next = j
	}
	e.last = j
}

// finish says that all workers have applied j, or that it was given up.
func (e *ending) finish(j *job, pool *sync.Pool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	j.finished = true
	if e.calling {
		return
	}
	e.calling = true
	for e.first != nil && e.first.finished {
		j := e.first
		if e.first = j.next; e.first == nil {
			e.last = nil
		}
		e.mu.Unlock()
		if j.done != nil {
			j.done()
		}
		if j.doneN != nil {
			j.doneN(int(j.flushed.Load()))
		}
		j.recycle(pool)
		e.mu.Lock()
	}
	e.calling = false
}
