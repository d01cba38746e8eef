package probe

import (
	"github.com/whorl-net/whorl/probe/decode"
	"github.com/whorl-net/whorl/probe/handshake"
)

// Totals say what a probe did, so far or in the end. In the end it holds that
// Packets = Reported + Undecodable + Untracked (without a Reporter, Reported
// counts the packets that would have been).
type Totals struct {
	// Packets and Bytes (on the wire) count everything read.
	Packets, Bytes uint64
	// Connections counts connections as they were first seen; 0 when no
	// fingerprints are wanted, since then no connection is kept.
	Connections uint64
	// Fingerprints counts events, equal ones included.
	Fingerprints uint64
	// Undecodable packets were malformed, cut short before their ports, or
	// fragments of datagrams that never were complete. Untracked ones belong
	// to no connection (ARP, IGMP …).
	Undecodable, Untracked uint64
	// Cut counts packets of which the capture kept less than there was on the
	// wire, because of its snap length: what they said is known in part, and
	// fingerprints may be missing.
	Cut uint64
	// TimesClamped counts packets captured before 1970 or beyond flow.MaxTime:
	// they count as captured then, since a batch holds no other times.
	TimesClamped uint64
	// LengthsRefused counts packets said to have been longer on the wire than
	// capture.MaxWire: they count as long as what was captured of them.
	LengthsRefused uint64
	// Panics counts packets that hit a bug of ours; they are in Undecodable.
	Panics uint64
	// Reported and ReportedBytes count the packets in rows of batches,
	// Batches the batches that the reporter took.
	Reported, ReportedBytes, Batches uint64

	// Decode and Handshake are the counters behind these.
	Decode    decode.Stats
	Handshake handshake.Stats
}

func (t *Totals) add(o Totals) {
	t.Packets += o.Packets
	t.Bytes += o.Bytes
	t.Connections += o.Connections
	t.Fingerprints += o.Fingerprints
	t.Undecodable += o.Undecodable
	t.Untracked += o.Untracked
	t.Cut += o.Cut
	t.TimesClamped += o.TimesClamped
	t.LengthsRefused += o.LengthsRefused
	t.Panics += o.Panics
	t.Reported += o.Reported
	t.ReportedBytes += o.ReportedBytes
	t.Batches += o.Batches
	t.Handshake.Add(&o.Handshake)
	addDecode(&t.Decode, &o.Decode)
}

func addDecode(t, o *decode.Stats) {
	t.Packets += o.Packets
	t.Bytes += o.Bytes
	for i, n := range o.Verdicts {
		t.Verdicts[i] += n
	}
	t.FragmentsWaiting += o.FragmentsWaiting
	t.FragmentsIncomplete += o.FragmentsIncomplete
	t.DatagramsComplete += o.DatagramsComplete
	t.DatagramsAged += o.DatagramsAged
	t.DatagramsEvicted += o.DatagramsEvicted
	t.DatagramsShredded += o.DatagramsShredded
	t.FragmentsOverlapping += o.FragmentsOverlapping
	if t.UnknownLink == 0 {
		t.UnknownLink = o.UnknownLink
	}
	t.DepthExceeded += o.DepthExceeded
	t.HeadersBroken += o.HeadersBroken
	t.HeadersCut += o.HeadersCut
}
