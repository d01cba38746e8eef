package tracker

import (
	"sync"
	"sync/atomic"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
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
// goroutine. All workers concerned share it; each reads what Submit has prepared,
// and changes nothing.
type job struct {
	t     *Tracker
	kind  jobKind
	entry Entry
	names *names
	to    []int // the workers concerned, rising
	// eventTypes are the types of fingerprints that make Events.
	eventTypes ja4.TypeSet

	// Of a batch. Workers only read it.
	b               *flow.Batch
	origin, network uint16
	label           secret // of the network
	prints          []print
	// If there are several workers: the shard of each flow, and for each worker
	// the numbers of its flows and rows, rising.
	shardAt       []uint16
	flowAt, rowAt [][]uint16
	// The network's clock at a row is that in rowClocks or, if that is empty, the
	// time of the row, at least floor; endClock is the clock behind all rows.
	rowClocks       []int64
	floor, endClock int64
	// latest is the time beyond which a packet is from the future.
	latest int64

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

// print is a fingerprint of a batch, in the order of rows.
type print struct {
	index uint32 // in the batch
	row   uint32 // index in the batch; noRow if it is of none
}

const noRow = 1<<32 - 1

// keepRows bounds the batches whose jobs are kept for reuse, so that one giant
// does not stay for good.
const keepRows = 16384

func (j *job) recycle(pool *sync.Pool) {
	if cap(j.rowClocks) > keepRows || cap(j.shardAt) > keepRows || cap(j.prints) > keepRows {
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
