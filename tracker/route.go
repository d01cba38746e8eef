package tracker

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/zeebo/xxh3"
)

// labelSeed returns the seed for the keys of a network.
func (t *Tracker) labelSeed(network string) uint64 {
	return xxh3.HashStringSeed(network, t.cfg.HashSeed)
}

// shardOf returns the shard of key k. The result depends on nothing but key,
// label, HashSeed and the number of shards.
func (t *Tracker) shardOf(k *keyIn, labelSeed uint64) uint32 {
	hi, _ := bits.Mul64(xxh3.HashSeed(k[:keyBytes], labelSeed), uint64(len(t.shards)))
	return uint32(hi)
}

// checkBatch says what is malformed in b, in one pass over its columns.
func checkBatch(b *flow.Batch) error {
	rows := len(b.Flow)
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrBatch, fmt.Sprintf(format, args...))
	}
	switch {
	case rows > flow.MaxBatchRows:
		return bad("%d rows, at most %d", rows, flow.MaxBatchRows)
	case len(b.Flows) > flow.MaxBatchRows:
		return bad("%d flows, at most %d", len(b.Flows), flow.MaxBatchRows)
	case len(b.Fingerprints) > flow.MaxBatchFingerprints:
		return bad("%d fingerprints, at most %d", len(b.Fingerprints), flow.MaxBatchFingerprints)
	case len(b.Time) != rows || len(b.WireLength) != rows || len(b.TCPFlags) != rows:
		return bad("columns of %d flows, %d times, %d lengths, %d flags differ",
			rows, len(b.Time), len(b.WireLength), len(b.TCPFlags))
	case len(b.RunPackets) != len(b.RunSpan) || len(b.RunPackets) != 0 && len(b.RunPackets) != rows:
		return bad("columns of %d run packets, %d run spans, %d flows differ",
			len(b.RunPackets), len(b.RunSpan), rows)
	}
	flows := uint32(len(b.Flows))
	for i, ref := range b.Flow {
		if ref>>1 >= flows {
			return bad("row %d refers to flow %d of %d", i, ref>>1, flows)
		}
		if uint64(b.Time[i]) >= maxTime { // negative ones, too
			return bad("row %d has time %d, want 0 to %d", i, b.Time[i], int64(maxTime))
		}
	}
	for i, n := range b.RunPackets {
		if n == 0 {
			return bad("row %d is a run of no packets", i)
		}
		if b.RunSpan[i] >= maxTime || uint64(b.Time[i])+b.RunSpan[i] >= maxTime {
			return bad("row %d has a run of %d ns, beyond time %d", i, b.RunSpan[i], int64(maxTime))
		}
	}
	for i := range b.Fingerprints {
		f := &b.Fingerprints[i]
		switch {
		case f.Flow >= flows:
			return bad("fingerprint %d refers to flow %d of %d", i, f.Flow, flows)
		case int(f.Row) > rows:
			return bad("fingerprint %d refers to row %d of %d", i, f.Row, rows)
		case f.Row > 0 && b.Flow[f.Row-1]>>1 != f.Flow:
			return bad("fingerprint %d is of flow %d, its row of flow %d", i, f.Flow, b.Flow[f.Row-1]>>1)
		case !f.Type.Valid():
			return bad("fingerprint %d has type %d", i, uint8(f.Type))
		case f.Value == "" || len(f.Value) > flow.MaxValueLen:
			return bad("fingerprint %d has a value of %d bytes, want 1 to %d", i, len(f.Value), flow.MaxValueLen)
		case len(f.Raw) > flow.MaxRawLen:
			return bad("fingerprint %d has a raw form of %d bytes, at most %d", i, len(f.Raw), flow.MaxRawLen)
		case len(f.ServerName) > flow.MaxServerNameLen:
			return bad("fingerprint %d has a server name of %d bytes, at most %d", i, len(f.ServerName), flow.MaxServerNameLen)
		}
	}
	return nil
}

// route fills in j for a batch that checkBatch has passed: flows by shard, rows
// by worker, with the network's clock at each row, and fingerprints. It hashes
// each flow once. Copying rows into the order in which a worker reads them costs
// 5 ns each, and saves it the cache misses of picking them out of the batch.
func (t *Tracker) route(j *job, logTime int64, o Origin, b *flow.Batch) {
	j.b, j.origin, j.network = b, o.pair, j.names.pairs[o.pair].network
	t.routeFlows(j)
	t.routeRows(j, logTime, o.live)
	t.routePrints(j)
}

