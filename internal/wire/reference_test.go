package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// The reference: the same translations by way of the generated messages, slow
// and plain.

func timestampOf(t int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(0, t)) }

// messageOf says what AppendBatch is to say, without shapes and likes.
func messageOf(b *flow.Batch) *whorlv1.Batch {
	m := &whorlv1.Batch{Sequence: b.Sequence}
	index := make([]uint32, len(b.Flows))
	n := uint32(0)
	for _, want4 := range []bool{true, false} {
		for i, t := range b.Flows {
			if (t.Src.Is4() && t.Dst.Is4()) != want4 {
				continue
			}
			index[i] = n
			n++
			ports := []byte{byte(t.SrcPort >> 8), byte(t.SrcPort), byte(t.DstPort >> 8), byte(t.DstPort), byte(t.Protocol)}
			if want4 {
				m.Ipv4Flows = append(append(append(m.Ipv4Flows, t.Src[12:]...), t.Dst[12:]...), ports...)
			} else {
				m.Ipv6Flows = append(append(append(m.Ipv6Flows, t.Src[:]...), t.Dst[:]...), ports...)
			}
		}
	}
	if len(b.Time) > 0 {
		m.BaseTime = timestampOf(b.Time[0])
		p := &whorlv1.Packets{WireLength: b.WireLength, TcpFlags: b.TCPFlags, RunPackets: b.RunPackets, RunSpanNs: b.RunSpan}
		last := b.Time[0]
		for i := range b.Flow {
			p.Flow = append(p.Flow, index[b.Flow[i]>>1]<<1|b.Flow[i]&1)
			p.TimeDeltaNs = append(p.TimeDeltaNs, b.Time[i]-last)
			last = b.Time[i]
		}
		m.Packets = p
	}
	for _, f := range b.Fingerprints {
		m.Fingerprints = append(m.Fingerprints, &whorlv1.FingerprintObservation{
			Flow: index[f.Flow], Row: f.Row, Type: whorlv1.FingerprintType(f.Type),
			Value: f.Value, Raw: f.Raw, ServerName: f.ServerName,
		})
	}
	if b.Watermark != 0 {
		m.Watermark = timestampOf(b.Watermark)
	}
	if l := b.Lost; l != nil {
		m.Lost = &whorlv1.Lost{FirstSequence: l.FirstSequence, LastSequence: l.LastSequence,
			Packets: l.Packets, Bytes: l.Bytes, Reason: l.Reason}
	}
	return m
}

var errReference = errors.New("malformed")

