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
	jobSync // no entry of the log, but a place between two
	jobSave // the same, with a copy of a shard
)

// job is one entry of the log on its way through the workers to the merging
// goroutine. All workers concerned share it; each reads what Submit has prepared
// and writes only to the flows whose shards it owns.
type job struct {
	t     *Tracker
	kind  jobKind
	entry Entry
	names *names
	to    []int // the workers concerned, rising

	// Of a batch: the flows of a shard lie together, in the order of the batch;
	// so do the rows of a worker, and its fingerprints, but in the order of their
	// rows. Workers write to found alone, each to that of its shards' flows.
	b                      *flow.Batch
	origin, network        uint16
	endClock               int64
	flows                  []keyIn
	found                  []found
	rows                   []row
	prints                 []print
	flowStarts             ranges // by shard
	rowStarts, printStarts ranges // by worker

	// Of a tick and a flush: the clock of each network.
	clocks []int64
	flush  FlushRequest
	// flushNetwork and flushProbe are the numbers of its labels.
	flushNetwork, flushProbe int
	flushed                  atomic.Int64

	image *ShardImage // to fill in

	done  func()
	doneN func(n int)
}

// found is where a worker found the connection of a flow.
type found struct {
	hash uint64 // in the shard's index
	slot uint32 // 0: nowhere yet; any other may have changed hands
}

// row is a row of a batch on its way to its worker. It is small, since it goes
// from one processor's cache to another's.
type row struct {
	first int64
	clock int64 // the network's, at this row
	bytes uint32
	flow  uint32 // index into job.flows<<1, plus 1 if the key's B side sent it
	shard uint16
	index uint16 // in the batch
	flags uint8
	marks uint8
}

// Marks of a row.
const (
	markRun    uint8 = 1 << iota // its packets and span are in the batch
	markFuture                   // more than 24 h ahead of the log in a live session
)

// print is a fingerprint of a batch on its way to its worker.
type print struct {
	index uint32 // in the batch
	flow  uint32 // index into job.flows
	row   uint32 // index in the batch; the largest number if it is of none
	shard uint16
}

// keepRows bounds the batches whose jobs are kept for reuse, so that one giant
// does not stay for good.
const keepRows = 16384

func (j *job) recycle(pool *sync.Pool) {
	if cap(j.rows) > keepRows || cap(j.flows) > keepRows || cap(j.prints) > keepRows {
		return
	}
	j.names, j.b, j.image, j.done, j.doneN = nil, nil, nil, nil, nil
	j.flush = FlushRequest{}
	j.flushed.Store(0)
	pool.Put(j)
}

// resize returns s with length n and unspecified content.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}
