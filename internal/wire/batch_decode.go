package wire

import (
	"encoding/binary"
	"slices"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// DecodeBatch reads a whorl.v1.Batch into b, whose memory it uses again, and
// checks all of it. It keeps nothing of p. It allocates for fingerprints, for a
// Lost record and where b's memory is too small, never more than the limits of
// a batch ask for.
//
// Every error is a *MalformedError. b is then in no particular state: only Reset
// and another DecodeBatch may be used on it.
func DecodeBatch(p []byte, b *flow.Batch) error {
	b.Reset()
	d := decoderPool.Get().(*batchDecoder)
	defer d.release()
	if err := d.fields(p, b); err != nil {
		return err
	}
	if err := d.flows(b); err != nil {
		return err
	}
	if err := d.rows(b); err != nil {
		return err
	}
	if d.watermark.set {
		t, ok := d.watermark.unix()
		if !ok {
			return malformed("watermark", "is not a time from 1970 to 2116")
		}
		b.Watermark = t
	}
	return checkRest(b)
}

// batchDecoder holds what can be used only when all of a batch was seen: fields
// may come in any order, and the last of a repeated one counts.
type batchDecoder struct {
	ipv4, ipv6, tcpFlags []byte
	base, watermark      timestamp
	shape, shapeLengths  []uint32
	shapeFlags           []byte
	texts                *texts
}

var decoderPool = sync.Pool{New: func() any { return &batchDecoder{texts: new(texts)} }}

// release gives d back with nothing of its batch but memory, of at most
// flow.MaxBatchRows numbers, and texts.
func (d *batchDecoder) release() {
	*d = batchDecoder{shape: d.shape[:0], shapeLengths: d.shapeLengths[:0], texts: d.texts}
	decoderPool.Put(d)
}

func (d *batchDecoder) fields(p []byte, b *flow.Batch) error {
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return malformed("batch", badEncoding)
		}
		p = rest
		switch {
		case f.isVarint(1):
			b.Sequence = f.n
		case f.isBytes(2):
			if !d.base.decode(f.p) {
				return malformed("base_time", badEncoding)
			}
		case f.isBytes(3):
			d.ipv4 = f.p
		case f.isBytes(4):
			d.ipv6 = f.p
		case f.isBytes(5):
			if err := d.packets(f.p, b); err != nil {
				return err
			}
		case f.isBytes(6):
			if err := d.fingerprint(f.p, b); err != nil {
				return err
			}
		case f.isBytes(7):
			if !d.watermark.decode(f.p) {
				return malformed("watermark", badEncoding)
			}
		case f.isBytes(8):
			if err := decodeLost(f.p, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// packets appends the columns of p. Times stay deltas until base_time is known.
func (d *batchDecoder) packets(p []byte, b *flow.Batch) error {
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return malformed("packets", badEncoding)
		}
		p = rest

		problem, name := columnFine, ""
		switch f.num {
		case 1:
			name = "packets.flow"
			b.Flow, problem = decodeColumn(b.Flow, &f)
		case 2:
			name = "packets.time_delta_ns"
			b.Time, problem = decodeDeltas(b.Time, &f)
		case 3:
			name = "packets.wire_length"
			b.WireLength, problem = decodeColumn(b.WireLength, &f)
		case 4:
			if f.typ == protowire.BytesType {
				d.tcpFlags = f.p
			}
		case 5:
			name = "packets.run_packets"
			b.RunPackets, problem = decodeColumn(b.RunPackets, &f)
		case 6:
			name = "packets.run_span_ns"
			b.RunSpan, problem = decodeColumn(b.RunSpan, &f)
		case 7:
			name = "packets.shape"
			d.shape, problem = decodeColumn(d.shape, &f)
		case 8:
			name = "packets.shape_length"
			d.shapeLengths, problem = decodeColumn(d.shapeLengths, &f)
		case 9:
			if f.typ == protowire.BytesType {
				d.shapeFlags = f.p
			}
		}
		switch problem {
		case columnBad:
			return malformed(name, badEncoding)
		case columnLong:
			return malformed(name, "has more than %d rows", flow.MaxBatchRows)
		}
	}
	return nil
}

// decodeColumn takes both forms of a repeated number: packed and one by one.
func decodeColumn[V uint32 | uint64](column []V, f *field) ([]V, int) {
	switch f.typ {
	case protowire.BytesType:
		return appendColumn(column, f.p)
	case protowire.VarintType:
		if len(column) == flow.MaxBatchRows {
			return column, columnLong
		}
		return append(column, V(f.n)), columnFine
	}
	return column, columnFine
}

// decodeDeltas is decodeColumn for zigzag-encoded numbers.
func decodeDeltas(column []int64, f *field) ([]int64, int) {
	switch f.typ {
	case protowire.BytesType:
		return appendDeltas(column, f.p)
	case protowire.VarintType:
		if len(column) == flow.MaxBatchRows {
			return column, columnLong
		}
		return append(column, protowire.DecodeZigZag(f.n)), columnFine
	}
	return column, columnFine
}

// appendDeltas is appendColumn for zigzag-encoded numbers.
func appendDeltas(column []int64, p []byte) ([]int64, int) {
	n, whole := countVarints(p)
	if !whole {
		return column, columnBad
	}
	if n > flow.MaxBatchRows-len(column) {
		return column, columnLong
	}
	have := len(column)
	column = slices.Grow(column, n)[:have+n]
	for i := range column[have:] {
		v, size := uint64(p[0]), 1
		if v >= 0x80 {
			if v, size = wideVarint(p); size == 0 {
				return column[:have], columnBad
			}
		}
		column[have+i] = int64(v>>1) ^ -int64(v&1)
		p = p[size:]
	}
	return column, columnFine
}

// flows reads the keys, IPv4 first, as their indexes are counted.
func (d *batchDecoder) flows(b *flow.Batch) error {
	if len(d.ipv4)%ipv4FlowSize != 0 {
		return malformed("ipv4_flows", "has %d bytes, not a multiple of %d", len(d.ipv4), ipv4FlowSize)
	}
	if len(d.ipv6)%ipv6FlowSize != 0 {
		return malformed("ipv6_flows", "has %d bytes, not a multiple of %d", len(d.ipv6), ipv6FlowSize)
	}
	n4, n6 := len(d.ipv4)/ipv4FlowSize, len(d.ipv6)/ipv6FlowSize
	if n4+n6 > flow.MaxBatchRows {
		name := "ipv4_flows"
		if n6 > n4 {
			name = "ipv6_flows"
		}
		return malformed(name, "makes %d flows, at most %d", n4+n6, flow.MaxBatchRows)
	}
	b.Flows = slices.Grow(b.Flows, n4+n6)[:n4+n6]
	for i := range n4 {
		p := (*[ipv4FlowSize]byte)(d.ipv4[i*ipv4FlowSize:])
		t := &b.Flows[i]
		t.Src, t.Dst = flow.AddrFrom4([4]byte(p[0:4])), flow.AddrFrom4([4]byte(p[4:8]))
		t.SrcPort, t.DstPort = binary.BigEndian.Uint16(p[8:]), binary.BigEndian.Uint16(p[10:])
		t.Protocol = flow.Protocol(p[12])
	}
	for i := range n6 {
		p := (*[ipv6FlowSize]byte)(d.ipv6[i*ipv6FlowSize:])
		b.Flows[n4+i] = flow.Tuple{
			Src: flow.Addr(p[0:16]), Dst: flow.Addr(p[16:32]),
			SrcPort: binary.BigEndian.Uint16(p[32:]), DstPort: binary.BigEndian.Uint16(p[34:]),
			Protocol: flow.Protocol(p[36]),
		}
	}
	return nil
}

// rows completes the columns and checks them.
func (d *batchDecoder) rows(b *flow.Batch) error {
	switch {
	case len(d.shape) > 0:
		if err := d.resolve(b); err != nil {
			return err
		}
	case len(d.tcpFlags) == 0:
		b.TCPFlags = slices.Grow(b.TCPFlags, len(b.WireLength))[:len(b.WireLength)]
		clear(b.TCPFlags)
	default:
		b.TCPFlags = append(b.TCPFlags, d.tcpFlags[:min(len(d.tcpFlags), flow.MaxBatchRows+1)]...)
	}
	if err := checkLengths(b); err != nil {
		return err
	}
	base, ok := d.base.unix()
	if !ok {
		return malformed("base_time", "is not a time from 1970 to 2116")
	}
	t := base
	for i, delta := range b.Time {
		// t is below 2^62: the sum cannot wrap into the range again.
		t += delta
		if uint64(t) > flow.MaxTime {
			return malformed(at("packets.time_delta_ns", i), "leaves the years 1970 to 2116")
		}
		b.Time[i] = t
	}
	return checkRows(b)
}

func (d *batchDecoder) fingerprint(p []byte, b *flow.Batch) error {
	i := len(b.Fingerprints)
	if i == flow.MaxBatchFingerprints {
		return malformed("fingerprints", "has more than %d elements", flow.MaxBatchFingerprints)
	}
	var out flow.Fingerprint
	// The last of a repeated field counts, so strings are made at the end.
	var value, raw, serverName []byte
	typ, like := int32(0), uint64(0)
	for len(p) > 0 {
		// Instead of nextField: a flood has one fingerprint for each packet, and
		// this takes half the time.
		tag, size := uint64(p[0]), 1
		if tag >= 0x80 {
			if tag, size = protowire.ConsumeVarint(p); size < 0 {
				return malformed(at("fingerprints", i), badEncoding)
			}
		}
		rest := p[size:]
		switch tag {
		case 1 << 3, 2 << 3, 3 << 3, 7 << 3: // varints
			v, n := shortVarint(rest)
			if n < 0 {
				return malformed(at("fingerprints", i), badEncoding)
			}
			p = rest[n:]
			switch tag >> 3 {
			case 1:
				out.Flow = uint32(v)
			case 2:
				out.Row = uint32(v)
			case 3:
				typ = int32(v)
			case 7:
				like = uint64(uint32(v))
			}
		case 4<<3 | 2, 5<<3 | 2, 6<<3 | 2: // texts
			length, n := shortVarint(rest)
			if n < 0 || length > uint64(len(rest)-n) {
				return malformed(at("fingerprints", i), badEncoding)
			}
			text := rest[n:][:length]
			p = rest[n+int(length):]
			if !utf8.Valid(text) {
				return malformed(at("fingerprints", i)+fingerprintText[tag>>3], badUTF8)
			}
			switch tag >> 3 {
			case 4:
				value = text
			case 5:
				raw = text
			case 6:
				serverName = text
			}
		default:
			_, rest, ok := nextField(p)
			if !ok {
				return malformed(at("fingerprints", i), badEncoding)
			}
			p = rest
		}
	}
	if like > 0 {
		switch {
		case typ != 0 || len(value) > 0 || len(raw) > 0:
			return malformed(at("fingerprints", i)+".like", "stands beside type, value or raw")
		case like > uint64(i):
			return malformed(at("fingerprints", i)+".like", "refers to element %d, want an earlier one", like-1)
		case len(serverName) > flow.MaxServerNameLen:
			return tooLong(i, 6, len(serverName), flow.MaxServerNameLen)
		}
		same := &b.Fingerprints[like-1]
		out.Type, out.Value, out.Raw, out.ServerName = same.Type, same.Value, same.Raw, d.texts.of(serverName)
		b.Fingerprints = append(b.Fingerprints, out)
		return nil
	}
	if typ <= 0 || typ >= int32(ja4.NumTypes) {
		return malformed(at("fingerprints", i)+".type", "%d is not a fingerprint type", typ)
	}
	out.Type = ja4.Type(typ)
	// Lengths before strings: what is refused is not copied first.
	switch {
	case len(value) > flow.MaxValueLen:
		return tooLong(i, 4, len(value), flow.MaxValueLen)
	case len(raw) > flow.MaxRawLen:
		return tooLong(i, 5, len(raw), flow.MaxRawLen)
	case len(serverName) > flow.MaxServerNameLen:
		return tooLong(i, 6, len(serverName), flow.MaxServerNameLen)
	}
	out.Value, out.Raw, out.ServerName = d.texts.of(value), d.texts.of(raw), d.texts.of(serverName)
	b.Fingerprints = append(b.Fingerprints, out)
	return nil
}

// fingerprintText names the text fields of a fingerprint by their numbers.
var fingerprintText = [...]string{4: ".value", 5: ".raw", 6: ".server_name"}

func tooLong(i, num, n, most int) error {
	return malformed(at("fingerprints", i)+fingerprintText[num], "has %d bytes, at most %d", n, most)
}

func decodeLost(p []byte, b *flow.Batch) error {
	if b.Lost == nil {
		b.Lost = new(flow.Lost)
	}
	l := b.Lost
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return malformed("lost", badEncoding)
		}
		p = rest
		switch {
		case f.isVarint(1):
			l.FirstSequence = f.n
		case f.isVarint(2):
			l.LastSequence = f.n
		case f.isVarint(3):
			l.Packets = f.n
		case f.isVarint(4):
			l.Bytes = f.n
		case f.isBytes(5):
			if !utf8.Valid(f.p) {
				return malformed("lost.reason", badUTF8)
			}
			if len(f.p) > maxReasonLen {
				return malformed("lost.reason", "has %d bytes, at most %d", len(f.p), maxReasonLen)
			}
			l.Reason = string(f.p)
		}
	}
	return nil
}
