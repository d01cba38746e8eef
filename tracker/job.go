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
	// batch; only fingerprints are in the order of their rows. Workers write
	// to found alone, each to that of its shards' flows.
	b                                  *flow.Batch
	origin, network                    uint16
	endClock                           int64
	flows                              []keyIn
	found                              []found
	rows                               []row
	prints                             []print
	flowStarts, rowStarts, printStarts ranges

	// Of a tick and a flush: the clock of each network.
	clocks []int64
	flush  FlushRequest
	// flushNetwork and flushProbe are the numbers of its labels.
	flushNetwork, flushProbe int
	flushed                  atomic.Int64

	pending atomic.Int32 // workers that have not applied it
	done    func()
	doneN   func(n int)

	// finished and next belong to Tracker.ending.
	finished bool
	next     *job
}

// has reports whether the batch has rows or fingerprints for shard i.
func (j *job) has(i int) bool {
	return !j.rowStarts.empty(i) || !j.printStarts.empty(i)
}

// found is where a worker found the connection of a flow.
type found struct {
	hash uint64 // in the shard's index
	slot uint32 // 0: nowhere yet; any other may have changed hands
}

// row is a row of a batch on its way to its shard. It is small, since it goes
// from one processor's cache to another's.
type row struct {
	first int64
	clock int64 // the network's, at this row
	bytes uint32
	flow  uint32 // index into job.flows<<1, plus 1 if the key's B side sent it
	index uint16 // in the batch
	flags uint8
	marks uint8
}

// Marks of a row.
const (
	markRun    uint8 = 1 << iota // its packets and span are in the batch
	markFuture                   // more than 24 h ahead of the log in a live session
)

// print is a fingerprint of a batch on its way to its shard.
type print struct {
	index uint32 // in the batch
	flow  uint32 // index into job.flows
	row   uint32 // index in the batch; the largest number if it is of none
}

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
