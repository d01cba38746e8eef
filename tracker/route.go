package tracker

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/zeebo/xxh3"
)

// labelSecret returns the secret for the keys of a network.
func (t *Tracker) labelSecret(network string) secret {
	return newSecret(xxh3.HashStringSeed(network, t.cfg.HashSeed))
}

// shardOf returns the shard of key k. The result depends on nothing but key,
// label, HashSeed and the number of shards.
func (t *Tracker) shardOf(k *keyIn, label *secret) uint32 {
	of := *k
	of.ends &= keyEnds // the number of a network is not for good
	hi, _ := bits.Mul64(label.hash(&of), uint64(len(t.shards)))
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

// route fills in j for a batch that checkBatch has passed. A single worker takes
// all of it from the batch as it is: whoever hashes a flow should be the one who
// looks it up, and what passes from one processor's cache to another's costs more
// than the work.
func (t *Tracker) route(j *job, logTime int64, o Origin, b *flow.Batch) {
	j.b, j.origin, j.network = b, o.pair, j.names.pairs[o.pair].network
	j.label = t.labelSecret(j.names.networks[j.network])
	t.routeClock(j, logTime, o.live)
	j.sortPrints()
	if len(t.workers) > 1 {
		t.routeRows(j)
	}
}

// routeRows lists for each worker its flows and its rows.
func (t *Tracker) routeRows(j *job) {
	for len(j.flowAt) < len(t.workers) {
		j.flowAt, j.rowAt = append(j.flowAt, nil), append(j.rowAt, nil)
	}
	for w := range t.workers {
		j.flowAt[w], j.rowAt[w] = j.flowAt[w][:0], j.rowAt[w][:0]
	}
	flows := j.b.Flows
	j.shardAt = resize(j.shardAt, len(flows))
	var k keyIn
	for i := range flows {
		k.putTuple(&flows[i], 0)
		shard := t.shardOf(&k, &j.label)
		w := t.shards[shard].worker.id
		j.shardAt[i] = uint16(shard)
		j.flowAt[w] = append(j.flowAt[w], uint16(i))
	}
	for i, ref := range j.b.Flow {
		w := t.shards[j.shardAt[ref>>1]].worker.id
		j.rowAt[w] = append(j.rowAt[w], uint16(i))
	}
}

// routeClock moves the network's clock through the rows. Where their times rise,
// as they mostly do, a worker can tell the clock at a row by the time of the row.
func (t *Tracker) routeClock(j *job, logTime int64, live bool) {
	b, c := j.b, &t.clocks[j.network]
	hold, latest := int64(t.cfg.ReplayHold), int64(maxTime)
	if live {
		hold, latest = int64(t.cfg.LiveHold), logTime+future
	}
	j.floor, j.latest, j.rowClocks = c.reach(logTime), latest, j.rowClocks[:0]
	n, runs := len(b.Time), len(b.RunPackets) > 0
	switch {
	case n == 0:
	case !runs && b.Time[n-1] <= latest && slices.IsSorted(b.Time):
		c.packet(b.Time[n-1], logTime, hold)
	default:
		j.rowClocks = resize(j.rowClocks, n)
		for i, last := range b.Time {
			if runs {
				last += int64(b.RunSpan[i])
			}
			if last > latest {
				j.rowClocks[i] = c.ahead(logTime)
			} else {
				j.rowClocks[i] = c.packet(last, logTime, hold)
			}
		}
	}
	j.endClock = c.now
}

// sortPrints lists the fingerprints by row, those without a row last.
func (j *job) sortPrints() {
	prints := j.b.Fingerprints
	j.prints = resize(j.prints, len(prints))
	sorted, last := true, uint32(0)
	for i := range prints {
		row := prints[i].Row - 1 // noRow if there is none
		j.prints[i] = print{index: uint32(i), row: row}
		sorted, last = sorted && row >= last, row
	}
	if !sorted {
		slices.SortStableFunc(j.prints, func(a, b print) int { return cmp.Compare(a.row, b.row) })
	}
}
