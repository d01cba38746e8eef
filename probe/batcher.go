package probe

import (
	"math"
	"math/bits"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/decode"
	"github.com/whorl-net/whorl/probe/handshake"
)

// Where a batch is cut. The estimate of its encoded size is never too small,
// and about twice what mixed traffic comes to. Larger batches have fewer flows
// per row, so they take fewer bytes and less work on both sides: against 28 KiB
// and 4,000 rows, mixed traffic was measured at 9.2 instead of 10.7 bytes per
// packet and a quarter less CPU in the collector; 100 KiB brought no more.
const (
	maxRows       = 8000
	maxBatchBytes = 60 << 10
	// An event that would go beyond this goes to the next batch.
	hardBatchBytes = 63 << 10
	fixedBytes     = 128 // everything but flows, rows and fingerprints
)

// A batcher fills one flow.Batch. The flow of a packet knows its index in the
// batch by its handshake.Mark, so no flow is looked up a second time. Without
// handshakes it is looked up in an index of the batch.
type batcher struct {
	batch    flow.Batch
	number   uint32     // of the batch, in marks; from 1
	index    *flowIndex // nil with marks
	bytes    int        // estimate of the encoded size
	lastTime int64

	window int64      // for runs, in nanoseconds; 0 means none
	open   [][2]int32 // by flow and direction: 1 + the row of the open run
}

// full reports whether the batch is to be cut before the next packet.
func (b *batcher) full() bool { return b.bytes >= maxBatchBytes || b.batch.Rows() >= maxRows }

func (b *batcher) empty() bool { return len(b.batch.Flows) == 0 }

// next begins the next batch.
func (b *batcher) next() {
	b.batch.Reset()
	b.number++
	if b.number == 0 { // what an unmarked flow has
		b.number++
	}
	b.bytes = fixedBytes
	b.lastTime = 0
	b.open = b.open[:0]
	if b.index != nil {
		b.index.reset()
	}
}

// flow returns the index of p's flow in the batch, and whether the flow's Dst
// sent p. A flow that is not in the batch yet is added, client first.
func (b *batcher) flow(p *decode.Packet, r *handshake.Result) (index uint32, fromDst bool) {
	if r.Mark.Batch != b.number {
		t, srcSide := p.Tuple, r.Side
		if !r.FromClient {
			t, srcSide = t.Reverse(), 1-srcSide
		}
		r.Mark.Batch = b.number
		r.Mark.Index = b.addFlow(&t)<<1 | uint32(srcSide)
	}
	return r.Mark.Index >> 1, uint32(r.Side) != r.Mark.Index&1
}

func (b *batcher) addFlow(t *flow.Tuple) uint32 {
	b.bytes += 13
	if !t.Src.Is4() || !t.Dst.Is4() {
		b.bytes += 24
	}
	if b.window > 0 {
		b.open = append(b.open, [2]int32{})
	}
	return b.batch.AddFlow(*t)
}

// packet adds the rows of p: one for each fragment that it brings along, then
// its own. It returns the flow's index and 1 + the row of p itself.
func (b *batcher) packet(p *decode.Packet, r *handshake.Result) (index, row uint32) {
	index, fromDst := b.flow(p, r)
	return index, b.rows(p, index, fromDst)
}

// count is packet where nothing is known of flows but what is in the batch.
func (b *batcher) count(p *decode.Packet) {
	index, fromDst, known := b.index.find(&p.Tuple, b.batch.Flows)
	if !known {
		b.addFlow(&p.Tuple)
	}
	b.rows(p, index, fromDst)
}

// rows adds the rows of p, and returns 1 + that of p itself.
func (b *batcher) rows(p *decode.Packet, index uint32, fromDst bool) uint32 {
	for i := range p.Held {
		h := &p.Held[i]
		b.row(index, fromDst, h.Time, h.WireLength, 0)
	}
	return 1 + b.row(index, fromDst, p.Time, p.WireLength, p.TCPFlags)
}

