package numbered

import (
	"math/rand/v2"
	"time"

	"github.com/whorl-net/whorl/flow"
)

// Epoch is when traffic begins, 2026-01-01 in Unix nanoseconds.
const Epoch = int64(1_767_225_600_000_000_000)

// BatchRows is how many rows batches of Rows and Updates have: what a probe puts
// into 28 KiB, half a batch, when every packet is of another flow.
const BatchRows = 1500

// UDPFlow is flow number n over UDP; no two of 2^32 are equal.
func UDPFlow(n int) flow.Tuple {
	x := uint32(n) * 0x9e3779b1
	return flow.Tuple{
		Src: flow.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}), SrcPort: uint16(1024 + n%60000),
		Dst: flow.AddrFrom4([4]byte{198, 18, 0, 1}), DstPort: 443, Protocol: flow.UDP,
	}
}

// TCPFlow is flow number n over TCP.
func TCPFlow(n int) flow.Tuple {
	t := UDPFlow(n)
	t.Protocol = flow.TCP
	return t
}

// Rows says what batches to make without packets, for what lies behind a probe
// and wants flows by number, by the million: one packet from the source of each.
type Rows struct {
	// From and To bound the numbers of the flows; To is not among them. Only,
	// if not nil, chooses.
	From, To int
	Only     func(n int) bool
	// Of is the flow of a number.
	Of func(n int) flow.Tuple
	// Flags are the TCP flags of each.
	Flags uint8
	// At is the time of each; nil means Epoch.
	At func(n int) int64
}

// Batches returns the rows in batches.
func (r Rows) Batches() (all []*flow.Batch) {
	var b *flow.Batch
	for n := r.From; n < r.To; n++ {
		if r.Only != nil && !r.Only(n) {
			continue
		}
		if b == nil || b.Rows() == BatchRows {
			b = new(flow.Batch)
			all = append(all, b)
		}
		t := Epoch
		if r.At != nil {
			t = r.At(n)
		}
		b.AddPacket(b.AddFlow(r.Of(n)), false, t, 100, r.Flags)
	}
	return all
}

// Updates returns batches of about n packets on UDP flows 0 to flows - 1, chosen
// at random; about perFlow packets of a batch belong to one flow. Rows come from
// the source and from the destination in turn. They are a second after Epoch.
func Updates(r *rand.Rand, n, flows, perFlow int) (all []*flow.Batch) {
	for ; n > 0; n -= BatchRows {
		b := new(flow.Batch)
		for range BatchRows / perFlow {
			b.AddFlow(UDPFlow(r.IntN(flows)))
		}
		for row := range BatchRows {
			b.AddPacket(uint32(row%len(b.Flows)), row&1 == 1, Epoch+int64(time.Second), 100, 0)
		}
		all = append(all, b)
	}
	return all
}

// Packets counts the rows of batches.
func Packets(batches []*flow.Batch) (n int) {
	for _, b := range batches {
		n += b.Rows()
	}
	return n
}
