package wire

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/whorl-net/whorl/flow"
)

// Sizes of the keys in Batch.ipv4_flows and ipv6_flows, and the greatest number
// of references that a flow index may have.
const (
	ipv4FlowSize = 4 + 4 + 2 + 2 + 1
	ipv6FlowSize = 16 + 16 + 2 + 2 + 1
)

// AppendBatch appends b as a whorl.v1.Batch to dst and returns the longer slice.
// The bytes are those of the generated encoder. It does not allocate when dst
// has room, reads b only, and takes b for valid: see CheckBatch. Text that is
// not UTF-8, which no decoder would take, has its bad bytes replaced by U+FFFD.
//
// On the wire IPv4 flows come before IPv6 ones. A batch that has them in another
// order is decoded with its flows, and the references to them, renumbered.
func AppendBatch(dst []byte, b *flow.Batch) []byte {
	order := flowOrder(b.Flows)
	defer order.release()

	dst = appendUint(dst, 1, b.Sequence)
	if len(b.Time) > 0 {
		dst = appendTime(dst, 2, b.Time[0])
	}
	dst = appendFlows(dst, 3, b.Flows, true)
	dst = appendFlows(dst, 4, b.Flows, false)
	if len(b.Flow) > 0 {
		dst = appendPackets(dst, b, order)
	}
	if len(b.Fingerprints) > 0 {
		l := likePool.Get().(*likes)
		l.begin()
		for i := range b.Fingerprints {
			dst = appendFingerprint(dst, &b.Fingerprints[i], l.of(b.Fingerprints, i), order)
		}
		likePool.Put(l)
	}
	if b.Watermark != 0 {
		dst = appendTime(dst, 7, b.Watermark)
	}
	if b.Lost != nil {
		dst = appendLost(dst, b.Lost)
	}
	return dst
}

// flowIndex maps the index of a flow in memory to that on the wire; nil when
// they are the same. It comes from a pool.
type flowIndex struct{ wire []uint32 }

var flowIndexes = sync.Pool{New: func() any { return new(flowIndex) }}

func flowOrder(flows []flow.Tuple) *flowIndex {
	v4, sorted := 0, true
	for i := range flows {
		if is4(&flows[i]) {
			sorted = sorted && v4 == i
			v4++
		}
	}
	if sorted {
		return nil
	}
	x := flowIndexes.Get().(*flowIndex)
	x.wire = x.wire[:0]
	next4, next6 := uint32(0), uint32(v4)
	for i := range flows {
		if is4(&flows[i]) {
			x.wire = append(x.wire, next4)
			next4++
		} else {
			x.wire = append(x.wire, next6)
			next6++
		}
	}
	return x
}

func (x *flowIndex) release() {
	if x != nil {
		flowIndexes.Put(x)
	}
}

// of returns the wire index of flow i. An index that is none stays none: the
// decoder's error is better than a panic here.
func (x *flowIndex) of(i uint32) uint32 {
	if x == nil || i >= uint32(len(x.wire)) {
		return i
	}
	return x.wire[i]
}

// is4 reports whether t fits an IPv4 key. A tuple with one mapped address and
// one IPv6 address does not.
func is4(t *flow.Tuple) bool { return t.Src.Is4() && t.Dst.Is4() }

// appendFlows appends the keys of one address family as one bytes field.
func appendFlows(dst []byte, num uint64, flows []flow.Tuple, want4 bool) []byte {
	n := 0
	for i := range flows {
		if is4(&flows[i]) == want4 {
			n++
		}
	}
	if n == 0 {
		return dst
	}
	size, skip := ipv6FlowSize, 0
	if want4 {
		size, skip = ipv4FlowSize, 12
	}
	dst = appendVarint(dst, num<<3|lenPfx)
	dst = appendVarint(dst, uint64(n*size))
	dst = slices.Grow(dst, n*size)
	for i := range flows {
		t := &flows[i]
		if is4(t) != want4 {
			continue
		}
		dst = append(dst, t.Src[skip:]...)
		dst = append(dst, t.Dst[skip:]...)
		dst = binary.BigEndian.AppendUint16(dst, t.SrcPort)
		dst = binary.BigEndian.AppendUint16(dst, t.DstPort)
		dst = append(dst, byte(t.Protocol))
	}
	return dst
}

func appendPackets(dst []byte, b *flow.Batch, order *flowIndex) []byte {
	dst, start := open(dst, 5, longRoom)
	if order == nil {
		dst = appendPacked(dst, 1, b.Flow)
	} else {
		dst = appendRefs(dst, b.Flow, order)
	}
	dst = appendTimes(dst, b.Time)
	s := shapePool.Get().(*shapes)
	defer shapePool.Put(s)
	shaped := s.find(b)
	if !shaped {
		dst = appendPacked(dst, 3, b.WireLength)
		dst = appendString(dst, 4, b.TCPFlags)
	}
	dst = appendPacked(dst, 5, b.RunPackets)
	dst = appendPacked(dst, 6, b.RunSpan)
	if shaped {
		dst = s.append(dst)
	}
	return finish(dst, start, longRoom)
}

func appendRefs(dst []byte, refs []uint32, order *flowIndex) []byte {
	room := roomFor(len(refs))
	dst, start := open(dst, 1, room)
	dst = slices.Grow(dst, len(refs)*5)
	for _, ref := range refs {
		dst = appendVarint(dst, uint64(order.of(ref>>1)<<1|ref&1))
	}
	return finish(dst, start, room)
}

// appendTimes appends the column time_delta_ns. The first delta is 0: base_time
// is the first row's time.
func appendTimes(dst []byte, times []int64) []byte {
	room := roomFor(3 * len(times))
	dst, start := open(dst, 2, room)
	dst = slices.Grow(dst, len(times)*maxVarint)
	p, n := dst[:cap(dst)], len(dst)
	last := times[0]
	for _, t := range times {
		d := t - last
		last = t
		zigzag := uint64(d<<1) ^ uint64(d>>63)
		if zigzag < 0x80 {
			p[n] = byte(zigzag)
			n++
			continue
		}
		n += putWide(p[n:], zigzag)
	}
	return finish(p[:n], start, room)
}

func appendFingerprint(dst []byte, f *flow.Fingerprint, like uint64, order *flowIndex) []byte {
	room := roomFor(len(f.Value) + len(f.Raw) + len(f.ServerName) + 20)
	dst, start := open(dst, 6, room)
	dst = appendUint(dst, 1, uint64(order.of(f.Flow)))
	dst = appendUint(dst, 2, uint64(f.Row))
	if like == 0 {
		dst = appendUint(dst, 3, uint64(f.Type))
		dst = appendText(dst, 4, f.Value)
		dst = appendText(dst, 5, f.Raw)
	}
	dst = appendText(dst, 6, f.ServerName)
	dst = appendUint(dst, 7, like)
	return finish(dst, start, room)
}

func appendLost(dst []byte, l *flow.Lost) []byte {
	dst, start := open(dst, 8, shortRoom)
	dst = appendUint(dst, 1, l.FirstSequence)
	dst = appendUint(dst, 2, l.LastSequence)
	dst = appendUint(dst, 3, l.Packets)
	dst = appendUint(dst, 4, l.Bytes)
	dst = appendText(dst, 5, l.Reason)
	return finish(dst, start, shortRoom)
}

// appendText is appendString for text that comes from packets: one bad byte
// would make the whole message unreadable.
func appendText(dst []byte, num uint64, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return appendString(dst, num, s)
}
