package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/flow"
)

// field is one field of a message, its value still encoded.
type field struct {
	num protowire.Number
	typ protowire.Type
	// n is the value of a varint field.
	n uint64
	// p is the content of a length-prefixed field. It aliases the message.
	p []byte
}

// nextField reads the first field of p and returns what is behind it. Values of
// other wire types than the two above are skipped over and left out.
func nextField(p []byte) (f field, rest []byte, ok bool) {
	var n int
	if len(p) > 0 && p[0] < 0x80 && p[0] >= 8 {
		// Every field written here has a tag of one byte.
		f.num, f.typ, n = protowire.Number(p[0]>>3), protowire.Type(p[0]&7), 1
	} else if f.num, f.typ, n = protowire.ConsumeTag(p); n < 0 || f.num > protowire.MaxValidNumber {
		return f, nil, false
	}
	p = p[n:]
	switch f.typ {
	case protowire.VarintType:
		f.n, n = protowire.ConsumeVarint(p)
	case protowire.BytesType:
		f.p, n = protowire.ConsumeBytes(p)
	default:
		n = protowire.ConsumeFieldValue(f.num, f.typ, p)
	}
	if n < 0 {
		return f, nil, false
	}
	return f, p[n:], true
}

// isVarint and isBytes report whether f is field num with the given encoding.
// A known number with another encoding is an unknown field, as in generated code.
func (f *field) isVarint(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.VarintType
}

func (f *field) isBytes(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.BytesType
}

// timestamp is a google.protobuf.Timestamp on its way in; the fields of a
// repeated one are merged, as the rules of protobuf have it.
type timestamp struct {
	sec  int64
	nsec int32
	set  bool
}

func (t *timestamp) decode(p []byte) bool {
	t.set = true
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return false
		}
		p = rest
		switch {
		case f.isVarint(1):
			t.sec = int64(f.n)
		case f.isVarint(2):
			t.nsec = int32(f.n)
		}
	}
	return true
}

// unix returns t in Unix nanoseconds if it is one a batch may carry.
func (t *timestamp) unix() (int64, bool) {
	if t.nsec < 0 || t.nsec > 999_999_999 || t.sec < 0 || t.sec > flow.MaxTime/1_000_000_000 {
		return 0, false
	}
	n := t.sec*1_000_000_000 + int64(t.nsec)
	return n, n <= flow.MaxTime
}

// countVarints returns how many varints p holds. It is exact unless p ends in
// the middle of one, which whole tells.
func countVarints(p []byte) (n int, whole bool) {
	if len(p) == 0 {
		return 0, true
	}
	whole = p[len(p)-1] < 0x80
	for len(p) >= 8 {
		n += bits.OnesCount64(^binary.LittleEndian.Uint64(p) & 0x8080808080808080)
		p = p[8:]
	}
	for _, c := range p {
		if c < 0x80 {
			n++
		}
	}
	return n, whole
}

// wideVarint reads a varint of three bytes or more, which p is known to hold the
// end of. size is 0 when it is longer than 64 bits.
//
// Time deltas take three or four bytes, so this is hot: eight bytes at once are
// a third faster than byte by byte.
func wideVarint(p []byte) (v uint64, size int) {
	if len(p) < 8 {
		return longVarint(p)
	}
	x := binary.LittleEndian.Uint64(p)
	stop := ^x & 0x8080808080808080 // the top bits of bytes that end a varint
	if stop == 0 {
		return longVarint(p)
	}
	x &= stop ^ (stop - 1) // nothing behind the first of them
	// Close the gaps of one bit: 8 × 7 to 4 × 14 to 2 × 28 to 56 bits.
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	x = x&0x000000000fffffff | x&0x0fffffff00000000>>4
	return x, bits.TrailingZeros64(stop)>>3 + 1
}

// shortVarint reads a varint that is most likely one or two bytes long. n is
// negative when p does not begin with one.
func shortVarint(p []byte) (v uint64, n int) {
	if len(p) > 1 {
		if p[0] < 0x80 {
			return uint64(p[0]), 1
		}
		if p[1] < 0x80 {
			return uint64(p[0]&0x7f) | uint64(p[1])<<7, 2
		}
	}
	return protowire.ConsumeVarint(p)
}

// longVarint is wideVarint near the end of p and beyond 56 bits.
func longVarint(p []byte) (v uint64, size int) {
	for i, c := range p {
		if i == 9 && c > 1 {
			return 0, 0
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// Problems of a column.
const (
	columnFine = iota
	columnBad  // not varints
	columnLong // more rows than a batch may have
)

// appendColumn appends the varints of a packed field to column, which is never
// made longer than flow.MaxBatchRows.
func appendColumn[V uint32 | uint64](column []V, p []byte) ([]V, int) {
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
		// The count above proves that p does not end before the column does.
		c := p[0]
		if c < 0x80 {
			column[have+i] = V(c)
			p = p[1:]
			continue
		}
		if d := p[1]; d < 0x80 {
			column[have+i] = V(c&0x7f) | V(d)<<7
			p = p[2:]
			continue
		}
		v, size := wideVarint(p)
		if size == 0 {
			return column[:have], columnBad
		}
		column[have+i] = V(v)
		p = p[size:]
	}
	return column, columnFine
}