// batchOf is what DecodeBatch is to read.
func batchOf(p []byte) (*flow.Batch, error) {
	m := new(whorlv1.Batch)
	if err := proto.Unmarshal(p, m); err != nil {
		return nil, err
	}
	b := &flow.Batch{Sequence: m.GetSequence()}
	v4, v6 := m.GetIpv4Flows(), m.GetIpv6Flows()
	if len(v4)%13 != 0 || len(v6)%37 != 0 || len(v4)/13+len(v6)/37 > flow.MaxBatchRows {
		return nil, errReference
	}
	ports := func(t flow.Tuple, p []byte) flow.Tuple {
		t.SrcPort, t.DstPort = uint16(p[0])<<8|uint16(p[1]), uint16(p[2])<<8|uint16(p[3])
		t.Protocol = flow.Protocol(p[4])
		return t
	}
	for ; len(v4) > 0; v4 = v4[13:] {
		b.AddFlow(ports(flow.Tuple{Src: flow.AddrFrom4([4]byte(v4)), Dst: flow.AddrFrom4([4]byte(v4[4:]))}, v4[8:]))
	}
	for ; len(v6) > 0; v6 = v6[37:] {
		b.AddFlow(ports(flow.Tuple{Src: flow.Addr(v6[:16]), Dst: flow.Addr(v6[16:32])}, v6[32:]))
	}
	when := func(t *timestamppb.Timestamp) (int64, bool) {
		if t == nil {
			return 0, true
		}
		ns := t.AsTime().UnixNano()
		return ns, t.IsValid() && t.GetSeconds() >= 0 && t.GetSeconds() < 1<<33 && ns >= 0 && ns <= flow.MaxTime
	}
	at, ok := when(m.GetBaseTime())
	if !ok {
		return nil, errReference
	}
	pk := m.GetPackets()
	rows := len(pk.GetFlow())
	if len(pk.GetShape()) > 0 {
		if len(pk.GetWireLength()) > 0 || len(pk.GetTcpFlags()) > 0 || len(pk.GetShape()) > flow.MaxBatchRows || len(pk.GetShapeLength()) > flow.MaxBatchRows {
			return nil, errReference
		}
		if n := len(pk.GetShapeFlags()); n != 0 && n != len(pk.GetShapeLength()) {
			return nil, errReference
		}
		for _, shape := range pk.GetShape() {
			if int(shape) >= len(pk.GetShapeLength()) {
				return nil, errReference
			}
			pk.WireLength = append(pk.WireLength, pk.GetShapeLength()[shape])
			flags := byte(0)
			if len(pk.GetShapeFlags()) > 0 {
				flags = pk.GetShapeFlags()[shape]
			}
			pk.TcpFlags = append(pk.TcpFlags, flags)
		}
	} else if len(pk.GetShapeLength()) > flow.MaxBatchRows {
		return nil, errReference
	} else if len(pk.GetTcpFlags()) == 0 && len(pk.GetWireLength()) > 0 {
		pk.TcpFlags = make([]byte, len(pk.GetWireLength()))
	}
	if rows > flow.MaxBatchRows || len(pk.GetTimeDeltaNs()) != rows || len(pk.GetWireLength()) != rows || len(pk.GetTcpFlags()) != rows {
		return nil, errReference
	}
	if n := len(pk.GetRunPackets()); n != len(pk.GetRunSpanNs()) || n != 0 && n != rows {
		return nil, errReference
	}
	for i := range rows {
		d := pk.GetTimeDeltaNs()[i]
		if d > 0 && at > flow.MaxTime-d || d < 0 && at < -d || d == -1<<63 {
			return nil, errReference
		}
		at += d
		if int(pk.GetFlow()[i]>>1) >= len(b.Flows) {
			return nil, errReference
		}
		b.AddPacket(pk.GetFlow()[i]>>1, pk.GetFlow()[i]&1 == 1, at, pk.GetWireLength()[i], pk.GetTcpFlags()[i])
		if len(pk.GetRunPackets()) > 0 {
			if pk.GetRunPackets()[i] == 0 || pk.GetRunSpanNs()[i] > uint64(flow.MaxTime-at) {
				return nil, errReference
			}
			b.RunPackets = append(b.RunPackets, pk.GetRunPackets()[i])
			b.RunSpan = append(b.RunSpan, pk.GetRunSpanNs()[i])
		}
	}
	if b.Watermark, ok = when(m.GetWatermark()); !ok {
		return nil, errReference
	}
	if len(m.GetFingerprints()) > flow.MaxBatchFingerprints {
		return nil, errReference
	}
	for i, f := range m.GetFingerprints() {
		if like := f.GetLike(); like > 0 {
			if f.GetType() != 0 || f.GetValue() != "" || f.GetRaw() != "" || int(like) > i {
				return nil, errReference
			}
			same := m.GetFingerprints()[like-1]
			f.Type, f.Value, f.Raw = same.GetType(), same.GetValue(), same.GetRaw()
		}
		if f.GetType() <= 0 || f.GetType() >= whorlv1.FingerprintType(ja4.NumTypes) || f.GetValue() == "" ||
			len(f.GetValue()) > flow.MaxValueLen || len(f.GetRaw()) > flow.MaxRawLen ||
			len(f.GetServerName()) > flow.MaxServerNameLen || int(f.GetFlow()) >= len(b.Flows) ||
			int(f.GetRow()) > rows || f.GetRow() > 0 && b.Flow[f.GetRow()-1]>>1 != f.GetFlow() {
			return nil, errReference
		}
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Flow: f.GetFlow(), Row: f.GetRow(), Event: ja4.Event{
			Type: ja4.Type(f.GetType()), Value: f.GetValue(), Raw: f.GetRaw(), ServerName: f.GetServerName()}})
	}
	if l := m.GetLost(); l != nil {
		if rows > 0 || len(b.Fingerprints) > 0 || l.GetFirstSequence() == 0 ||
			l.GetLastSequence() < l.GetFirstSequence() || len(l.GetReason()) > 64 ||
			l.GetPackets() > 1<<50 || l.GetBytes() > 1<<50 {
			return nil, errReference
		}
		b.Lost = &flow.Lost{FirstSequence: l.GetFirstSequence(), LastSequence: l.GetLastSequence(),
			Packets: l.GetPackets(), Bytes: l.GetBytes(), Reason: l.GetReason()}
	}
	return b, nil
}

