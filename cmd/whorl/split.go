package main

import (
	"context"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
)

// splitter is a probe.Reporter that cuts batches into smaller ones on their way
// to another. What they say together is the same.
type splitter struct {
	to   probe.Reporter
	rows int // at most, in a batch
	part flow.Batch
	// index is 1 + the place in part of each flow of the batch, 0 for none.
	index []uint32
}

// Report passes b on in parts of at most rows rows.
func (s *splitter) Report(ctx context.Context, b *flow.Batch) error {
	if b.Rows() <= s.rows {
		return s.to.Report(ctx, b)
	}
	fingerprints := b.Fingerprints
	for from := 0; from < b.Rows(); from += s.rows {
		to := min(from+s.rows, b.Rows())
		s.begin(b, from, to)
		last := to == b.Rows()
		for i := range fingerprints {
			f := fingerprints[i]
			switch row := int(f.Row); {
			case row > from && row <= to:
				f.Row -= uint32(from)
			case row != 0 || !last: // of another part
				continue
			}
			f.Flow = s.flow(b, f.Flow)
			s.part.Fingerprints = append(s.part.Fingerprints, f)
		}
		if last { // only then is everything before it reported
			s.part.Watermark = b.Watermark
		}
		if err := s.to.Report(ctx, &s.part); err != nil {
			return err
		}
	}
	return nil
}

// begin makes a part of some rows of b.
func (s *splitter) begin(b *flow.Batch, from, to int) {
	s.part.Reset()
	s.index = append(s.index[:0], make([]uint32, len(b.Flows))...)
	for row := from; row < to; row++ {
		ref := b.Flow[row]
		s.part.AddPacket(s.flow(b, ref>>1), ref&1 == 1, b.Time[row], b.WireLength[row], b.TCPFlags[row])
		if len(b.RunPackets) > 0 {
			s.part.RunPackets = append(s.part.RunPackets, b.RunPackets[row])
			s.part.RunSpan = append(s.part.RunSpan, b.RunSpan[row])
		}
	}
}

// flow returns the place of a flow of b in the part, which gets it if it has it
// not.
func (s *splitter) flow(b *flow.Batch, i uint32) uint32 {
	if s.index[i] == 0 {
		s.index[i] = 1 + s.part.AddFlow(b.Flows[i])
	}
	return s.index[i] - 1
}
