package tracker

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/zeebo/xxh3"
)

// keyBytes is the size of a key as it is hashed; the network label follows.
const (
	keyBytes = 16 + 16 + 2 + 2 + 1
	maxLabel = flow.MaxNetworkLen
)

// shardOf returns the shard of key k. buf has keyBytes of room, then the label
// of the network. The result depends on nothing but key, label, HashSeed and
// the number of shards.
func (t *Tracker) shardOf(k *flow.Key, buf []byte) uint32 {
	copy(buf[0:], k.A[:])
	copy(buf[16:], k.B[:])
	binary.BigEndian.PutUint16(buf[32:], k.APort)
	binary.BigEndian.PutUint16(buf[34:], k.BPort)
	buf[36] = byte(k.Protocol)
	hi, _ := bits.Mul64(xxh3.HashSeed(buf, t.cfg.HashSeed), uint64(len(t.shards)))
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

// route fills in j for a batch that checkBatch has passed: flows and rows by
// shard, with the network's clock at each row, and fingerprints. It hashes each
// flow once. Copying rows into the order in which a worker reads them costs 5 ns
// each, and saves it the cache misses of picking them out of the batch.
func (t *Tracker) route(j *job, logTime int64, o Origin, b *flow.Batch) {
	j.b, j.origin, j.network = b, o.pair, j.names.pairs[o.pair].network
	t.routeFlows(j)
	t.routeRows(j, logTime, o.live)
	t.routePrints(j)
}

// routeFlows sorts the flows by shard: a counting sort, which keeps their
// order. t.place tells where each went.
func (t *Tracker) routeFlows(j *job) {
	flows := j.b.Flows
	t.buf = append(t.buf[:keyBytes], j.names.networks[j.network]...)
	t.place = resize(t.place, len(flows))
	t.unsorted = resize(t.unsorted, len(flows))
	starts := j.flowStarts.begin(len(t.shards))
	for i := range flows {
		f := &t.unsorted[i]
		f.setKey(&flows[i])
		f.shard = t.shardOf(&f.key, t.buf)
		starts[f.shard]++
	}
	j.flowStarts.sum()
	j.flows = resize(j.flows, len(flows))
	for i := range flows {
		f := &t.unsorted[i]
		at := starts[f.shard]
		starts[f.shard]++
		t.place[i] = at
		j.flows[at] = *f
	}
	j.flowStarts.end()
}

// setKey is flow.Tuple.Key, written in place.
func (f *routed) setKey(tu *flow.Tuple) {
	k := &f.key
	k.Protocol = tu.Protocol
	hiS, hiD := binary.BigEndian.Uint64(tu.Src[:]), binary.BigEndian.Uint64(tu.Dst[:])
	loS, loD := binary.BigEndian.Uint64(tu.Src[8:]), binary.BigEndian.Uint64(tu.Dst[8:])
	if hiS < hiD || hiS == hiD && (loS < loD || loS == loD && tu.SrcPort <= tu.DstPort) {
		k.A, k.B, k.APort, k.BPort = tu.Src, tu.Dst, tu.SrcPort, tu.DstPort
		f.turned = 0
		return
	}
	k.A, k.B, k.APort, k.BPort = tu.Dst, tu.Src, tu.DstPort, tu.SrcPort
	f.turned = 1
}

// routeRows sorts the rows by shard and moves the network's clock through them
// in the order of the batch.
func (t *Tracker) routeRows(j *job, logTime int64, live bool) {
	b := j.b
	c := &t.clocks[j.network]
	hold := int64(t.cfg.ReplayHold)
	latest := int64(maxTime)
	if live {
		hold = int64(t.cfg.LiveHold)
		latest = logTime + future
	}
	c.reach(logTime)
	starts := j.rowStarts.begin(len(t.shards))
	for _, ref := range b.Flow {
		starts[j.flows[t.place[ref>>1]].shard]++
	}
	j.rowStarts.sum()
	j.rows = resize(j.rows, len(b.Flow))
	for i, ref := range b.Flow {
		place := t.place[ref>>1]
		f := &j.flows[place]
		r := &j.rows[starts[f.shard]]
		starts[f.shard]++
		*r = row{
			first: b.Time[i], last: b.Time[i], packets: 1, bytes: b.WireLength[i], flags: b.TCPFlags[i],
			flow: place, side: uint8(ref&1 ^ f.turned), index: uint16(i),
		}
		if len(b.RunPackets) > 0 {
			r.packets = b.RunPackets[i]
			r.last += int64(b.RunSpan[i])
		}
		if r.last > latest {
			r.future = true
			r.clock = c.ahead(logTime)
			continue
		}
		r.clock = c.packet(r.last, logTime, hold)
	}
	j.rowStarts.end()
	j.endClock = c.now
}

// routePrints sorts the fingerprints by shard, then by row, those without a row
// last.
func (t *Tracker) routePrints(j *job) {
	prints := j.b.Fingerprints
	starts := j.printStarts.begin(len(t.shards))
	j.prints = resize(j.prints, len(prints))
	if len(prints) == 0 {
		return
	}
	for i := range prints {
		starts[j.flows[t.place[prints[i].Flow]].shard]++
		j.prints[i] = print{index: uint32(i), flow: t.place[prints[i].Flow], row: prints[i].Row - 1}
	}
	j.printStarts.sum()
	for i := range prints { // as far as sum goes, starts are right already
		starts[j.flows[j.prints[i].flow].shard]++
	}
	j.printStarts.end()
	slices.SortStableFunc(j.prints, func(a, b print) int {
		return cmp.Or(cmp.Compare(j.flows[a.flow].shard, j.flows[b.flow].shard), cmp.Compare(a.row, b.row))
	})
}

// ranges says which part of something sorted belongs to which shard. It is made
// by a counting sort: begin, count, sum, then each count is the place of the
// next one and is moved on when it is filled, end.
type ranges []uint32

// begin returns the zero counts of n shards.
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

// of returns the part of shard i.
func (r ranges) of(i int) (from, to uint32) { return r[i], r[i+1] }

func (r ranges) empty(i int) bool { return r[i] == r[i+1] }