// randomBatch makes a valid batch. With sorted, IPv4 flows come first.
func randomBatch(r *rand.Rand, rows int, sorted bool) *flow.Batch {
	b := &flow.Batch{Sequence: r.Uint64()}
	flows := 1 + r.IntN(1+rows/4)
	for i := range flows {
		t := flow.Tuple{SrcPort: uint16(r.Uint32()), DstPort: 443, Protocol: flow.TCP}
		if v4 := i < flows/2; sorted && v4 || !sorted && r.IntN(2) == 0 {
			t.Src, t.Dst = flow.AddrFrom4([4]byte{10, 0, 0, byte(i)}), flow.AddrFrom4([4]byte{192, 0, 2, byte(r.Uint32())})
		} else {
			t.Src, t.Dst = flow.Addr{0x20, 1, 15: byte(i)}, flow.Addr{0x20, 1, 0xd, 0xb8, 15: byte(r.Uint32())}
			if r.IntN(4) == 0 {
				t.Src = flow.AddrFrom4([4]byte{10, 9, 8, 7}) // an IPv6 packet with a mapped source
			}
		}
		b.AddFlow(t)
	}
	at := int64(1_700_000_000_000_000_000) + r.Int64N(1e9)
	coalesce := r.IntN(3) == 0
	lengths, clients := 1515, 1<<30
	if r.IntN(3) > 0 { // as in real traffic, most lengths and most clients are alike
		lengths, clients = 4, 4
	}
	for range rows {
		at += r.Int64N(200_000) - 20_000
		if r.IntN(50) == 0 {
			at += r.Int64N(1e12)
		}
		b.AddPacket(uint32(r.IntN(flows)), r.IntN(2) == 0, at, uint32(40+r.IntN(lengths)), uint8(r.IntN(lengths)%32))
		if coalesce {
			b.RunPackets = append(b.RunPackets, 1+uint32(r.IntN(200)))
			b.RunSpan = append(b.RunSpan, uint64(r.IntN(1e9)))
		}
	}
	for range rows / 20 {
		row := r.IntN(rows)
		f := flow.Fingerprint{Flow: b.Flow[row] >> 1, Row: uint32(row + 1), Event: ja4.Event{
			Type: ja4.Type(1 + r.IntN(ja4.NumTypes-1)), Value: fmt.Sprintf("t13d1516h2_%012x_02713d6af862", r.IntN(clients))}}
		if r.IntN(2) == 0 {
			f.Row, f.Raw, f.ServerName = 0, "t13d1516h2_002f,0035_0005,000a", "www.example.com"
		}
		b.Fingerprints = append(b.Fingerprints, f)
	}
	if r.IntN(2) == 0 {
		b.Watermark = at
	}
	return b
}

// inWireOrder returns b as it is after a trip over the wire.
func inWireOrder(b *flow.Batch) *flow.Batch {
	out, err := batchOf(mustMarshal(messageOf(b)))
	if err != nil {
		panic(err)
	}
	return out
}

// equalBatches is cmp.Equal in milliseconds instead of seconds.
func equalBatches(a, b *flow.Batch) bool {
	if (a.Lost == nil) != (b.Lost == nil) || a.Lost != nil && *a.Lost != *b.Lost {
		return false
	}
	return a.Sequence == b.Sequence && a.Watermark == b.Watermark && slices.Equal(a.Flows, b.Flows) &&
		slices.Equal(a.Flow, b.Flow) && slices.Equal(a.Time, b.Time) && slices.Equal(a.WireLength, b.WireLength) &&
		slices.Equal(a.TCPFlags, b.TCPFlags) && slices.Equal(a.RunPackets, b.RunPackets) &&
		slices.Equal(a.RunSpan, b.RunSpan) && slices.Equal(a.Fingerprints, b.Fingerprints)
}

func mustMarshal(m proto.Message) []byte {
	p, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return p
}

// remarshal is what the generated code makes of p.
func remarshal(p []byte) []byte {
	m := new(whorlv1.Batch)
	if err := proto.Unmarshal(p, m); err != nil {
		panic(err)
	}
	return mustMarshal(m)
}
