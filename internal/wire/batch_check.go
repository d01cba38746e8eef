package wire

import (
	"unicode/utf8"

	"github.com/whorl-net/whorl/flow"
)

// maxLost bounds the packets and the bytes of a Lost record, so that sums of
// them do not wrap.
const maxLost = 1 << 50

// maxReasonLen bounds Lost.Reason in bytes.
const maxReasonLen = 64

// CheckBatch says what is wrong with b: whatever DecodeBatch would refuse. Every
// error is a *MalformedError with the path in whorl.v1.Batch. A sequence of 0 is
// accepted: only a session has to number.
func CheckBatch(b *flow.Batch) error {
	if len(b.Flows) > flow.MaxBatchRows {
		return malformed("flows", "makes %d flows, at most %d", len(b.Flows), flow.MaxBatchRows)
	}
	if len(b.Fingerprints) > flow.MaxBatchFingerprints {
		return malformed("fingerprints", "has more than %d elements", flow.MaxBatchFingerprints)
	}
	if err := checkLengths(b); err != nil {
		return err
	}
	for i, t := range b.Time {
		if uint64(t) > flow.MaxTime {
			return malformed(at("packets.time_delta_ns", i), "leaves the years 1970 to 2116")
		}
	}
	if err := checkRows(b); err != nil {
		return err
	}
	if uint64(b.Watermark) > flow.MaxTime {
		return malformed("watermark", "is not a time from 1970 to 2116")
	}
	for i := range b.Fingerprints {
		if err := checkFingerprint(&b.Fingerprints[i], i); err != nil {
			return err
		}
	}
	if l := b.Lost; l != nil {
		if len(l.Reason) > maxReasonLen {
			return malformed("lost.reason", "has %d bytes, at most %d", len(l.Reason), maxReasonLen)
		}
		if !utf8.ValidString(l.Reason) {
			return malformed("lost.reason", badUTF8)
		}
	}
	return checkRest(b)
}

// checkFingerprint looks at what decodeFingerprint proves on its way.
func checkFingerprint(f *flow.Fingerprint, i int) error {
	if !f.Type.Valid() {
		return malformed(at("fingerprints", i)+".type", "%d is not a fingerprint type", f.Type)
	}
	for _, s := range [...]struct {
		num  int
		text string
		most int
	}{
		{4, f.Value, flow.MaxValueLen},
		{5, f.Raw, flow.MaxRawLen},
		{6, f.ServerName, flow.MaxServerNameLen},
	} {
		if !utf8.ValidString(s.text) {
			return malformed(at("fingerprints", i)+fingerprintText[s.num], badUTF8)
		}
		if len(s.text) > s.most {
			return tooLong(i, s.num, len(s.text), s.most)
		}
	}
	return nil
}

// checkLengths compares the columns with the first of them.
func checkLengths(b *flow.Batch) error {
	rows := len(b.Flow)
	if rows > flow.MaxBatchRows {
		return malformed("packets.flow", "has more than %d rows", flow.MaxBatchRows)
	}
	for _, c := range [...]struct {
		name     string
		n        int
		optional bool
	}{
		{"packets.time_delta_ns", len(b.Time), false},
		{"packets.wire_length", len(b.WireLength), false},
		{"packets.tcp_flags", len(b.TCPFlags), false},
		{"packets.run_packets", len(b.RunPackets), true},
		{"packets.run_span_ns", len(b.RunSpan), true},
	} {
		if c.n != rows && !(c.optional && c.n == 0) {
			return malformed(c.name, "has %d rows where packets.flow has %d", c.n, rows)
		}
	}
	if len(b.RunPackets) != len(b.RunSpan) {
		return malformed("packets.run_span_ns", "has %d rows where packets.run_packets has %d",
			len(b.RunSpan), len(b.RunPackets))
	}
	return nil
}

// checkRows looks at references and runs. Lengths and times are checked before.
func checkRows(b *flow.Batch) error {
	// One maximum is cheaper than a comparison with a way out in each turn.
	var most uint32
	for _, ref := range b.Flow {
		most = max(most, ref>>1)
	}
	if int(most) >= len(b.Flows) && len(b.Flow) > 0 {
		for i, ref := range b.Flow {
			if int(ref>>1) >= len(b.Flows) {
				return malformed(at("packets.flow", i), "refers to flow %d of %d", ref>>1, len(b.Flows))
			}
		}
	}
	for i, n := range b.RunPackets {
		if n == 0 {
			return malformed(at("packets.run_packets", i), "is 0")
		}
	}
	for i, span := range b.RunSpan {
		if span > uint64(flow.MaxTime-b.Time[i]) {
			return malformed(at("packets.run_span_ns", i), "leaves the years 1970 to 2116")
		}
	}
	return nil
}

// checkRest looks at what refers to the rows, and at the whole.
func checkRest(b *flow.Batch) error {
	for i := range b.Fingerprints {
		f := &b.Fingerprints[i]
		switch {
		case int(f.Flow) >= len(b.Flows):
			return malformed(at("fingerprints", i)+".flow", "refers to flow %d of %d", f.Flow, len(b.Flows))
		case int(f.Row) > len(b.Flow):
			return malformed(at("fingerprints", i)+".row", "refers to row %d of %d", f.Row, len(b.Flow))
		case f.Row > 0 && b.Flow[f.Row-1]>>1 != f.Flow:
			return malformed(at("fingerprints", i)+".row", "is a row of flow %d, not of flow %d", b.Flow[f.Row-1]>>1, f.Flow)
		case f.Value == "":
			return malformed(at("fingerprints", i)+".value", "is empty")
		}
	}
	l := b.Lost
	if l == nil {
		return nil
	}
	switch {
	case len(b.Flow) > 0 || len(b.Fingerprints) > 0:
		return malformed("lost", "stands beside %d rows and %d fingerprints", len(b.Flow), len(b.Fingerprints))
	case l.FirstSequence == 0:
		return malformed("lost.first_sequence", "is 0")
	case l.Packets > maxLost || l.Bytes > maxLost:
		return malformed("lost", "%d packets and %d bytes are more than %d", l.Packets, l.Bytes, uint64(maxLost))
	case l.LastSequence < l.FirstSequence:
		return malformed("lost.last_sequence", "%d is before first_sequence %d", l.LastSequence, l.FirstSequence)
	}
	return nil
}