// row adds a packet and returns its row.
func (b *batcher) row(index uint32, fromDst bool, time int64, wireLength uint32, flags uint8) uint32 {
	direction := 0
	if fromDst {
		direction = 1
	}
	if b.window > 0 {
		if row := b.merge(&b.open[index][direction], time, wireLength, flags); row > 0 {
			return uint32(row - 1)
		}
		b.batch.RunPackets = append(b.batch.RunPackets, 1)
		b.batch.RunSpan = append(b.batch.RunSpan, 0)
		b.bytes += 2 + varintBytes(uint64(b.window)) // as much as the run may come to
	}
	if b.batch.Rows() == 0 {
		b.lastTime = time
	}
	delta := time - b.lastTime
	b.lastTime = time
	// A reference takes two bytes, with at most maxRows flows, and the flags one.
	b.bytes += 3 + varintBytes(uint64(delta)<<1^uint64(delta>>63)) + varintBytes(uint64(wireLength))
	b.batch.AddPacket(index, fromDst, time, wireLength, flags)
	row := uint32(b.batch.Rows() - 1)
	if b.window > 0 && flags&(flow.SYN|flow.FIN|flow.RST) == 0 {
		b.open[index][direction] = int32(row) + 1
	}
	return row
}

// merge adds a packet to the run of row *open - 1 and returns *open, or closes
// that run and returns 0.
func (b *batcher) merge(open *int32, time int64, wireLength uint32, flags uint8) int32 {
	if *open == 0 {
		return 0
	}
	row := *open - 1
	span := time - b.batch.Time[row]
	sum := uint64(b.batch.WireLength[row]) + uint64(wireLength)
	if flags&(flow.SYN|flow.FIN|flow.RST) != 0 || span < 0 || span > b.window || sum > math.MaxInt32 {
		*open = 0
		return 0
	}
	b.bytes += varintBytes(sum) - varintBytes(uint64(b.batch.WireLength[row]))
	b.batch.WireLength[row] = uint32(sum)
	b.batch.TCPFlags[row] |= flags
	b.bytes += varintBytes(uint64(b.batch.RunPackets[row]+1)) - varintBytes(uint64(b.batch.RunPackets[row]))
	b.batch.RunPackets[row]++
	b.batch.RunSpan[row] = max(b.batch.RunSpan[row], uint64(span))
	return *open
}

// fits reports whether e still has room in the batch.
func (b *batcher) fits(e *handshake.Event) bool {
	return b.empty() || b.bytes+eventBytes(e) <= hardBatchBytes
}

// event adds a fingerprint of a flow; row is 1 + the row that completed it, or
// 0.
func (b *batcher) event(index, row uint32, e *handshake.Event) {
	b.bytes += eventBytes(e)
	b.batch.Fingerprints = append(b.batch.Fingerprints, flow.Fingerprint{Flow: index, Row: row, Event: e.Event})
}

// endEvent adds a fingerprint of a connection that has ended. It belongs to the
// newest packet of the connection; placed is false when that is in no batch that
// is still to be reported.
func (b *batcher) endEvent(e *handshake.EndEvent) (placed bool) {
	index, row := e.Mark.Index>>1, uint32(0)
	if e.Mark.Batch != b.number {
		index = b.addFlow(&e.Tuple)
	} else {
		row = b.lastRow(index)
	}
	b.event(index, row, &e.Event)
	return row > 0
}

// lastRow returns 1 + the last row of a flow, 0 if it has none. It looks at rows
// from the end; few connections need it, once.
func (b *batcher) lastRow(index uint32) uint32 {
	for i := len(b.batch.Flow); i > 0; i-- {
		if b.batch.Flow[i-1]>>1 == index {
			return uint32(i)
		}
	}
	return 0
}

// eventBytes is what e takes on the wire, its flow included.
func eventBytes(e *handshake.Event) int {
	return len(e.Value) + len(e.Raw) + len(e.ServerName) + 24 + 37
}

func varintBytes(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