// routeFlows sorts the flows by shard: a counting sort, which keeps their
// order. t.place tells where each went, t.workerAt whose it is. Flows of shards
// that have applied the entry already, before they were restored, are nobody's.
func (t *Tracker) routeFlows(j *job) {
	flows := j.b.Flows
	seed := t.labelSeed(j.names.networks[j.network])
	t.unsorted = resize(t.unsorted, len(flows))
	t.shardAt = resize(t.shardAt, len(flows))
	t.workerAt = resize(t.workerAt, len(flows))
	t.place = resize(t.place, len(flows))
	starts := j.flowStarts.begin(len(t.shards))
	for i := range flows {
		k := &t.unsorted[i]
		t.place[i] = 0
		if k.putTuple(&flows[i], j.network) {
			t.place[i] = 1
		}
		shard := t.shardOf(k, seed)
		t.shardAt[i] = uint16(shard)
		t.workerAt[i] = t.shards[shard].worker.id
		if t.shards[shard].appliedTo >= j.entry.Position {
			t.workerAt[i] = uint16(len(t.workers))
		}
		starts[shard]++
	}
	j.flowStarts.sum()
	j.flows = resize(j.flows, len(flows))
	j.found = resize(j.found, len(flows))
	for i := range flows {
		at := &starts[t.shardAt[i]]
		j.flows[*at] = t.unsorted[i]
		t.place[i] |= *at << 1
		*at++
	}
	j.flowStarts.end()
}

// routeRows sorts the rows by worker and moves the network's clock through them
// in the order of the batch.
func (t *Tracker) routeRows(j *job, logTime int64, live bool) {
	b := j.b
	starts := j.rowStarts.begin(len(t.workers) + 1)
	for _, ref := range b.Flow {
		starts[t.workerAt[ref>>1]]++
	}
	j.rowStarts.sum()
	j.rows = resize(j.rows, len(b.Flow))
	c := &t.clocks[j.network]
	c.reach(logTime)
	hold, latest := int64(t.cfg.ReplayHold), int64(maxTime)
	if live {
		hold, latest = int64(t.cfg.LiveHold), logTime+future
	}
	runs := len(b.RunPackets) > 0
	for i, ref := range b.Flow {
		last, marks := b.Time[i], uint8(0)
		if runs {
			last += int64(b.RunSpan[i])
			marks = markRun
		}
		var clock int64
		if last > latest {
			marks |= markFuture
			clock = c.ahead(logTime)
		} else {
			clock = c.packet(last, logTime, hold)
		}
		at := &starts[t.workerAt[ref>>1]]
		j.rows[*at] = row{
			first: b.Time[i], clock: clock, bytes: b.WireLength[i], flow: t.place[ref>>1] ^ ref&1,
			shard: t.shardAt[ref>>1], index: uint16(i), flags: b.TCPFlags[i], marks: marks,
		}
		*at++
	}
	j.rowStarts.end()
	j.endClock = c.now
}

// routePrints sorts the fingerprints by worker, then by row, those without a row
// last.
func (t *Tracker) routePrints(j *job) {
	prints := j.b.Fingerprints
	starts := j.printStarts.begin(len(t.workers) + 1)
	j.prints = resize(j.prints, len(prints))
	if len(prints) == 0 {
		return
	}
	for i := range prints {
		starts[t.workerAt[prints[i].Flow]]++
	}
	j.printStarts.sum()
	for i := range prints {
		f := prints[i].Flow
		at := &starts[t.workerAt[f]]
		j.prints[*at] = print{index: uint32(i), flow: t.place[f] >> 1, row: prints[i].Row - 1, shard: t.shardAt[f]}
		*at++
	}
	j.printStarts.end()
	for w := range t.workers {
		from, to := j.printStarts.of(w)
		slices.SortStableFunc(j.prints[from:to], func(a, b print) int { return cmp.Compare(a.row, b.row) })
	}
}

// ranges says which part of something sorted belongs to which shard, or to which
// worker. It is made by a counting sort: begin, count, sum, then each count is the place of the
// next one and is moved on when it is filled, end.
type ranges []uint32

// begin returns n zero counts.
func (r *ranges) begin(n int) []uint32 {
	*r = resize(*r, n+1)
	clear(*r)
	return (*r)[:n]
}

// sum turns counts into starts.
func (r ranges) sum() {
	var sum uint32
	for i, n := range r {
		r[i] = sum
		sum += n
	}
}

// end turns the places behind the last ones into starts again.
func (r ranges) end() {
	copy(r[1:], r)
	r[0] = 0
}

// of returns the part of number i.
func (r ranges) of(i int) (from, to uint32) { return r[i], r[i+1] }

func (r ranges) empty(i int) bool { return r[i] == r[i+1] }
