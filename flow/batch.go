package flow

import "github.com/whorl-net/whorl/ja4"

// Limits of a Batch. A batch beyond them is malformed.
const (
	// MaxBatchRows bounds the rows, so also the flows, of one batch.
	MaxBatchRows = 65536
	// MaxBatchFingerprints bounds the fingerprints of one batch.
	MaxBatchFingerprints = 16384
	// MaxValueLen and MaxRawLen bound a fingerprint value and its raw form,
	// MaxServerNameLen a server name, in bytes.
	MaxValueLen      = 255
	MaxRawLen        = 8192
	MaxServerNameLen = 255
	// MaxTime is the greatest time in a batch, Unix nanoseconds in the year
	// 2116; the least is 0. Timeouts and ages can be added to such times
	// without overflow.
	MaxTime = 1<<62 - 1
)

// TCP flags as in the header (RFC 9293 section 3.1).
const (
	FIN uint8 = 0x01
	SYN uint8 = 0x02
	RST uint8 = 0x04
	PSH uint8 = 0x08
	ACK uint8 = 0x10
)

// Batch is what a probe saw in a short time: flows, each once, and columns of
// equal length with one row per packet (or per run of packets of one flow and
// direction, when the probe coalesces). It refers to nothing outside itself.
// The zero Batch is empty and ready for use. Not safe for concurrent use.
type Batch struct {
	// Sequence numbers the batches of a session from 1 without holes.
	Sequence uint64
	// Flows are the tuples of this batch; Src is the sender of the first
	// packet the probe saw of that flow, or the client when the probe knows.
	Flows []Tuple

	// Flow refers to Flows: 2*index, plus 1 when Flows[index].Dst sent it.
	Flow []uint32
	// Time is the capture time, nanoseconds since the Unix epoch, UTC. Of a
	// run: of its first packet.
	Time []int64
	// WireLength is in bytes, link header included, even if the capture was
	// cut short. Of a run: the sum.
	WireLength []uint32
	// TCPFlags is 0 when the protocol is not TCP. Of a run: the OR.
	TCPFlags []uint8
	// RunPackets and RunSpan (nanoseconds from the first to the last packet)
	// are both empty unless the probe coalesces.
	RunPackets []uint32
	RunSpan    []uint64

	Fingerprints []Fingerprint

	// Watermark: everything captured before this time (Unix nanoseconds) is
	// in this batch or an earlier one. 0 when unknown.
	Watermark int64
	// Lost, when not nil, says that this batch stands for others that the
	// probe had to give up; it then has no rows.
	Lost *Lost
}

// Fingerprint is one fingerprint event of a batch.
type Fingerprint struct {
	// Flow is an index into Batch.Flows (no direction bit).
	Flow uint32
	// Row is 1 + the row of the packet that completed it, 0 when no packet of
	// the batch did (a window closed by time).
	Row uint32
	ja4.Event
}

// Lost stands for batches that a probe could not keep.
type Lost struct {
	FirstSequence, LastSequence uint64
	Packets, Bytes              uint64
	// Reason is one of "ring-full", "spool-full", "shutdown".
	Reason string
}

// Reset empties b and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Fingerprints) // let go of the strings
	*b = Batch{
		Flows: b.Flows[:0], Flow: b.Flow[:0], Time: b.Time[:0], WireLength: b.WireLength[:0],
		TCPFlags: b.TCPFlags[:0], RunPackets: b.RunPackets[:0], RunSpan: b.RunSpan[:0],
		Fingerprints: b.Fingerprints[:0],
	}
}

// Rows returns the number of rows.
func (b *Batch) Rows() int { return len(b.Flow) }

// AddFlow appends t and returns its index. The caller sees to it that no flow
// is there twice; twice is legal, only larger.
func (b *Batch) AddFlow(t Tuple) uint32 {
	b.Flows = append(b.Flows, t)
	return uint32(len(b.Flows) - 1)
}

// AddPacket appends one row. flow is an index from AddFlow; fromDst says that
// the flow's Dst sent the packet. It must not be mixed with runs.
func (b *Batch) AddPacket(flow uint32, fromDst bool, time int64, wireLength uint32, tcpFlags uint8) {
	ref := flow << 1
	if fromDst {
		ref |= 1
	}
	b.Flow = append(b.Flow, ref)
	b.Time = append(b.Time, time)
	b.WireLength = append(b.WireLength, wireLength)
	b.TCPFlags = append(b.TCPFlags, tcpFlags)
}

// Packets returns the number of packets the batch stands for and the sum of
// their wire lengths. It walks the columns.
func (b *Batch) Packets() (packets, bytes uint64) {
	packets = uint64(len(b.Flow))
	if len(b.RunPackets) > 0 {
		packets = 0
		for _, n := range b.RunPackets {
			packets += uint64(n)
		}
	}
	for _, n := range b.WireLength {
		bytes += uint64(n)
	}
	return packets, bytes
}
